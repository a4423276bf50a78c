"""Convolution, pooling, batch normalization and attention, on row-major tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from symfx.fake_operators.rules.base import New, Shape, is_row_major, rule
from symfx.fake_operators.rules.elementwise_layout import packed_in
from symfx.fake_operators.rules.numbers import Number, Numbers
from symfx.fake_operators.rules.pointwise import laid_out_like

__all__: list[str] = []

_aten = torch.ops.aten
# Statistics of these have the input's own dtype; of narrower ones they need not.
_WIDE = (torch.float32, torch.float64)


def _windows(
    n: Numbers,
    size: Number,
    kernel: Number,
    stride: Number,
    padding: Number,
    dilation: Number,
) -> Number | None:
    """The number of places of a window along a dimension; None where that may be 0."""
    # (size + 2 padding - dilation (kernel - 1) - 1) // stride + 1
    reach = n.add(n.mul(dilation, n.sub(kernel, 1)), 1)
    room = n.sub(n.add(size, n.mul(2, padding)), reach)
    if not (n.positive(stride) and n.positive(dilation) and n.require_at_most(0, room)):
        return None
    places = n.add(n.floordiv(room, stride), 1)
    n.learn_positive(places)
    return places


def _per_dimension(values: Any, count: int) -> list[Any] | None:
    """An option given once, or for each of the window's dimensions."""
    given = list(values) if isinstance(values, (list, tuple)) else [values]
    if len(given) == 1:
        return given * count
    return given if len(given) == count else None


def _slid(
    n: Numbers,
    sizes: Sequence[Number],
    kernel: Sequence[Number],
    stride: Any,
    padding: Any,
    dilation: Any,
) -> list[Number] | None:
    """The sizes of the result of sliding a window over dimensions; None where uncertain."""
    count = len(sizes)
    options = [_per_dimension(given, count) for given in (stride, padding, dilation)]
    strides, paddings, dilations = options
    if strides is None or paddings is None or dilations is None or len(kernel) != count:
        return None
    result: list[Number] = []
    for window in zip(sizes, kernel, strides, paddings, dilations, strict=True):
        if not n.at_most(0, window[3]):
            return None
        places = _windows(n, *window)
        if places is None:
            return None
        result.append(places)
    return result


def _row_major(n: Numbers, dtype: torch.dtype, sizes: Sequence[Number]) -> New | None:
    return New(dtype, tuple(sizes), n.contiguous(sizes)) if n.all_positive(sizes) else None


@rule(_aten.convolution.default)
def _convolution(
    n: Numbers, a: Shape, weight: Shape, bias: Any, stride: Any, padding: Any, dilation: Any,
    transposed: Any, output_padding: Any, groups: Any,
) -> New | None:  # fmt: skip
    rank = len(a.sizes)
    if rank not in (3, 4, 5) or len(weight.sizes) != rank or type(groups) is not int:
        return None
    if not a.dtype.is_floating_point or weight.dtype is not a.dtype or groups < 1:
        return None
    channels = weight.sizes[1 if transposed else 0]
    if groups > 1 and not (isinstance(weight.sizes[0], int) and weight.sizes[0] % groups == 0):
        return None
    used = weight.sizes[0] if transposed else n.mul(weight.sizes[1], groups)
    if not n.same(used, a.sizes[1]):
        return None
    if transposed:
        channels = n.mul(channels, groups)
    if bias is not None and (bias.dtype is not a.dtype or not n.all_same(bias.sizes, (channels,))):
        return None
    if not (n.all_positive(a.sizes[1:]) and n.all_positive(weight.sizes)):
        return None
    order = _order_of_convolution(n, a, weight)
    if order is None:
        return None
    if transposed:
        places = _spread(
            n, a.sizes[2:], weight.sizes[2:], stride, padding, dilation, output_padding
        )
    else:
        places = _slid(n, a.sizes[2:], weight.sizes[2:], stride, padding, dilation)
    if places is None:
        return None
    sizes = (a.sizes[0], channels, *places)
    return New(a.dtype, sizes, packed_in(n, sizes, order)) if n.all_positive(sizes[1:]) else None


