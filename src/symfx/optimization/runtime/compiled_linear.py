"""A linear layer by the compiled kernel, with its weight packed in panels."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from symfx.optimization.runtime.activations import PostOp
from symfx.optimization.runtime.compiled import kernels
from symfx.optimization.runtime.tape import NotOnTapeError, running_tape

__all__ = ["CompiledLinear"]


class CompiledLinear:
    """A linear layer by the kernel, which adds and applies most activations itself.

    Args:
        weight: of the layer, of shape ``(channels_out, channels_in)``.
        bias: of the layer, or None.
        post: the activation behind it.

    Attributes:
        rest: the activation that the kernel does not apply, or none.
    """

    _POSTS: ClassVar[dict[tuple[str, str], int]] = {
        ("none", ""): 0,
        ("relu", ""): 1,
        ("swish", ""): 2,
        ("gelu", "none"): 3,
        ("gelu", "tanh"): 4,
        ("hardtanh", ""): 5,
    }

    def __init__(self, weight: Tensor, bias: Tensor | None, post: PostOp) -> None:
        compiled = kernels()
        assert compiled is not None
        self.kernels = compiled
        self.width, self.depth = weight.shape
        panels = -(-self.width // compiled.columns)
        filled = weight.detach().new_zeros(panels * compiled.columns, self.depth)
        filled[: self.width] = weight.detach()
        self.packed = filled.view(panels, compiled.columns, self.depth).transpose(1, 2).contiguous()
        self.bias = weight.detach().new_zeros(panels * compiled.columns)
        if bias is not None:
            self.bias[: self.width] = bias.detach()
        self.applied = self._POSTS.get((post.name, post.algorithm), 0)
        self.range = tuple(post.scalars) if post.name == "hardtanh" else ()
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
