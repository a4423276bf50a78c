"""Forms of functions of windows, such as pools, whose window or result has a symbolic size.

torch's operators take these numbers as plain ints, and a trace would bake them in. The forms here
cut the input into windows by operators that take symbolic sizes, and reduce each window. A window
as long as its dimension needs no cutting.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional as F

from symfx.proxy_tensor.forms import Forms
from symfx.symbolic_shapes import statically_known_true

__all__ = ["POOLS"]

POOLS = Forms()
"""For a pooling function, its form, which returns NotImplemented where no size is symbolic."""


def _per_dimension(option: Any, dims: int) -> list[Any]:
    """An option such as a kernel size, for each of the last dimensions."""
    if not isinstance(option, (list, tuple)):
        return [option] * dims
    return list(option) * (dims if len(option) == 1 else 1)


def _cut_by(x: torch.Tensor, dim: int, places: torch.Tensor) -> torch.Tensor:
    """The windows of a dimension: each row of `places` has those of one window."""
    cut: torch.Tensor = x[(slice(None),) * dim + (places,)]
    return cut


def _is_plain(
    x: torch.Tensor, dims: int, sizes: list[Any], steps: list[Any], padding: Any, dilation: Any
) -> bool:
    """Whether windows have a symbolic size or step, and neither padding nor dilation."""
    return (
        any(isinstance(n, torch.SymInt) for n in (*sizes, *steps))
        and x.dim() in (dims + 1, dims + 2)
        and len(sizes) == len(steps) == dims
        and all(type(n) is int and n == 0 for n in _per_dimension(padding, dims))
        and all(type(n) is int and n == 1 for n in _per_dimension(dilation, dims))
    )


def _pool(
    reduce: Callable[[torch.Tensor, int], torch.Tensor],
    x: torch.Tensor,
    dims: int,
    kernel: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    ceil: bool,
) -> Any:
    """Reduce the windows of the last dimensions, one dimension after the other.

    Args:
        reduce: reduces a dimension, and keeps it with the size 1.

    Returns:
        NotImplemented where no size is symbolic, or where padding or dilation is wanted as well.
    """
    sizes = _per_dimension(kernel, dims)
    none = stride is None or (isinstance(stride, (list, tuple)) and not stride)
    steps = sizes if none else _per_dimension(stride, dims)
    if not _is_plain(x, dims, sizes, steps, padding, dilation):
        return NotImplemented
    whole = [
        statically_known_true(n == length) for n, length in zip(sizes, x.shape[-dims:], strict=True)
    ]
    if ceil and not all(whole):
        return NotImplemented
    # From the last dimension on, so that the first of equal elements wins, row by row.
    for i in reversed(range(dims)):
        dim, size, step = x.dim() - dims + i, sizes[i], steps[i]
        length = x.shape[dim]
        if whole[i]:
            x = reduce(x, dim)
            continue
        places = _places(length, size, step, x.device)
        x = reduce(_cut_by(x, dim, places), dim + 1).squeeze(dim + 1)
    return x


def _max_pool(dims: int, indices: bool = False) -> Callable[..., Any]:
    def form(
        input: torch.Tensor,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        dilation: Any = 1,
        ceil_mode: bool = False,
        return_indices: bool = False,
    ) -> Any:
        # As the real kernel, `max` chooses the first of equal elements, for the gradient.
        def most(x: torch.Tensor, dim: int) -> torch.Tensor:
            return x.max(dim, keepdim=True).values

        if not (indices or return_indices):
            return _pool(most, input, dims, kernel_size, stride, padding, dilation, ceil_mode)
        sizes = _per_dimension(kernel_size, dims)
        none = stride is None or (isinstance(stride, (list, tuple)) and not stride)
        steps = sizes if none else _per_dimension(stride, dims)
        if not _is_plain(input, dims, sizes, steps, padding, dilation) or ceil_mode:
            return NotImplemented
        lengths = input.shape[-dims:]
        windows = [
            _places(length, size, step, input.device)
            for length, size, step in zip(lengths, sizes, steps, strict=True)
        ]
        return _most_of_windows(input, windows)

    return form


def _places(
    length: Any, size: Any, step: Any, device: torch.device, dilation: Any = 1
) -> torch.Tensor:
    """For each window of a dimension the places of its elements."""
    span = dilation * (size - 1) + 1
    torch._check(size >= 1)  # type: ignore[no-untyped-call]
    torch._check(step >= 1)  # type: ignore[no-untyped-call]
    torch._check(length >= span, lambda: "a window is larger than its input")  # type: ignore[no-untyped-call]
    starts = torch.arange((length - span) // step + 1, device=device) * step
    places: torch.Tensor = starts.unsqueeze(1) + torch.arange(size, device=device) * dilation
    return places


def _most_of_windows(
    input: torch.Tensor, windows: list[torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor]:
    """The largest elements of windows of the last dimensions, and their places in the input.

    Args:
        windows: for each of the dimensions the places of each window.
    """
    dims = len(windows)
    first = input.dim() - dims
    values = input
    # For each dimension that is done, the place of each value in the input.
    places: list[torch.Tensor] = []
    # From the last dimension on, so that the first of equal elements wins, row by row.
    for i in reversed(range(dims)):
        dim, index = first + i, windows[i]
        cut = _cut_by(values, dim, index)
        values, chosen = cut.max(dim + 1, keepdim=True)
        values = values.squeeze(dim + 1)
        own = index.view(*[1] * dim, *index.shape, *[1] * (dims - 1 - i)).expand(cut.shape)
        places = [own, *(_cut_by(place, dim, index) for place in places)]
        places = [place.gather(dim + 1, chosen).squeeze(dim + 1) for place in places]
    flat = places[0]
    for place, length in zip(places[1:], input.shape[first + 1 :], strict=True):
        flat = flat * length + place
    return values, flat


def _avg_pool(dims: int) -> Callable[..., Any]:
    def form(
        input: torch.Tensor,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: Any = None,
    ) -> Any:
        def combined(x: torch.Tensor, dim: int) -> torch.Tensor:
            if divisor_override is None:
                return x.mean(dim, keepdim=True)
            return x.sum(dim, keepdim=True)

        pooled = _pool(combined, input, dims, kernel_size, stride, padding, 1, ceil_mode)
        if pooled is NotImplemented or divisor_override is None:
            return pooled
        return pooled / divisor_override

    return form


for _dims, _max_functions, _with_indices, _avg_function in (
    (1, (torch.max_pool1d, F.max_pool1d), F.max_pool1d_with_indices, F.avg_pool1d),
    (2, (torch.max_pool2d, F.max_pool2d), F.max_pool2d_with_indices, F.avg_pool2d),
    (3, (torch.max_pool3d, F.max_pool3d), F.max_pool3d_with_indices, F.avg_pool3d),
):
    POOLS.of(*_max_functions)(_max_pool(_dims))
    POOLS.of(_with_indices)(_max_pool(_dims, indices=True))
    POOLS.of(_avg_function)(_avg_pool(_dims))


@POOLS.of(torch.adaptive_avg_pool1d)
def _adaptive_avg_pool1d(input: torch.Tensor, output_size: Any) -> Any:
    # The operator for two dimensions takes a symbolic size.
    (size,) = _per_dimension(output_size, 1)
    if not isinstance(size, torch.SymInt) or input.dim() not in (2, 3):
        return NotImplemented
    return F.adaptive_avg_pool2d(input.unsqueeze(-2), (1, size)).squeeze(-2)  # type: ignore[arg-type]


def _adaptive_max_pool(dims: int, indices: bool) -> Callable[..., Any]:
    def form(input: torch.Tensor, output_size: Any, return_indices: bool = False) -> Any:
        first = input.dim() - dims
        lengths = input.shape[first:]
        sizes = _per_dimension(output_size, dims)
        if output_size is None or len(sizes) != dims or first not in (1, 2):
            return NotImplemented
        sizes = [length if n is None else n for n, length in zip(sizes, lengths, strict=True)]
        if not any(isinstance(n, torch.SymInt) for n in sizes):
            return NotImplemented
        windows = [
            _adaptive_places(length, size, input.device)
            for length, size in zip(lengths, sizes, strict=True)
        ]
        values, places = _most_of_windows(input, windows)
        return (values, places) if indices or return_indices else values

    return form


def _adaptive_places(length: Any, size: Any, device: torch.device) -> torch.Tensor:
    """For each window of an adaptive pool the places of its elements; the last one repeats."""
    number = torch.arange(size, device=device)
    if statically_known_true(length == size):
        return number.unsqueeze(1)
    starts = (number * length) // size
    ends = ((number + 1) * length + size - 1) // size
    # A window that starts and ends within an element has one element more than the quotient.
    most = (length + size - 1) // size + 1
    places = starts.unsqueeze(1) + torch.arange(most, device=device)
    return torch.minimum(places, ends.unsqueeze(1) - 1)


for _dims, _plain, _with_places in (
    (1, F.adaptive_max_pool1d, F.adaptive_max_pool1d_with_indices),
    (2, F.adaptive_max_pool2d, F.adaptive_max_pool2d_with_indices),
    (3, F.adaptive_max_pool3d, F.adaptive_max_pool3d_with_indices),
):
    POOLS.of(_plain)(_adaptive_max_pool(_dims, False))
    POOLS.of(_with_places)(_adaptive_max_pool(_dims, True))


def _lp_pool(dims: int) -> Callable[..., Any]:
    pool = _avg_pool(dims)

    def form(
        input: torch.Tensor,
        norm_type: Any,
        kernel_size: Any,
        stride: Any = None,
        ceil_mode: bool = False,
    ) -> Any:
        mean = pool(input.pow(norm_type), kernel_size, stride, 0, ceil_mode)
        if mean is NotImplemented:
            return mean
        count = math.prod(_per_dimension(kernel_size, dims))
        # As torch's own: the root of a negative sum is that of zero.
        return (mean.sign() * mean.abs().relu()).mul(count).pow(1.0 / norm_type)

    return form


for _dims, _function in ((1, F.lp_pool1d), (2, F.lp_pool2d), (3, F.lp_pool3d)):
    POOLS.of(_function)(_lp_pool(_dims))


@POOLS.of(F.local_response_norm)
def _local_response_norm(
    input: torch.Tensor, size: Any, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
) -> Any:
    if not isinstance(size, torch.SymInt) or input.dim() < 3:
        return NotImplemented
    torch._check(size >= 1)  # type: ignore[no-untyped-call]
    # The mean of the squares of neighboring channels, with zeros beyond the first and the last.
    squares = F.pad(input.mul(input).movedim(1, -1), (size // 2, (size - 1) // 2))
    places = _places(squares.shape[-1], size, 1, input.device)
    mean = squares[..., places].mean(-1).movedim(-1, 1)
    return input / mean.mul(alpha).add(k).pow(beta)


@POOLS.of(F.unfold)
def _unfold(
    input: torch.Tensor, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1
) -> Any:
    options = [_per_dimension(option, 2) for option in (kernel_size, dilation, padding, stride)]
    if (
        not any(isinstance(n, torch.SymInt) for option in options for n in option)
        or any(len(option) != 2 for option in options)
        or input.dim() not in (3, 4)
    ):
        return NotImplemented
    sizes, dilations, (high, wide), steps = options
    x = F.pad(input if input.dim() == 4 else input.unsqueeze(0), (wide, wide, high, high))
    for i in (1, 0):
        places = _places(x.shape[2 + i], sizes[i], steps[i], x.device, dilations[i])
        x = _cut_by(x, 2 + i, places)
    batch, channels, rows, _, columns, _ = x.shape
    blocks = x.permute(0, 1, 3, 5, 2, 4).clone(memory_format=torch.contiguous_format)
    blocks = blocks.view(batch, channels * sizes[0] * sizes[1], rows * columns)
    return blocks if input.dim() == 4 else blocks.squeeze(0)
