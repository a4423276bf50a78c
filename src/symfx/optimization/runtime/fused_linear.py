"""A linear layer with the sum and the activation behind it, in the way measured to be fastest."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from symfx.optimization.runtime.activations import PostOp
from symfx.optimization.runtime.conv_form import Kernel
from symfx.optimization.runtime.conv_kernels import BFLOAT16, DIRECT
from symfx.optimization.runtime.layers import Layer
from symfx.optimization.runtime.leaf_calls import leaf_forward
from symfx.optimization.runtime.linear_kernels import (
    COMPILED,
    FOR_ALL_ROWS,
    linear_ways,
    make_linear_kernel,
)
from symfx.optimization.runtime.packed_layer import PackedLayer
from symfx.optimization.runtime.quantized_linear import INT8
from symfx.optimization.runtime.tensor_checks import is_ordinary, is_plain_tensor

__all__ = ["ALL_ROWS", "FusedLinear"]


ALL_ROWS = 0
"""The number in `FusedLinear.ways` that stands for all numbers of rows without a way."""

#: The compiled kernel fills its tiles for matrices with sides of so many numbers, and so many rows.
_WIDE, _ROWS = 32, 16


def _key(way: str, rows: int) -> tuple[str, int]:
    """The key of a kernel: one for each number of rows where the weight is packed for it."""
    return way, ALL_ROWS if way in FOR_ALL_ROWS else rows


class FusedLinear(PackedLayer):
    """A linear layer, the addition of a second argument, and an activation, as one module.

    It runs torch's own operators, except for the numbers of rows for which a kernel with a packed
    weight was measured to be faster; see `symfx.optimization.runtime.linear_kernels`.

    Args:
        layer: the linear layer.
        post: the activation behind it.
        adds: see `PackedLayer`.
        second: see `PackedLayer`.

    Attributes:
        ways: the name of the way for a number of rows, or for `ALL_ROWS`, where it is not torch's.
    """

    def __init__(self, layer: Layer, post: PostOp, *, adds: bool, second: bool = False) -> None:
        super().__init__(layer.weight.contiguous(), layer.bias, post, adds=adds, second=second)
        self.ways: dict[int, str] = {}

    @leaf_forward
    def forward(self, x: Tensor, other: Tensor | None = None, finite: bool = True) -> Tensor:
        """The result, contiguous.

        Args:
            x: of shape ``(..., channels_in)``.
            other: the tensor that is added, of the result's shape.
            finite: see `FusedConv.forward`.
        """
        # A sum whose first term is not contiguous is not contiguous either.
        unlike = self.second and other is not None and not other.is_contiguous()
        if unlike or not self._fits(x, other):
            return self.finish(F.linear(x, self.weight, self.bias), other)
        x, other = x.contiguous(), None if other is None else other.contiguous()
        rows = x.numel() // x.shape[-1]
        way = self.ways.get(rows, self.ways.get(ALL_ROWS)) if finite else None
        if way is not None:
            return self._packed(way, x, other)
        return self._in_place(x, other)

    def _fits(self, x: Tensor, other: Tensor | None) -> bool:
        """Whether a kernel may take these arguments, once they are contiguous."""
        weight: Any = self._buffers["weight"]
        shape = x.shape
        fits = (
            self.available
            and is_ordinary(x)
            and x.dtype is torch.float is weight.dtype
            and len(shape) > 0
            and shape[-1] == weight.shape[1]
        )
        if not fits or (torch.is_grad_enabled() and not self.usable):
            return False
        return other is None or (
            is_plain_tensor(other)
            and other.dtype is torch.float
            and other.shape == (*shape[:-1], weight.shape[0])
        )

    @property
    def kind_of_trial(self) -> tuple[Any, ...]:
        """See `FusedConv.kind_of_trial`."""
        return self.adds, self.post.name

    def other_ways(self, x: Tensor) -> list[str]:
        """The names of the ways that may compute inputs like this one faster than torch."""
        if not self.available or self.weight.dtype is not torch.float or x.dim() < 2:
            return []
        return linear_ways()

    def expected_gain(self, way: str, x: Tensor) -> float | None:
        """See `FusedConv.expected_gain`."""
        fills = min(self.weight.shape) >= _WIDE and x.numel() >= _ROWS * x.shape[-1]
        return 1.0 if way == COMPILED and fills else None

    def trials(self, x: Tensor, adds: bool) -> dict[str, Callable[[], Tensor]]:
        """Runs of each way to compute inputs like this one; torch's is called `DIRECT`."""
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

    def can_compute_in(self, way: str) -> bool:
        """See `FusedConv.can_compute_in`."""
        return way in (INT8, BFLOAT16) and self.available and self.weight.dtype is torch.float

    def trial_of(
        self, way: str, x: Tensor, adds: bool
    ) -> tuple[Callable[[], Tensor], Callable[[], Tensor]]:
        """See `FusedConv.trial_of`."""
        x = x.contiguous()
        other = torch.zeros(*x.shape[:-1], self.weight.shape[0]) if adds else None
        known = self.ways.get(x.numel() // x.shape[-1], self.ways.get(ALL_ROWS))
        now = self._in_place if known is None else functools.partial(self._packed, known)
        return functools.partial(now, x, other), functools.partial(self._packed, way, x, other)

    def compute_in(self, way: str) -> None:
        """See `FusedConv.compute_in`."""
        self.ways = {ALL_ROWS: way}

    def choose(self, shape: torch.Size, way: str) -> None:
        """Compute inputs of this shape in this way from now on."""
        rows = ALL_ROWS if way in FOR_ALL_ROWS else shape.numel() // shape[-1]
        self.ways.pop(rows, None)
        if way != DIRECT:
            self.ways[rows] = way

    def get_ready(self, x: Tensor) -> None:
        """See `FusedConv.get_ready`."""
        if self._fits(x, None):
            rows = x.numel() // x.shape[-1]
            way = self.ways.get(rows, self.ways.get(ALL_ROWS))
            if way is not None:
                self.kernel(_key(way, rows))

    def _make(self, key: Any) -> Kernel:
        """A kernel for a way and a number of rows."""
        way, rows = key
        return make_linear_kernel(way, self.weight, self.bias, self.post, rows)

    def _in_place(self, x: Tensor, other: Tensor | None) -> Tensor:
        """The result by torch's operators; each of them writes to the memory of the product."""
        result = F.linear(x, self.weight, self.bias)
        return self.post.apply_to(result if other is None else result.add_(other))

    def _packed(self, way: str, x: Tensor, other: Tensor | None) -> Tensor:
        return self.kernel(_key(way, x.numel() // x.shape[-1]))(x, other, False)

    def describe(self) -> dict[str, Any]:
        """The module as plain data, without its tensors."""
        return {
            "adds": self.adds,
            "second": self.second,
            "post": self.post.describe(),
            "ways": [[rows, way] for rows, way in self.ways.items()],
        }

    def extra_repr(self) -> str:
        """The text in the module's `repr`."""
        return f"{tuple(self.weight.shape)}, adds={self.adds}, post={self.post!r}"
