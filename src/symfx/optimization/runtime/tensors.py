"""What is asked of tensors while a model runs: plain? finite? laid out how?"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from symfx.optimization.graphs.effects import Effect, one_node

__all__ = ["all_finite", "is_channels_last", "is_ordinary", "packed_alike"]


def is_ordinary(x: Tensor) -> bool:
    """Is this call plain inference on a plain tensor, with nobody tracing or transforming it?"""
    return (
        type(x) is Tensor
        and x.device.type == "cpu"
        and x.layout is torch.strided
        and x.numel() > 0
        and not (torch.is_grad_enabled() and x.requires_grad)
        and not torch.is_autocast_enabled("cpu")
        and torch._C._len_torch_dispatch_stack() == 0
        and torch._C._functorch.peek_interpreter_stack() is None
        and not torch.compiler.is_compiling()
        and torch._C._get_tracing_state() is None
    )


def is_channels_last(x: Tensor) -> bool:
    """Does torch take this tensor for one that is channels last in memory?

    Torch asks the strides, dimension by dimension from the innermost; those that dimensions of
    size one have count too, and what remains open is no channels last.
    """
    if x.dim() not in (4, 5) or not x.numel() or x.stride(1) == 0:
        return False
    least = 0
    for dimension in (1, *range(x.dim() - 1, 1, -1), 0):
        stride = x.stride(dimension)
        if stride < least or (dimension == 0 and least == x.stride(1)):
            return False
        least = stride * max(x.shape[dimension], 1)
    return True


@one_node(Effect.FRESH)
def all_finite(*values: Any) -> bool:
    """Is each tensor free of NaN and infinities? Yes for those that nobody computes with now."""
    for value in values:
        looked_at = isinstance(value, Tensor) and is_ordinary(value) and value.is_floating_point()
        # A sum is off the finite numbers if a term is, and reads the tensor but once.
        if looked_at and not math.isfinite(float(value.detach().sum())):
            return False
    return True


def packed_alike(one: Tensor, other: Tensor) -> bool:
    """Has oneDNN laid out both the same way? No, where this build does not tell."""
    layout = _layout(one)
    return layout is not None and layout == _layout(other)


def _layout(packed: Tensor) -> bytes | None:
    """oneDNN's own description of a packed tensor's layout."""
    try:
        described = bytearray(torch.ops.mkldnn._get_mkldnn_serialized_md(packed).numpy())
    except (AttributeError, RuntimeError):
        return None  # a build that does not tell
    # Four bytes of it stand for nothing, and are whatever was there before. Were it ever others,
    # a packed weight would be found that fits less well: it carries its own layout.
    described[108:112] = bytes(4)
    return bytes(described)
