"""The strides of values, and the demand of ``view`` on them: it cannot merge what is not adjacent.

Strides are known of contiguous tensors, and followed through operators that rearrange dimensions.
The strides of any other value are unknown, and a view of it is accepted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import torch
from torch import nn
from torch.fx import Node

from symfx.algebra import Term
from symfx.shape_rules.sizes import Dim, Shape
from symfx.static_migration.term_sizes import TermSizes

__all__ = ["Strides", "demand_viewable", "strides_of"]

Strides: TypeAlias = tuple[Dim, ...] | None

_TRANSPOSING = ("transpose", "swapaxes", "swapdims")
#: Operators and layers that return a contiguous tensor, or their argument, if that is contiguous.
_KEEPING = frozenset(
    {
        *("relu", "gelu", "softmax", "dropout", "add", "sub", "mul", "truediv", "div", "clone"),
        *("masked_fill", "tanh", "sigmoid", "exp", "neg", "view", "reshape", "flatten", "silu"),
        *(nn.ReLU, nn.GELU, nn.Dropout, nn.Identity, nn.LayerNorm, nn.Tanh, nn.SiLU, nn.Softmax),
    }
)
#: Those of one tensor that work on each element.
_ELEMENTWISE = frozenset(
    {
        *("relu", "gelu", "dropout", "clone", "tanh", "sigmoid", "exp", "neg", "silu"),
        *(nn.ReLU, nn.GELU, nn.Dropout, nn.Identity, nn.Tanh, nn.SiLU),
    }
)
#: Operators that change their first tensor, which stays where it is in memory.
_IN_PLACE = frozenset({"iadd", "isub", "imul", "itruediv", "add_", "sub_", "mul_", "div_"})
#: Operators and layers that return a new contiguous tensor.
_NEW = frozenset({"contiguous", "linear", "bmm", "zeros", "ones", "rand", nn.Linear, nn.Embedding})


def strides_of(
    sizes: TermSizes,
    node: Node,
    value: Any,
    known: Mapping[Node, Strides],
    values: Mapping[Node, Any],
    module: torch.nn.Module | None,
) -> Strides:
    """The strides of a node's value; ``None`` if they are unknown.

    Args:
        sizes: the kind of sizes.
        node: the node.
        value: the value of the node.
        known: the strides of earlier nodes.
        values: the values of earlier nodes.
        module: the layer that the node calls, if any.
    """
    if not isinstance(value, Shape):
        return None
    if node.op == "placeholder":
        return _contiguous(sizes, value)
    if node.op not in ("call_function", "call_method", "call_module"):
        return None
    name: Any = type(module) if module is not None else _name(node)
    given = [used for used in node.all_input_nodes if isinstance(values.get(used), Shape)]
    layout = node.kwargs.get("memory_format")
    if layout is not None and name in ("clone", "contiguous", "to"):
        return _contiguous(sizes, value) if layout is torch.contiguous_format else None
    if name in _IN_PLACE and isinstance(node.args[0], Node):
        return known.get(node.args[0])
    if name in _NEW or (name == "matmul" and all(len(values[used]) >= 3 for used in given)):
        return _contiguous(sizes, value)
    if name in _KEEPING:
        if name in _ELEMENTWISE and len(given) == 1:
            return known.get(given[0])  # the result lies in memory as the argument does
        alike = all(_is_contiguous(sizes, values[used], known.get(used)) for used in given)
        return _contiguous(sizes, value) if given and alike else None
    first = node.args[0] if node.args else None
    if not isinstance(first, Node) or node.kwargs:
        return None
    old, shape = known.get(first), values.get(first)
    if old is None or not isinstance(shape, Shape):
        return None
    return _rearranged(name, node.args[1:], old)


def _name(node: Node) -> str:
    target: Any = node.target
    return target if isinstance(target, str) else str(getattr(target, "__name__", ""))


def _rearranged(name: str, args: Sequence[Any], old: Sequence[Dim]) -> Strides:
    rank = len(old)
    if name in _TRANSPOSING and all(isinstance(arg, int) for arg in args) and len(args) == 2:
        new = [*old]
        i, j = args
        new[i], new[j] = old[j], old[i]
        return tuple(new)
    if name == "t" and rank == 2:
        return (old[1], old[0])
    if name == "permute":
        order = args[0] if len(args) == 1 and isinstance(args[0], (tuple, list)) else args
        if all(isinstance(i, int) for i in order) and len(order) == rank:
            return tuple(old[i] for i in order)
    return None


def _contiguous(sizes: TermSizes, shape: Shape) -> tuple[Dim, ...]:
    return tuple(sizes.product(shape[i + 1 :]) for i in range(len(shape)))


def _is_contiguous(sizes: TermSizes, shape: Shape, strides: Strides) -> bool:
    if strides is None:
        return False
    same = zip(strides, _contiguous(sizes, shape), strict=True)
    return all(sizes.term(one) is sizes.term(other) for one, other in same)


def demand_viewable(sizes: TermSizes, shape: Shape, strides: Sequence[Dim], new: Shape) -> None:
    """Demand that a tensor of these strides can be viewed in a new shape.

    Raises:
        IllTypedError: the view would merge dimensions that are not adjacent in memory.
    """
    table = sizes.table
    term: Callable[[Dim], Term] = sizes.term
    for i in range(len(shape) - 1):
        size, inner = term(shape[i]), term(shape[i + 1])
        adjacent = term(strides[i]).eq(term(strides[i + 1]) * inner)
        rest = term(sizes.product(shape[i + 1 :]))
        kept = [term(sizes.product(new[j:])).eq(rest) for j in range(len(new) + 1)]
        sizes.demand(
            table.or_(adjacent, size.eq(1), inner.eq(1), size.eq(0), inner.eq(0), *kept),
            "view cannot merge dimensions that are not adjacent in memory; reshape can",
            text=f"a view of {shape} with strides {Shape(strides)} as {new}",
        )
