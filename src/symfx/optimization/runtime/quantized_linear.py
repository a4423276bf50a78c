"""A linear layer in 8-bit integers: its input is quantized at each call, its weight once.

The weight has one step for each channel of the result, and no zero point; the input has one step
and one zero point. oneDNN sums the products of the integers exactly. This is the dynamic
quantization of https://docs.pytorch.org/docs/stable/quantization.html, without the quantized
tensors of torch, which are deprecated.
"""

from __future__ import annotations

import ctypes
import functools

import torch
import torch.nn.functional as F
from torch import Tensor

from symfx.optimization.runtime.activations import PostOp
from symfx.optimization.runtime.compiled import kernels

__all__ = ["INT8", "QuantizedProduct", "has_int8"]

INT8 = "in 8-bit integers"
"""The name of this way to compute a linear layer."""

#: The steps of signed weights to each side of zero, and of inputs.
_SIDE, _STEPS = 127, 255
#: The least step: its inverse is a float.
_LEAST = 1e-30
_Scalars = list[float | None]


class QuantizedProduct:
    """The product with a weight in 8-bit integers, the sum and the activation behind it.

    Args:
        weight: of the layer, of shape ``(channels_out, channels_in)``.
        bias: of the layer, or None.
        post: the activation behind it.
        rows: as of the other kernels; the weight is packed for all of them.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, post: PostOp, rows: int = 0) -> None:
        self.weight, self.bias, self.post = weight.detach(), bias, post
        largest = self.weight.abs().amax(1)
        self.steps = (largest / _SIDE).clamp_(min=_LEAST)
        whole = (self.weight / self.steps[:, None]).round_().clamp_(-_SIDE, _SIDE)
        self.zeros = torch.zeros(len(weight), dtype=torch.long)
        ops = torch.ops.onednn
        self.packed: Tensor = ops.qlinear_prepack(whole.to(torch.int8), None)
        self._alone, self._added = ops.qlinear_pointwise.default, ops.qlinear_pointwise.binary
        scalars: _Scalars = list(post.scalars)
        self._fused = _fuses(post.name, tuple(post.scalars), post.algorithm)
        self._rest = (post.name, scalars, post.algorithm) if self._fused else ("none", [], "")

    def __call__(self, x: Tensor, other: Tensor | None, accumulate: bool) -> Tensor:
        """See `symfx.optimization.runtime.linear_kernels.make_linear_kernel`."""
        found = quantized(x) if x.numel() else None
        if found is None:  # some input is not finite, or x has no elements
            result = F.linear(x, self.weight, self.bias)
            return self.post.apply_to(result if other is None else result.add_(other))
        whole, step, zero = found
        given = whole, step, zero, self.packed, self.steps, self.zeros
        end = 1.0, 0, torch.float
        product: Tensor
        if other is None:
            product = self._alone(*given, self.bias, *end, *self._rest)
            return product if self._fused else self.post.apply_to(product)
        product = self._added(*given, other, self.bias, *end, 1.0, 0, "add", 1.0, "none", [], "")
        return self.post.apply_to(product)


def quantized(x: Tensor) -> tuple[Tensor, float, int] | None:
    """Numbers as bytes, so that ``x`` is about ``(bytes - zero) * step``.

    Args:
        x: contiguous numbers, float32.

    Returns:
        the bytes, the step and the zero point; None if a number is not finite.

    Example:
        >>> import torch
        >>> whole, step, zero = quantized(torch.tensor([-1.0, 0.0, 4.1]))
        >>> whole.tolist(), round(step, 2), zero
        ([0, 50, 255], 0.02, 50)
    """
    compiled = kernels()
    if compiled is None:
        return _by_operators(x)
    result = torch.empty_like(x, dtype=torch.uint8)
    step, zero = ctypes.c_float(), ctypes.c_int32()
    failed = compiled.quantize(
        x.data_ptr(),
        x.numel(),
        result.data_ptr(),
        ctypes.byref(step),
        ctypes.byref(zero),
        compiled.threads,
    )
    return None if failed else (result, step.value, zero.value)


def _by_operators(x: Tensor) -> tuple[Tensor, float, int] | None:
    if not x.numel():
        return x.to(torch.uint8), _LEAST, 0
    least, most = torch.aminmax(x)
    low, high = min(float(least), 0.0), max(float(most), 0.0)
    if not high - low < torch.finfo(torch.float).max:
        return None
    step = max((high - low) / _STEPS, _LEAST)
    zero = round(-low / step)
    return x.mul(1 / step).add_(zero).round_().clamp_(0, _STEPS).to(torch.uint8), step, zero


@functools.cache
def has_int8() -> bool:
    """Whether oneDNN computes such products here, and exactly, with the largest integers too.

    Processors without instructions for them sum pairs of products in 16 bits, which overflows.
    """
    if not (torch._C._has_mkldnn and hasattr(torch.ops.onednn, "qlinear_pointwise")):
        return False
    x = torch.full((3, 64), 1.0)
    x[0, ::2], x[1, ::5] = 0.0, -1.0
    weight = torch.full((5, 64), 1.0)
    weight[1:, ::3] = -1.0
    bias, other = torch.arange(5.0), torch.arange(15.0).view(3, 5)
    with torch.no_grad():
        try:
            run = QuantizedProduct(weight, bias, PostOp("none"))
            alone, added = run(x, None, False), run(x, other, False)
        except (RuntimeError, NotImplementedError):
            return False
        expected = x @ weight.t() + bias
    near = functools.partial(torch.allclose, rtol=0.01, atol=0.5)
    return near(alone, expected) and near(added, expected + other)


@functools.cache
def _fuses(name: str, scalars: tuple[float, ...], algorithm: str) -> bool:
    """Whether oneDNN's product applies an activation itself, and rightly."""
    if name == "none":
        return True
    post = PostOp(name, scalars, algorithm)
    weight = torch.eye(4)
    x = torch.linspace(-4, 4, 16).view(4, 4)
    with torch.no_grad():
        product = QuantizedProduct(weight, None, PostOp("none"))
        expected = post.apply_to(product(x, None, False))
        product._rest, product._fused = (name, list(scalars), algorithm), True
        try:
            return torch.allclose(product(x, None, False), expected, rtol=1e-3, atol=1e-3)
        except (RuntimeError, NotImplementedError):
            return False
