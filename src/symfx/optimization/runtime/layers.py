"""Convolutions, linear layers and max-poolings as data: class, weight, bias, options."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["CONVS", "Layer", "MaxPool"]

#: The number of spatial dimensions of each class of convolution, and whether it is transposed.
CONVS: dict[type[nn.Module], tuple[int, bool]] = {
    nn.Conv1d: (1, False),
    nn.Conv2d: (2, False),
    nn.Conv3d: (3, False),
    nn.ConvTranspose1d: (1, True),
    nn.ConvTranspose2d: (2, True),
    nn.ConvTranspose3d: (3, True),
}


@dataclass(frozen=True)
class Layer:
    """A convolution or a linear layer.

    Attributes:
        kind: ``nn.Conv2d``, ``nn.ConvTranspose1d``, ``nn.Linear`` and so on.
        weight: in torch's layout for that class.
        bias: of shape ``(channels,)``, or None.
        options: stride, padding, dilation, groups, output_padding and padding_mode, as the
            constructor of ``kind`` takes them; empty for ``nn.Linear``.
    """

    kind: type[nn.Module]
    weight: Tensor
    bias: Tensor | None
    options: dict[str, Any]

    @property
    def transposed(self) -> bool:
        """Whether it is a transposed convolution, whose weight has output channels second."""
        return self.kind in CONVS and CONVS[self.kind][1]

    @property
    def dimensions(self) -> int:
        """The number of spatial dimensions: 0 for ``nn.Linear``."""
        return CONVS[self.kind][0] if self.kind in CONVS else 0

    @property
    def channels(self) -> int:
        """The number of output channels."""
        groups: int = self.options.get("groups", 1)
        return self.weight.shape[1] * groups if self.transposed else self.weight.shape[0]

    @property
    def channels_in(self) -> int:
        """The number of input channels."""
        groups: int = self.options.get("groups", 1)
        return self.weight.shape[0] if self.transposed else self.weight.shape[1] * groups

    def build(self, weight: Tensor, bias: Tensor | None) -> nn.Module:
        """A module of this class and these options with another weight and bias, in eval mode."""
        with torch.device("meta"):  # the constructor's own numbers would be thrown away
            if self.kind is nn.Linear:
                module: nn.Module = nn.Linear(weight.shape[1], weight.shape[0], bias is not None)
            else:
                module = self.kind(
                    self.channels_in,
                    self.channels,
                    tuple(weight.shape[2:]),
                    bias=bias is not None,
                    **self.options,
                )
        wanted = self.weight.requires_grad
        module.weight = nn.Parameter(weight.detach(), requires_grad=wanted)
        if bias is not None:
            module.bias = nn.Parameter(bias.detach(), requires_grad=wanted)
        return module.eval()


@dataclass(frozen=True)
class MaxPool:
    """The greatest value of each window of an image.

    Attributes:
        kernel, stride, padding: of the windows, down and across.
        ceil: a window that begins inside the image counts even if it ends outside.
    """

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    ceil: bool

    def function(self, x: Tensor) -> Tensor:
        """The pooling of a tensor, by torch."""
        return F.max_pool2d(x, self.kernel, self.stride, self.padding, ceil_mode=self.ceil)

    def sides(self, shape: Sequence[int]) -> list[int]:
        """The height and the width of the result for an image of this height and width."""
        found = []
        for side, size, step, pad in zip(
            shape, self.kernel, self.stride, self.padding, strict=True
        ):
            windows = (side + 2 * pad - size + (step - 1 if self.ceil else 0)) // step + 1
            # The last window must begin inside the image or the padding in front of it.
            outside = self.ceil and (windows - 1) * step >= side + pad
            found.append(windows - outside)
        return found

    def describe(self) -> dict[str, Any]:
        """The pooling as plain data."""
        sizes = {"kernel": self.kernel, "stride": self.stride, "padding": self.padding}
        return {**{name: list(size) for name, size in sizes.items()}, "ceil": self.ceil}
