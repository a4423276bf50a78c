"""Operators that work element by element, or whose result has the layout of an argument."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from typing import Any

import torch

from symfx.algebra import Term
from symfx.fake_operators.rules.base import (
    Arg,
    New,
    Shape,
    dimension,
    is_number,
    is_row_major,
    is_shape,
    rule,
)
from symfx.fake_operators.rules.elementwise_layout import fills_its_box, layout_of_result
from symfx.fake_operators.rules.numbers import Number, Numbers
from symfx.torch_bridge.modes import BelowTorch

__all__ = ["broadcast", "laid_out_like", "promoted"]

_aten = torch.ops.aten


@functools.cache
def _stand_in(dtype: torch.dtype, scalar: bool) -> torch.Tensor:
    """A tensor for torch's promotion rules, which read nothing but dtype and rank."""
    with BelowTorch():
        return torch.empty(() if scalar else (1,), dtype=dtype, device="meta")


def promoted(operands: Iterable[Any]) -> torch.dtype | None:
    """The dtype that torch computes operands in; None for complex ones."""
    stand_ins: list[Any] = []
    for a in operands:
        if is_shape(a):
            stand_ins.append(_stand_in(a.dtype, not a.sizes))
        elif isinstance(a, Term):
            stand_ins.append({"int": 1, "real": 1.0, "bool": True}[a.sort])
        else:
            stand_ins.append(a)
    if len(stand_ins) == 1:
        dtype: torch.dtype = stand_ins[0].dtype
    else:
        with BelowTorch():
            dtype = stand_ins[0].dtype if len(stand_ins) == 1 else _fold(stand_ins)
    return None if dtype.is_complex else dtype


def _fold(operands: Sequence[Any]) -> torch.dtype:
    first, second = operands
    return torch.result_type(first, second)


def broadcast(n: Numbers, shapes: Sequence[Sequence[Number]]) -> tuple[Number, ...] | None:
    """The sizes that shapes broadcast to; None where they are not certain."""
    rank = max(map(len, shapes))
    result: list[Number] = [1] * rank
    for shape in shapes:
        lead = rank - len(shape)
        for d, size in enumerate(shape):
            known = result[lead + d]
            if known == 1:
                result[lead + d] = size
            # Sizes that are equal at tracing are guarded to stay equal. Of other sizes one must
            # be 1, and torch decides which.
            elif size != 1 and not n.require_same(known, size):
                return None
    return tuple(result)


def _elementwise(
    n: Numbers, operands: Sequence[Any], dtype: torch.dtype | None, *, in_order: bool = False
) -> New | None:
    """The result of an elementwise operator on shapes and numbers; see `layout_of_result`."""
    shapes = [a for a in operands if is_shape(a)]
    if dtype is None:
        return None
    sizes = broadcast(n, [a.sizes for a in shapes])
    alone = len(shapes) == len(operands)
    strides = (
        None
        if sizes is None
        else layout_of_result(n, sizes, shapes, in_order=in_order, alone=alone)
    )
    return None if strides is None or sizes is None else New(dtype, sizes, strides)


def _floating(dtype: torch.dtype | None) -> torch.dtype | None:
    if dtype is None or dtype.is_floating_point:
        return dtype
    return torch.get_default_dtype()


# -- of one tensor -------------------------------------------------------------------------------


@rule(
    _aten.relu.default, _aten.abs.default,
    _aten.silu.default, _aten.hardtanh.default, _aten.leaky_relu.default, _aten.elu.default,
    _aten.gelu.default, _aten.hardswish.default, _aten.hardsigmoid.default,
)  # fmt: skip
def _keeps_dtype(n: Numbers, a: Shape, *options: Any, **more: Any) -> New | None:
    # torch raises the error for a dtype or an option that an operator refuses.
    if not all(map(is_number, options)) or more.get("approximate") not in (None, "none", "tanh"):
        return None
    return _elementwise(n, [a], a.dtype if a.dtype.is_floating_point else None)


