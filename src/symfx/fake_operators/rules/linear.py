"""Matrix products, embedding and joining; and tensors made from sizes alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from symfx.fake_operators.rules.base import New, Shape, dimension, is_row_major, rule
from symfx.fake_operators.rules.numbers import Number, Numbers
from symfx.fake_operators.rules.pointwise import broadcast

__all__: list[str] = []

_aten = torch.ops.aten
_CPU = (torch.device("cpu"), "cpu")


def _matrix(n: Numbers, dtype: torch.dtype, sizes: tuple[Number, ...]) -> New | None:
    return New(dtype, sizes, n.contiguous(sizes)) if n.all_positive(sizes) else None


@rule(_aten.mm.default)
def _mm(n: Numbers, a: Shape, b: Shape) -> New | None:
    if not (len(a.sizes) == len(b.sizes) == 2 and a.dtype is b.dtype):
        return None
    if not n.same(a.sizes[1], b.sizes[0]):
        return None
    return _matrix(n, a.dtype, (a.sizes[0], b.sizes[1]))


@rule(_aten.addmm.default)
def _addmm(
    n: Numbers, bias: Shape, a: Shape, b: Shape, *, beta: Any = 1, alpha: Any = 1
) -> New | None:
    product = _mm(n, a, b)
    if not isinstance(product, New) or bias.dtype is not a.dtype or (beta, alpha) != (1, 1):
        return None
    fits = broadcast(n, [bias.sizes, product.sizes])
    return product if fits is not None and n.all_same(fits, product.sizes) else None


@rule(_aten.bmm.default)
def _bmm(n: Numbers, a: Shape, b: Shape) -> New | None:
    if not (len(a.sizes) == len(b.sizes) == 3 and a.dtype is b.dtype):
        return None
    if not (n.same(a.sizes[0], b.sizes[0]) and n.same(a.sizes[2], b.sizes[1])):
        return None
    return _matrix(n, a.dtype, (a.sizes[0], a.sizes[1], b.sizes[2]))


@rule(_aten.baddbmm.default)
def _baddbmm(
    n: Numbers, bias: Shape, a: Shape, b: Shape, *, beta: Any = 1, alpha: Any = 1
) -> New | None:
    product = _bmm(n, a, b)
    if not isinstance(product, New) or bias.dtype is not a.dtype or (beta, alpha) != (1, 1):
        return None
    fits = broadcast(n, [bias.sizes, product.sizes])
    return product if fits is not None and n.all_same(fits, product.sizes) else None


@rule(_aten.embedding.default)
def _embedding(
    n: Numbers, weight: Shape, indices: Shape, padding_idx: Any = -1,
    scale_grad_by_freq: Any = False, sparse: Any = False,
) -> New | None:  # fmt: skip
    if len(weight.sizes) != 2 or indices.dtype not in (torch.int64, torch.int32):
        return None
    if not n.all_positive(indices.sizes):
        return None
    return _matrix(n, weight.dtype, (*indices.sizes, weight.sizes[1]))


@rule(_aten.cat.default)
def _cat(n: Numbers, tensors: Sequence[Shape], dim: Any = 0) -> New | None:
    first = tensors[0] if tensors else None
    if first is None or not all(
        t.dtype is first.dtype and len(t.sizes) == len(first.sizes) for t in tensors
    ):
        return None
    d = dimension(len(first.sizes), dim)
    if d is None or not (
        all(is_row_major(n, t) for t in tensors)
        or any(_is_never_channels_last(n, t) for t in tensors)
    ):
        return None
    total: Number = 0
    for t in tensors:
        total = n.add(total, t.sizes[d])
        if not n.all_same(t.sizes[:d] + t.sizes[d + 1 :], first.sizes[:d] + first.sizes[d + 1 :]):
            return None
    return _matrix(n, first.dtype, (*first.sizes[:d], total, *first.sizes[d + 1 :]))


def _is_never_channels_last(n: Numbers, a: Shape) -> bool:
    """Whether torch surely finds no memory format of channels in a tensor.

    For such a format a channel steps at most as far as the last dimension does.
    """
    strides = a.strides
    return len(strides) not in (4, 5) or n.at_most(n.add(strides[-1], 1), strides[1])


# -- made from sizes alone -----------------------------------------------------------------------


def _made(
    n: Numbers,
    sizes: Sequence[Any],
    dtype: torch.dtype | None,
    layout: Any,
    device: torch.device | None,
    pin_memory: Any,
) -> New | None:
    if layout not in (None, torch.strided) or pin_memory or not n.all_positive(sizes):
        return None
    if (device or torch._C._get_default_device()) not in _CPU:
        return None
    kind = dtype or torch.get_default_dtype()
    return New(kind, tuple(sizes), n.contiguous(sizes), device or torch.device("cpu"))


@rule(_aten.empty.memory_format, _aten.zeros.default, _aten.ones.default)
def _filled(
    n: Numbers,
    size: Sequence[Any],
    *,
    dtype: torch.dtype | None = None,
    layout: Any = None,
    device: torch.device | None = None,
    pin_memory: Any = None,
    memory_format: Any = None,
) -> New | None:
    if memory_format not in (None, torch.contiguous_format):
        return None
    return _made(n, size, dtype, layout, device, pin_memory)


@rule(_aten.full.default)
def _full(
    n: Numbers,
    size: Sequence[Any],
    value: Any,
    *,
    dtype: torch.dtype | None = None,
    layout: Any = None,
    device: torch.device | None = None,
    pin_memory: Any = None,
) -> New | None:
    if dtype is None or not isinstance(value, (int, float)):
        return None
    return _made(n, size, dtype, layout, device, pin_memory)


@rule(_aten.arange.default)
def _arange(
    n: Numbers,
    end: Any,
    *,
    dtype: torch.dtype | None = None,
    layout: Any = None,
    device: torch.device | None = None,
    pin_memory: Any = None,
) -> New | None:
    if isinstance(end, (bool, float)):
        return None
    return _made(n, (end,), dtype or torch.int64, layout, device, pin_memory)


@rule(_aten.arange.start_step)
def _arange_of_steps(
    n: Numbers,
    start: Any,
    end: Any,
    step: Any = 1,
    *,
    dtype: torch.dtype | None = None,
    layout: Any = None,
    device: torch.device | None = None,
    pin_memory: Any = None,
) -> New | None:
    if not type(start) is type(end) is type(step) is int or step == 0:
        return None
    size = len(range(start, end, step))
    return _made(n, (size,), dtype or torch.int64, layout, device, pin_memory)


@rule(_aten.new_empty.default, _aten.new_zeros.default, _aten.new_ones.default)
def _new(
    n: Numbers,
    a: Shape,
    size: Sequence[Any],
    *,
    dtype: torch.dtype | None = None,
    layout: Any = None,
    device: torch.device | None = None,
    pin_memory: Any = None,
) -> New | None:
    if device not in (None, a.device):
        return None
    return _made(n, size, dtype or a.dtype, layout, a.device, pin_memory)
