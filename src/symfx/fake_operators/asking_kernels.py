"""Fake kernels, in place of wrong ones of torch, that ask open questions about sizes and strides.

They run where torch's kernel would, on trial as well; see `symfx.fake_operators.both_answers`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch._prims_common import infer_size, suggest_memory_format

__all__ = ["ASKING"]

_aten = torch.ops.aten


# torch's fake kernel compares the strides of neighboring dimensions alone. So across a dimension of
# size 1 it takes any two for dimensions that can be merged.
def _view(a: torch.Tensor, size: Sequence[Any]) -> Any:
    numbers = (*size, *a.shape, *a.stride())
    if any(isinstance(n, torch.SymInt) and not n.node.has_hint() for n in numbers):
        return NotImplemented  # torch's kernel asserts about them
    if (
        not a.dim()
        or not size
        or not any(isinstance(n, torch.SymInt) for n in a.shape)
        or a.numel() == 0
    ):
        return NotImplemented
    sizes = infer_size(list(size), a.numel())
    torch._check(  # type: ignore[no-untyped-call]
        a.numel() == math.prod(sizes),
        lambda: f"a tensor of shape {list(a.shape)} cannot be viewed in shape {list(sizes)}",
    )
    strides = _strides_of_view(a, sizes)
    if strides is None:
        raise ValueError(
            f"a tensor of shape {list(a.shape)} and strides {list(a.stride())} "
            f"cannot be viewed in shape {list(sizes)}"
        )
    return a.as_strided(sizes, strides)


def _strides_of_view(a: torch.Tensor, sizes: Sequence[Any]) -> list[Any] | None:
    """The strides with which a tensor with elements has other sizes; None where it needs a copy."""
    left = [(n, step) for n, step in zip(a.shape, a.stride(), strict=True) if n != 1]
    strides: list[Any] = []
    new = len(sizes) - 1
    while left:
        # A run of dimensions without a gap between them, from the back.
        run, step = left.pop()
        while left and left[-1][1] == run * step:
            run = run * left.pop()[0]
        filled: Any = 1
        while filled != run:
            if new < 0 or filled > run:
                return None
            strides.append(filled * step)
            filled = filled * sizes[new]
            new -= 1
    # The sizes that are left are 1, as the numbers of elements agree.
    strides += [strides[-1] if strides else 1] * (new + 1)
    return strides[::-1]


# torch's fake kernel returns a row-major tensor, whatever the format of its argument is.
def _channel_shuffle(a: torch.Tensor, groups: int) -> Any:
    if a.dim() not in (4, 5) or groups < 1:
        return NotImplemented
    torch._check(  # type: ignore[no-untyped-call]
        a.shape[1] % groups == 0,
        lambda: f"the number of channels, {a.shape[1]}, must be divisible by {groups} groups",
    )
    memory_format: torch.memory_format = suggest_memory_format(a)
    return torch.empty(a.shape, dtype=a.dtype, device=a.device, memory_format=memory_format)


# torch's fake kernels keep the order of the dimensions in memory. The real ones know two orders.
def _batch_norm(
    a: torch.Tensor, weight: Any, bias: Any, mean: Any, var: Any, training: bool, *more: float
) -> Any:
    beside = [t for t in (weight, bias, mean, var) if t is not None]
    if a.dim() not in (4, 5) or any(t.dtype is not a.dtype for t in beside):
        return NotImplemented
    last = torch.channels_last if a.dim() == 4 else torch.channels_last_3d
    if a.is_contiguous():
        memory_format = torch.contiguous_format
    elif a.is_contiguous(memory_format=last):
        memory_format = last
    else:
        memory_format = suggest_memory_format(a)
    result = torch.empty(a.shape, dtype=a.dtype, device=a.device, memory_format=memory_format)
    count = a.shape[1] if training else 0
    return result, a.new_empty(count), a.new_empty(count)


def _batch_norm_without_statistics(
    a: torch.Tensor, weight: Any, bias: Any, training: bool, *more: float
) -> Any:
    return _batch_norm(a, weight, bias, None, None, training)


def _batch_norm_no_training(
    a: torch.Tensor, weight: Any, bias: Any, mean: Any, var: Any, *more: float
) -> Any:
    return _batch_norm(a, weight, bias, mean, var, False)


# torch's fake kernels refuse an index of another rank than the tensors beside it. The real kernels
# take one without elements, and the number of elements may be data.
def _scatter(
    a: torch.Tensor, dim: int, index: torch.Tensor, src: Any, *more: Any, **named: Any
) -> Any:
    found = _scatter_into(a, dim, index, src)
    return found if found is NotImplemented else a.new_empty(a.shape)


def _scatter_into(
    a: torch.Tensor, dim: int, index: torch.Tensor, src: Any, *more: Any, **named: Any
) -> Any:
    beside = (a, src) if isinstance(src, torch.Tensor) else (a,)
    return a if _has_to_be_empty(index, beside) else NotImplemented


def _gather(a: torch.Tensor, dim: int, index: torch.Tensor, **named: Any) -> Any:
    return a.new_empty(index.shape) if _has_to_be_empty(index, (a,)) else NotImplemented


def _has_to_be_empty(index: torch.Tensor, beside: Sequence[torch.Tensor]) -> bool:
    """Whether only an index without elements, whose number is data, is right; demand that."""
    count: Any = index.numel()
    known = not isinstance(count, torch.SymInt) or count.node.has_hint()
    if known or all(max(a.dim(), 1) == max(index.dim(), 1) for a in beside):
        return False
    torch._check(  # type: ignore[no-untyped-call]
        count == 0,
        lambda: (
            f"an index of shape {list(index.shape)} has elements, and another rank than "
            f"the tensors of shapes {', '.join(str(list(a.shape)) for a in beside)}"
        ),
    )
    return True


ASKING: dict[Any, Callable[..., Any]] = {
    _aten.gather.default: _gather,
    _aten.scatter.reduce: _scatter,
    _aten.scatter.src: _scatter,
    _aten.scatter.value: _scatter,
    _aten.scatter.value_reduce: _scatter,
    _aten.scatter_add.default: _scatter,
    _aten.scatter_reduce.two: _scatter,
    _aten.scatter_.reduce: _scatter_into,
    _aten.scatter_.src: _scatter_into,
    _aten.scatter_.value: _scatter_into,
    _aten.scatter_.value_reduce: _scatter_into,
    _aten.scatter_add_.default: _scatter_into,
    _aten.scatter_reduce_.two: _scatter_into,
    _aten._native_batch_norm_legit.default: _batch_norm,
    _aten._native_batch_norm_legit.no_stats: _batch_norm_without_statistics,
    _aten._native_batch_norm_legit_no_training.default: _batch_norm_no_training,
    _aten.native_batch_norm.default: _batch_norm,
    _aten.view.default: _view,
    _aten._unsafe_view.default: _view,
    _aten.channel_shuffle.default: _channel_shuffle,
}
"""For an operator, a function of fake arguments that returns fake results, or NotImplemented."""
