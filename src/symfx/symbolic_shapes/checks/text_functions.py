"""The functions that the text of guards calls."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from symfx.symbolic_shapes.torch_api.number_functions import (
    cast_symbool_to_symint_guardless,
    guard_bool,
)
from symfx.torch_bridge.dynamo import torch_answers_in_dynamo

__all__ = ["SYMPY_INTERP", "eval_is_non_overlapping_and_dense"]


@torch_answers_in_dynamo
def eval_is_non_overlapping_and_dense(sizes: Sequence[Any], strides: Sequence[Any]) -> int:
    """Whether a tensor fills a block of memory, each element in its own place: 1 or 0.

    Args:
        sizes: the sizes, symbolic or not.
        strides: the strides.

    Example:
        >>> eval_is_non_overlapping_and_dense([2, 3], [1, 2])
        1
        >>> eval_is_non_overlapping_and_dense([2, 3], [4, 1])
        0
    """
    if len(sizes) == 1:
        # A dimension of at most one element has no gaps: its stride does not matter.
        return int(guard_bool(strides[0] == 1) or guard_bool(sizes[0] < 2))
    expected: Any = 1
    for size, stride in sorted(zip(sizes, strides, strict=True), key=lambda pair: pair[1]):
        if size == 1:
            continue
        if not guard_bool(stride == expected):
            return 0
        expected = expected * size
    return 1


def _flat_indicator(*numbers: Any) -> int:
    rank = len(numbers) // 2
    return eval_is_non_overlapping_and_dense(numbers[:rank], numbers[rank:])


SYMPY_INTERP: dict[str, Any] = {
    "IsNonOverlappingAndDenseIndicator": _flat_indicator,
    "cast_symbool_to_symint_guardless": cast_symbool_to_symint_guardless,
    "FloatFloorDiv": lambda a, b: a // b,
    "FloatMod": lambda a, b: a % b,
    "IntRound": round,
    "math": math,
    "torch": torch,
}
"""The functions by their names in the text of guards."""
