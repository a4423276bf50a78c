"""Forms of torch's views of a symbolic window or offset, such as ``x.unfold(1, n, 1)``.

torch's operators take these numbers as plain ints, and a trace would bake them in. Other views,
whose operators take symbolic sizes, give the same elements of the same memory.
"""

from __future__ import annotations

from typing import Any

import torch

from symfx.proxy_tensor.forms import Forms

__all__ = ["VIEWS"]

VIEWS = Forms()
"""For a function that makes a view, its form: NotImplemented where no number is symbolic."""


@VIEWS.of(torch.Tensor.unfold)
def _unfold(x: torch.Tensor, dimension: int, size: Any, step: Any) -> Any:
    if not isinstance(size, torch.SymInt) and not isinstance(step, torch.SymInt):
        return NotImplemented
    if x.layout is not torch.strided or not -x.dim() <= dimension < x.dim():
        return NotImplemented
    dim = dimension % x.dim()
    length = x.shape[dim]
    torch._check(size >= 0)  # type: ignore[no-untyped-call]
    torch._check(step >= 1, lambda: "the step of a window is not positive")  # type: ignore[no-untyped-call]
    torch._check(length >= size, lambda: "a window is larger than its dimension")  # type: ignore[no-untyped-call]
    sizes, strides = list(x.shape), list(x.stride())
    sizes[dim] = (length - size) // step + 1
    # The stride of a dimension of one element is never used: then there is one window, of it.
    strides[dim] = x.stride(dim) * step
    return x.as_strided([*sizes, size], [*strides, x.stride(dim)])


@VIEWS.of(torch.diagonal, torch.Tensor.diagonal)
def _diagonal(input: torch.Tensor, offset: Any = 0, dim1: int = 0, dim2: int = 1) -> Any:
    if not isinstance(offset, torch.SymInt):
        return NotImplemented
    least: Any = torch.sym_min
    # The diagonal starts in another column, or in another row.
    dim, skipped = (dim2, offset) if offset >= 0 else (dim1, -offset)
    skipped = least(skipped, input.shape[dim])
    part = input.narrow(dim, skipped, input.shape[dim] - skipped)
    return part.diagonal(0, dim1, dim2)


@VIEWS.of(torch.tensor_split, torch.Tensor.tensor_split)
def _tensor_split(input: torch.Tensor, indices_or_sections: Any, dim: int = 0) -> Any:
    sections = indices_or_sections
    if type(sections) is not int or sections < 1 or not -input.dim() <= dim < input.dim():
        return NotImplemented
    length = input.shape[dim]
    if not isinstance(length, torch.SymInt):
        return NotImplemented
    least: Any = torch.sym_min
    each, longer = length // sections, length % sections
    # The first parts have one element more. torch's form asks how many they are.
    starts = [i * each + least(i, longer) for i in range(sections)]
    ends = [*starts[1:], length]
    return tuple(input.narrow(dim, a, b - a) for a, b in zip(starts, ends, strict=True))
