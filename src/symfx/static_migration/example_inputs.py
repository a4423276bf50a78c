"""Tensors of given shapes, on which a program runs in eager."""

from __future__ import annotations

from collections.abc import Sequence

import torch

__all__ = ["example_tensor"]


def example_tensor(shape: Sequence[int], dtype_name: str) -> torch.Tensor:
    """An input to run a program on; integers are 0, which is an index of any dimension."""
    dtype: torch.dtype = getattr(torch, dtype_name)
    if dtype.is_floating_point or dtype.is_complex:
        return torch.rand(shape, dtype=dtype)
    return torch.zeros(shape, dtype=dtype)