def _order_of_convolution(n: Numbers, a: Shape, weight: Shape) -> Sequence[int] | None:
    """The dimensions of a convolution's result from the outermost; None where uncertain.

    The result of a convolution over two dimensions is channels-last if an argument is, and any
    other result is row-major, whichever backend computes it. Over three dimensions the backend
    decides if an argument is channels-last.
    """
    rank = len(a.sizes)
    if rank == 3:
        return range(rank)
    formats = [_is_channels_last(n, x) for x in (a, weight)]
    if rank == 4 and True in formats:
        return (0, 2, 3, 1)
    return range(rank) if formats == [False, False] else None


def _is_channels_last(n: Numbers, a: Shape) -> bool | None:
    """Whether torch takes a tensor with elements for channels-last; None where uncertain."""
    rank = len(a.sizes)
    least: Number = n.mul(a.strides[1], a.sizes[1])
    if not n.positive(a.strides[1]):
        return None
    for d in (*range(rank - 1, 1, -1), 0):
        if n.at_most(n.add(a.strides[d], 1), least):
            return False
        if not n.at_most(least, a.strides[d]):
            return None
        if d:
            least = n.mul(a.strides[d], a.sizes[d])
    return True if n.at_most(n.add(a.strides[1], 1), least) else None


def _in_suggested_format(n: Numbers, a: Shape) -> New | None:
    """A new channels-last tensor where `a` is channels-last, else a row-major one."""
    rank = len(a.sizes)
    channels_last = rank in (4, 5) and _is_channels_last(n, a)
    if channels_last is None:
        return None
    order = (0, *range(2, rank), 1) if channels_last else range(rank)
    return New(a.dtype, a.sizes, packed_in(n, a.sizes, order))


def _in_format_of_dense(n: Numbers, a: Shape) -> New | None:
    """A new tensor as `_in_suggested_format` makes it, of a kernel that first looks for gaps.

    The strides of dimensions of size 1 have no part in that.
    """
    rank = len(a.sizes)
    orders: list[Sequence[int]] = [range(rank)]
    if rank in (4, 5):
        orders.append((0, *range(2, rank), 1))
    for order in orders:
        packed = packed_in(n, a.sizes, order)
        if all(
            size == 1 or n.same(stride, step)
            for size, stride, step in zip(a.sizes, a.strides, packed, strict=True)
        ):
            return New(a.dtype, a.sizes, packed)
    return _in_suggested_format(n, a)


def _spread(
    n: Numbers,
    sizes: Sequence[Number],
    kernel: Sequence[Number],
    stride: Any,
    padding: Any,
    dilation: Any,
    output_padding: Any,
) -> list[Number] | None:
    """The sizes of the result of a transposed convolution; None where uncertain."""
    count = len(sizes)
    options = [_per_dimension(o, count) for o in (stride, padding, dilation, output_padding)]
    strides, paddings, dilations, extras = options
    if strides is None or paddings is None or dilations is None or extras is None:
        return None
    result: list[Number] = []
    for size, k, step, pad, dilate, extra in zip(
        sizes, kernel, strides, paddings, dilations, extras, strict=True
    ):
        if any(type(x) is not int for x in (step, pad, dilate, extra)):
            return None
        if min(step, dilate) < 1 or pad < 0 or not 0 <= extra < max(step, dilate):
            return None
        places = n.add(n.mul(n.sub(size, 1), step), n.mul(dilate, n.sub(k, 1)))
        places = n.add(places, extra + 1 - 2 * pad)
        if not n.require_at_most(1, places):
            return None
        n.learn_positive(places)
        result.append(places)
    return result


