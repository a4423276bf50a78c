"""A convolution with the operations behind it, as the ways to compute it take it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from symfx.optimization.runtime.activations import PostOp
from symfx.optimization.runtime.layers import MaxPool

__all__ = ["ConvForm", "Kernel"]


@dataclass(frozen=True)
class ConvForm:
    """A convolution with the activation and the pooling behind it, as kernels take it.

    Attributes:
        weight: in torch's layout.
        bias: of shape ``(channels_out,)``, or None.
        stride, padding, dilation, output_padding: one number for each spatial dimension.
        groups: the number of groups of channels.
        transposed: it is a transposed convolution.
        post: the operation on each element.
        pool: the max-pooling behind it, or None.
    """

    weight: Tensor
    bias: Tensor | None
    stride: list[int]
    padding: list[int]
    dilation: list[int]
    output_padding: list[int]
    groups: int
    transposed: bool
    post: PostOp
    pool: MaxPool | None

    @property
    def format(self) -> torch.memory_format:
        """Channels last, for this number of dimensions."""
        return torch.channels_last if self.weight.ndim == 4 else torch.channels_last_3d

    def sides(self, shape: Sequence[int]) -> list[int]:
        """The height and the width of the result, before a pooling, for an image of this shape.

        The convolution has two dimensions and is not transposed.
        """
        return [
            (side + 2 * pad - gap * (size - 1) - 1) // step + 1
            for side, pad, gap, size, step in zip(
                shape[2:],
                self.padding,
                self.dilation,
                self.weight.shape[2:],
                self.stride,
                strict=True,
            )
        ]

    def plainly(self, x: Tensor, other: Tensor | None) -> Tensor:
        """The result of such a convolution by torch's ordinary operators, channels last."""
        places = self.stride, self.padding, self.dilation, self.groups
        result = F.conv2d(x.contiguous(memory_format=self.format), self.weight, self.bias, *places)
        result = result if other is None else result + other
        result = self.post.function(result) if self.post.function else result
        result = self.pool.function(result) if self.pool else result
        return result.contiguous(memory_format=self.format)

    def pack(self, shape: Sequence[int]) -> Tensor:
        """The weight in the layout that oneDNN's kernel for this input shape needs."""
        places = self.padding, self.stride, self.dilation, self.groups, list(shape)
        if self.transposed:
            found: Tensor = torch.ops.mkldnn._reorder_convolution_transpose_weight(
                self.weight.contiguous(), self.padding, self.output_padding, *places[1:]
            )
            return found
        nn_: Any = torch._C._nn
        two = self.weight.ndim == 4
        pack = nn_.mkldnn_reorder_conv2d_weight if two else nn_.mkldnn_reorder_conv3d_weight
        packed: Tensor = pack(self.weight.contiguous().to_mkldnn(), *places)
        return packed


class Kernel(Protocol):
    """Computes a layer for one shape of input."""

    def __call__(self, x: Tensor, other: Tensor | None, accumulate: bool) -> Tensor:
        """The result, channels last in memory.

        Args:
            x: the input of the layer.
            other: a tensor that is added to the layer's result, or None.
            accumulate: the kernel may write to ``other``.
        """
        ...
