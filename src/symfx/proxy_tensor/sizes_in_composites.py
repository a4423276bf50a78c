"""Forms of torch functions that C++ composes of operators with sizes as plain numbers.

A trace of such a function would pin each size that it reads. The forms here call the same operators
with symbolic sizes.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import torch

from symfx.proxy_tensor.forms import Forms
from symfx.symbolic_shapes import optimization_hint, statically_known_true

__all__ = ["FORMS_OF_COMPOSITES"]

FORMS_OF_COMPOSITES = Forms()
"""For a torch function, its form, which returns NotImplemented where no size is symbolic."""


_BY_COUNT = "use_mm_for_euclid_dist_if_necessary"
_BY_PRODUCT = "use_mm_for_euclid_dist"
_BY_DIFFERENCES = "donot_use_mm_for_euclid_dist"


def _is_symbolic(*tensors: torch.Tensor) -> bool:
    return any(isinstance(n, torch.SymInt) for tensor in tensors for n in tensor.shape)


@FORMS_OF_COMPOSITES.of(torch.take_along_dim, torch.Tensor.take_along_dim)
def _take_along_dim(input: torch.Tensor, indices: torch.Tensor, dim: int | None = None) -> Any:
    if not _is_symbolic(input, indices) or indices.dtype is not torch.int64:
        return NotImplemented
    if dim is None:
        return input.reshape(-1).gather(0, indices.reshape(-1))
    if input.dim() != indices.dim() or not -input.dim() <= dim < input.dim():
        return NotImplemented
    dim %= input.dim()
    # Both are broadcast to each other, but along the dimension.
    common = [
        m if d == dim else _common(m, n)
        for d, (m, n) in enumerate(zip(input.shape, indices.shape, strict=True))
    ]
    shapes = [[*common[:dim], t.shape[dim], *common[dim + 1 :]] for t in (input, indices)]
    # As the real function: an index beyond the end begins anew.
    wrapped = indices.expand(shapes[1]).remainder(input.shape[dim])
    return input.expand(shapes[0]).gather(dim, wrapped)


def _common(m: Any, n: Any) -> Any:
    """The size of two dimensions that are broadcast to each other."""
    if statically_known_true(m == n) or n == 1:
        return m
    if m != 1:
        torch._check(m == n)  # type: ignore[no-untyped-call]
    return n


@FORMS_OF_COMPOSITES.of(torch.kron, torch.Tensor.kron)
def _kron(input: torch.Tensor, other: torch.Tensor) -> Any:
    if not _is_symbolic(input, other):
        return NotImplemented
    rank = max(input.dim(), other.dim())
    left = [1] * (rank - input.dim()) + [*input.shape]
    right = [1] * (rank - other.dim()) + [*other.shape]
    rows = input.reshape([n for size in left for n in (size, 1)])
    columns = other.reshape([n for size in right for n in (1, size)])
    return (rows * columns).reshape([a * b for a, b in zip(left, right, strict=True)])


@FORMS_OF_COMPOSITES.of(torch.cdist)
def _cdist(
    x1: torch.Tensor, x2: torch.Tensor, p: float = 2.0, compute_mode: str = _BY_COUNT
) -> Any:
    if p != 2 or compute_mode != _BY_COUNT or min(x1.dim(), x2.dim()) < 2:
        return NotImplemented
    rows = (x1.shape[-2], x2.shape[-2])
    if not any(isinstance(n, torch.SymInt) for n in rows):
        return NotImplemented
    # Both ways have the same result but for rounding: the sizes at tracing choose.
    by_product = any(optimization_hint(n) > 25 for n in rows)
    return torch.cdist(x1, x2, 2.0, _BY_PRODUCT if by_product else _BY_DIFFERENCES)


@FORMS_OF_COMPOSITES.of(torch.tensor_split, torch.Tensor.tensor_split)
def _tensor_split(input: torch.Tensor, indices_or_sections: Any, dim: int = 0) -> Any:
    count = indices_or_sections
    if type(count) is not int or count < 1 or not -input.dim() <= dim < input.dim():
        return NotImplemented
    size = input.shape[dim]
    if not isinstance(size, torch.SymInt):
        return NotImplemented
    # The first parts are one element longer, as many as the division leaves over.
    each, left = size // count, size % count
    bounds = [i * each + torch.sym_min(i, left) for i in range(count + 1)]
    return tuple(input.narrow(dim, a, b - a) for a, b in itertools.pairwise(bounds))


@FORMS_OF_COMPOSITES.of(torch._C._nn.pad_sequence)
def _pad_sequence(
    sequences: Sequence[torch.Tensor],
    batch_first: bool = False,
    padding_value: float = 0.0,
    padding_side: str = "right",
) -> Any:
    lengths: list[Any] = [x.shape[0] for x in sequences if x.dim() > 0]
    if (
        len(lengths) != len(sequences)
        or not any(isinstance(n, torch.SymInt) for n in lengths)
        or padding_side not in ("left", "right")
    ):
        return NotImplemented
    rest = sequences[0].shape[1:]
    longest = lengths[0]
    for n in lengths[1:]:
        longest = torch.sym_max(longest, n)  # type: ignore[no-untyped-call]
    padded = []
    for x, n in zip(sequences, lengths, strict=True):
        if x.dim() != len(rest) + 1 or x.dtype is not sequences[0].dtype:
            return NotImplemented
        missing = longest - n
        sides = (missing, 0) if padding_side == "left" else (0, missing)
        wider = torch.nn.functional.pad(x, (0, 0) * len(rest) + sides, value=padding_value)
        padded.append(wider)
    return torch.stack(padded, 0 if batch_first else 1)


# -- differences -----------------------------------------------------------------------------------


@FORMS_OF_COMPOSITES.of(torch.gradient)
def _gradient(
    input: torch.Tensor, *, spacing: Any = None, dim: Any = None, edge_order: int = 1
) -> Any:
    if not _is_symbolic(input) or edge_order not in (1, 2):
        return NotImplemented
    dims = range(input.dim()) if dim is None else [dim] if isinstance(dim, int) else [*dim]
    if isinstance(spacing, (tuple, list)):
        steps = [*spacing]
    else:
        steps = [1 if spacing is None else spacing] * len(dims)
    if len(steps) != len(dims) or len({d % input.dim() for d in dims}) != len(dims):
        return NotImplemented
    along = _along_coordinates if isinstance(steps[0], torch.Tensor) else _along_steps
    for d in dims:
        torch._check(input.shape[d] > edge_order)  # type: ignore[no-untyped-call]
    return tuple(along(input, step, d, edge_order) for step, d in zip(steps, dims, strict=True))


def _along_steps(x: torch.Tensor, step: Any, dim: int, order: int) -> torch.Tensor:
    """Differences of neighbors at equal distances."""
    n = x.shape[dim]
    inner = (x.narrow(dim, 2, n - 2) - x.narrow(dim, 0, n - 2)) / step / 2
    a, b = x.narrow(dim, 0, 1), x.narrow(dim, 1, 1)
    z, y = x.narrow(dim, n - 1, 1), x.narrow(dim, n - 2, 1)
    if order == 1:
        first, last = (b - a) / step, (z - y) / step
    else:
        # Three-point differences of second order (Fornberg 1988, table 3).
        first = (-1.5 * a + 2.0 * b - 0.5 * x.narrow(dim, 2, 1)) / step
        last = (1.5 * z - 2.0 * y + 0.5 * x.narrow(dim, n - 3, 1)) / step
    return torch.cat([first, inner, last], dim)


def _along_coordinates(x: torch.Tensor, places: torch.Tensor, dim: int, order: int) -> torch.Tensor:
    """Differences of neighbors at the distances of their coordinates."""
    n = x.shape[dim]
    shape = [1] * x.dim()
    shape[dim] = -1
    gaps = (places.narrow(0, 1, n - 1) - places.narrow(0, 0, n - 1)).reshape(shape)
    # The derivative at its middle point of the parabola through three points, and at its ends.
    left, right = gaps.narrow(dim, 0, n - 2), gaps.narrow(dim, 1, n - 2)
    both = left + right
    inner = (
        x.narrow(dim, 0, n - 2) * (-right / (left * both))
        + x.narrow(dim, 1, n - 2) * ((right - left) / (left * right))
        + x.narrow(dim, 2, n - 2) * (left / (right * both))
    )
    if order == 1:
        first = (x.narrow(dim, 1, 1) - x.narrow(dim, 0, 1)) / gaps.narrow(dim, 0, 1)
        last = (x.narrow(dim, n - 1, 1) - x.narrow(dim, n - 2, 1)) / gaps.narrow(dim, n - 2, 1)
        return torch.cat([first, inner, last], dim)
    ends = []
    for near, middle, far, h1, h2, sign in (
        (0, 1, 2, left.narrow(dim, 0, 1), right.narrow(dim, 0, 1), 1),
        (n - 1, n - 2, n - 3, right.narrow(dim, n - 3, 1), left.narrow(dim, n - 3, 1), -1),
    ):
        ends.append(
            x.narrow(dim, near, 1) * (-sign * (2 * h1 + h2) / (h1 * (h1 + h2)))
            + x.narrow(dim, middle, 1) * (sign * (h1 + h2) / (h1 * h2))
            + x.narrow(dim, far, 1) * (-sign * h1 / (h2 * (h1 + h2)))
        )
    return torch.cat([ends[0], inner, ends[1]], dim)


# -- Fourier transforms ----------------------------------------------------------------------------


def _resized(x: torch.Tensor, lengths: Sequence[tuple[int, Any]]) -> torch.Tensor | None:
    """A tensor cut or padded to lengths along dimensions; None where torch need not ask which.

    Args:
        x: the tensor.
        lengths: pairs of a dimension and its new length.
    """
    changed = False
    for dim, length in lengths:
        size = x.shape[dim]
        known = statically_known_true(size <= length) or statically_known_true(size >= length)
        if not known:
            kept = torch.sym_min(size, length)  # type: ignore[no-untyped-call]
            x = x.narrow(dim, 0, kept)
            padding = [0] * (2 * x.dim())
            padding[2 * (-1 - dim if dim < 0 else x.dim() - 1 - dim) + 1] = length - kept
            x, changed = torch.nn.functional.pad(x, padding), True
    return x if changed else None


def _along_one(function: Any, length: Callable[[Any], Any]) -> None:
    def form(
        input: torch.Tensor, n: Any = None, dim: int = -1, norm: Any = None, **rest: Any
    ) -> Any:
        fits = n is not None and -input.dim() <= dim < input.dim()
        resized = _resized(input, [(dim, length(n))]) if fits else None
        return NotImplemented if resized is None else function(resized, n, dim, norm, **rest)

    FORMS_OF_COMPOSITES.of(function)(form)


def _along_several(function: Any, length: Callable[[Any], Any], dims: Any = None) -> None:
    def form(
        input: torch.Tensor, s: Any = None, dim: Any = dims, norm: Any = None, **rest: Any
    ) -> Any:
        if s is None or len(s) > input.dim() or (dim is not None and len(dim) != len(s)):
            return NotImplemented
        along = range(-len(s), 0) if dim is None else dim
        if not all(-input.dim() <= d < input.dim() for d in along):
            return NotImplemented
        given = [n if isinstance(n, torch.SymInt) or n != -1 else None for n in s]
        last = None if given[-1] is None else length(given[-1])
        # A length of -1 stands for the size of the input.
        lengths = [(d, n) for d, n in zip(along, (*given[:-1], last), strict=True) if n is not None]
        resized = _resized(input, lengths)
        return NotImplemented if resized is None else function(resized, s, dim, norm, **rest)

    FORMS_OF_COMPOSITES.of(function)(form)


def _whole(n: Any) -> Any:
    return n


def _half(n: Any) -> Any:
    """The length of the spectrum of n real numbers."""
    return n // 2 + 1


for _name in ("fft", "ifft", "rfft", "ihfft"):
    _along_one(getattr(torch.fft, _name), _whole)
for _name in ("irfft", "hfft"):
    _along_one(getattr(torch.fft, _name), _half)
for _name in ("fft", "ifft", "rfft", "ihfft"):
    _along_several(getattr(torch.fft, _name + "n"), _whole)
    _along_several(getattr(torch.fft, _name + "2"), _whole, (-2, -1))
for _name in ("irfft", "hfft"):
    _along_several(getattr(torch.fft, _name + "n"), _half)
    _along_several(getattr(torch.fft, _name + "2"), _half, (-2, -1))


# -- chains of products ----------------------------------------------------------------------------


@FORMS_OF_COMPOSITES.of(torch.trapezoid, torch.trapz)
def _trapezoid(y: torch.Tensor, *, dx: Any = 1, dim: int = -1) -> Any:
    # The operator reads the step, and multiplies by it at the end.
    if type(dx) not in (torch.SymInt, torch.SymFloat):
        return NotImplemented
    return torch.trapezoid(y, dim=dim) * dx


@FORMS_OF_COMPOSITES.of(torch.cumulative_trapezoid)
def _cumulative_trapezoid(y: torch.Tensor, *, dx: Any = 1, dim: int = -1) -> Any:
    if type(dx) not in (torch.SymInt, torch.SymFloat):
        return NotImplemented
    return torch.cumulative_trapezoid(y, dx=2, dim=dim) * (dx / 2)


@FORMS_OF_COMPOSITES.of(torch.linalg.multi_dot)
def _multi_dot(tensors: Sequence[torch.Tensor], *, out: torch.Tensor | None = None) -> Any:
    if out is not None or len(tensors) < 2 or not _is_symbolic(*tensors):
        return NotImplemented
    if any(t.dim() != 2 for t in tensors[1:-1]) or not {1, 2} >= {t.dim() for t in tensors}:
        return NotImplemented
    # The sizes at tracing choose the order, for speed: each order has the same product.
    first, last = tensors[0], tensors[-1]
    matrices = [*tensors]
    if first.dim() == 1:
        matrices[0] = first.unsqueeze(0)
    if last.dim() == 1:
        matrices[-1] = last.unsqueeze(1)
    sizes = [optimization_hint(m.shape[0]) for m in matrices]
    result = _product(matrices, [*sizes, optimization_hint(matrices[-1].shape[1])])
    if last.dim() == 1:
        result = result.squeeze(1)
    return result.squeeze(0) if first.dim() == 1 else result


@FORMS_OF_COMPOSITES.of(torch.chain_matmul, torch.functional.chain_matmul)
def _chain_matmul(*matrices: torch.Tensor, out: torch.Tensor | None = None) -> Any:
    if len(matrices) < 2 or any(t.dim() != 2 for t in matrices):
        return NotImplemented
    return _multi_dot(matrices, out=out)


def _product(matrices: Sequence[torch.Tensor], sizes: Sequence[int]) -> torch.Tensor:
    """The product of a chain in the order of the fewest multiplications.

    The order is found as in Cormen et al., Introduction to Algorithms, section 14.2.
    """
    count = len(matrices)
    cost: dict[tuple[int, int], tuple[int, int]] = {(i, i): (0, i) for i in range(count)}
    for length, start in itertools.product(range(1, count), range(count)):
        end = start + length
        if end < count:
            cost[start, end] = min(
                (
                    cost[start, cut][0]
                    + cost[cut + 1, end][0]
                    + sizes[start] * sizes[cut + 1] * sizes[end + 1],
                    cut,
                )
                for cut in range(start, end)
            )

    def part(start: int, end: int) -> torch.Tensor:
        if start == end:
            return matrices[start]
        cut = cost[start, end][1]
        return part(start, cut) @ part(cut + 1, end)

    return part(0, count - 1)