@rule(_aten.max_pool2d_with_indices.default)
def _max_pool(
    n: Numbers, a: Shape, kernel_size: Any, stride: Any = (), padding: Any = 0, dilation: Any = 1,
    ceil_mode: Any = False,
) -> tuple[New, New] | None:  # fmt: skip
    pooled = _pool(n, a, kernel_size, stride, padding, dilation, ceil_mode)
    return None if pooled is None else (pooled, New(torch.int64, pooled.sizes, pooled.strides))


@rule(_aten.avg_pool2d.default)
def _avg_pool(
    n: Numbers, a: Shape, kernel_size: Any, stride: Any = (), padding: Any = 0,
    ceil_mode: Any = False, count_include_pad: Any = True, divisor_override: Any = None,
) -> New | None:  # fmt: skip
    if divisor_override == 0:
        return None
    return _pool(n, a, kernel_size, stride, padding, 1, ceil_mode)


def _pool(
    n: Numbers, a: Shape, kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil: Any
) -> New | None:
    kernel, paddings = _per_dimension(kernel_size, 2), _per_dimension(padding, 2)
    if kernel is None or paddings is None or not a.dtype.is_floating_point or ceil:
        return None
    # torch refuses padding of more than half a window.
    if any(type(k) is not int or type(p) is not int for k, p in zip(kernel, paddings, strict=True)):
        return None
    if any(k < 1 or 2 * p > k for k, p in zip(kernel, paddings, strict=True)):
        return None
    outer = len(a.sizes) - 2
    if outer not in (1, 2) or not is_row_major(n, a):
        return None
    steps = stride if isinstance(stride, int) or len(stride) else kernel
    places = _slid(n, a.sizes[outer:], kernel, steps, paddings, dilation)
    return None if places is None else _row_major(n, a.dtype, (*a.sizes[:outer], *places))


@rule(_aten._adaptive_avg_pool2d.default)
def _adaptive_avg_pool(n: Numbers, a: Shape, output_size: Sequence[Any]) -> New | None:
    outer = len(a.sizes) - 2
    if outer not in (1, 2) or not a.dtype.is_floating_point or not is_row_major(n, a):
        return None
    return _row_major(n, a.dtype, (*a.sizes[:outer], *output_size))


# -- padding ----------------------------------------------------------------------------------