@rule(_aten.neg.default)
def _neg(n: Numbers, a: Shape) -> New | None:
    return _elementwise(n, [a], None if a.dtype is torch.bool else a.dtype)  # torch refuses bools


@rule(
    _aten.exp.default, _aten.log.default, _aten.sin.default, _aten.cos.default,
    _aten.tanh.default, _aten.sigmoid.default, _aten.sqrt.default, _aten.rsqrt.default,
    _aten.erf.default, _aten.reciprocal.default, _aten.expm1.default, _aten.log1p.default,
    _aten.log2.default, _aten.tan.default, _aten.exp2.default,
)  # fmt: skip
def _becomes_float(n: Numbers, a: Shape) -> New | None:
    return _elementwise(n, [a], _floating(a.dtype))


@rule(_aten.logical_not.default, _aten.isnan.default, _aten.isinf.default)
def _becomes_bool(n: Numbers, a: Shape) -> New | None:
    return _elementwise(n, [a], torch.bool)


@rule(_aten.bitwise_not.default)
def _bitwise_not(n: Numbers, a: Shape) -> New | None:
    return _elementwise(n, [a], None if a.dtype.is_floating_point else a.dtype)


@rule(
    _aten.pow.Tensor_Scalar, _aten.clamp_min.default, _aten.clamp_max.default,
)  # fmt: skip
def _with_number(n: Numbers, a: Shape, number: Any) -> New | None:
    if not a.dtype.is_floating_point or not is_number(number):
        return None
    return _elementwise(n, [a], promoted((a, number)))


@rule(_aten.clamp.default)
def _clamp(n: Numbers, a: Shape, min: Any = None, max: Any = None) -> New | None:
    numbers = [x for x in (min, max) if x is not None]
    if not a.dtype.is_floating_point or not numbers or not all(map(is_number, numbers)):
        return None
    return _elementwise(n, [a], a.dtype)


# -- of two --------------------------------------------------------------------------------------


_ARITHMETIC = (
    _aten.add.Tensor, _aten.sub.Tensor, _aten.mul.Tensor, _aten.add.Scalar, _aten.sub.Scalar,
    _aten.mul.Scalar, _aten.rsub.Scalar,
)  # fmt: skip


@rule(*_ARITHMETIC, numbers=True)
def _arithmetic(n: Numbers, a: Shape, b: Any, alpha: Any = 1) -> New | None:
    if alpha != 1:
        return None
    dtype = promoted((a, b))
    # torch refuses to subtract bools.
    return None if dtype is torch.bool else _elementwise(n, [a, b], dtype, in_order=True)


@rule(_aten.div.Tensor, _aten.div.Scalar, numbers=True)
def _div(n: Numbers, a: Shape, b: Any) -> New | None:
    return _elementwise(n, [a, b], _floating(promoted((a, b))), in_order=True)


@rule(_aten.maximum.default, _aten.minimum.default)
def _extremum(n: Numbers, a: Shape, b: Shape) -> New | None:
    return _elementwise(n, [a, b], promoted((a, b)))


@rule(
    _aten.eq.Tensor, _aten.ne.Tensor, _aten.lt.Tensor, _aten.le.Tensor, _aten.gt.Tensor,
    _aten.ge.Tensor, _aten.eq.Scalar, _aten.ne.Scalar, _aten.lt.Scalar, _aten.le.Scalar,
    _aten.gt.Scalar, _aten.ge.Scalar, _aten.logical_and.default, _aten.logical_or.default,
    _aten.logical_xor.default, numbers=True,
)  # fmt: skip
def _comparison(n: Numbers, a: Shape, b: Any) -> New | None:
    # torch raises the error for complex numbers, which have no order.
    return _elementwise(n, [a, b], None if isinstance(b, complex) else torch.bool)


@rule(_aten.bitwise_and.Tensor, _aten.bitwise_or.Tensor, _aten.bitwise_xor.Tensor)
def _bits(n: Numbers, a: Shape, b: Shape) -> New | None:
    dtype = promoted((a, b))
    return None if dtype is None or dtype.is_floating_point else _elementwise(n, [a, b], dtype)


