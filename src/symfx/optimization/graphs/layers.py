"""The parts of a graph that rewrites know: layers, scalings, activations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from symfx.optimization.graphs.effects import read_argument
from symfx.optimization.runtime.layers import Layer

__all__ = ["Activation", "Affine", "LayerCall"]


@dataclass(frozen=True)
class LayerCall(Layer):
    """The call of a layer in a graph.

    Attributes:
        node: the call.
        source: the node whose value is the layer's input.
        place: the position of the input among the arguments of the call.
        keyword: the keyword of the input.
    """

    node: fx.Node
    source: fx.Node
    place: int = 0
    keyword: str = "input"

    @property
    def current_source(self) -> Any:
        """The input of the call as the graph is now; an edit may have put another node there."""
        return read_argument(self.node, self.place, self.keyword)


@dataclass(frozen=True)
class Affine:
    """``scale * x + shift``, with one pair of numbers for each channel, or for all channels.

    Attributes:
        node: the call.
        source: the node whose value is ``x``.
        scale: of shape ``(channels,)`` or ``()``, in double precision.
        shift: likewise.
        name: the name of the operation in the report.
        spatial: the number of dimensions behind that of the channels in ``x``; None where any
            number is allowed.
        dtype: of the tensor with the numbers, to which ``x`` may be promoted; None for a scalar,
            and for batch normalization, which promotes nothing.
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
        """Whether it is batch normalization, whose channels are always dimension 1."""
        return self.name not in _ARITHMETIC

    @property
    def is_scalar(self) -> bool:
        """Whether one pair of numbers is for all channels."""
        return self.scale.ndim == 0 and self.shift.ndim == 0


_ARITHMETIC = ("add", "sub", "mul", "div", "ScaleShift")


@dataclass(frozen=True)
class Activation:
    """A function of each element.

    Attributes:
        node: the call.
        source: the node whose value it is applied to.
        name: oneDNN's name for it: relu, gelu, swish, hardswish, sigmoid, tanh, leaky_relu,
            hardtanh, hardsigmoid.
        scalars: its numbers.
        algorithm: ``"none"`` or ``"tanh"`` for gelu, ``""`` otherwise.
        function: torch's function for it, which writes to no argument.
    """

    node: fx.Node
    source: fx.Node
    name: str
    scalars: tuple[float, ...]
    algorithm: str
    function: Callable[[Tensor], Tensor]
