"""Ways to compute a linear layer for one number of rows, with its weight packed ahead."""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from symfx.optimization.runtime.activations import PostOp
from symfx.optimization.runtime.conv_kernels import DIRECT, ConvForm, Kernel, make_kernel

__all__ = ["CONVOLUTION", "LINEAR_WAYS", "MKL", "has_mkl", "linear_ways", "make_linear_kernel"]

#: The names of the ways, beside torch's own operator.
CONVOLUTION, MKL = "as a 1x1 convolution", "with a weight packed by MKL"
LINEAR_WAYS = (CONVOLUTION, MKL)


def linear_ways() -> list[str]:
    """The names of the ways that the installed torch has."""
    return [CONVOLUTION, *([MKL] if has_mkl() else [])]


def make_linear_kernel(
    way: str, weight: Tensor, bias: Tensor | None, post: PostOp, rows: int
) -> Kernel:
    """A kernel for inputs of this many rows. Input, sum and result are contiguous.

    Args:
        way: one of `linear_ways`.
        weight: of the layer, of shape ``(channels_out, channels_in)``.
        bias: of the layer, or None.
        post: the activation behind it.
        rows: the number of rows of the input: all dimensions but the last, multiplied.
    """
    return (_Mkl if way == MKL else _Convolution)(weight, bias, post, rows)


class _Convolution:
    """oneDNN's 1x1 convolution: each row is a pixel of one image, which needs no copy."""

    def __init__(self, weight: Tensor, bias: Tensor | None, post: PostOp, rows: int) -> None:
        ones, zeros = [1, 1], [0, 0]
        image = weight.detach()[:, :, None, None]
        form = ConvForm(image, bias, ones, zeros, ones, zeros, 1, False, post, None)
        self.rows, self.channels = rows, weight.shape[0]
        self.run = make_kernel(DIRECT, form, (1, weight.shape[1], rows, 1), ())

    def __call__(self, x: Tensor, other: Tensor | None, accumulate: bool) -> Tensor:
        """See `make_linear_kernel`."""
        added = None if other is None else self._as_image(other)
        result = self.run(self._as_image(x), added, accumulate)
        return result.permute(0, 2, 3, 1).view(*x.shape[:-1], self.channels)

    def _as_image(self, x: Tensor) -> Tensor:
        return x.view(1, self.rows, 1, x.shape[-1]).permute(0, 3, 1, 2)


class _Mkl:
    """MKL's matrix product, with the weight packed for a number of rows."""

    def __init__(self, weight: Tensor, bias: Tensor | None, post: PostOp, rows: int) -> None:
        self.weight, self.bias, self.post, self.rows = weight, bias, post, rows
        self.packed: Tensor = torch.ops.mkl._mkl_reorder_linear_weight(weight, rows)

    def __call__(self, x: Tensor, other: Tensor | None, accumulate: bool) -> Tensor:
        """See `make_linear_kernel`."""
        result: Tensor = torch.ops.mkl._mkl_linear(
            x, self.packed, self.weight, self.bias, self.rows
        )
        if other is not None:
            result.add_(other)
        return self.post.apply_to(result)


@functools.cache
def has_mkl() -> bool:
    """Whether the installed torch has MKL's product with a packed weight, and it is right."""
    if not (torch._C.has_mkl and hasattr(torch.ops.mkl, "_mkl_linear")):
        return False
    with torch.no_grad():
        x, weight = torch.arange(12.0).view(3, 4) / 7, torch.arange(20.0).view(5, 4).sin()
        try:
            found = _Mkl(weight, None, PostOp("none"), 3)(x, None, False)
        except (RuntimeError, NotImplementedError):
            return False
        return torch.allclose(found, x @ weight.t(), atol=1e-5)
