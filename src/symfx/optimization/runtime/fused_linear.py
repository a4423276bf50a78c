"""A linear layer with what follows it as one module, its weight packed where that is faster."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from symfx.optimization.graphs.effects import one_call
from symfx.optimization.graphs.layers import Layer
from symfx.optimization.runtime.kernels import DIRECT, Form, Kernel, PostOp, make_kernel
from symfx.optimization.runtime.packed import Packed
from symfx.optimization.runtime.tensors import is_ordinary

__all__ = ["CONVOLUTION", "MKL", "FusedLinear", "has_mkl"]

#: The names of the ways of linear layers that are not torch's.
CONVOLUTION, MKL = "as a 1x1 convolution", "with a weight packed by MKL"


class FusedLinear(Packed):
    """A linear layer, what is added to its result, and an activation, as one operator.

    It runs as torch's own operators do, but for the numbers of rows for which oneDNN's 1x1
    convolution, or MKL's product with a packed weight, was measured to be faster.

    Args:
        layer: the linear layer.
        post: what follows.
        adds: is a second argument added before ``post``?
        second: is what the layer computes the second term of that sum?

    Attributes:
        ways: how inputs with a number of rows are computed, by name, where not by torch.
    """

    def __init__(self, layer: Layer, post: PostOp, *, adds: bool, second: bool = False) -> None:
        super().__init__(layer.weight.contiguous(), layer.bias, post, adds=adds, second=second)
        self.ways: dict[int, str] = {}

    @one_call
    def forward(self, x: Tensor, other: Tensor | None = None, finite: bool = True) -> Tensor:
        """The result, contiguous.

        Args:
            x: of shape ``(..., channels_in)``.
            other: what is added, of the result's shape.
            finite: see `FusedConv.forward`.
        """
        if not self._fits(x, other):
            return self._by_torch(x, other)
        way = self.ways.get(x.numel() // x.shape[-1]) if finite else None
        if way is not None:
            return self._packed(way, x, other)
        return self._in_place(x, other)

    def _fits(self, x: Tensor, other: Tensor | None) -> bool:
        wide, deep = self.weight.shape
        return (
            self.usable
            and x.dtype is torch.float is self.weight.dtype
            and x.shape[-1] == deep
            and x.is_contiguous()
            and is_ordinary(x)
            and (
                other is None
                or (
                    other.dtype is torch.float
                    and other.shape == (*x.shape[:-1], wide)
                    and other.is_contiguous()
                    and is_ordinary(other)
                )
            )
        )

    @property
    def kind_of_trial(self) -> tuple[Any, ...]:
        """See `FusedConv.kind_of_trial`."""
        return self.adds, self.post.name

    def other_ways(self, x: Tensor) -> list[str]:
        """As `FusedConv.other_ways`."""
        if not self.available or self.weight.dtype is not torch.float or x.dim() < 2:
            return []
        return [CONVOLUTION, MKL] if has_mkl() else [CONVOLUTION]

    def trials(self, x: Tensor, adds: bool) -> dict[str, Callable[[], Tensor]]:
        """As `FusedConv.trials`."""
        names = self.other_ways(x)
        if not names:
            return {}
        x = x.contiguous()
        other = torch.zeros(*x.shape[:-1], self.weight.shape[0]) if adds else None
        ways: dict[str, Callable[[], Tensor]] = {}
        ways[DIRECT] = functools.partial(self._in_place, x, other)
        for way in names:
            ways[way] = functools.partial(self._packed, way, x, other)
        return ways

    def choose(self, shape: torch.Size, way: str) -> None:
        """Compute inputs of this shape in this way from now on."""
        rows = shape.numel() // shape[-1]
        self.ways.pop(rows, None)
        if way != DIRECT:
            self.ways[rows] = way

    def get_ready(self, x: Tensor) -> None:
        """See `FusedConv.get_ready`."""
        if self._fits(x, None):
            rows = x.numel() // x.shape[-1]
            if rows in self.ways:
                self.kernel((self.ways[rows], rows))

    def _make(self, key: Any) -> Kernel:
        """That of a way for a number of rows."""
        way, rows = key
        if way == MKL:
            return _Mkl(self.weight, self.bias, self.post, rows)
        return make_kernel(DIRECT, self._form(), (1, self.weight.shape[1], rows, 1), ())

    def _by_torch(self, x: Tensor, other: Tensor | None) -> Tensor:
        result = F.linear(x, self.weight, self.bias)
        if other is not None:
            result = other + result if self.second else result + other
        return self.post.function(result) if self.post.function else result

    def _in_place(self, x: Tensor, other: Tensor | None) -> Tensor:
        """As `_by_torch`, of what `_fits`: new memory for each step would take time."""
        result = F.linear(x, self.weight, self.bias)
        return self.post.on(result if other is None else result.add_(other))

    def _packed(self, way: str, x: Tensor, other: Tensor | None) -> Tensor:
        wide, deep = self.weight.shape
        rows = x.numel() // deep
        kernel = self.kernel((way, rows))
        if way == MKL:
            return kernel(x, other, False)
        image = _as_image(x, rows)
        added = None if other is None else _as_image(other, rows)
        result = kernel(image, added, False)
        return result.permute(0, 2, 3, 1).view(*x.shape[:-1], wide)

    def _form(self) -> Form:
        kernel = self.weight.detach()[:, :, None, None]
        ones, zeros = [1, 1], [0, 0]
        return Form(kernel, self.bias, ones, zeros, ones, zeros, 1, False, self.post, None)

    def describe(self) -> dict[str, Any]:
        """All of it but its tensors, as plain data."""
        return {
            "adds": self.adds,
            "second": self.second,
            "post": self.post.describe(),
            "ways": [[rows, way] for rows, way in self.ways.items()],
        }

    def extra_repr(self) -> str:
        """What `repr` shows of it."""
        return f"{tuple(self.weight.shape)}, adds={self.adds}, post={self.post!r}"


def _as_image(x: Tensor, rows: int) -> Tensor:
    """Rows as the pixels of an image, which is channels last in memory without a copy."""
    return x.view(1, rows, 1, x.shape[-1]).permute(0, 3, 1, 2)


class _Mkl:
    """MKL's matrix product, with the weight packed for a number of rows."""

    def __init__(self, weight: Tensor, bias: Tensor | None, post: PostOp, rows: int) -> None:
        self.weight, self.bias, self.post, self.rows = weight, bias, post, rows
        self.packed: Tensor = torch.ops.mkl._mkl_reorder_linear_weight(weight, rows)

    def __call__(self, x: Tensor, other: Tensor | None, accumulate: bool) -> Tensor:
        """See `Kernel`, but for the layout: all is contiguous."""
        result: Tensor = torch.ops.mkl._mkl_linear(
            x, self.packed, self.weight, self.bias, self.rows
        )
        if other is not None:
            result.add_(other)
        return self.post.on(result)


@functools.cache
def has_mkl() -> bool:
    """Has the installed torch MKL's product with a packed weight, and is it right?"""
    if not (torch._C.has_mkl and hasattr(torch.ops.mkl, "_mkl_linear")):
        return False
    with torch.no_grad():
        x, weight = torch.arange(12.0).view(3, 4) / 7, torch.arange(20.0).view(5, 4).sin()
        try:
            found = _Mkl(weight, None, PostOp("none"), 3)(x, None, False)
        except (RuntimeError, NotImplementedError):
            return False
        return torch.allclose(found, x @ weight.t(), atol=1e-5)
