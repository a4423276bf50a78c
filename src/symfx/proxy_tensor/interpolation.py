"""The form of ``F.interpolate`` with scale factors computed from sizes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional as F

__all__ = ["interpolate_by_scale"]


def interpolate_by_scale(
    input: torch.Tensor,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Any:
    """`torch.nn.functional.interpolate` with symbolic scale factors.

    Returns:
        The resized images; NotImplemented for a call that torch decomposes rightly, and for one in
        a mode that has no form here.
    """
    dims = input.dim() - 2
    factors = scale_factor if isinstance(scale_factor, (list, tuple)) else [scale_factor] * dims
    symbolic = any(isinstance(f, (torch.SymInt, torch.SymFloat)) for f in factors)
    if size is not None or dims < 1 or len(factors) != dims:
        return NotImplemented
    # torch's decomposition overlooks the sizes for which the real kernels ask for no factor.
    most = 3 if mode == "nearest" and dims == 2 else 2 if mode in _LINEAR else 1
    odd = any(isinstance(f, float) and 1 < f < most and f != 2 for f in factors)
    if not symbolic and not odd:
        return NotImplemented
    # With corners that are aligned, the factor gives the size and nothing else.
    by_size = recompute_scale_factor or align_corners
    resampled = _ALONG_ONE.get(mode)
    if not by_size and (resampled is None or antialias or not input.is_floating_point()):
        return NotImplemented
    lengths = input.shape[2:]
    sizes = [math.floor(n * factor) for n, factor in zip(lengths, factors, strict=True)]
    for n in sizes:
        torch._check(n >= 1)  # type: ignore[no-untyped-call]
    if by_size or resampled is None:
        return F.interpolate(
            input, sizes, mode=mode, align_corners=align_corners, antialias=antialias
        )
    # As the real kernels, in the precision of a float, or of a double for doubles.
    dtype = input.dtype if input.dtype is torch.float64 and mode in _WEIGHTED else torch.float32
    x = input.to(dtype) if mode in _WEIGHTED else input
    for i, (n, factor) in enumerate(zip(sizes, factors, strict=True)):
        step = torch.full((), 1.0 / factor, dtype=dtype, device=input.device)
        x = resampled(x, 2 + i, torch.arange(n, dtype=dtype, device=input.device), step)
    return x.to(input.dtype)


def _holds(condition: Any, x: torch.Tensor) -> torch.Tensor:
    """A condition on sizes as a tensor on the device of another."""
    return torch.full((), torch.sym_ite(condition, 1, 0), device=x.device) == 1  # type: ignore[no-untyped-call]


def _nearest(x: torch.Tensor, dim: int, place: torch.Tensor, step: torch.Tensor) -> torch.Tensor:
    index = (place * step).floor()
    if x.dim() == 4:
        # For images, the real kernel does not ask for the factor where the size stays or doubles.
        size, n = x.shape[dim], place.shape[0]
        index = torch.where(_holds(n == 2 * size, x), (place / 2).floor(), index)
        index = torch.where(_holds(n == size, x), place, index)
    return _picked(x, dim, index)


def _nearest_exact(
    x: torch.Tensor, dim: int, place: torch.Tensor, step: torch.Tensor
) -> torch.Tensor:
    return _picked(x, dim, ((place + 0.5) * step).floor())


def _linear(x: torch.Tensor, dim: int, place: torch.Tensor, step: torch.Tensor) -> torch.Tensor:
    source = ((place + 0.5) * step - 0.5).clamp(min=0)
    # The real kernel copies along a dimension whose size stays, whatever the factor.
    source = torch.where(_holds(place.shape[0] == x.shape[dim], x), place, source)
    first = source.floor()
    t = source - first
    return _weighted(x, dim, first, [(0, 1 - t), (1, t)])


def _cubic(x: torch.Tensor, dim: int, place: torch.Tensor, step: torch.Tensor) -> torch.Tensor:
    source = (place + 0.5) * step - 0.5
    first = source.floor()
    t = source - first
    taps = [(-1, _far(t + 1)), (0, _near(t)), (1, _near(1 - t)), (2, _far(2 - t))]
    return _weighted(x, dim, first, taps)


# The cubic convolution of Keys, "Cubic convolution interpolation for digital image processing",
# 1981, equations (15), with the parameter that torch has.
_A = -0.75


def _near(t: torch.Tensor) -> torch.Tensor:
    """The weight of a point at a distance of at most 1."""
    return ((_A + 2) * t - (_A + 3)) * t * t + 1


def _far(t: torch.Tensor) -> torch.Tensor:
    """The weight of a point at a distance of 1 to 2."""
    return ((_A * t - 5 * _A) * t + 8 * _A) * t - 4 * _A


def _picked(x: torch.Tensor, dim: int, index: torch.Tensor) -> torch.Tensor:
    """The values at indices along a dimension; beyond an end, the value at this end."""
    return x.index_select(dim, index.to(torch.int64).clamp(0, x.shape[dim] - 1))


def _weighted(
    x: torch.Tensor, dim: int, first: torch.Tensor, taps: list[tuple[int, torch.Tensor]]
) -> torch.Tensor:
    """The weighted sum of the values around indices along a dimension."""
    shape = [-1] + [1] * (x.dim() - 1 - dim)
    total: Any = 0
    for offset, weight in taps:
        total = total + _picked(x, dim, first + offset) * weight.view(shape)
    return total  # type: ignore[no-any-return]


_Along = Callable[[torch.Tensor, int, torch.Tensor, torch.Tensor], torch.Tensor]
_LINEAR = ("linear", "bilinear", "trilinear")
_WEIGHTED: dict[str, _Along] = {**dict.fromkeys(_LINEAR, _linear), "bicubic": _cubic}
_ALONG_ONE: dict[str, _Along] = {
    "nearest": _nearest, "nearest-exact": _nearest_exact, **_WEIGHTED,
}  # fmt: skip
