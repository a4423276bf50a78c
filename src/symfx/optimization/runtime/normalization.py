"""Modules for folded batch normalization, where no module of torch computes the result."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from symfx.optimization.runtime.leaf_calls import Effect, leaf_forward

__all__ = ["NormalizedLinear", "ScaleShift"]


class NormalizedLinear(nn.Linear):
    """A linear layer with the batch normalization behind it folded in.

    `torch.nn.BatchNorm1d` normalizes dimension 1. For an input of two dimensions, that is the
    dimension of the layer's outputs, and folding is exact. For three it is another dimension, and
    the layer and the normalization run one after the other.

    Args:
        plain: the linear layer without the normalization.
        folded: the linear layer with the normalization folded in.
        scale: the factor of the normalization for each channel.
        shift: the summand of the normalization for each channel.
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

    @leaf_forward
    def forward(self, input: Tensor) -> Tensor:
        """The normalized product, of the shape that the two layers return."""
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
        spatial: the number of dimensions of the input behind that of the channels.
        rectify: a ReLU follows.
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

    @leaf_forward
    def forward(self, x: Tensor) -> Tensor:
        """``x * scale + shift``, of the shape and dtype of ``x``."""
        # Batch normalization returns one of these two layouts, for every layout of its input.
        if not x.is_contiguous() and not (
            x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last)
        ):
            x = x.contiguous()
        result = torch.addcmul(self.shift, x, self.scale)
        if self.rectify:
            result = result.relu_()
        return result if result.dtype == x.dtype else result.to(x.dtype)

    def extra_repr(self) -> str:
        """The text in the module's `repr`."""
        return f"{self.scale.numel()}, spatial={self.spatial}, rectify={self.rectify}"
