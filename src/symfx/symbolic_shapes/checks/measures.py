"""The numbers that describe an input: its sizes, strides and offset, or itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch._subclasses.meta_utils import is_sparse_any

__all__ = ["is_tensor_like", "measures"]


def is_tensor_like(value: Any) -> bool:
    """Whether something has sizes and strides, a tensor or what stands in for one."""
    return isinstance(value, torch.Tensor) or (hasattr(value, "size") and hasattr(value, "stride"))


def measures(value: Any) -> Iterator[tuple[tuple[str, int | None], Any]]:
    """The numbers of an input, each with what it is: ``("size", 0)``, ``("stride", 1)``, …

    A sparse tensor has sizes only; a number has itself, None has nothing.
    """
    if value is None:
        return
    if not is_tensor_like(value):
        yield ("value", None), value
        return
    for i, size in enumerate(value.size()):
        yield ("size", i), size
    if isinstance(value, torch.Tensor) and is_sparse_any(value):
        return
    for i, stride in enumerate(value.stride()):
        yield ("stride", i), stride
    yield ("storage_offset", None), value.storage_offset()
