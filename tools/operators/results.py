"""Results of an operator and of its graph: run on copies of the inputs, and compared."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.utils import _pytree as pytree

__all__ = ["copies", "disagreement", "run"]


def copies(tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Tensors with the data and layouts of others."""
    # torch cannot deep-copy sparse tensors of compressed layouts.
    return [t.clone() if t.layout is not torch.strided else copy.deepcopy(t) for t in tensors]


def run(f: Callable[..., Any], tensors: Sequence[torch.Tensor]) -> list[Any]:
    """The results of a function, and its inputs after the call."""
    own = copies(tensors)
    # torch's database uses this seed where it fixes the seed of a random operator.
    torch.manual_seed(42)
    return pytree.tree_leaves((f(*own), own))


def disagreement(actual: list[Any], expected: list[Any], values: bool) -> str | None:
    """The difference between results in words; None if they agree."""
    if len(actual) != len(expected):
        return f"{len(actual)} results instead of {len(expected)}"
    for a, b in zip(actual, expected, strict=True):
        if not isinstance(b, torch.Tensor):
            if a != b and not (isinstance(b, float) and math.isnan(a) and math.isnan(b)):
                return f"{a} instead of {b}"
            continue
        if a.shape != b.shape or a.dtype is not b.dtype or a.layout is not b.layout:
            return f"{a.dtype} {tuple(a.shape)} instead of {b.dtype} {tuple(b.shape)}"
        if values:
            try:
                torch.testing.assert_close(a, b, equal_nan=True, rtol=1e-4, atol=1e-4)
            except AssertionError:
                return "other values"
    return None
