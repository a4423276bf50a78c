"""Operators that reduce dimensions, and normalization over them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from symfx.fake_operators.rules.base import New, Shape, dimension, is_row_major, rule
from symfx.fake_operators.rules.numbers import Number, Numbers

__all__: list[str] = []

_aten = torch.ops.aten
# Statistics of these have the input's own dtype; of narrower ones they need not.
_WIDE = (torch.float32, torch.float64)


def _reduced(n: Numbers, a: Shape, dims: Any, keepdim: bool, dtype: torch.dtype) -> New | None:
    """The result of reducing some dimensions, or all."""
    rank = len(a.sizes)
    if not n.all_positive(a.sizes):
        return None
    if dims is None or (isinstance(dims, (list, tuple)) and not dims):
        gone = set(range(rank))
    else:
        found = [dimension(rank, d) for d in (dims if isinstance(dims, (list, tuple)) else [dims])]
        gone = {d for d in found if d is not None}
        if None in found or len(gone) != len(found):
            return None
    sizes: list[Number] = []
    for d, size in enumerate(a.sizes):
        if d not in gone:
            sizes.append(size)
        elif keepdim:
            sizes.append(1)
    return New(dtype, tuple(sizes), n.contiguous(sizes))


@rule(_aten.sum.default)
def _sum_all(n: Numbers, a: Shape, *, dtype: torch.dtype | None = None) -> New | None:
    return _sum(n, a, None, False, dtype=dtype)


@rule(_aten.sum.dim_IntList)
def _sum(
    n: Numbers, a: Shape, dim: Any, keepdim: bool = False, *, dtype: torch.dtype | None = None
) -> New | None:
    own = a.dtype if a.dtype.is_floating_point else torch.int64
    return _reduced(n, a, dim, keepdim, dtype or own)


@rule(_aten.mean.default)
def _mean_all(n: Numbers, a: Shape, *, dtype: torch.dtype | None = None) -> New | None:
    return _mean(n, a, None, False, dtype=dtype)


@rule(_aten.mean.dim)
def _mean(
    n: Numbers, a: Shape, dim: Any, keepdim: bool = False, *, dtype: torch.dtype | None = None
) -> New | None:
    result = dtype or a.dtype
    return _reduced(n, a, dim, keepdim, result) if result.is_floating_point else None


@rule(_aten.amax.default, _aten.amin.default)
def _extremum(n: Numbers, a: Shape, dim: Sequence[Any] = (), keepdim: bool = False) -> New | None:
    return _reduced(n, a, dim, keepdim, a.dtype)


@rule(_aten.argmax.default, _aten.argmin.default)
def _position(n: Numbers, a: Shape, dim: Any = None, keepdim: bool = False) -> New | None:
    if a.dtype is torch.bool or (dim is None and keepdim):
        return None
    return _reduced(n, a, dim, keepdim, torch.int64)


@rule(_aten.var.correction)
def _var(
    n: Numbers, a: Shape, dim: Any = None, *, correction: Any = None, keepdim: bool = False
) -> New | None:
    return _reduced(n, a, dim, keepdim, a.dtype) if a.dtype in _WIDE else None


@rule(_aten.var_mean.correction)
def _var_mean(
    n: Numbers, a: Shape, dim: Any = None, *, correction: Any = None, keepdim: bool = False
) -> tuple[New, New] | None:
    one = _var(n, a, dim, correction=correction, keepdim=keepdim)
    return None if one is None else (one, one)


@rule(_aten.any.default, _aten.all.default)
def _truth(n: Numbers, a: Shape) -> New | None:
    return None if a.dtype is torch.uint8 else _reduced(n, a, None, False, torch.bool)


# -- normalization -------------------------------------------------------------------------------


def _all_like(n: Numbers, a: Shape, others: Sequence[Any], sizes: Sequence[Any]) -> bool:
    """Whether the optional tensors have the dtype of `a` and the given sizes."""
    return all(x is None or (x.dtype is a.dtype and n.all_same(x.sizes, sizes)) for x in others)


@rule(_aten.native_layer_norm.default)
def _layer_norm(
    n: Numbers, a: Shape, normalized_shape: Sequence[Any], weight: Any, bias: Any, eps: Any
) -> tuple[New, New, New] | None:
    outer = len(a.sizes) - len(normalized_shape)
    if (
        a.dtype not in _WIDE
        or outer < 0
        or not normalized_shape
        or not n.all_same(a.sizes[outer:], normalized_shape)
        or not _all_like(n, a, (weight, bias), normalized_shape)
        or not is_row_major(n, a)
    ):
        return None
    kept = (*a.sizes[:outer], *(1 for _ in normalized_shape))
    statistics = New(a.dtype, kept, n.contiguous(kept))
    return New(a.dtype, a.sizes, a.strides), statistics, statistics


@rule(_aten.native_layer_norm_backward.default)
def _layer_norm_backward(
    n: Numbers, grad: Shape, a: Shape, normalized_shape: Sequence[Any], mean: Shape, rstd: Shape,
    weight: Any, bias: Any, output_mask: Sequence[bool],
) -> tuple[New, New, New] | None:  # fmt: skip
    outer = len(a.sizes) - len(normalized_shape)
    kept = (*a.sizes[:outer], *(1 for _ in normalized_shape))
    if (
        a.dtype not in _WIDE
        or not all(x.dtype is a.dtype and n.all_same(x.sizes, kept) for x in (mean, rstd))
        or not (is_row_major(n, mean) and is_row_major(n, rstd))
        or list(output_mask) != [True, True, True]
        or weight is None
        or bias is None
        or outer < 1
        or not n.all_same(a.sizes[outer:], normalized_shape)
        or not n.all_same(a.sizes, grad.sizes)
        or grad.dtype is not a.dtype
        or not _all_like(n, a, (weight, bias), normalized_shape)
        or not (is_row_major(n, a) and is_row_major(n, grad))
        or not (is_row_major(n, weight) and is_row_major(n, bias))
    ):
        return None
    own = New(a.dtype, weight.sizes, weight.strides)
    return New(a.dtype, a.sizes, a.strides), own, own
