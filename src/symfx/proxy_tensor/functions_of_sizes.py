"""Forms of torch functions that take a size as a plain int, such as ``torch.linspace``.

torch's own form reads the number, and a trace would bake it in. The forms here compute the same
results by operators that take symbolic sizes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional as F

from symfx.proxy_tensor.forms import Forms
from symfx.proxy_tensor.number_tensors import has_symbol, tensor_of_numbers
from symfx.proxy_tensor.tensor_types import TensorType
from symfx.proxy_tensor.views_by_size import VIEWS
from symfx.symbolic_shapes import statically_known_true

__all__ = ["FORMS_BY_SIZE", "one_hot"]

FORMS_BY_SIZE = Forms()
"""For a torch function, its form, which returns NotImplemented where no size is symbolic."""

_INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


def _ramp(n: Any, dtype: torch.dtype | None, device: Any) -> Any:
    """0, 1, 2, ... of a floating-point dtype."""
    return torch.arange(n, dtype=dtype or torch.get_default_dtype(), device=device)


@FORMS_BY_SIZE.of(torch.linspace)
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


@FORMS_BY_SIZE.of(torch.hann_window)
def _hann_window(
    n: Any, periodic: bool = True, *, dtype: Any = None, device: Any = None, **options: Any
) -> Any:
    return _window(n, periodic, dtype, device, options, _cosine(0.5, 0.5))


@FORMS_BY_SIZE.of(torch.hamming_window)
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


@FORMS_BY_SIZE.of(torch.blackman_window)
def _blackman_window(
    n: Any, periodic: bool = True, *, dtype: Any = None, device: Any = None, **options: Any
) -> Any:
    def shape(i: Any, last: Any) -> Any:
        angle = i * (math.pi / last)
        return 0.42 - 0.5 * (angle * 2).cos() + 0.08 * (angle * 4).cos()

    return _window(n, periodic, dtype, device, options, shape)


@FORMS_BY_SIZE.of(torch.bartlett_window)
def _bartlett_window(
    n: Any, periodic: bool = True, *, dtype: Any = None, device: Any = None, **options: Any
) -> Any:
    def shape(i: Any, last: Any) -> Any:
        rising = i * (2 / last)
        return torch.where(rising > 1, 2 - rising, rising)

    return _window(n, periodic, dtype, device, options, shape)


@FORMS_BY_SIZE.of(torch.kaiser_window)
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


@FORMS_BY_SIZE.of(torch.fft.fftfreq)
def _fftfreq(n: Any, d: Any = 1.0, *, dtype: Any = None, device: Any = None) -> Any:
    if not _is_size(n) or not (dtype or torch.get_default_dtype()).is_floating_point:
        return NotImplemented
    i = _ramp(n, dtype, device)
    return torch.where(i < (n + 1) // 2, i, i - n) * (1.0 / (n * d))


@FORMS_BY_SIZE.of(torch.fft.rfftfreq)
def _rfftfreq(n: Any, d: Any = 1.0, *, dtype: Any = None, device: Any = None) -> Any:
    if not _is_size(n) or not (dtype or torch.get_default_dtype()).is_floating_point:
        return NotImplemented
    return _ramp(n // 2 + 1, dtype, device) * (1.0 / (n * d))


@FORMS_BY_SIZE.of(torch.unravel_index)
def _unravel_index(indices: torch.Tensor, shape: Any) -> Any:
    sizes = list(shape) if isinstance(shape, (list, tuple)) else [shape]
    if not _is_size(*sizes) or indices.dtype not in _INTEGERS:
        return NotImplemented  # torch's own form raises the error
    steps = [1]
    for n in sizes[:0:-1]:
        steps.insert(0, steps[0] * n)
    options: dict[str, Any] = {"dtype": torch.int64, "device": indices.device}
    whole = indices.unsqueeze(-1).floor_divide(tensor_of_numbers(steps, **options))
    return (whole % tensor_of_numbers(sizes, **options)).unbind(-1)


@FORMS_BY_SIZE.of(F.affine_grid)
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


@FORMS_BY_SIZE.of(torch.logspace)
def _logspace(
    start: Any,
    end: Any,
    steps: Any,
    base: Any = 10.0,
    *,
    dtype: Any = None,
    device: Any = None,
    **options: Any,
) -> Any:
    if isinstance(base, torch.Tensor):
        return NotImplemented
    exponents = _linspace(start, end, steps, dtype=torch.float64, device=device, **options)
    if exponents is NotImplemented:
        return exponents
    return torch.pow(base, exponents).to(dtype or torch.get_default_dtype())


def _is_size(*numbers: Any) -> bool:
    return any(isinstance(n, torch.SymInt) for n in numbers)


def one_hot(tensor: torch.Tensor, num_classes: Any) -> torch.Tensor:
    """`F.one_hot` of a symbolic number of classes.

    Args:
        tensor: the numbers of the classes.
        num_classes: how many classes there are.
    """
    within = (tensor >= 0) & (tensor < num_classes)
    torch._assert_async(within.all(), "Class values must be from 0 to num_classes - 1.")
    classes = torch.arange(num_classes, device=tensor.device)
    return (tensor.unsqueeze(-1) == classes).to(torch.int64)


def _triangle(lower: bool) -> Callable[..., Any]:
    def form(
        row: Any,
        col: Any,
        offset: Any = 0,
        *,
        dtype: Any = torch.long,
        device: Any = None,
        layout: Any = None,
    ) -> Any:
        if not _is_size(row, col, offset):
            return NotImplemented
        count = _below(row, col, offset) if lower else row * col - _below(row, col, offset - 1)
        columns = torch.arange(col, device=device)
        diagonal = torch.arange(row, device=device).unsqueeze(1) + offset
        mask = columns <= diagonal if lower else columns >= diagonal
        found = torch.ops.aten.nonzero_static.default(mask, size=count)
        return torch.stack([found[:, 0], found[:, 1]]).to(dtype)

    return form


def _below(rows: Any, columns: Any, offset: Any) -> Any:
    """The number of elements on and below a diagonal."""
    least: Any = torch.sym_min
    most: Any = torch.sym_max
    # Row i has i + 1 + offset of them, at least none and at most all columns.
    empty = least(most(-offset, 0), rows)
    full = most(rows - most(columns - 1 - offset, 0), 0)
    rising = most(rows - empty - full, 0)
    first = most(offset + 1 + empty, 0)
    part = rising * first + rising * (rising - 1) // 2
    return part + least(full, rows - empty) * columns


FORMS_BY_SIZE.of(torch.tril_indices)(_triangle(lower=True))
FORMS_BY_SIZE.of(torch.triu_indices)(_triangle(lower=False))


def _centered(window: torch.Tensor, length: Any) -> torch.Tensor:
    """A window with zeros on both sides."""
    left = (length - window.shape[0]) // 2
    return F.pad(window, (left, length - window.shape[0] - left))


@FORMS_BY_SIZE.of(torch.stft, torch.Tensor.stft)
def _stft(
    input: torch.Tensor,
    n_fft: Any,
    hop_length: Any = None,
    win_length: Any = None,
    window: torch.Tensor | None = None,
    center: bool = True,
    pad_mode: str = "reflect",
    normalized: bool = False,
    onesided: bool | None = None,
    return_complex: bool | None = None,
    align_to_window: bool | None = None,
) -> Any:
    """The transform of the frames of a signal, whose length or distance is a size."""
    if (
        not _is_size(n_fft, hop_length, win_length)
        or not input.is_floating_point()
        or input.dim() not in (1, 2)
        or not return_complex
        or align_to_window is not None
    ):
        return NotImplemented
    width = n_fft if win_length is None else win_length
    if window is None:
        window = torch.ones(width, dtype=input.dtype, device=input.device)
    elif window.is_complex() or window.dim() != 1:
        return NotImplemented
    hop = n_fft // 4 if hop_length is None else hop_length
    for condition in (hop >= 1, n_fft >= width, window.shape[0] == width):
        torch._check(condition)  # type: ignore[no-untyped-call]
    rows = input if input.dim() == 2 else input.unsqueeze(0)
    if center:
        rows = F.pad(rows.unsqueeze(0), (n_fft // 2, n_fft // 2), pad_mode).squeeze(0)
    frames = VIEWS[torch.Tensor.unfold](rows, 1, n_fft, hop)
    frames = (rows.unfold(1, n_fft, hop) if frames is NotImplemented else frames) * _centered(
        window, n_fft
    )
    transform = torch.fft.fft if onesided is False else torch.fft.rfft
    spectrum = transform(frames, dim=-1, norm="ortho" if normalized else "backward")
    spectrum = spectrum.transpose(1, 2)
    return spectrum if input.dim() == 2 else spectrum.squeeze(0)


@FORMS_BY_SIZE.of(torch.istft, torch.Tensor.istft)
def _istft(
    input: torch.Tensor,
    n_fft: Any,
    hop_length: Any = None,
    win_length: Any = None,
    window: torch.Tensor | None = None,
    center: bool = True,
    normalized: bool = False,
    onesided: bool | None = None,
    length: Any = None,
    return_complex: bool = False,
) -> Any:
    """The sum of the transformed frames over that of the squared windows, cut to a length."""
    if not _is_size(length) or _is_size(n_fft, hop_length, win_length):
        return NotImplemented
    hop = n_fft // 4 if hop_length is None else hop_length
    width = n_fft if win_length is None else win_length
    onesided = (not return_complex) if onesided is None else onesided
    if not input.is_complex() or input.dim() not in (2, 3) or not 0 < hop <= width <= n_fft:
        return NotImplemented  # torch's own form raises the error
    if window is None:
        window = torch.ones(width, dtype=input.real.dtype, device=input.device)
    window = _centered(window, n_fft)
    spectrum = (input if input.dim() == 3 else input.unsqueeze(0)).transpose(1, 2)
    norm = "ortho" if normalized else "backward"
    if return_complex or not onesided:
        frames = torch.fft.ifft(spectrum, n_fft, dim=2, norm=norm)
        frames = frames if return_complex else frames.real
    else:
        frames = torch.fft.irfft(spectrum, n_fft, dim=2, norm=norm)
    count = spectrum.shape[1]
    total = n_fft + hop * (count - 1)
    fold = torch.ops.aten.unfold_backward.default
    signal = fold(frames * window, [frames.shape[0], total], 1, n_fft, hop)
    squares = window.pow(2).view(1, 1, n_fft).expand(1, count, n_fft)
    envelope = fold(squares, [1, total], 1, n_fft, hop)
    start = n_fft // 2 if center else 0
    most: Any = torch.sym_max
    kept = torch.sym_min(length, total - start)  # type: ignore[no-untyped-call]
    signal, envelope = signal.narrow(1, start, kept), envelope.narrow(1, start, kept)
    torch._assert_async(envelope.abs().min() > 1e-11, "window overlap add min is not above 1e-11")
    signal = F.pad(signal / envelope, (0, most(length - kept, 0)))
    return signal if input.dim() == 3 else signal.squeeze(0)


@FORMS_BY_SIZE.of(torch.Tensor.nbytes.__get__)  # type: ignore[attr-defined]
def _nbytes(x: torch.Tensor) -> Any:
    if x.layout is not torch.strided or not _is_size(*x.shape):
        return NotImplemented
    return x.numel() * x.element_size()


@FORMS_BY_SIZE.of(torch.Tensor.type)
def _type(x: torch.Tensor, dtype: Any = None, non_blocking: bool = False, **options: Any) -> Any:
    if not isinstance(dtype, TensorType):
        return NotImplemented
    return x.type(dtype.own, non_blocking, **options)


@FORMS_BY_SIZE.of(torch.Tensor.new)
def _new(x: torch.Tensor, *data: Any) -> Any:
    if len(data) != 1 or type(data[0]) not in (list, tuple) or not has_symbol(data[0]):
        return NotImplemented
    return tensor_of_numbers(data[0], dtype=x.dtype, device=x.device)
