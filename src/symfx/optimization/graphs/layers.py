"""Layers as mathematics: linear maps of channels, scalings, activations, poolings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

__all__ = ["CONVS", "Activation", "Affine", "Layer", "MaxPool"]

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
    """A convolution or a matrix product, with a bias.

    Attributes:
        node: the call.
        source: the node whose value it takes.
        kind: ``nn.Conv2d``, ``nn.ConvTranspose1d``, ``nn.Linear`` and so on.
        weight: as torch lays it out for that kind.
        bias: of shape ``(channels,)``, or None.
        options: stride, padding, dilation, groups, output_padding and padding_mode, as the
            constructor of ``kind`` takes them; empty for ``nn.Linear``.
    """

    node: fx.Node
    source: fx.Node
    kind: type[nn.Module]
    weight: Tensor
    bias: Tensor | None
    options: dict[str, Any]

    @property
    def transposed(self) -> bool:
        """Is it a transposed convolution, whose weight has its output channels second?"""
        return self.kind in CONVS and CONVS[self.kind][1]

    @property
    def dimensions(self) -> int:
        """How many spatial dimensions it has: 0 for ``nn.Linear``."""
        return CONVS[self.kind][0] if self.kind in CONVS else 0

    @property
    def channels(self) -> int:
        """How many channels come out."""
        groups: int = self.options.get("groups", 1)
        return self.weight.shape[1] * groups if self.transposed else self.weight.shape[0]

    @property
    def channels_in(self) -> int:
        """How many channels go in."""
        groups: int = self.options.get("groups", 1)
        return self.weight.shape[0] if self.transposed else self.weight.shape[1] * groups

    def build(self, weight: Tensor, bias: Tensor | None) -> nn.Module:
        """A module of this kind with other numbers in it, in eval mode."""
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
class Affine:
    """``scale * x + shift``, one pair of numbers for each channel, or for all.

    Attributes:
        node: the call.
        source: the node whose value it takes.
        scale: of shape ``(channels,)`` or ``()``, in double precision.
        shift: likewise.
        name: what it is, for people.
        spatial: how many dimensions follow the channels' in ``x``; None where any number may.
        dtype: of the tensor with the numbers, to which ``x`` may be promoted; None for a scalar,
            and for batch normalisation, which promotes nothing.
    """

    node: fx.Node
    source: fx.Node
    scale: Tensor
    shift: Tensor
    name: str
    spatial: int | None = None
    dtype: torch.dtype | None = None

    @property
    def is_norm(self) -> bool:
        """Is it batch normalisation, whose channels are dimension 1 and not counted from behind?"""
        return self.name not in _ARITHMETIC

    @property
    def is_scalar(self) -> bool:
        """Is it the same for all channels?"""
        return self.scale.ndim == 0 and self.shift.ndim == 0


_ARITHMETIC = ("add", "sub", "mul", "div", "ScaleShift")


@dataclass(frozen=True)
class Activation:
    """A function of each element.

    Attributes:
        node: the call.
        source: the node whose value it takes.
        name: oneDNN's name for it: relu, gelu, swish, hardswish, sigmoid, tanh, leaky_relu,
            hardtanh, hardsigmoid.
        scalars: its numbers.
        algorithm: ``"none"`` or ``"tanh"`` for gelu, ``""`` otherwise.
        function: the same for a tensor, not in place.
    """

    node: fx.Node
    source: fx.Node
    name: str
    scalars: tuple[float, ...]
    algorithm: str
    function: Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class MaxPool:
    """The greatest value of each window of an image.

    Attributes:
        kernel, stride, padding: of the windows, down and across.
        ceil: are windows counted that begin inside and end beyond the image?
    """

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    ceil: bool

    def function(self, x: Tensor) -> Tensor:
        """The same for a tensor."""
        return F.max_pool2d(x, self.kernel, self.stride, self.padding, ceil_mode=self.ceil)

    def describe(self) -> dict[str, Any]:
        """All of it as plain data."""
        sizes = {"kernel": self.kernel, "stride": self.stride, "padding": self.padding}
        return {**{name: list(size) for name, size in sizes.items()}, "ceil": self.ceil}
