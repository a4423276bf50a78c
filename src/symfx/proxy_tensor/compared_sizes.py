"""Forms of losses that compare the sizes of their arguments in Python.

Where a size is data the comparison has no answer. The graph asserts that the sizes are equal: a
size that is data is not broadcast.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional as F

from symfx.proxy_tensor.forms import Forms

__all__ = ["FORMS_OF_LOSSES"]

FORMS_OF_LOSSES = Forms()
"""For a loss, its form, which states that sizes are equal and leaves the rest to the loss."""


@FORMS_OF_LOSSES.of(
    F.mse_loss,
    F.l1_loss,
    F.smooth_l1_loss,
    F.huber_loss,
    F.binary_cross_entropy,
    F.binary_cross_entropy_with_logits,
)
def _loss(input: torch.Tensor, target: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
    weight = kwargs.get("weight", args[0] if args else None)
    _state_equal(input, target)
    if isinstance(weight, torch.Tensor):
        _state_equal(input, weight)
    return NotImplemented


@FORMS_OF_LOSSES.of(F.cosine_similarity, torch.cosine_similarity)
def _cosine_similarity(x1: torch.Tensor, x2: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
    _state_equal(x1, x2)
    return NotImplemented


def _state_equal(a: torch.Tensor, b: torch.Tensor) -> None:
    """State that sizes are equal, where one of them is data."""
    if a.dim() != b.dim():
        return
    for m, n in zip(a.shape, b.shape, strict=True):
        # A size of 1 may be broadcast to one that is data, and the loss decides whether it is.
        if (_is_data(m) or _is_data(n)) and not (_is_one(m) or _is_one(n)):
            torch._check(m == n)  # type: ignore[no-untyped-call]


def _is_data(size: Any) -> bool:
    return isinstance(size, torch.SymInt) and not size.node.has_hint()


def _is_one(size: Any) -> bool:
    return isinstance(size, int) and size == 1
