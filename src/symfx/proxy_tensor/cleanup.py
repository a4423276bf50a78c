"""Dead nodes of a finished graph: unused questions for sizes, and unused arithmetic on them."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import fx

from symfx.proxy_tensor.symbols import SYMBOLIC_TYPES
from symfx.torch_bridge.fx_graphs import remove_unused

__all__ = ["remove_dead_nodes", "remove_unused_operators"]

_aten = torch.ops.aten
_QUESTIONS = frozenset(
    {
        _aten.sym_size.int,
        _aten.sym_size.default,
        _aten.sym_stride.int,
        _aten.sym_stride.default,
        _aten.sym_storage_offset.default,
        _aten.sym_numel.default,
        torch.ops.prim.layout.default,
    }
)


def remove_dead_nodes(graph: fx.Graph) -> None:
    """Remove unused nodes that surely have no effect.

    Unused operators on tensors stay, because an operator may be there for its effect (``item``
    checks the tensor's size).
    """
    remove_unused(graph, _may_have_effect)


def remove_unused_operators(module: fx.GraphModule) -> None:
    """Remove unused nodes of a module's graph, and of the graphs that it calls.

    What stays are inputs, operators that write, and those that torch registers for their effect.
    """
    remove_unused(module.graph, fx.Node.is_impure)
    called = {node.target for node in module.graph.find_nodes(op="get_attr")}
    for name, child in module.named_children():
        if name in called and isinstance(child, fx.GraphModule):
            remove_unused_operators(child)
            child.recompile()


def _may_have_effect(node: fx.Node) -> bool:
    if node.is_impure():
        return True
    asked: Any = node
    if node.target is operator.getitem:
        asked = node.args[0]
    if asked.op == "call_function" and asked.target in _QUESTIONS:
        return False

    def is_number(a: Any) -> bool:
        return not isinstance(a, fx.Node) or isinstance(a.meta.get("val"), SYMBOLIC_TYPES)

    return not (
        isinstance(node.meta.get("val"), SYMBOLIC_TYPES) and all(is_number(a) for a in node.args)
    )
