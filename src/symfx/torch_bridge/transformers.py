"""The transformers of torch.nn look into their masks, to choose a kernel; here they do not."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch.nn import TransformerEncoder
from torch.nn.modules import transformer

__all__ = ["blind_to_masks"]

#: torch's name of the function that compares a mask with a causal one.
_DETECT = "_detect_is_causal_mask"


@contextlib.contextmanager
def blind_to_masks(module: torch.nn.Module) -> Iterator[None]:
    """Within the context, the transformers of a module choose their kernels without their masks.

    The shapes of their results are the same, and the numbers are, but for the order of sums.

    Args:
        module: the module that has the transformers.
    """
    packing = [part for part in module.modules() if isinstance(part, TransformerEncoder)]
    before = [part.use_nested_tensor for part in packing]
    detect: Any = getattr(transformer, _DETECT, None)
    try:
        for part in packing:
            part.use_nested_tensor = False
        if detect is not None:
            setattr(transformer, _DETECT, _said)
        yield
    finally:
        if detect is not None:
            setattr(transformer, _DETECT, detect)
        for part, value in zip(packing, before, strict=True):
            part.use_nested_tensor = value


def _said(mask: Any, is_causal: bool | None = None, size: int | None = None) -> bool:
    """Whether the caller says that a mask is causal."""
    return is_causal is True
