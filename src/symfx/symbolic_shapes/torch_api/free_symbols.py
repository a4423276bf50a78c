"""The symbols in a value: a number, a tensor, a sympy expression, or a container of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import sympy
import torch
from torch._subclasses.meta_utils import is_sparse_any
from torch.utils._ordered_set import OrderedSet
from torch.utils._sympy.symbol import SymT, symbol_is_type

from symfx.errors import SymfxError
from symfx.sym_node import SymTypes
from symfx.symbolic_shapes.checks.measures import is_tensor_like
from symfx.symbolic_shapes.torch_api.number_functions import is_nested_int, is_symbolic
from symfx.torch_bridge.dynamo import torch_answers_in_dynamo
from symfx.torch_bridge.identity import TorchSymNode
from symfx.torch_bridge.releases import is_custom_object

__all__ = [
    "IterateExprs",
    "SymIntEqByExpr",
    "_free_non_source_unbacked_symbols",
    "_has_uninterpretable_sympy_function",
    "_is_supported_equivalence",
    "_iterate_exprs",
    "_iterate_nodes",
    "_nested_int_aware_sort",
    "free_symbols",
    "free_unbacked_symbols",
    "has_free_symbols",
    "has_free_unbacked_symbols",
]

IterateExprs = (
    torch.SymInt | torch.SymFloat | torch.SymBool | int | float | bool | sympy.Basic | torch.Tensor
    | Sequence[Any]
)  # fmt: skip
"""The values in which `free_symbols` and related functions look for symbols."""

_UNBACKED = (SymT.UNBACKED_INT, SymT.UNBACKED_FLOAT)


def _iterate_exprs(val: Any) -> Iterator[sympy.Basic]:
    """The sympy expressions in a value: a number, a tensor, sympy, or a container of them.

    Raises:
        SymfxError: the value has no sizes and is no number.
    """
    if isinstance(val, (sympy.Basic, TorchSymNode)):
        yield val if isinstance(val, sympy.Basic) else val.expr
    elif isinstance(val, SymTypes):
        if is_symbolic(val):
            yield val.node.expr
    elif val is None or isinstance(val, (int, float, str, torch.Generator)):
        return
    elif isinstance(val, Mapping):
        for pair in val.items():
            yield from _iterate_exprs(pair)
    elif isinstance(val, (tuple, list)):
        for part in val:
            yield from _iterate_exprs(part)
    elif is_tensor_like(val):
        yield from _iterate_exprs(tuple(val.size()))
        if not is_sparse_any(val):
            yield from _iterate_exprs(tuple(val.stride()))
            yield from _iterate_exprs(val.storage_offset())
    elif not _is_custom_object(val):
        raise SymfxError(
            f"a {type(val).__name__} has no sizes, so it has no symbols either: {val!r}",
            fix="pass tensors, numbers, sympy expressions or containers of them",
        )


def _is_custom_object(value: Any) -> bool:
    """Whether a value is an object, other than a tensor, that operators take and return."""
    from torch._library.fake_class_registry import FakeScriptObject

    return isinstance(value, FakeScriptObject) or is_custom_object(value)


def _iterate_nodes(val: Any) -> Iterator[Any]:
    """The nodes of the symbolic numbers in a value; other values have none."""
    if isinstance(val, TorchSymNode):
        yield val
    elif isinstance(val, SymTypes):
        if is_symbolic(val):
            yield val.node
    elif isinstance(val, (tuple, list)):
        for part in val:
            yield from _iterate_nodes(part)
    elif isinstance(val, torch.Tensor):
        yield from _iterate_nodes(tuple(val.size()))
        if not is_sparse_any(val):
            yield from _iterate_nodes(tuple(val.stride()))
            yield from _iterate_nodes(val.storage_offset())


@torch_answers_in_dynamo
def free_symbols(val: Any) -> OrderedSet[sympy.Symbol]:
    """The symbols in a number, a tensor, a sympy expression, or a container of them.

    Raises:
        SymfxError: the value has no sizes and is no number.
    """
    found: OrderedSet[sympy.Symbol] = OrderedSet()
    for expr in _iterate_exprs(val):
        found.update(sorted(expr.free_symbols, key=str))
    return found


@torch_answers_in_dynamo
def has_free_symbols(val: Any) -> bool:
    """Whether a value has a symbol; see `free_symbols`."""
    return any(expr.free_symbols for expr in _iterate_exprs(val))


@torch_answers_in_dynamo
def free_unbacked_symbols(x: Any) -> OrderedSet[sympy.Symbol]:
    """The unbacked symbols in a value; see `free_symbols`."""
    return OrderedSet(s for s in free_symbols(x) if symbol_is_type(s, _UNBACKED))


@torch_answers_in_dynamo
def has_free_unbacked_symbols(x: Any) -> bool:
    """Whether a value has an unbacked symbol."""
    return any(
        symbol_is_type(symbol, _UNBACKED)
        for expr in _iterate_exprs(x)
        for symbol in expr.free_symbols
    )


def _free_non_source_unbacked_symbols(
    x: Any, unbacked_inputs: Iterable[sympy.Symbol]
) -> OrderedSet[sympy.Symbol]:
    """The unbacked symbols in a value that come from data, not from inputs."""
    inputs = set(unbacked_inputs)
    return OrderedSet(s for s in free_unbacked_symbols(x) if s not in inputs)


class SymIntEqByExpr:
    """An int that is equal to another where their expressions are; hashable, and no guard.

    Args:
        val: the int.

    Attributes:
        val: its expression, as sympy.
    """

    def __init__(self, val: int | torch.SymInt) -> None:
        self.val: sympy.Expr = (
            val.node.expr if isinstance(val, torch.SymInt) else sympy.Integer(val)
        )

    def __repr__(self) -> str:
        return repr(self.val)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, SymIntEqByExpr):
            return bool(self.val == other.val)
        return NotImplemented

    def __hash__(self) -> int:
        return hash(self.val)


def _nested_int_aware_sort(tup: tuple[Any, int]) -> tuple[int, Any, int]:
    """A key that sorts strides with their positions, those of ragged sizes last."""
    stride, position = tup
    if is_nested_int(stride):
        return 1, stride.node.nested_int_coeff(), position
    return 0, stride, position


def _is_supported_equivalence(expr: sympy.Basic) -> bool:
    """Whether an expression is one symbol, times integers, plus integers."""
    while not isinstance(expr, sympy.Symbol):
        if not isinstance(expr, (sympy.Add, sympy.Mul)) or len(expr.args) != 2:
            return False
        whole = [part for part in expr.args if isinstance(part, sympy.Integer)]
        if len(whole) != 1:
            return False
        (expr,) = (part for part in expr.args if part is not whole[0])
    return True


def _has_uninterpretable_sympy_function(expr: sympy.Basic) -> bool:
    """Whether an expression converts between floats and integers, for which graphs have no node."""
    from torch.utils._sympy.functions import CeilToInt, ToFloat, TruncToInt

    return bool(expr.has(ToFloat, TruncToInt, CeilToInt))
