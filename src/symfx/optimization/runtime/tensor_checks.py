"""Questions about tensors while a model runs: their layout, and whether operators may take them."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["is_channels_last", "is_ordinary", "packed_alike"]


def is_ordinary(x: Tensor) -> bool:
    """Whether this call is plain inference on a plain tensor: no gradient, tracer or transform."""
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
    """Whether torch treats this tensor as channels last in memory.

    Torch compares the strides, from the innermost dimension outwards, and includes dimensions of
    size one. A tensor whose strides fit both layouts is not channels last.
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


def packed_alike(one: Tensor, other: Tensor) -> bool:
    """Whether oneDNN packed both tensors the same way; False if this torch cannot tell."""
    layout = _layout(one)
    return layout is not None and layout == _layout(other)


def _layout(packed: Tensor) -> bytes | None:
    """oneDNN's own description of a packed tensor's layout; None if this torch has no such."""
    try:
        described = bytearray(torch.ops.mkldnn._get_mkldnn_serialized_md(packed).numpy())
    except (AttributeError, RuntimeError):
        return None
    # Four bytes of the description are uninitialized memory. If a release of oneDNN moved them,
    # a weight would be shared that is packed less well for the shape; the result stays right,
    # because a packed weight carries its own layout.
    described[108:112] = bytes(4)
    return bytes(described)