@rule(_aten.threshold_backward.default)
def _threshold_backward(n: Numbers, grad: Shape, a: Shape, threshold: Any) -> New | None:
    return _elementwise(n, [grad, a], grad.dtype if grad.dtype is a.dtype else None)


@rule(_aten.gelu_backward.default, _aten.tanh_backward.default, _aten.sigmoid_backward.default)
def _backward(n: Numbers, grad: Shape, a: Shape, *, approximate: str = "none") -> New | None:
    return _elementwise(n, [grad, a], grad.dtype if grad.dtype is a.dtype else None)


# -- of three ------------------------------------------------------------------------------------


@rule(_aten.where.self)
def _where(n: Numbers, condition: Shape, a: Shape, b: Shape) -> New | None:
    if condition.dtype is not torch.bool:
        return None
    return _elementwise(n, [condition, a, b], promoted((a, b)))


@rule(_aten.masked_fill.Scalar)
def _masked_fill(n: Numbers, a: Shape, mask: Shape, value: Any) -> New | None:
    if mask.dtype is not torch.bool or not is_row_major(n, a):
        return None
    # torch refuses to fill a tensor of ints with a fraction.
    if not is_number(value) or not (a.dtype.is_floating_point or isinstance(value, int)):
        return None
    sizes = broadcast(n, [a.sizes, mask.sizes])
    # torch fills a copy of the tensor, which it makes row-major.
    return None if sizes is None or not n.all_same(sizes, a.sizes) else _clone(n, a)


# -- into an argument ----------------------------------------------------------------------------


def _written(n: Numbers, a: Shape, others: Sequence[Any], dtype: torch.dtype | None) -> Arg | None:
    """The first argument, where the others surely broadcast to its sizes; else None."""
    shapes = [x for x in others if is_shape(x)]
    sizes = broadcast(n, [a.sizes, *(x.sizes for x in shapes)])
    if (
        dtype is None
        or sizes is None
        or not n.all_same(sizes, a.sizes)
        or not n.all_positive(sizes)
        or not n.all_positive(a.strides)
        or not torch.can_cast(dtype, a.dtype)
    ):
        return None
    return Arg()


@rule(_aten.add_.Tensor, _aten.sub_.Tensor, _aten.mul_.Tensor, _aten.add_.Scalar,
      _aten.mul_.Scalar, numbers=True)  # fmt: skip
def _arithmetic_in_place(n: Numbers, a: Shape, b: Any, alpha: Any = 1) -> Arg | None:
    dtype = promoted((a, b))
    return None if alpha != 1 or dtype is torch.bool else _written(n, a, [b], dtype)


@rule(_aten.div_.Tensor, _aten.div_.Scalar, numbers=True)
def _div_in_place(n: Numbers, a: Shape, b: Any) -> Arg | None:
    return _written(n, a, [b], _floating(promoted((a, b))))


@rule(_aten.relu_.default, _aten.zero_.default, _aten.sigmoid_.default, _aten.tanh_.default)
def _in_place(n: Numbers, a: Shape) -> Arg | None:
    return _written(n, a, [], a.dtype if a.dtype.is_floating_point else None)


@rule(_aten.fill_.Scalar)
def _fill(n: Numbers, a: Shape, value: Any) -> Arg | None:
    return _written(n, a, [], a.dtype) if is_number(value) else None


@rule(_aten.copy_.default)
def _copy(n: Numbers, a: Shape, source: Shape, non_blocking: bool = False) -> Arg | None:
    return _written(n, a, [source], a.dtype)


@rule(_aten.bernoulli_.float)
def _bernoulli(n: Numbers, a: Shape, p: Any = 0.5, *, generator: Any = None) -> Arg | None:
    if generator is not None or not is_number(p) or not 0 <= p <= 1:
        return None
    return _written(n, a, [], a.dtype)


# -- with the layout of an argument --------------------------------------------------------------


