"""Functions of graphs that compiled kernels compute in one pass over their arguments.

Where a kernel cannot take the arguments, or there is no compiler, torch's operators compute the
same; see `symfx.optimization.runtime.compiled`.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from symfx.optimization.runtime.compiled import Kernels, kernels
from symfx.optimization.runtime.leaf_calls import Effect, leaf_function
from symfx.optimization.runtime.tensor_checks import is_ordinary, is_plain_tensor

__all__ = ["layer_norm", "plain_rms_norm", "plainly_rotated", "rms_norm", "rotated", "sdpa"]

#: torch's choice of a kernel for attention: its fused one for the CPU.
_choice, _FUSED = torch._fused_sdp_choice, 1


@leaf_function(Effect.FRESH)
def sdpa(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """`torch.nn.functional.scaled_dot_product_attention`, with its arguments and result.

    The kernel takes what torch's own fused kernel would take, so that the strides of the result
    are the same.
    """
    if (
        dropout_p == 0.0
        and (scale is None or scale > 0)  # by others, torch multiplies the hidden scores too
        and not (is_causal and attn_mask is not None)
        and _fits(query, key, value, enable_gqa)
        and (attn_mask is None or _masks(attn_mask, query, key))
        and _choice(
            query, key, value, attn_mask, 0.0, is_causal, scale=scale, enable_gqa=enable_gqa
        )
        == _FUSED
        and (compiled := _trusted()) is not None
    ):
        found = _attention(compiled, query, key, value, attn_mask, bool(is_causal), scale)
        if found is not None:
            return found
    return F.scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=attn_mask,
        dropout_p=dropout_p,
        is_causal=is_causal,
        scale=scale,
        enable_gqa=enable_gqa,
    )


def _fits(query: Tensor, key: Tensor, value: Tensor, shares: bool) -> bool:
    """Whether torch's fused kernel and this one take these tensors."""
    if not (is_ordinary(query) and is_plain_tensor(key) and is_plain_tensor(value)):
        return False
    if not query.dtype is key.dtype is value.dtype is torch.float:
        return False
    sizes, key_sizes = query.shape, key.shape
    if len(sizes) != 4 or len(key_sizes) != 4 or key_sizes != value.shape:
        return False
    batch, heads, _, width = sizes
    if 0 in key_sizes:
        return False
    if key_sizes[0] != batch or key_sizes[3] != width:
        return False
    if heads != key_sizes[1] and not (shares and heads % key_sizes[1] == 0):
        return False
    return width == 1 or query.stride(3) == key.stride(3) == value.stride(3) == 1


def _masks(mask: Tensor, query: Tensor, key: Tensor) -> bool:
    """Whether the kernel takes a mask: of booleans or numbers, for all scores or broadcast."""
    if not is_plain_tensor(mask) or mask.dtype not in (torch.bool, torch.float):
        return False
    whole = (query.shape[0], query.shape[1], query.shape[2], key.shape[2])
    wanted = whole if mask.dim() == 4 else whole[2:] if mask.dim() == 2 else None
    return wanted is not None and all(
        size in (1, full) for size, full in zip(mask.shape, wanted, strict=True)
    )


def _attention(
    compiled: Kernels,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    causal: bool,
    scale: float | None,
) -> Tensor | None:
    """The kernel's result; None if it refuses."""
    batch, heads, length, width = query.shape
    count, sharing = key.shape[2], heads // key.shape[1]
    result = torch.empty_like(query)  # with its strides, as torch's own kernel does
    steps: tuple[int, ...] = (0, 0, 0, 0)
    if mask is not None:
        mask = mask.expand(batch, heads, length, count)
        steps = mask.stride()
    refused = compiled.attention(
        (query, key, value, result, mask),
        mask is not None and mask.dtype is torch.bool,
        causal,
        1 / math.sqrt(width) if scale is None else scale,
        (batch, heads, length, count, width, width, sharing),
        (
            *query.stride()[:3],
            *key.stride()[:3],
            *value.stride()[:3],
            *result.stride()[:3],
            *steps,
        ),
    )
    return None if refused else result


