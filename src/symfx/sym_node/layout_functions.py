"""torch's functions of memory formats: conditions in sympy, and answers about numbers.

Sizes and strides may be ints and torch.SymInts; the rules stand in `memory_formats`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import sympy
import torch
from torch.utils._sympy.functions import IsNonOverlappingAndDenseIndicator

from symfx.sym_node.memory_formats import (
    NDHWC,
    NHWC,
    NUMBERS,
    SYMPY,
    Operations,
    channels_last_strides,
    channels_last_strides_2d,
    channels_last_strides_3d,
    contiguous,
    packed_or_empty,
)
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
_Rule: TypeAlias = Callable[[Operations[Any], Sequence[Any], Sequence[Any]], Any]


# Unlike eager mode, torch's functions take a tensor without elements for channels-last
# contiguous whatever its strides.
def _nhwc_or_empty(ops: Operations[Any], sizes: Sequence[Any], strides: Sequence[Any]) -> Any:
    return packed_or_empty(ops, sizes, strides, NHWC)


def _ndhwc_or_empty(ops: Operations[Any], sizes: Sequence[Any], strides: Sequence[Any]) -> Any:
    return packed_or_empty(ops, sizes, strides, NDHWC)


# -- in sympy ---------------------------------------------------------------------------------


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
    return packed_or_empty(SYMPY, sizes, strides, dim_order)


def sympy_is_contiguous(sizes: _Sizes, strides: _Sizes) -> sympy.Basic:
    """When a tensor of any rank is row-major without gaps, as a sympy condition."""
    return contiguous(SYMPY, sizes, strides)


def sympy_is_channels_last_contiguous_2d(sizes: _Sizes, strides: _Sizes) -> sympy.Basic:
    """When a tensor of rank 4 lies as NHWC without gaps, as a sympy condition."""
    return _nhwc_or_empty(SYMPY, sizes, strides)


def sympy_is_channels_last_contiguous_3d(sizes: _Sizes, strides: _Sizes) -> sympy.Basic:
    """When a tensor of rank 5 lies as NDHWC without gaps, as a sympy condition."""
    return _ndhwc_or_empty(SYMPY, sizes, strides)


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
    return channels_last_strides(SYMPY, sizes, strides, dim_order)


def sympy_is_channels_last_strides_2d(sizes: _Sizes, strides: _Sizes) -> sympy.Basic:
    """When the strides of a tensor of rank 4 follow NHWC, as a sympy condition."""
    return channels_last_strides_2d(SYMPY, sizes, strides)


def sympy_is_channels_last_strides_3d(sizes: _Sizes, strides: _Sizes) -> sympy.Basic:
    """When the strides of a tensor of rank 5 follow NDHWC, as a sympy condition."""
    return channels_last_strides_3d(SYMPY, sizes, strides)


def sympy_is_non_overlapping_and_dense_indicator(sizes: _Sizes, strides: _Sizes) -> sympy.Basic:
    """1 where a tensor fills a block of memory, each element in its own place; else 0."""
    return IsNonOverlappingAndDenseIndicator(*sizes, *strides)


# -- of numbers -------------------------------------------------------------------------------


def _answer(
    method: str,
    sizes: Sequence[Any],
    strides: Sequence[Any],
    of_ints: Callable[[Sequence[int], Sequence[int]], Any],
) -> Any:
    """The answer about ints, or that of a `SymNode`'s method where a number is symbolic."""
    for number in (*sizes, *strides):
        if isinstance(number, torch.SymInt):
            node = number.node
            size_nodes = [to_node(node, n) for n in sizes]
            stride_nodes = [to_node(node, n) for n in strides]
            return wrap_node(getattr(node, method)(size_nodes, stride_nodes))
    return of_ints(sizes, strides)


def _by_rule(method: str, sizes: Sequence[Any], strides: Sequence[Any], rule: _Rule) -> Any:
    return _answer(method, sizes, strides, lambda a, b: rule(NUMBERS, a, b))


def is_contiguous(sizes: Sequence[Any], strides: Sequence[Any]) -> Any:
    """Whether a tensor of these sizes and strides is contiguous: a bool or torch.SymBool.

    Args:
        sizes: the sizes, ints or torch.SymInts.
        strides: the strides.

    Example:
        >>> is_contiguous([2, 3], [3, 1]), is_contiguous([2, 3], [1, 2])
        (True, False)
    """
    return _by_rule("is_contiguous", sizes, strides, contiguous)


def is_channels_last_contiguous_2d(sizes: Sequence[Any], strides: Sequence[Any]) -> Any:
    """Whether a tensor lies as NHWC without gaps: a bool or torch.SymBool."""
    return _by_rule("is_channels_last_contiguous_2d", sizes, strides, _nhwc_or_empty)


def is_channels_last_contiguous_3d(sizes: Sequence[Any], strides: Sequence[Any]) -> Any:
    """Whether a tensor lies as NDHWC without gaps: a bool or torch.SymBool."""
    return _by_rule("is_channels_last_contiguous_3d", sizes, strides, _ndhwc_or_empty)


def is_channels_last_strides_2d(sizes: Sequence[Any], strides: Sequence[Any]) -> Any:
    """Whether a tensor's strides follow NHWC, gaps allowed: a bool or torch.SymBool."""
    return _by_rule("is_channels_last_strides_2d", sizes, strides, channels_last_strides_2d)


def is_channels_last_strides_3d(sizes: Sequence[Any], strides: Sequence[Any]) -> Any:
    """Whether a tensor's strides follow NDHWC, gaps allowed: a bool or torch.SymBool."""
    return _by_rule("is_channels_last_strides_3d", sizes, strides, channels_last_strides_3d)


def is_non_overlapping_and_dense_indicator(sizes: Sequence[Any], strides: Sequence[Any]) -> Any:
    """1 where a tensor fills a block of memory, each element in its own place, else 0.

    Args:
        sizes: the sizes, ints or torch.SymInts.
        strides: the strides.

    Returns:
        An int or torch.SymInt.
    """
    return _answer(
        "is_non_overlapping_and_dense_indicator",
        sizes,
        strides,
        lambda a, b: int(sympy_is_non_overlapping_and_dense_indicator(a, b)),
    )
