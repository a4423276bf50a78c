"""How a tensor lies in memory: each rule stated once, as a condition on sizes and strides.

A rule takes the operations that it is made of: those of a `Table` make terms, `SYMPY` makes sympy
expressions, and `NUMBERS` computes with ints.
"""

from __future__ import annotations

import functools
import itertools
import operator
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

import sympy
from torch.utils._sympy.functions import Max

from symfx.algebra import Term
from symfx.sym_node.environment import Environment

__all__ = [
    "NDHWC",
    "NHWC",
    "NUMBERS",
    "SYMPY",
    "Operations",
    "channels_last_contiguous_2d",
    "channels_last_contiguous_3d",
    "channels_last_strides",
    "channels_last_strides_2d",
    "channels_last_strides_3d",
    "contiguous",
    "non_overlapping_and_dense",
    "packed",
    "packed_or_empty",
]

_T = TypeVar("_T")

# The order of the dimensions of a channels-last tensor, fastest first: channels, then the
# spatial dimensions from the last, then the batch.
NHWC = (1, 3, 2, 0)
NDHWC = (1, 4, 3, 2, 0)


#: The most dimensions whose orders are all considered.
_ALL_ORDERS = 3


class Operations(Protocol[_T]):
    """The operations of the rules, on numbers and conditions of type T.

    Attributes:
        zero, one: the numbers 0 and 1.
        true, false: the conditions that always hold and never hold.
    """

    zero: _T
    one: _T
    true: _T
    false: _T

    def mul(self, a: _T, b: _T, /) -> _T:
        """a * b"""

    def max(self, a: _T, b: _T, /) -> _T:
        """The greater of a and b."""

    def eq(self, a: _T, b: _T, /) -> _T:
        """a == b"""

    def ne(self, a: _T, b: _T, /) -> _T:
        """a != b"""

    def le(self, a: _T, b: _T, /) -> _T:
        """a <= b"""

    def and_(self, *conditions: _T) -> _T:
        """Whether all conditions hold."""

    def or_(self, *conditions: _T) -> _T:
        """Whether one of the conditions holds."""


class _Sympy:
    """Operations on sympy expressions."""

    zero: Any = sympy.S.Zero
    one: Any = sympy.S.One
    true: Any = sympy.true
    false: Any = sympy.false
    mul = staticmethod(operator.mul)
    max: Callable[..., Any] = staticmethod(Max)
    eq: Callable[..., Any] = staticmethod(sympy.Eq)
    ne: Callable[..., Any] = staticmethod(sympy.Ne)
    and_: Callable[..., Any] = staticmethod(sympy.And)
    or_: Callable[..., Any] = staticmethod(sympy.Or)

    @staticmethod
    def le(a: Any, b: Any, /) -> Any:
        # torch writes these comparisons with the greater side first.
        return sympy.Ge(b, a)


class _Numbers:
    """Operations on ints."""

    zero, one, true, false = 0, 1, True, False
    mul = staticmethod(operator.mul)
    max: Callable[..., Any] = staticmethod(max)
    eq = staticmethod(operator.eq)
    ne = staticmethod(operator.ne)
    le = staticmethod(operator.le)

    @staticmethod
    def and_(*conditions: Any) -> bool:
        return all(conditions)

    @staticmethod
    def or_(*conditions: Any) -> bool:
        return any(conditions)


SYMPY: Operations[Any] = _Sympy()
NUMBERS: Operations[Any] = _Numbers()


def packed(
    ops: Operations[_T], sizes: Sequence[_T], strides: Sequence[_T], order: Sequence[int]
) -> _T:
    """Whether the dimensions, fastest first in `order`, follow each other without a gap.

    The stride of a dimension of size 1 does not matter. A tensor of another rank than `order`
    is not packed.
    """
    if len(order) != len(sizes):
        return ops.false
    expected = ops.one
    parts = []
    for d in order:
        fits = ops.eq(strides[d], expected)
        if fits is not ops.true:
            parts.append(ops.or_(ops.eq(sizes[d], ops.one), fits))
        expected = ops.mul(expected, sizes[d])
    return ops.and_(*parts)


def packed_or_empty(
    ops: Operations[_T], sizes: Sequence[_T], strides: Sequence[_T], order: Sequence[int]
) -> _T:
    """`packed`, or without elements: such a tensor has no gaps whatever its strides.

    A tensor of another rank than `order` is neither.
    """
    if len(order) != len(sizes):
        return ops.false
    without_gaps = packed(ops, sizes, strides, order)
    if without_gaps is ops.true:
        return without_gaps
    return ops.or_(without_gaps, *(ops.eq(size, ops.zero) for size in sizes))


