"""Ways to compute a linear layer for one number of rows, with its weight packed ahead."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor

from symfx.optimization.runtime.activations import PostOp
from symfx.optimization.runtime.compiled import kernels
from symfx.optimization.runtime.compiled_linear import CompiledLinear
from symfx.optimization.runtime.conv_form import ConvForm, Kernel
from symfx.optimization.runtime.conv_kernels import BFLOAT16, DIRECT, has_bfloat16, make_kernel
from symfx.optimization.runtime.quantized_linear import INT8, QuantizedProduct, has_int8

__all__ = [
    "COMPILED",
    "CONVOLUTION",
    "FOR_ALL_ROWS",
    "LINEAR_WAYS",
    "MKL",
    "ONEDNN",
    "has_mkl",
    "has_onednn",
    "known_ways",
    "linear_ways",
    "make_linear_kernel",
]

#: The names of the ways, beside torch's own operator.
ONEDNN, MKL = "with a weight packed by oneDNN", "with a weight packed by MKL"
CONVOLUTION = "as a 1x1 convolution"
COMPILED = "by a compiled kernel"
#: The ways that compute in float32.
LINEAR_WAYS = (COMPILED, ONEDNN, CONVOLUTION, MKL)
#: The ways that are the same for every number of rows.
FOR_ALL_ROWS = (COMPILED, INT8)


def linear_ways() -> list[str]:
    """The names of the ways that the installed torch has."""
    has = {
        COMPILED: kernels() is not None and _is_right(COMPILED),
        ONEDNN: has_onednn(),
        CONVOLUTION: True,
        MKL: has_mkl(),
    }
    return [way for way in LINEAR_WAYS if has[way]]


def known_ways() -> list[str]:
    """`linear_ways`, and those in other dtypes, where the machine has them."""
    others = {INT8: has_int8(), BFLOAT16: has_bfloat16() and has_onednn()}
    return linear_ways() + [way for way, has in others.items() if has]


def make_linear_kernel(
    way: str, weight: Tensor, bias: Tensor | None, post: PostOp, rows: int
) -> Kernel:
    """A kernel for inputs of this many rows. Input, sum and result are contiguous.

    Args:
        way: one of `known_ways`.
        weight: of the layer, of shape ``(channels_out, channels_in)``.
        bias: of the layer, or None.
        post: the activation behind it.
        rows: the number of rows of the input: all dimensions but the last, multiplied.
    """
    return _MAKERS[way](weight, bias, post, rows)


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


class _OneDnn:
    """oneDNN's matrix product, with the weight packed for a number of rows."""

    def __init__(self, weight: Tensor, bias: Tensor | None, post: PostOp, rows: int) -> None:
        ops = torch.ops.mkldnn
        self.bias, self.post = bias, post
        self.packed: Tensor = ops._reorder_linear_weight(weight.detach(), rows)
        self._alone, self._added = ops._linear_pointwise.default, ops._linear_pointwise.binary
        self._fused = _fuses(post.name, tuple(post.scalars), post.algorithm)
        self._rest = (post.name, post.scalars, post.algorithm) if self._fused else ("none", [], "")

    def __call__(self, x: Tensor, other: Tensor | None, accumulate: bool) -> Tensor:
        """See `make_linear_kernel`."""
        result: Tensor
        if other is None:
            result = self._alone(x, self.packed, self.bias, *self._rest)
            return result if self._fused else self.post.apply_to(result)
        result = self._added(x, other, self.packed, self.bias, "add")
        return self.post.apply_to(result)


@functools.cache
def _fuses(name: str, scalars: tuple[float, ...], algorithm: str) -> bool:
    """Whether oneDNN's matrix product applies an activation itself, and rightly."""
    if name == "none":
        return True
    post = PostOp(name, scalars, algorithm)
    x, weight = torch.linspace(-4, 4, 12).view(3, 4), torch.arange(20.0).view(5, 4).sin()
    ops = torch.ops.mkldnn
    with torch.no_grad():
        try:
            packed = ops._reorder_linear_weight(weight, 3)
            found = ops._linear_pointwise(x, packed, None, name, list(scalars), algorithm)
        except (RuntimeError, NotImplementedError):
            return False
        expected = post.apply_to(x @ weight.t())
        return torch.allclose(found, expected, rtol=1e-3, atol=1e-3)


class _BFloat16(_OneDnn):
    """oneDNN's matrix product of bfloat16 numbers; input and result are float32."""

    def __init__(self, weight: Tensor, bias: Tensor | None, post: PostOp, rows: int) -> None:
        short = None if bias is None else bias.detach().bfloat16()
        super().__init__(weight.detach().bfloat16(), short, post, rows)

    def __call__(self, x: Tensor, other: Tensor | None, accumulate: bool) -> Tensor:
        """See `make_linear_kernel`."""
        x = x.bfloat16()
        if other is not None:
            product = self._alone(x, self.packed, self.bias, "none", [], "")
            return self.post.apply_to(other + product)
        return super().__call__(x, None, accumulate).float()


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


_MAKERS: dict[str, Callable[[Tensor, Tensor | None, PostOp, int], Kernel]] = {
    COMPILED: lambda weight, bias, post, rows: CompiledLinear(weight, bias, post),
    ONEDNN: _OneDnn,
    CONVOLUTION: _Convolution,
    MKL: _Mkl,
    INT8: QuantizedProduct,
    BFLOAT16: _BFloat16,
}


@functools.cache
def has_mkl() -> bool:
    """Whether the installed torch has MKL's product with a packed weight, and it is right."""
    return torch._C.has_mkl and hasattr(torch.ops.mkl, "_mkl_linear") and _is_right(MKL)


@functools.cache
def has_onednn() -> bool:
    """Whether the installed torch has oneDNN's product with a packed weight, and it is right."""
    enabled = torch._C._has_mkldnn and bool(torch.backends.mkldnn.enabled)
    return enabled and hasattr(torch.ops.mkldnn, "_linear_pointwise") and _is_right(ONEDNN)


def _is_right(way: str) -> bool:
    """Whether a way computes a small product and sum as torch does."""
    with torch.no_grad():
        x, weight = torch.arange(12.0).view(3, 4) / 7, torch.arange(20.0).view(5, 4).sin()
        bias, other = torch.arange(5.0), torch.arange(15.0).view(3, 5).cos()
        try:
            found = make_linear_kernel(way, weight, bias, PostOp("none"), 3)(x, other, False)
        except (RuntimeError, NotImplementedError):
            return False
        return torch.allclose(found, x @ weight.t() + bias + other, atol=1e-5)
