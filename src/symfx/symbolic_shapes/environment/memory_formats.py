"""Strides and memory formats as conditions on terms, for tensors of any rank."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

from symfx.algebra import Term

if TYPE_CHECKING:
    from symfx.symbolic_shapes.shape_env import ShapeEnv

__all__ = ["channels_last_contiguous", "channels_last_strides", "contiguous",
           "non_overlapping_and_dense"]  # fmt: skip


def _packed(
    env: ShapeEnv, sizes: Sequence[Term], strides: Sequence[Term], order: Sequence[int]
) -> Term:
    """The dimensions, fastest first in `order`, follow each other without a gap.

    The stride of a dimension of size 1 does not matter.
    """
    table = env.table
    expected = table.one
    parts = []
    for d in order:
        fits = table.eq(strides[d], expected)
        if fits is not table.true:
            parts.append(table.or_(table.eq(sizes[d], table.one), fits))
        expected = table.mul(expected, sizes[d])
    return table.and_(*parts)


def _empty(env: ShapeEnv, sizes: Sequence[Term]) -> Term:
    table = env.table
    return table.or_(*(table.eq(s, table.zero) for s in sizes))


def contiguous(env: ShapeEnv, sizes: Sequence[Term], strides: Sequence[Term]) -> Term:
    """Row-major without gaps; a tensor without elements is contiguous."""
    packed = _packed(env, sizes, strides, range(len(sizes) - 1, -1, -1))
    if packed is env.table.true:
        return packed
    return env.table.or_(packed, _empty(env, sizes))


def _channels_last_order(rank: int) -> list[int]:
    """Fastest first: channels, then the spatial dimensions from the last, then the batch."""
    return [1, *range(rank - 1, 1, -1), 0]


def channels_last_contiguous(
    env: ShapeEnv, sizes: Sequence[Term], strides: Sequence[Term], rank: int
) -> Term:
    """Packed with channels fastest, for tensors of rank 4 (NHWC) or 5 (NDHWC)."""
    if len(sizes) != rank:
        return env.table.false
    return _packed(env, sizes, strides, _channels_last_order(rank))


def channels_last_strides(
    env: ShapeEnv, sizes: Sequence[Term], strides: Sequence[Term], rank: int
) -> Term:
    """Strides that grow from channels over the spatial dimensions to the batch.

    Gaps are allowed. As in torch's own rule, a tensor whose channel stride is 0 is not
    channels-last, and neither is one whose channel and batch strides are equal (both formats
    would claim ``N111``), unless sizes of 1 tell them apart.
    """
    table = env.table
    if len(sizes) != rank:
        return table.false
    parts = [table.ne(strides[1], table.zero)]
    least = table.zero
    for d in _channels_last_order(rank):
        parts.append(table.ne(sizes[d], table.zero))
        parts.append(table.le(least, strides[d]))
        if d == 0:
            parts.append(table.ne(least, strides[1]))
        least = table.mul(strides[d], table.max(sizes[d], table.one))
    return table.and_(*parts)


def non_overlapping_and_dense(
    env: ShapeEnv, sizes: Sequence[Term], strides: Sequence[Term]
) -> Term:
    """Packed in some order of the dimensions.

    The order is that of the strides. Where the sizes and strides have hints, the order at
    tracing is made certain (guarded where it does not follow from the facts), and the rest is
    a condition in that order. Without hints only row-major order is considered: a "no" may
    then be a dense tensor in another order, which torch treats as any strided tensor.
    """
    table = env.table
    row_major = contiguous(env, sizes, strides)
    if env.prover.decide(row_major) is True:
        return table.true
    hints = [(env.hint_of(st), env.hint_of(si)) for st, si in zip(strides, sizes, strict=True)]
    if any(a is None or b is None for a, b in hints):
        return row_major
    # Ascending strides; among equal strides, sizes of 1 first: they leave the next expected
    # stride as it is.
    order = sorted(range(len(sizes)), key=lambda d: (hints[d][0], hints[d][1] != 1, -d))
    for inner, outer in itertools.pairwise(order):
        env.evaluate_term(table.le(strides[inner], strides[outer]))
    return table.or_(_packed(env, sizes, strides, order), _empty(env, sizes))
