"""How tensors lie in memory, as conditions on sizes and strides: in sympy, and of numbers.

The rules are those that torch applies to symbolic tensors, written for any order of the
dimensions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import sympy
import torch
from torch.utils._sympy.functions import IsNonOverlappingAndDenseIndicator, Max

from symfx.sym_node.node import to_node, wrap_node

__all__ = [
    "is_channels_last_contiguous_2d",
    "is_channels_last_contiguous_3d",
    "is_channels_last_strides_2d",
    "is_channels_last_strides_3d",
    "is_contiguous",
    "is_non_overlapping_and_dense_indicator",
    "sympy_is_channels_last_contiguous_2d",
    "sympy_is_channels_last_contiguous_3d",
    "sympy_is_channels_last_strides_2d",
    "sympy_is_channels_last_strides_3d",
    "sympy_is_channels_last_strides_generic",
    "sympy_is_contiguous",
    "sympy_is_contiguous_generic",
    "sympy_is_non_overlapping_and_dense_indicator",
]

_Sizes = Sequence[sympy.Basic]

# Fastest first: channels, then the spatial dimensions from the last, then the batch.
_NHWC = (1, 3, 2, 0)
_NDHWC = (1, 4, 3, 2, 0)


def sympy_is_contiguous_generic(
    sizes: _Sizes, strides: _Sizes, dim_order: Sequence[int]
) -> sympy.Basic:
    """When the dimensions, fastest first in `dim_order`, follow each other without a gap.

    The stride of a dimension of size 1 does not matter; a tensor without elements has no gaps.

    Args:
        sizes: the sizes, as sympy.
        strides: the strides.
        dim_order: the dimensions from the fastest to the slowest.

    Returns:
        A sympy condition; false where `dim_order` is of another rank.
    """
    if len(dim_order) != len(sizes):
        return sympy.false
    packed: sympy.Basic = sympy.true
    step: sympy.Basic = sympy.Integer(1)
    for d in dim_order:
        packed = sympy.And(packed, sympy.Or(sympy.Eq(sizes[d], 1), sympy.Eq(strides[d], step)))
        step = step * sizes[d]
    return sympy.Or(packed, *(sympy.Eq(size, 0) for size in sizes))


def sympy_is_contiguous(sizes: _Sizes, strides: _Sizes) -> sympy.Basic:
    """When a tensor of any rank is row-major without gaps, as a sympy condition."""
    return sympy_is_contiguous_generic(sizes, strides, range(len(sizes) - 1, -1, -1))


def sympy_is_channels_last_contiguous_2d(sizes: _Sizes, strides: _Sizes) -> sympy.Basic:
    """When a tensor of rank 4 lies as NHWC without gaps, as a sympy condition."""
    return sympy_is_contiguous_generic(sizes, strides, _NHWC)


def sympy_is_channels_last_contiguous_3d(sizes: _Sizes, strides: _Sizes) -> sympy.Basic:
    """When a tensor of rank 5 lies as NDHWC without gaps, as a sympy condition."""
    return sympy_is_contiguous_generic(sizes, strides, _NDHWC)


def sympy_is_channels_last_strides_generic(
    sizes: _Sizes, strides: _Sizes, dim_order: Sequence[int]
) -> sympy.Basic:
    """When strides grow in `dim_order`, channels first; gaps are allowed.

    No tensor without elements qualifies, none whose channel stride is 0, and none whose batch
    stride would equal the channel stride, for that is row-major as well.

    Args:
        sizes: the sizes, as sympy.
        strides: the strides.
        dim_order: the dimensions from the fastest to the slowest; dimension 1 is the channels,
            dimension 0 the batch.

    Returns:
        A sympy condition; false where `dim_order` is of another rank.
    """
    if len(dim_order) != len(sizes):
        return sympy.false
    parts = [sympy.Ne(strides[1], 0)]
    least: sympy.Basic = sympy.Integer(0)
    for d in dim_order:
        parts += [sympy.Ne(sizes[d], 0), sympy.Ge(strides[d], least)]
        if d == 0:
            parts.append(sympy.Ne(least, strides[1]))
        least = strides[d] * Max(sizes[d], 1)  # type: ignore[no-untyped-call]
    return sympy.And(*parts)


def sympy_is_channels_last_strides_2d(sizes: _Sizes, strides: _Sizes) -> sympy.Basic:
    """When the strides of a tensor of rank 4 follow NHWC, as a sympy condition."""
    return sympy_is_channels_last_strides_generic(sizes, strides, _NHWC)


def sympy_is_channels_last_strides_3d(sizes: _Sizes, strides: _Sizes) -> sympy.Basic:
    """When the strides of a tensor of rank 5 follow NDHWC, as a sympy condition."""
    return sympy_is_channels_last_strides_generic(sizes, strides, _NDHWC)


def sympy_is_non_overlapping_and_dense_indicator(sizes: _Sizes, strides: _Sizes) -> sympy.Basic:
    """1 where a tensor fills a block of memory, each element its own place; else 0."""
    return IsNonOverlappingAndDenseIndicator(*sizes, *strides)


def _of_numbers(
    method: str, numbers: Sequence[Any], strides: Sequence[Any], plain: Callable[..., Any]
) -> Any:
    """A predicate of sizes and strides of which some may be symbolic."""
    for number in (*numbers, *strides):
        if isinstance(number, torch.SymInt):
            node = number.node
            sizes = [to_node(node, n) for n in numbers]
            return wrap_node(getattr(node, method)(sizes, [to_node(node, n) for n in strides]))
    return plain([sympy.sympify(n) for n in numbers], [sympy.sympify(n) for n in strides])


def is_contiguous(sizes: Sequence[Any], strides: Sequence[Any]) -> Any:
    """Whether a tensor of these sizes and strides is contiguous: a bool or torch.SymBool.

    Args:
        sizes: the sizes, ints or torch.SymInts.
        strides: the strides.

    Example:
        >>> is_contiguous([2, 3], [3, 1]), is_contiguous([2, 3], [1, 2])
        (True, False)
    """
    return _of_numbers("is_contiguous", sizes, strides, _truth(sympy_is_contiguous))


def is_channels_last_contiguous_2d(sizes: Sequence[Any], strides: Sequence[Any]) -> Any:
    """Whether a tensor lies as NHWC without gaps: a bool or torch.SymBool."""
    return _of_numbers(
        "is_channels_last_contiguous_2d",
        sizes,
        strides,
        _truth(sympy_is_channels_last_contiguous_2d),
    )


def is_channels_last_contiguous_3d(sizes: Sequence[Any], strides: Sequence[Any]) -> Any:
    """Whether a tensor lies as NDHWC without gaps: a bool or torch.SymBool."""
    return _of_numbers(
        "is_channels_last_contiguous_3d",
        sizes,
        strides,
        _truth(sympy_is_channels_last_contiguous_3d),
    )


def is_channels_last_strides_2d(sizes: Sequence[Any], strides: Sequence[Any]) -> Any:
    """Whether a tensor's strides follow NHWC, gaps allowed: a bool or torch.SymBool."""
    return _of_numbers(
        "is_channels_last_strides_2d", sizes, strides, _truth(sympy_is_channels_last_strides_2d)
    )


def is_channels_last_strides_3d(sizes: Sequence[Any], strides: Sequence[Any]) -> Any:
    """Whether a tensor's strides follow NDHWC, gaps allowed: a bool or torch.SymBool."""
    return _of_numbers(
        "is_channels_last_strides_3d", sizes, strides, _truth(sympy_is_channels_last_strides_3d)
    )


def is_non_overlapping_and_dense_indicator(sizes: Sequence[Any], strides: Sequence[Any]) -> Any:
    """1 where a tensor fills a block of memory, each element its own place, else 0.

    Args:
        sizes: the sizes, ints or torch.SymInts.
        strides: the strides.

    Returns:
        An int or torch.SymInt.
    """
    return _of_numbers(
        "is_non_overlapping_and_dense_indicator",
        sizes,
        strides,
        lambda a, b: int(sympy_is_non_overlapping_and_dense_indicator(a, b)),
    )


def _truth(condition: Callable[[_Sizes, _Sizes], sympy.Basic]) -> Callable[[_Sizes, _Sizes], bool]:
    return lambda sizes, strides: bool(condition(sizes, strides))
