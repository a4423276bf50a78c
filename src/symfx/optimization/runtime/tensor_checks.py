"""Questions about tensors while a model runs: their layout, and whether operators may take them."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["is_channels_last", "is_ordinary", "is_plain_tensor", "packed_alike"]


# These run at each call of a layer, so that even the look-up of a name counts.
_autocast, _dispatch_modes = torch.is_autocast_enabled, torch._C._len_torch_dispatch_stack
_transforms, _tracing = torch._C._functorch.peek_interpreter_stack, torch._C._get_tracing_state
_gradients, _strided = torch.is_grad_enabled, torch.strided


def is_ordinary(x: Tensor) -> bool:
    """Whether this call is plain inference on a plain tensor: no gradient, tracer or transform."""
    return (
        is_plain_tensor(x)
        and x.numel() > 0
        and not _dispatch_modes()
        and _transforms() is None
        and not _autocast("cpu")
        and _tracing() is None
        and not torch.compiler.is_compiling()
    )


def is_plain_tensor(x: Tensor) -> bool:
    """Whether a tensor is dense, on the CPU, and takes part in no gradient.

    Beside another argument that is ordinary, such a tensor is ordinary too, but for its size.
    """
    return (
        type(x) in _KINDS
        and x.is_cpu
        and x.layout is _strided
        and not (x.requires_grad and _gradients())
    )


_KINDS = (Tensor, torch.nn.Parameter)


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
