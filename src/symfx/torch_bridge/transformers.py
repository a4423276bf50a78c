"""The transformers of torch.nn look into their masks, to choose a kernel; here they do not."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.nn import TransformerEncoder
from torch.nn.modules import transformer

from symfx.torch_bridge.process_wide import ProcessWide

__all__ = ["blind_to_masks", "masks_as_given"]

# torch's function that compares a mask with a causal one. Its answer is a hint for speed alone:
# attention that is told nothing takes the mask as it is.
_DETECT = "_detect_is_causal_mask"
_looks: Callable[..., bool] | None = getattr(transformer, _DETECT, None)
_detect = ProcessWide(transformer, _DETECT)


@contextlib.contextmanager
def masks_as_given(applies: Callable[[], bool] | None = None) -> Iterator[None]:
    """Within the context, no transformer of torch.nn looks whether a mask is a causal one.

    Args:
        applies: whether that holds for the call that is running; every call if not given.
    """
    if _looks is None:
        yield
        return
    looks = _looks

    def hint(mask: Any, is_causal: bool | None = None, size: int | None = None) -> bool:
        if applies is None or applies():
            return is_causal is True
        return looks(mask, is_causal, size)

    with _detect.set_to(hint):
        yield


@contextlib.contextmanager
def blind_to_masks(module: torch.nn.Module) -> Iterator[None]:
    """Within the context, the transformers of a module choose their kernels without their masks.

    The shapes of their results are the same, and the numbers are, but for the order of sums.

    Args:
        module: the module that has the transformers.
    """
    packing = [part for part in module.modules() if isinstance(part, TransformerEncoder)]
    before = [part.use_nested_tensor for part in packing]
    try:
        for part in packing:
            part.use_nested_tensor = False
        with masks_as_given():
            yield
    finally:
        for part, value in zip(packing, before, strict=True):
            part.use_nested_tensor = value
