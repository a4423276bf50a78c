"""Queries, keys and values in one product: linear layers of one input become one layer."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import Tensor, fx, nn

from symfx.optimization.graphs.layers import LayerCall
from symfx.optimization.graphs.reader import Reader
from symfx.optimization.graphs.surgery import drop_dead, fresh_name, replace
from symfx.optimization.passes.formulas import is_call
from symfx.optimization.report import Report
from symfx.optimization.runtime.layers import Layer
from symfx.optimization.runtime.one_pass import rotated, sdpa

__all__ = ["join_projections"]


def join_projections(module: fx.GraphModule, report: Report) -> None:
    """Join the linear layers whose results go into attention alone, head by head.

    The results lie side by side in the joint one, so each of them is a view with gaps. Attention
    and the operators before it take such a view; another operator could refuse it.

    Args:
        module: the graph, which is changed. Its layers are not changed: a new one replaces them.
        report: gets the layers that are joined.
    """
    reader = Reader(module)
    groups: dict[fx.Node, list[LayerCall]] = {}
    for node in module.graph.nodes:
        layer = reader.layer(node)
        if layer is None or layer.kind is not nn.Linear or not reader.aliases.is_quiet(node):
            continue
        if layer.weight.dtype is torch.float and _goes_into_attention(node):
            groups.setdefault(layer.source, []).append(layer)
    for source, layers in groups.items():
        if len(layers) > 1:
            _join(module, source, layers, report)
    drop_dead(module)


def _goes_into_attention(node: fx.Node) -> bool:
    """Whether a value is only cut into heads, turned round, and given to attention."""
    return bool(node.users) and all(
        _asks(cut) or (is_call(cut, "view", "reshape") and cut.args[0] is node and _is_turned(cut))
        for cut in node.users
    )


def _is_turned(cut: fx.Node) -> bool:
    return all(
        _asks(turn)
        or (
            is_call(turn, "transpose", "permute")
            and all(_asks(user) or is_call(user, sdpa, rotated) for user in turn.users)
        )
        for turn in cut.users
    )


def _asks(node: fx.Node) -> bool:
    """Whether a node only reads the sizes or the dtype of a value."""
    return is_call(node, "size", "dim") or (
        is_call(node, getattr) and node.args[1] in ("shape", "dtype", "device", "ndim")
    )


def _join(module: fx.GraphModule, source: fx.Node, layers: list[LayerCall], report: Report) -> None:
    """One layer in the places of several, and a view of its result for each of them."""
    with torch.no_grad():
        weight = torch.cat([layer.weight for layer in layers])
        bias = _joint_bias(layers)
    joint = Layer(nn.Linear, weight, bias, {}).build(weight, bias)
    joint.training = module.training
    name = fresh_name(module, f"{layers[0].node.name}_joined")
    setattr(module, name, joint)
    first = layers[0].node
    with module.graph.inserting_before(first):
        whole = module.graph.call_module(name, (source,))
    start = 0
    for layer in layers:
        end = start + layer.channels
        part: Any = (Ellipsis, slice(start, end, None))
        start = end
        with module.graph.inserting_before(layer.node):
            view = module.graph.call_function(operator.getitem, (whole, part))
        for user in list(layer.node.users):
            if is_call(user, "view"):
                user.target = "reshape"  # which takes every view
        replace(layer.node, view)
    report.rewrote("joined projections", [layer.node for layer in layers], whole)


def _joint_bias(layers: list[LayerCall]) -> Tensor | None:
    if all(layer.bias is None for layer in layers):
        return None
    return torch.cat(
        [
            torch.zeros(layer.channels) if layer.bias is None else layer.bias.detach()
            for layer in layers
        ]
    )
