"""Ways to compute one convolution, with its weight packed ahead for one shape of input."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from symfx.optimization.runtime.activations import PostOp
from symfx.optimization.runtime.compiled import kernels
from symfx.optimization.runtime.compiled_conv import (
    Gathered,
    Tiled,
    best_side,
    may_gather,
    promise,
)
from symfx.optimization.runtime.compiled_linear import CompiledLinear
from symfx.optimization.runtime.conv_form import ConvForm, Kernel
from symfx.optimization.runtime.image_kernels import channels_last
from symfx.optimization.runtime.tape import NotOnTapeError, running_tape
from symfx.optimization.runtime.tensor_checks import packed_alike
from symfx.optimization.runtime.winograd import Winograd

__all__ = [
    "BFLOAT16",
    "BLOCKED",
    "COMPILED_WAYS",
    "DEPTHWISE",
    "DIRECT",
    "FEW",
    "GATHERED",
    "POINTWISE",
    "TILES_OF_2",
    "TILES_OF_4",
    "WINOGRAD",
    "Direct",
    "expected_gain",
    "has_bfloat16",
    "is_way",
    "known_ways",
    "make_kernel",
    "other_ways",
]

#: The names of the ways.
DIRECT, BLOCKED, WINOGRAD = "direct", "blocked", "winograd"
DEPTHWISE = "by a compiled kernel for each channel"
POINTWISE = "by a compiled kernel for each pixel"
GATHERED = "by a compiled kernel for each place"
TILES_OF_2 = "by a compiled kernel in tiles of 2x2"
TILES_OF_4 = "by a compiled kernel in tiles of 4x4"
COMPILED_WAYS = (DEPTHWISE, POINTWISE, GATHERED, TILES_OF_2, TILES_OF_4)
BFLOAT16 = "in bfloat16"
#: Multiples of so many channels fill all lanes of the compiled kernels, and so many channels of the
#: image let the time for the first and the last of them be little.
_WHOLE, _DEEP = 16, 16
#: With fewer channels than this, Winograd's algorithm was never the faster.
_MANY = 32
#: With up to this many input channels, oneDNN's kernels for channels last leave lanes empty.
FEW = 4


class Direct:
    """oneDNN's fused operator.

    Args:
        form: the convolution.
        shape: of the input.
        known: kernels of the same convolution, for other shapes. Each shape has its own packed
            weight, because oneDNN converts between packed layouts only slowly; weights that are
            packed alike are one tensor.
    """

    def __init__(self, form: ConvForm, shape: Sequence[int], known: Sequence[Kernel]) -> None:
        self.form = form
        packed = form.pack(shape)
        same = (k.packed for k in known if isinstance(k, Direct) and packed_alike(k.packed, packed))
        self.packed: Tensor = next(same, packed)
        self._format = form.format
        ops, post = torch.ops.mkldnn, form.post
        if form.transposed:
            self._alone = ops._convolution_transpose_pointwise.default
            padding = [form.padding, form.output_padding]
        else:
            self._alone = ops._convolution_pointwise.default
            padding = [form.padding]
        self._added = ops._convolution_pointwise.binary
        self._accumulated = ops._convolution_pointwise_.binary
        places = form.bias, *padding, form.stride, form.dilation, form.groups
        activation = post.name, post.scalars, post.algorithm
        self._rest = *places, *activation
        after = (None, *activation[1:]) if post.name == "none" else activation
        self._rest_of_sum = *places, "add", None, *after

    def __call__(self, x: Tensor, other: Tensor | None, accumulate: bool) -> Tensor:
        """See `Kernel`."""
        x = x.contiguous(memory_format=self._format)
        result: Tensor
        if other is None:
            result = self._alone(x, self.packed, *self._rest)
        elif accumulate and other.is_contiguous(memory_format=self._format):
            result = self._accumulated(other, x, self.packed, *self._rest_of_sum)
        else:
            other = other.contiguous(memory_format=self._format)
            result = self._added(x, other, self.packed, *self._rest_of_sum)
        return self.form.pool.function(result) if self.form.pool else result


class _BFloat16(Direct):
    """oneDNN's fused operator on bfloat16 numbers; input and result are float32."""

    def __init__(self, form: ConvForm, shape: Sequence[int], known: Sequence[Kernel]) -> None:
        bias = None if form.bias is None else form.bias.detach().bfloat16()
        short = replace(form, weight=form.weight.detach().bfloat16(), bias=bias)
        super().__init__(
            short, shape, [kernel for kernel in known if isinstance(kernel, _BFloat16)]
        )

    def __call__(self, x: Tensor, other: Tensor | None, accumulate: bool) -> Tensor:
        """See `Kernel`."""
        other = None if other is None else other.bfloat16()
        return super().__call__(x.bfloat16(), other, accumulate=True).float()