def laid_out_like(n: Numbers, a: Shape, dtype: torch.dtype, memory_format: Any) -> New | None:
    """A new tensor with the layout that torch gives it after another; None where uncertain."""
    if not n.all_positive(a.sizes):
        return None
    if memory_format is torch.contiguous_format:
        return New(dtype, a.sizes, n.contiguous(a.sizes))
    if memory_format not in (None, torch.preserve_format):
        return None
    if is_row_major(n, a) or fills_its_box(n, a):
        return New(dtype, a.sizes, a.strides)
    return None


@rule(_aten.clone.default)
def _clone(n: Numbers, a: Shape, *, memory_format: Any = None) -> New | None:
    return laid_out_like(n, a, a.dtype, memory_format)


@rule(_aten._to_copy.default)
def _to_copy(
    n: Numbers,
    a: Shape,
    *,
    dtype: torch.dtype | None = None,
    layout: Any = None,
    device: Any = None,
    pin_memory: Any = None,
    non_blocking: bool = False,
    memory_format: Any = None,
) -> New | None:
    if layout not in (None, torch.strided) or pin_memory or device not in (None, a.device):
        return None
    return laid_out_like(n, a, dtype or a.dtype, memory_format)


@rule(
    _aten.empty_like.default, _aten.zeros_like.default, _aten.ones_like.default,
)  # fmt: skip
def _made_like(
    n: Numbers,
    a: Shape,
    *,
    dtype: torch.dtype | None = None,
    layout: Any = None,
    device: Any = None,
    pin_memory: Any = None,
    memory_format: Any = None,
) -> New | None:
    if layout not in (None, torch.strided) or pin_memory or device not in (None, a.device):
        return None
    return laid_out_like(n, a, dtype or a.dtype, memory_format)


@rule(_aten.rand_like.default, _aten.randn_like.default)
def _drawn_like(n: Numbers, a: Shape, **options: Any) -> New | None:
    made = _made_like(n, a, **options)
    return made if made is not None and made.dtype.is_floating_point else None


@rule(_aten.full_like.default)
def _full_like(n: Numbers, a: Shape, value: Any, **options: Any) -> New | None:
    return _made_like(n, a, **options) if is_number(value) else None


@rule(_aten.native_dropout.default)
def _dropout(n: Numbers, a: Shape, p: Any, train: Any) -> tuple[New, New] | None:
    if train is not True or not is_number(p) or not 0 < p < 1 or not a.dtype.is_floating_point:
        return None
    if not is_row_major(n, a):
        return None
    return New(a.dtype, a.sizes, a.strides), New(torch.bool, a.sizes, a.strides)


@rule(_aten.native_dropout_backward.default)
def _dropout_backward(n: Numbers, grad: Shape, mask: Shape, scale: Any) -> New | None:
    if mask.dtype is not torch.bool or not grad.dtype.is_floating_point or not is_number(scale):
        return None
    if not n.all_same(grad.sizes, mask.sizes) or not is_row_major(n, mask):
        return None
    return New(grad.dtype, grad.sizes, grad.strides) if is_row_major(n, grad) else None


@rule(_aten._softmax.default, _aten._log_softmax.default)
def _softmax(n: Numbers, a: Shape, dim: Any, half_to_float: Any) -> New | None:
    if half_to_float or not a.dtype.is_floating_point or not is_row_major(n, a):
        return None
    if dimension(len(a.sizes), dim) is None:
        return None
    return New(a.dtype, a.sizes, a.strides)


@rule(_aten._softmax_backward_data.default, _aten._log_softmax_backward_data.default)
def _softmax_backward(
    n: Numbers, grad: Shape, output: Shape, dim: Any, input_dtype: Any
) -> New | None:
    if not (
        grad.dtype is output.dtype is input_dtype
        and is_row_major(n, grad)
        and is_row_major(n, output)
        and n.all_same(grad.sizes, output.sizes)
        and dimension(len(grad.sizes), dim) is not None
    ):
        return None
    return New(grad.dtype, grad.sizes, grad.strides)
