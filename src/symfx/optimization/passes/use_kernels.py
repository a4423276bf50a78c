"""The functions of a graph that compiled kernels compute in one pass."""

from __future__ import annotations

import operator
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn

from symfx.optimization.graphs.effects import read_argument
from symfx.optimization.graphs.reader import Reader
from symfx.optimization.graphs.surgery import drop_dead, replace
from symfx.optimization.passes.formulas import is_call, terms
from symfx.optimization.report import Report
from symfx.optimization.runtime.one_pass import layer_norm, rms_norm, rotated, sdpa

__all__ = ["use_kernels"]


def use_kernels(module: fx.GraphModule, report: Report) -> None:
    """Let the compiled kernels compute attention, norms and rotary positions.

    Each of the functions in the graph runs torch's operators where a kernel cannot run.

    Args:
        module: the graph, which is changed.
        report: gets the nodes that are replaced.
    """
    for rewrite in (_attention, _layer_norm, _rms_norm, _rotation):
        reader = Reader(module)
        for node in list(module.graph.nodes):
            rewrite(reader, node, report)
        drop_dead(module)


def _attention(reader: Reader, node: fx.Node, report: Report) -> None:
    if not is_call(node, F.scaled_dot_product_attention):
        return
    # The strides of queries, keys and values are the same to the kernel.
    for value in node.all_input_nodes:
        source: Any = value
        while is_call(source, "contiguous") and not source.kwargs:
            source = source.args[0]
        if source is not value and reader.aliases.is_quiet(source):
            node.replace_input_with(value, source)
    _install(node, sdpa, node.args, dict(node.kwargs), report)


def _install(
    node: fx.Node, function: Any, args: Any, kwargs: dict[str, Any], report: Report
) -> None:
    with node.graph.inserting_before(node):
        new = node.graph.call_function(function, tuple(args), kwargs)
    report.rewrote(f"{function.__name__} by a compiled kernel", (node,), new)
    name = node.name
    replace(node, new)
    if node not in node.graph.nodes:
        new.name = name


def _layer_norm(reader: Reader, node: fx.Node, report: Report) -> None:
    module = reader.module_of(node)
    if is_call(node, F.layer_norm):
        if len(node.args) + len(node.kwargs) >= 2:
            _install(node, layer_norm, node.args, dict(node.kwargs), report)
    elif type(module) is nn.LayerNorm and len(node.args) == 1 and not node.kwargs:
        shape = tuple(module.normalized_shape)
        if len(shape) == 1 and reader.steady(module.weight, module.bias):
            weight, bias = (_held(node, name) for name in ("weight", "bias"))
            _install(node, layer_norm, (node.args[0], shape, weight, bias, module.eps), {}, report)


def _held(node: fx.Node, name: str) -> fx.Node | None:
    """The parameter of a called module as a node."""
    owner = node.graph.owning_module
    assert owner is not None
    if getattr(owner.get_submodule(str(node.target)), name) is None:
        return None
    with node.graph.inserting_before(node):
        return node.graph.get_attr(f"{node.target}.{name}")


def _rms_norm(reader: Reader, node: fx.Node, report: Report) -> None:
    """weight * (x.float() * rsqrt(mean of its squares + eps)).to(x.dtype)"""
    pair = terms(node, operator.mul, torch.mul)
    if pair is None:
        return
    for weight, cast in (pair, pair[::-1]):
        numbers = reader.constant(weight)
        if numbers is None or numbers.ndim != 1 or not is_call(cast, "to", "type"):
            continue
        scaled = terms(cast.args[0], operator.mul, torch.mul)
        if scaled is None or len(cast.args) != 2 or cast.kwargs:
            continue
        for wide, root in (scaled, scaled[::-1]):
            eps = _root_of_squares(root, wide)
            x: Any = wide.args[0] if is_call(wide, "to") else None
            if eps is None or tuple(wide.args[1:]) != (torch.float32,) or wide.kwargs:
                continue
            dtype = cast.args[1]
            same = is_call(dtype, getattr) and tuple(dtype.args) == (x, "dtype")
            if same and reader.aliases.is_quiet(x):
                _install(node, rms_norm, (x, weight, eps), {}, report)
                return


def _root_of_squares(value: Any, x: Any) -> float | None:
    """The summand of ``rsqrt(x.pow(2).mean(-1, keepdim=True) + summand)``; None for others."""
    total = terms(value.args[0], operator.add, torch.add) if is_call(value, torch.rsqrt) else None
    if total is None or not isinstance(total[1], float) or not is_call(total[0], "mean"):
        return None
    mean = total[0]
    if mean.args[1:] != (-1,) or dict(mean.kwargs) != {"keepdim": True}:
        return None
    square = terms(mean.args[0], "pow", torch.pow, operator.pow)
    return total[1] if square is not None and square[0] is x and square[1] == 2 else None


def _rotation(reader: Reader, node: fx.Node, report: Report) -> None:
    """x * cos + cat((-x[..., half:], x[..., :half]), -1) * sin, for attention alone.

    Others could see the strides of the result.
    """
    pair = terms(node, operator.add, torch.add)
    if pair is None or not all(_sees_no_strides(user) for user in node.users):
        return
    for plain, turned in (pair, pair[::-1]):
        first = terms(plain, operator.mul, torch.mul)
        second = terms(turned, operator.mul, torch.mul)
        if first is None or second is None:
            continue
        for x, cos in (first, first[::-1]):
            for halves, sin in (second, second[::-1]):
                if _turns_halves(halves, x) and reader.aliases.is_quiet(x):
                    _install(node, rotated, (x, cos, sin), {}, report)
                    return


def _sees_no_strides(user: fx.Node) -> bool:
    return is_call(user, sdpa) or (is_call(user, getattr) and user.args[1] == "shape")


def _turns_halves(value: Any, x: Any) -> bool:
    """Whether a value is ``cat((-x[..., half:], x[..., :half]), dim=-1)``."""
    if not is_call(value, torch.cat) or read_argument(value, 1, "dim", 0) != -1:
        return False
    parts = value.args[0] if value.args else None
    if not isinstance(parts, tuple | list) or len(parts) != 2:
        return False
    back, front = parts
    if not is_call(back, operator.neg, torch.neg) or len(back.args) != 1:
        return False
    one, two = terms(back.args[0], operator.getitem), terms(front, operator.getitem)
    if one is None or two is None or one[0] is not x or two[0] is not x:
        return False
    half = _start(one[1])
    return (
        _is_half(half, x)
        and one[1] == (Ellipsis, slice(half, None, None))
        and two[1] == (Ellipsis, slice(None, half, None))
    )


def _start(index: Any) -> Any:
    is_slice = isinstance(index, tuple) and len(index) == 2 and isinstance(index[1], slice)
    return index[1].start if is_slice else None


def _is_half(value: Any, x: fx.Node) -> bool:
    """Whether a value is ``x.shape[-1] // 2``."""
    divided = terms(value, operator.floordiv)
    if divided is None or divided[1] != 2:
        return False
    size = terms(divided[0], operator.getitem)
    if size is None or size[1] != -1 or not is_call(size[0], getattr):
        return False
    return tuple(size[0].args) == (x, "shape")
