"""The modules that folding puts into a graph where torch has none that would do."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from symfx.optimization.graphs.effects import Effect, one_call

__all__ = ["NormalizedLinear", "ScaleShift"]


class NormalizedLinear(nn.Linear):
    """A linear layer with the batch normalisation that follows it folded in.

    `torch.nn.BatchNorm1d` normalises dimension 1. Behind a linear layer that is the layer's
    output when its input has two dimensions, and folding is exact; with three it is another
    dimension, and the two steps are done one after the other.

    Args:
        plain: the linear layer, as it was.
        folded: the same with the normalisation folded in.
        scale: what the normalisation multiplies each channel with.
        shift: what it then adds.
    """

    symfx_effect = Effect.FRESH

    def __init__(self, plain: nn.Linear, folded: nn.Linear, scale: Tensor, shift: Tensor) -> None:
        super().__init__(folded.in_features, folded.out_features, device="meta")
        self.weight, self.bias = folded.weight, folded.bias
        self.register_buffer("plain_weight", plain.weight.detach())
        self.register_buffer("plain_bias", None if plain.bias is None else plain.bias.detach())
        self.register_buffer("scale", scale.to(plain.weight.dtype))
        self.register_buffer("shift", shift.to(plain.weight.dtype))

    plain_weight: Tensor
    plain_bias: Tensor | None
    scale: Tensor
    shift: Tensor

    @one_call
    def forward(self, input: Tensor) -> Tensor:
        """The normalised product, of the shape that the two steps would give."""
        if input.dim() == 2:
            return F.linear(input, self.weight, self.bias)
        between = F.linear(input, self.plain_weight, self.plain_bias)
        zeros, ones = torch.zeros_like(self.shift), torch.ones_like(self.scale)
        return F.batch_norm(between, zeros, ones, self.scale, self.shift, eps=0.0)


class ScaleShift(nn.Module):
    """``x * scale + shift``, a pair of numbers for each channel, in one pass.

    Args:
        scale: of shape ``(channels,)``.
        shift: likewise.
        spatial: how many dimensions follow the channels' in what comes in.
        rectify: what is negative becomes zero then.
    """

    symfx_effect = Effect.FRESH

    def __init__(
        self, scale: Tensor, shift: Tensor, spatial: int, *, rectify: bool = False
    ) -> None:
        super().__init__()
        shape = (-1, *[1] * spatial)
        self.spatial, self.rectify = spatial, rectify
        self.register_buffer("scale", scale.reshape(shape))
        self.register_buffer("shift", shift.reshape(shape))

    scale: Tensor
    shift: Tensor

    @one_call
    def forward(self, x: Tensor) -> Tensor:
        """``x * scale + shift``, of the shape and dtype of ``x``."""
        # Batch normalisation returns one of these two layouts, whatever it is given.
        if not x.is_contiguous() and not (
            x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last)
        ):
            x = x.contiguous()
        result = torch.addcmul(self.shift, x, self.scale)
        if self.rectify:
            result = result.relu_()
        return result if result.dtype == x.dtype else result.to(x.dtype)

    def extra_repr(self) -> str:
        """What `repr` shows of it."""
        return f"{self.scale.numel()}, spatial={self.spatial}, rectify={self.rectify}"
