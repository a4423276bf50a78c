"""Forms of torch functions that take a size as a plain int, such as ``torch.linspace``.

torch's own form reads the number, and a trace would bake it in. The forms here compute the same
results by operators that take symbolic sizes.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional as F

from symfx.symbolic_shapes import statically_known_true

__all__ = ["FORMS_BY_SIZE", "where_it_binds"]

FORMS_BY_SIZE: dict[Any, Callable[..., Any]] = {}
"""For a torch function, its form, which returns NotImplemented where no size is symbolic."""


def where_it_binds(form: Callable[..., Any]) -> Callable[..., Any]:
    """A form that leaves calls with arguments that it does not know, such as ``out``, to torch."""
    signature = inspect.signature(form)

    @functools.wraps(form)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            signature.bind(*args, **kwargs)
        except TypeError:
            return NotImplemented
        return form(*args, **kwargs)

    return call


def _form_of(function: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def register(form: Callable[..., Any]) -> Callable[..., Any]:
        FORMS_BY_SIZE[function] = where_it_binds(form)
        return form

    return register


def _ramp(n: Any, dtype: torch.dtype | None, device: Any) -> Any:
    """0, 1, 2, ... of a floating-point dtype."""
    return torch.arange(n, dtype=dtype or torch.get_default_dtype(), device=device)


@_form_of(torch.linspace)
def _linspace(
    start: Any, end: Any, steps: Any, *, dtype: Any = None, device: Any = None, **options: Any
) -> Any:
    plain = (int, float, torch.SymInt, torch.SymFloat)
    if (
        not isinstance(steps, torch.SymInt)
        or not (isinstance(start, plain) and isinstance(end, plain))
        or not (dtype or torch.get_default_dtype()).is_floating_point
        or any(v for k, v in options.items() if k != "layout")
    ):
        return NotImplemented
    low: Any = start
    high: Any = end
    i = _ramp(steps, dtype, device)
    step = (high - low) / torch.sym_max(steps - 1, 1)  # type: ignore[no-untyped-call]
    # As the real kernel: from both ends, so that the last element is `end` itself.
    first_half = (i < steps // 2) | (i == 0)
    return torch.where(first_half, low + i * step, high - (steps - 1 - i) * step)


def _window(
    n: Any, periodic: bool, dtype: Any, device: Any, options: dict[str, Any], shape: Any
) -> Any:
    """A window of a symbolic length; NotImplemented for other lengths.

    Args:
        shape: computes the window from the elements' numbers and the last number.
    """
    if not isinstance(n, torch.SymInt) or any(v for k, v in options.items() if k != "layout"):
        return NotImplemented
    if dtype is not None and not dtype.is_floating_point:
        return NotImplemented
    i = _ramp(n, dtype, device)
    # A periodic window is a symmetric one that is one element longer, without the last element.
    last = n if periodic else torch.sym_max(n - 1, 1)  # type: ignore[no-untyped-call]
    window = shape(i, last)
    # A window of one element is 1, whatever its shape.
    return window if statically_known_true(n != 1) else torch.where(_filled(i, n) == 1, 1, window)


def _cosine(alpha: float, beta: float) -> Callable[..., Any]:
    return lambda i, last: alpha - beta * (i * (2 * math.pi / last)).cos()


@_form_of(torch.hann_window)
def _hann_window(
    n: Any, periodic: bool = True, *, dtype: Any = None, device: Any = None, **options: Any
) -> Any:
    return _window(n, periodic, dtype, device, options, _cosine(0.5, 0.5))


@_form_of(torch.hamming_window)
def _hamming_window(
    n: Any,
    periodic: bool = True,
    alpha: float = 0.54,
    beta: float = 0.46,
    *,
    dtype: Any = None,
    device: Any = None,
    **options: Any,
) -> Any:
    return _window(n, periodic, dtype, device, options, _cosine(alpha, beta))


@_form_of(torch.blackman_window)
def _blackman_window(
    n: Any, periodic: bool = True, *, dtype: Any = None, device: Any = None, **options: Any
) -> Any:
    def shape(i: Any, last: Any) -> Any:
        angle = i * (math.pi / last)
        return 0.42 - 0.5 * (angle * 2).cos() + 0.08 * (angle * 4).cos()

    return _window(n, periodic, dtype, device, options, shape)


@_form_of(torch.bartlett_window)
def _bartlett_window(
    n: Any, periodic: bool = True, *, dtype: Any = None, device: Any = None, **options: Any
) -> Any:
    def shape(i: Any, last: Any) -> Any:
        rising = i * (2 / last)
        return torch.where(rising > 1, 2 - rising, rising)

    return _window(n, periodic, dtype, device, options, shape)


@_form_of(torch.kaiser_window)
def _kaiser_window(
    n: Any,
    periodic: bool = True,
    beta: float = 12.0,
    *,
    dtype: Any = None,
    device: Any = None,
    **options: Any,
) -> Any:
    def shape(i: Any, last: Any) -> Any:
        x = i * (2 / last) - 1
        height = torch.special.i0(torch.full((), beta, dtype=i.dtype, device=i.device))
        return torch.special.i0(beta * (1 - x * x).clamp(min=0).sqrt()) / height

    return _window(n, periodic, dtype, device, options, shape)


@_form_of(F.affine_grid)
def _affine_grid(theta: torch.Tensor, size: Any, align_corners: bool | None = None) -> Any:
    # torch's form asks whether the smallest size is positive, which orders the sizes.
    if not any(isinstance(n, torch.SymInt) for n in size) or len(size) not in (4, 5):
        return NotImplemented
    spatial = len(size) - 2
    if (
        not theta.is_floating_point()
        or theta.dim() != 3
        or theta.shape[-2] != spatial
        or theta.shape[-1] != spatial + 1
    ):
        return NotImplemented
    for n in size:
        torch._check(n > 0)  # type: ignore[no-untyped-call]
    batch, _, *lengths = size
    # The coordinates of the grid: x changes along the last dimension, and a 1 comes last.
    columns = []
    for dim in reversed(range(spatial)):
        at = _centers(lengths[dim], theta, bool(align_corners))
        columns.append(at.view([-1 if d == dim else 1 for d in range(spatial)]).expand(lengths))
    columns.append(torch.ones_like(columns[0]))
    grid = torch.stack(columns, -1).view(1, math.prod(lengths), spatial + 1)
    moved = grid.expand(batch, -1, -1).bmm(theta.mT)
    return moved.view(batch, *lengths, spatial)


def _centers(n: Any, like: torch.Tensor, align_corners: bool) -> Any:
    """The centers of n pixels between -1 and 1, or the corners; 0 for a single pixel."""
    i = _ramp(n, like.dtype, like.device)
    if not align_corners:
        return (2 * i + 1) / n - 1
    steps = i * (2 / torch.sym_max(n - 1, 1)) - 1  # type: ignore[no-untyped-call]
    if statically_known_true(n != 1):
        return steps
    return torch.where(_filled(i, n) == 1, 0.0, steps)


def _filled(like: torch.Tensor, n: Any) -> torch.Tensor:
    return like.new_full((), n)


@_form_of(F.avg_pool2d)
def _avg_pool2d(
    x: torch.Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Any:
    """The mean, where the window is the whole input; no other window may be symbolic."""
    sizes = kernel_size if isinstance(kernel_size, (list, tuple)) else (kernel_size, kernel_size)
    paddings = padding if isinstance(padding, (list, tuple)) else (padding,)
    if (
        divisor_override is not None
        or not any(isinstance(n, torch.SymInt) for n in sizes)
        or any(isinstance(n, torch.SymInt) or n != 0 for n in paddings)
        or len(sizes) != 2
        or x.dim() < 3
        or not all(statically_known_true(m == n) for m, n in zip(x.shape[-2:], sizes, strict=True))
    ):
        return NotImplemented
    return x.mean((-2, -1), keepdim=True)
