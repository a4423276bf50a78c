"""Fake kernels, in place of wrong ones of torch, that ask open questions about sizes and strides.

They run where torch's kernel would, on trial as well; see `symfx.fake_operators.both_answers`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch._prims_common import infer_size

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


ASKING: dict[Any, Callable[..., Any]] = {
    _aten.view.default: _view,
    _aten._unsafe_view.default: _view,
}
"""For an operator, a function of fake arguments that returns fake results, or NotImplemented."""
