"""A linear layer by the compiled kernel, with its weight packed in panels."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from symfx.optimization.runtime.activations import PostOp
from symfx.optimization.runtime.compiled import kernels
from symfx.optimization.runtime.tape import NotOnTapeError, running_tape

__all__ = ["CompiledLinear", "applied", "filled_up", "panels"]


#: The activations that the kernels apply, by name and algorithm, and their numbers in ``layers.c``.
_POSTS = {
    ("none", ""): 0,
    ("relu", ""): 1,
    ("swish", ""): 2,
    ("gelu", "none"): 3,
    ("gelu", "tanh"): 4,
    ("hardtanh", ""): 5,
}


def applied(post: PostOp) -> tuple[int, tuple[float, float]]:
    """The kernels' number for an activation, 0 if they do not apply it, and the range it keeps."""
    low, high = post.scalars if post.name == "hardtanh" else (-math.inf, math.inf)
    return _POSTS.get((post.name, post.algorithm), 0), (low, high)


def panels(weight: Tensor, columns: int) -> Tensor:
    """Matrices of shape ``(..., channels_out, depth)`` in panels of so many output channels."""
    *front, width, depth = weight.shape
    count = -(-width // columns)
    if width % columns:
        filled = weight.new_zeros(*front, count * columns, depth)
        filled[..., :width, :] = weight
    else:
        filled = weight.contiguous()
    # The panels have memory of their own, also where they lie as the weight does.
    turned = filled.view(*front, count, columns, depth).transpose(-1, -2)
    return turned.clone(memory_format=torch.contiguous_format)


def filled_up(bias: Tensor | None, weight: Tensor, columns: int) -> Tensor:
    """The bias, or zeros where the layer has none, filled up to the columns of the last panel."""
    width = weight.shape[0]
    result = weight.detach().new_zeros(-(-width // columns) * columns)
    if bias is not None:
        result[:width] = bias.detach()
    return result


class CompiledLinear:
    """A linear layer by the kernel, which adds and applies most activations itself.

    Args:
        weight: of the layer, of shape ``(channels_out, channels_in)``.
        bias: of the layer, or None.
        post: the activation behind it.

    Attributes:
        rest: the activation that the kernel does not apply, or none.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, post: PostOp) -> None:
        compiled = kernels()
        assert compiled is not None
        self.kernels = compiled
        self.width, self.depth = weight.shape
        self.packed = panels(weight.detach(), compiled.columns)
        self.bias = filled_up(bias, weight, compiled.columns)
        self.applied, self.range = applied(post)
        self.rest = post if self.applied == 0 else PostOp("none")

    def __call__(self, x: Tensor, other: Tensor | None, accumulate: bool) -> Tensor:
        """See `symfx.optimization.runtime.linear_kernels.make_linear_kernel`."""
        result = x.new_empty(*x.shape[:-1], self.width)
        self.compute(x, other, result, x.numel() // self.depth)
        return self.rest.apply_to(result)

    def compute(self, x: Tensor, other: Tensor | None, result: Tensor, rows: int) -> None:
        """Write the layer's results to memory where they lie row by row, as the inputs do."""
        if self.rest.function is not None and running_tape() is not None:
            raise NotOnTapeError  # torch's operators change the result
        sizes = rows, self.depth, self.width
        self.kernels.linear(
            (x, self.packed, self.bias, other, result), sizes, self.applied, *self.range
        )