class _Tiles:
    """Winograd's algorithm."""

    def __init__(self, form: ConvForm, shape: Sequence[int], known: Sequence[Kernel]) -> None:
        self.post = form.post
        others = [kernel.run for kernel in known if isinstance(kernel, _Tiles)]
        self.run: Winograd = Winograd(form.weight, form.bias, form.padding, shape, others)

    def __call__(self, x: Tensor, other: Tensor | None, accumulate: bool) -> Tensor:
        result = self.run(x.contiguous(memory_format=torch.channels_last))
        if other is not None:
            result.add_(other)
        return self.post.apply_to(result)


class _Blocked:
    """oneDNN's own layout from the image to the pooled result, which is small enough to convert.

    For few input channels, oneDNN's kernels that write this layout are much faster than those
    that write channels last. The activation runs behind the pooling; `other_ways` offers this way
    only for activations that allow it.
    """

    def __init__(self, form: ConvForm, shape: Sequence[int], known: Sequence[Kernel]) -> None:
        self.form = form
        self.packed = form.pack(shape)
        bias = None if form.bias is None else form.bias.to_mkldnn()
        self._rest = bias, form.padding, form.stride, form.dilation, form.groups

    def __call__(self, x: Tensor, other: Tensor | None, accumulate: bool) -> Tensor:
        pool = self.form.pool
        assert pool is not None
        y = torch.mkldnn_convolution(x.contiguous().to_mkldnn(), self.packed, *self._rest)
        pooled: Tensor = pool.function(y).to_dense()
        return self.form.post.apply_to(pooled).contiguous(memory_format=torch.channels_last)


class _Pointwise:
    """The compiled kernel for linear layers; each pixel is a row of its input."""

    def __init__(self, form: ConvForm, shape: Sequence[int], known: Sequence[Kernel]) -> None:
        others = [each.linear for each in known if isinstance(each, _Pointwise)]
        weight = form.weight.detach().flatten(1)
        self.linear: CompiledLinear = (
            others[0] if others else CompiledLinear(weight, form.bias, form.post)
        )
        self.shape = shape[0], weight.shape[0], *shape[2:]
        self.rows = shape[0] * math.prod(shape[2:])

    def __call__(self, x: Tensor, other: Tensor | None, accumulate: bool) -> Tensor:
        x = channels_last(x)
        if other is not None:
            other = channels_last(other)
        result = torch.empty(self.shape, memory_format=torch.channels_last)
        self.linear.compute(x, other, result, self.rows)
        return self.linear.rest.apply_to(result)


class _Depthwise:
    """The compiled kernel for a convolution of each channel alone."""

    def __init__(self, form: ConvForm, shape: Sequence[int], known: Sequence[Kernel]) -> None:
        compiled = kernels()
        assert compiled is not None
        self.kernels = compiled
        channels, _, down, across = form.weight.shape
        self.weight = form.weight.detach().reshape(channels, -1).t().contiguous()
        bias = form.bias
        self.bias = self.weight.new_zeros(channels) if bias is None else bias.detach().contiguous()
        sides = form.sides(shape)
        self.shape = shape[0], channels, *sides
        places = *form.stride, *form.padding, *form.dilation
        self.sizes = *shape, *sides, down, across, *places
        post = self.post = form.post
        self.range = _CLAMPS.get(post.name, (-math.inf, math.inf))
        if post.name == "hardtanh":
            self.range = post.scalars[0], post.scalars[1]
        self.rest = PostOp("none") if post.name in (*_CLAMPS, "hardtanh") else post

    def __call__(self, x: Tensor, other: Tensor | None, accumulate: bool) -> Tensor:
        x = channels_last(x)
        result = torch.empty(self.shape, memory_format=torch.channels_last)
        low, high = (-math.inf, math.inf) if other is not None else self.range
        self.kernels.depthwise((x, self.weight, self.bias, result), self.sizes, low, high)
        rest = self.rest if other is None else self.post
        if (other is not None or rest.function is not None) and running_tape() is not None:
            raise NotOnTapeError  # torch's operators change the result
        return rest.apply_to(result if other is None else result.add_(other))


#: The least and the greatest result behind an activation.
_CLAMPS = {"none": (-math.inf, math.inf), "relu": (0.0, math.inf)}


def other_ways(form: ConvForm, shape: Sequence[int]) -> list[str]:
    """The names of the ways that may compute inputs of this shape faster than `DIRECT`."""
    if len(shape) != form.weight.ndim:
        return []  # an image without a batch
    return _compiled_ways(form, shape) or _torchs_ways(form, shape)