def contiguous(ops: Operations[_T], sizes: Sequence[_T], strides: Sequence[_T]) -> _T:
    """Row-major without gaps, or without elements."""
    return packed_or_empty(ops, sizes, strides, range(len(sizes) - 1, -1, -1))


def channels_last_contiguous_2d(
    ops: Operations[_T], sizes: Sequence[_T], strides: Sequence[_T]
) -> _T:
    """NHWC without gaps.

    As in eager mode, the strides of a tensor without elements count.
    """
    return packed(ops, sizes, strides, NHWC)


def channels_last_contiguous_3d(
    ops: Operations[_T], sizes: Sequence[_T], strides: Sequence[_T]
) -> _T:
    """NDHWC without gaps; see `channels_last_contiguous_2d`."""
    return packed(ops, sizes, strides, NDHWC)


def channels_last_strides(
    ops: Operations[_T], sizes: Sequence[_T], strides: Sequence[_T], order: Sequence[int]
) -> _T:
    """Whether strides grow in `order` from the channels, dimension 1, to the batch, dimension 0.

    Gaps are allowed. As in torch's own rule, a tensor is not channels-last where it has no elements
    or its channel stride is 0. Nor is it where its channel and batch strides are equal (both
    formats would claim ``N111``), unless sizes of 1 tell them apart. Neither is a tensor of another
    rank than `order`.
    """
    if len(order) != len(sizes):
        return ops.false
    parts = [ops.ne(strides[1], ops.zero)]
    least = ops.zero
    for d in order:
        parts.append(ops.ne(sizes[d], ops.zero))
        parts.append(ops.le(least, strides[d]))
        if d == 0:
            parts.append(ops.ne(least, strides[1]))
        least = ops.mul(strides[d], ops.max(sizes[d], ops.one))
    return ops.and_(*parts)


def channels_last_strides_2d(ops: Operations[_T], sizes: Sequence[_T], strides: Sequence[_T]) -> _T:
    """Whether strides follow NHWC; see `channels_last_strides`."""
    return channels_last_strides(ops, sizes, strides, NHWC)


def channels_last_strides_3d(ops: Operations[_T], sizes: Sequence[_T], strides: Sequence[_T]) -> _T:
    """Whether strides follow NDHWC; see `channels_last_strides`."""
    return channels_last_strides(ops, sizes, strides, NDHWC)


def non_overlapping_and_dense(
    env: Environment[Any], sizes: Sequence[Term], strides: Sequence[Term]
) -> Term:
    """Packed in some order of the dimensions, or without elements.

    The order is that of the strides. Where the sizes and strides have hints, a guard keeps the
    order at tracing where the facts do not imply it, and the result is a condition in that
    order. Without hints all orders of up to three dimensions are considered. Of more dimensions
    these are row-major order and the order that the facts imply: the condition may then deny a
    dense tensor in another order, which torch treats as any strided tensor.
    """
    table = env.table
    row_major = contiguous(table, sizes, strides)
    if env.prover.decide(row_major) is True:
        return table.true
    hints = [(env.hint_of(st), env.hint_of(si)) for st, si in zip(strides, sizes, strict=True)]
    if any(a is None or b is None for a, b in hints):
        known = packed_or_empty(table, sizes, strides, _known_order(env, strides))
        if env.prover.decide(known) is True:
            return table.true
        if len(sizes) > _ALL_ORDERS:
            return table.or_(row_major, known)
        orders = itertools.permutations(range(len(sizes)))
        return table.or_(*(packed_or_empty(table, sizes, strides, order) for order in orders))
    # Ascending strides; among equal strides, sizes of 1 first: they do not change the expected
    # stride.
    order = sorted(range(len(sizes)), key=lambda d: (hints[d][0], hints[d][1] != 1, -d))
    # The values at tracing are in order, so each place is asked about once. A kernel on trial may
    # get other answers; see `symfx.fake_operators.both_answers`.
    for last in range(1, len(order)):
        for at in range(last, 0, -1):
            inner, outer = order[at - 1], order[at]
            if env.evaluate_term(table.le(strides[inner], strides[outer])):
                break
            order[at - 1], order[at] = outer, inner
    return packed_or_empty(table, sizes, strides, order)


def _known_order(env: Environment[Any], strides: Sequence[Term]) -> list[int]:
    """The dimensions, fastest first, as far as the facts order their strides; else row-major."""

    def compare(d: int, e: int) -> int:
        less = env.prover.decide(env.table.lt(strides[d], strides[e]))
        if less is True:
            return -1
        return 1 if env.prover.decide(env.table.lt(strides[e], strides[d])) is True else 0

    return sorted(range(len(strides) - 1, -1, -1), key=functools.cmp_to_key(compare))