@leaf_function(Effect.FRESH)
def layer_norm(
    x: Tensor,
    shape: Any,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """`torch.nn.functional.layer_norm`, with its arguments."""
    fits = len(shape) == 1 and _has_rows(x, shape[0], weight, bias)
    if fits and (compiled := _trusted()) is not None:
        return _normalized(compiled, x, weight, bias, eps, centers=True)
    return F.layer_norm(x, shape, weight, bias, eps)


@leaf_function(Effect.FRESH)
def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """The root-mean-square norm of rows, computed in float32, times a weight.

    Args:
        x: of shape ``(..., channels)``.
        weight: of shape ``(channels,)``.
        eps: is added to the mean of the squares.
    """
    fits = x.is_contiguous() and _has_rows(x, weight.shape[0], weight)
    if fits and (compiled := _trusted()) is not None:
        return _normalized(compiled, x, weight, None, eps, centers=False)
    return plain_rms_norm(x, weight, eps)


def plain_rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """`rms_norm` by torch's operators, in the dtypes that models of transformers use."""
    wide = x.to(torch.float32)
    return weight * (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps)).to(x.dtype)


def _has_rows(x: Tensor, size: int, *others: Tensor | None) -> bool:
    """Whether a kernel may take these rows and the numbers for each channel."""
    return (
        is_ordinary(x)
        and x.dtype is torch.float
        and x.dim() > 0
        and x.shape[-1] == size
        and all(
            other is None
            or (
                other.dtype is torch.float
                and other.shape == (size,)
                and other.is_contiguous()
                and is_plain_tensor(other)
            )
            for other in others
        )
    )


def _normalized(
    compiled: Kernels,
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
    *,
    centers: bool,
) -> Tensor:
    x = x.contiguous()  # as torch's own norms do, whose results are contiguous
    result = torch.empty_like(x)
    compiled.normalize((x, weight, bias, result), x.shape[-1], eps, centers)
    return result


@leaf_function(Effect.FRESH)
def rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Queries or keys turned by their rotary positions, as in models of transformers.

    The formula is that of Su et al., "RoFormer" (2021), section 3.4.2, for halves instead of
    pairs of neighbors.

    Args:
        x: of shape ``(batch, heads, length, width)``.
        cos: of shape ``(batch or 1, 1, length, width)``.
        sin: likewise.
    """
    if _turns(x, cos, sin) and (compiled := _trusted()) is not None:
        return _rotated(compiled, x, cos, sin)
    return plainly_rotated(x, cos, sin)


def _rotated(compiled: Kernels, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """The kernel's result, with the heads side by side in memory."""
    batch, heads, length, width = x.shape
    result = x.new_empty(batch, length, heads, width).transpose(1, 2)
    strides = [cos.stride(), sin.stride()]
    steps = [(0 if cos.shape[0] == 1 else stride[0], stride[2]) for stride in strides]
    compiled.rotate(
        (x, cos, sin, result),
        (batch, heads, length, width),
        (*x.stride()[:3], *result.stride()[:3], *steps[0], *steps[1]),
    )
    return result


def plainly_rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """`rotated` by torch's operators."""
    half = x.shape[-1] // 2
    return x * cos + torch.cat((-x[..., half:], x[..., :half]), dim=-1) * sin


def _turns(x: Tensor, cos: Tensor, sin: Tensor) -> bool:
    """Whether the kernel takes these tensors."""
    if not (is_ordinary(x) and is_plain_tensor(cos) and is_plain_tensor(sin)) or x.dim() != 4:
        return False
    batch, _, length, width = x.shape
    return (
        x.dtype is cos.dtype is sin.dtype is torch.float
        and width % 2 == 0
        and x.stride(3) == cos.stride(-1) == sin.stride(-1) == 1
        and cos.shape == sin.shape
        and tuple(cos.shape) in ((batch, 1, length, width), (1, 1, length, width))
    )


@functools.cache
def _trusted() -> Kernels | None:
    """The compiled kernels, if they compute in a trial what torch's operators do."""
    compiled = kernels()
    if compiled is None:
        return None
    with torch.no_grad():
        wave = torch.arange(2 * 3 * 19 * 18.0).sin()
        x, weight = wave.view(2, 3, 19, 18), wave[:18]
        mask = torch.ones(19, 19, dtype=torch.bool).tril_(3)
        turns = wave[: 19 * 18].view(1, 1, 19, 18)
        pairs = [
            (
                _attention(compiled, x, x.cos(), x.flip(2), mask, False, None),
                F.scaled_dot_product_attention(x, x.cos(), x.flip(2), attn_mask=mask),
            ),
            (
                _normalized(compiled, x, weight, weight, 1e-5, centers=True),
                F.layer_norm(x, (18,), weight, weight),
            ),
            (
                _normalized(compiled, x, weight, None, 1e-6, centers=False),
                plain_rms_norm(x, weight, 1e-6),
            ),
            (_rotated(compiled, x, turns, turns.cos()), plainly_rotated(x, turns, turns.cos())),
        ]
        right = all(
            found is not None and torch.allclose(found, expected, rtol=1e-4, atol=1e-5)
            for found, expected in pairs
        )
    return compiled if right else None