def _compiled_ways(form: ConvForm, shape: Sequence[int]) -> list[str]:
    if _is_depthwise(form):
        return [DEPTHWISE]
    if _is_pointwise(form):
        return [POINTWISE]
    if not may_gather(form):
        return []
    side = best_side(form, shape)
    return [GATHERED] if side is None else [_TILES[side], GATHERED]


def _torchs_ways(form: ConvForm, shape: Sequence[int]) -> list[str]:
    """The ways that need no compiler."""
    weight = form.weight
    if form.transposed or weight.ndim != 4 or form.groups != 1 or form.dilation != [1, 1]:
        return []
    if form.pool is not None:
        return [BLOCKED] if weight.shape[1] <= FEW and form.post.name in ("none", "relu") else []
    if weight.shape[2:] != (3, 3) or form.stride != [1, 1] or min(weight.shape[:2]) < _MANY:
        return []
    return [WINOGRAD] if min(form.sides(shape)) >= 4 else []


def _is_depthwise(form: ConvForm) -> bool:
    """Whether the compiled kernel takes a convolution, of each channel alone."""
    weight, compiled = form.weight, kernels()
    return (
        compiled is not None
        and not form.transposed
        and form.pool is None
        and weight.ndim == 4
        and weight.shape[1] == 1
        and weight.shape[0] == form.groups
        and weight.shape[0] % compiled.lanes == 0
        and weight.dtype is torch.float
    )


def _is_pointwise(form: ConvForm) -> bool:
    """Whether a convolution is a linear layer of each pixel."""
    weight = form.weight
    return (
        kernels() is not None
        and not form.transposed
        and form.pool is None
        and weight.ndim == 4
        and weight.shape[2:] == (1, 1)
        and form.groups == 1
        and form.stride == [1, 1]
        and form.padding == [0, 0]
        and weight.dtype is torch.float
    )


#: The ways of Winograd's algorithm, by the side of a tile.
_TILES = {2: TILES_OF_2, 4: TILES_OF_4}


def expected_gain(way: str, form: ConvForm, shape: Sequence[int]) -> float | None:
    """How many times as fast as `DIRECT` a way should be; None where only a trial can tell."""
    channels, depth = form.weight.shape[:2]
    for side, name in _TILES.items():
        if way == name:
            return promise(form, shape, side)
    fills = channels >= 0.75 * -(-channels // _WHOLE) * _WHOLE
    fills = fills and (way == DEPTHWISE or depth <= FEW or depth >= _DEEP)
    return 1.0 if way in COMPILED_WAYS and fills else None


def known_ways(ways: Collection[str], form: ConvForm, shape: Sequence[int]) -> list[str]:
    """The compiled ways for inputs of a shape whose weight is packed already, or the direct one.

    Args:
        ways: those for other shapes.
        form: the convolution.
        shape: of the input.
    """
    if len(shape) != form.weight.ndim or not any(way in COMPILED_WAYS for way in ways):
        return []
    found = _compiled_ways(form, shape)
    return [way for way in found if way in ways] or [way for way in found if way == GATHERED]


@functools.cache
def has_bfloat16() -> bool:
    """Whether oneDNN computes in bfloat16 on this CPU, and not by way of float32."""
    found: bool = torch._C._has_mkldnn and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return found


def is_way(way: str, form: ConvForm, shape: Sequence[int]) -> bool:
    """Whether this is the name of a way to compute inputs of this shape."""
    if len(shape) != form.weight.ndim:
        return False
    return way in (DIRECT, *_compiled_ways(form, shape), *_torchs_ways(form, shape))


_MAKERS: dict[str, Callable[[ConvForm, Sequence[int], Sequence[Kernel]], Kernel]] = {
    DIRECT: Direct,
    DEPTHWISE: _Depthwise,
    POINTWISE: _Pointwise,
    GATHERED: Gathered,
    TILES_OF_2: functools.partial(Tiled, side=2),
    TILES_OF_4: functools.partial(Tiled, side=4),
    BLOCKED: _Blocked,
    WINOGRAD: _Tiles,
    BFLOAT16: _BFloat16,
}


def make_kernel(way: str, form: ConvForm, shape: Sequence[int], known: Sequence[Kernel]) -> Kernel:
    """A kernel for inputs of this shape.

    Args:
        way: `DIRECT`, one of `other_ways`, or `BFLOAT16`.
        form: the convolution.
        shape: of the input.
        known: kernels of the same convolution for other shapes, whose packed weights are shared
            where they are alike.

    Raises:
        KeyError: ``way`` is not the name of a way.
    """
    return _MAKERS[way](form, shape, known)