@rule(_aten.constant_pad_nd.default)
def _constant_pad_nd(n: Numbers, a: Shape, pad: Any, value: Any = 0) -> New | None:
    if len(pad) % 2 or len(pad) > 2 * len(a.sizes) or not is_row_major(n, a):
        return None
    if not all(n.at_most(0, each) for each in pad):
        return None
    sizes = list(a.sizes)
    for i in range(len(pad) // 2):
        # The pairs begin with that of the last dimension.
        sizes[-1 - i] = n.add(sizes[-1 - i], n.add(pad[2 * i], pad[2 * i + 1]))
        n.learn_positive(sizes[-1 - i])
    return _row_major(n, a.dtype, tuple(sizes))


# -- pixels and channels --------------------------------------------------------------------------


@rule(_aten.pixel_unshuffle.default)
def _pixel_unshuffle(n: Numbers, a: Shape, factor: Any) -> New | None:
    if len(a.sizes) < 3 or type(factor) is not int or factor < 1 or not is_row_major(n, a):
        return None
    *outer, channels, height, width = a.sizes
    if not (n.require_multiple(height, factor) and n.require_multiple(width, factor)):
        return None
    places = (n.floordiv(height, factor), n.floordiv(width, factor))
    for size in places:
        n.learn_positive(size)
    return _row_major(n, a.dtype, (*outer, n.mul(channels, factor * factor), *places))


@rule(_aten.pixel_shuffle.default)
def _pixel_shuffle(n: Numbers, a: Shape, factor: Any) -> New | None:
    if len(a.sizes) < 3 or type(factor) is not int or factor < 1 or not is_row_major(n, a):
        return None
    *outer, channels, height, width = a.sizes
    if not n.require_multiple(channels, factor * factor):
        return None
    fewer = n.floordiv(channels, factor * factor)
    n.learn_positive(fewer)
    return _row_major(n, a.dtype, (*outer, fewer, n.mul(height, factor), n.mul(width, factor)))


@rule(_aten.channel_shuffle.default)
def _channel_shuffle(n: Numbers, a: Shape, groups: Any) -> New | None:
    if len(a.sizes) < 3 or type(groups) is not int or groups < 1 or not n.all_positive(a.sizes):
        return None
    channels = a.sizes[1]
    if not (isinstance(channels, int) and channels % groups == 0):
        return None
    return _in_suggested_format(n, a)


# -- batch normalization ----------------------------------------------------------------------


def _has_usual_form(n: Numbers, a: Shape, per_channel: Sequence[Any]) -> bool:
    """Whether a tensor has elements, and its values per channel match it in size and dtype."""
    return (
        len(a.sizes) >= 2
        and a.dtype in _WIDE
        and all(
            x is None or (x.dtype is a.dtype and n.all_same(x.sizes, a.sizes[1:2]))
            for x in per_channel
        )
        and n.all_positive(a.sizes)
    )


@rule(_aten._native_batch_norm_legit.default)
def _batch_norm(
    n: Numbers, a: Shape, weight: Any, bias: Any, running_mean: Shape, running_var: Shape,
    training: Any, momentum: Any, eps: Any,
) -> tuple[New, New, New] | None:  # fmt: skip
    if not _has_usual_form(n, a, (weight, bias, running_mean, running_var)):
        return None
    normalized = _in_format_of_dense(n, a)
    statistics = New(a.dtype, a.sizes[1:2], (1,)) if training else New(a.dtype, (0,), (1,))
    return None if normalized is None else (normalized, statistics, statistics)


@rule(_aten._native_batch_norm_legit.no_stats)
def _batch_norm_without_statistics(
    n: Numbers, a: Shape, weight: Any, bias: Any, training: Any, momentum: Any, eps: Any
) -> tuple[New, New, New] | None:  # fmt: skip
    if not training or not _has_usual_form(n, a, (weight, bias)):
        return None
    normalized = _in_format_of_dense(n, a)
    statistics = New(a.dtype, a.sizes[1:2], (1,))
    return None if normalized is None else (normalized, statistics, statistics)


@rule(_aten._native_batch_norm_legit_no_training.default)
def _batch_norm_no_training(
    n: Numbers, a: Shape, weight: Any, bias: Any, running_mean: Shape, running_var: Shape,
    momentum: Any, eps: Any,
) -> tuple[New, New, New] | None:  # fmt: skip
    return _batch_norm(n, a, weight, bias, running_mean, running_var, False, momentum, eps)


# -- attention --------------------------------------------------------------------------------


@rule(_aten._scaled_dot_product_flash_attention_for_cpu.default)
def _flash_attention(
    n: Numbers, query: Shape, key: Shape, value: Shape, dropout_p: Any = 0.0,
    is_causal: Any = False, *, attn_mask: Any = None, scale: Any = None,
) -> tuple[New, New] | None:  # fmt: skip
    if not len(query.sizes) == len(key.sizes) == len(value.sizes) == 4 or dropout_p != 0.0:
        return None
    batch, heads, length, width = query.sizes
    if not (
        query.dtype is key.dtype is value.dtype
        and query.dtype in _WIDE
        and n.all_same(key.sizes, value.sizes)
        and n.all_same((batch, heads, width), (*key.sizes[:2], key.sizes[3]))
        and n.all_positive((*query.sizes, *key.sizes))
    ):
        return None
    if attn_mask is not None and attn_mask.dtype is not query.dtype:
        return None
    output = laid_out_like(n, query, query.dtype, None)
    if output is None:
        return None
    b, l_, h = n.contiguous((batch, length, heads))
    return output, New(query.dtype, (batch, heads, length), (b, h, l_))
