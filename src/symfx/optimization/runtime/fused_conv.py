"""oneDNN's fused operators as modules: a convolution with what follows it, weights packed ahead.

A fused operator runs where it is known to be right: plain dense CPU tensors of the dtype and rank
it was made for, in inference. Everywhere else (gradients, autocast, fake tensors, export,
functorch, empty batches) the module computes the same from ordinary operators.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from symfx.optimization.graphs.effects import one_call
from symfx.optimization.graphs.layers import Layer, MaxPool
from symfx.optimization.runtime.kernels import DIRECT, Form, Kernel, PostOp, make_kernel, other_ways
from symfx.optimization.runtime.packed import Packed
from symfx.optimization.runtime.tensors import is_channels_last, is_ordinary

__all__ = ["FUNCTIONS", "FusedConv"]

#: Torch's own functions, by the number of spatial dimensions and whether they are transposed.
FUNCTIONS: dict[tuple[int, bool], Callable[..., Tensor]] = {
    (1, False): F.conv1d,
    (2, False): F.conv2d,
    (3, False): F.conv3d,
    (2, True): F.conv_transpose2d,
}
_FORMATS = {2: torch.channels_last, 3: torch.channels_last_3d}


class FusedConv(Packed):
    """A convolution, what is added to its result, an activation and a pooling, as one operator.

    Args:
        layer: the convolution.
        post: what follows.
        adds: is a second argument added before ``post``?
        second: see `Packed`.
        pool: the max-pooling behind ``post``, if there is one.

    Attributes:
        accumulates: may the sum be written to the second argument's memory?
        last: was the layer's weight channels last in memory, as its results are then?
        ways: how inputs of a shape are computed, by name, where that is not ``"direct"``.
    """

    def __init__(
        self,
        layer: Layer,
        post: PostOp,
        *,
        adds: bool,
        second: bool = False,
        pool: MaxPool | None = None,
    ) -> None:
        super().__init__(layer.weight, layer.bias, post, adds=adds, second=second)
        self.last = is_channels_last(layer.weight)
        self.pool = pool
        self.accumulates = False
        self.kind = layer.kind
        self.transposed, self.rank = layer.transposed, layer.dimensions
        options = layer.options
        self.stride, self.dilation = list(options["stride"]), list(options["dilation"])
        self.groups = options["groups"]
        self.padding = _padding(layer)
        self.output_padding = list(options.get("output_padding", [0] * self.rank))
        self.channels = layer.channels
        self.ways: dict[tuple[int, ...], str] = {}
        self._dtype: torch.dtype | None = torch.float  # that of the operator

    accumulates: bool

    @property
    def loses_nan(self) -> bool:
        """Does the operator give numbers for NaN?"""
        return super().loses_nan or self.pool is not None

    @one_call
    def forward(self, x: Tensor, other: Tensor | None = None, finite: bool = True) -> Tensor:
        """The result, channels last in memory.

        Args:
            x: of shape ``(batch, channels_in, ...)``.
            other: what is added, of the result's shape.
            finite: are there only ordinary numbers in what comes in? oneDNN's operators take
                NaN for zero in places, and do not run where there may be any.
        """
        if not (finite and self._fits(x, other)):
            return self._plainly(x, other)
        if self.rank == 1:  # a line is an image with one row
            x = x.unsqueeze(2)
            other = None if other is None else other.unsqueeze(2)
        result = self.kernel(x.shape)(x, other, self.accumulates)
        return result.squeeze(2) if self.rank == 1 else result

    def _fits(self, x: Tensor, other: Tensor | None) -> bool:
        """Can the operator take these?"""
        return (
            self.usable
            and x.dim() == self.rank + 2
            and x.dtype is self._dtype
            and is_ordinary(x)
            and (
                other is None
                or (
                    other.dtype is self._dtype
                    and other.shape == self._shape_of_result(x.shape)
                    and is_ordinary(other)
                )
            )
        )

    def _plainly(self, x: Tensor, other: Tensor | None) -> Tensor:
        function = FUNCTIONS[self.rank, self.transposed]
        weight = self.weight
        if self.rank > 1 and torch._C._functorch.peek_interpreter_stack() is None:
            # Torch's results are laid out as one of the two is.
            weight = weight.contiguous(memory_format=_FORMATS[self.rank])
        if self.transposed:
            result = function(
                x,
                weight,
                self.bias,
                self.stride,
                self.padding,
                self.output_padding,
                self.groups,
                self.dilation,
            )
        else:
            result = function(
                x, weight, self.bias, self.stride, self.padding, self.dilation, self.groups
            )
        if other is not None:
            result = other + result if self.second else result + other
        result = self.post.function(result) if self.post.function else result
        return self.pool.function(result) if self.pool else result

    def _shape_of_result(self, shape: torch.Size) -> tuple[int, ...]:
        kernel = self.weight.shape[2:]
        sizes = [
            (size + 2 * pad - dilation * (k - 1) - 1) // stride + 1
            for size, pad, dilation, k, stride in zip(
                shape[2:], self.padding, self.dilation, kernel, self.stride, strict=True
            )
        ]
        return (shape[0], self.channels, *sizes)

    def form(self) -> Form:
        """The convolution as kernels take it."""
        flat = self.rank == 1
        front = [[1], [0], [1], [0]] if flat else [[]] * 4
        stride, padding, dilation, output_padding = (
            before + given
            for before, given in zip(
                front, (self.stride, self.padding, self.dilation, self.output_padding), strict=True
            )
        )
        weight = self.weight.unsqueeze(2) if flat else self.weight
        return Form(
            weight,
            self.bias,
            stride,
            padding,
            dilation,
            output_padding,
            self.groups,
            self.transposed,
            self.post,
            self.pool,
        )

    def get_ready(self, x: Tensor) -> None:
        """Do now what the first run on such an input would have to do first."""
        if self._fits(x, None):
            self.kernel(x.unsqueeze(2).shape if self.rank == 1 else x.shape)

    def _make(self, key: Any) -> Kernel:
        """A kernel for inputs of a shape."""
        known = list(self._kernels.values())
        return make_kernel(self.ways.get(tuple(key), DIRECT), self.form(), key, known)

    @property
    def kind_of_trial(self) -> tuple[Any, ...]:
        """Operators of which this is the same are alike as to which way is the fastest."""
        places = self.stride, self.padding, self.dilation, self.groups, self.transposed, self.pool
        return (*map(repr, places), self.post.name == "none")

    def other_ways(self, x: Tensor) -> list[str]:
        """The names of the ways to compute inputs like this one that may beat `DIRECT`."""
        if not (self.available and self.rank == 2 and self._dtype is not None):
            return []
        return other_ways(self.form(), x.shape)

    def trials(self, x: Tensor, adds: bool) -> dict[str, Callable[[], Tensor]]:
        """Runs of each way to compute inputs like this one, `DIRECT` first.

        A kernel is made when it is first run.
        """
        names = self.other_ways(x)
        if not names:
            return {}
        form, shape = self.form(), x.shape
        direct = self.kernel(shape)
        x = x if self.pool else x.contiguous(memory_format=form.format)
        other = torch.zeros_like(direct(x, None, False)) if adds else None
        makers = {DIRECT: lambda: direct}
        makers |= {name: functools.partial(make_kernel, name, form, shape, ()) for name in names}

        def run(make: Callable[[], Kernel]) -> Callable[[], Tensor]:
            kernel = functools.cache(make)
            return lambda: kernel()(x, other, False)

        return {name: run(make) for name, make in makers.items()}

    def choose(self, shape: torch.Size, way: str) -> None:
        """Compute inputs of this shape in this way from now on."""
        self._kernels.pop(shape, None)
        self.ways.pop(tuple(shape), None)
        if way != DIRECT:
            self.ways[tuple(shape)] = way

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
        super()._apply(fn, recurse)
        self._dtype = self.weight.dtype if self.weight.dtype is torch.float else None
        return self

    def describe(self) -> dict[str, Any]:
        """All of it but its tensors, as plain data."""
        return {
            "kind": self.kind.__name__,
            "stride": self.stride,
            "padding": self.padding,
            "dilation": self.dilation,
            "output_padding": self.output_padding,
            "groups": self.groups,
            "adds": self.adds,
            "second": self.second,
            "accumulates": self.accumulates,
            "post": self.post.describe(),
            "pool": None if self.pool is None else self.pool.describe(),
            "ways": [[list(shape), way] for shape, way in self.ways.items()],
        }

    def extra_repr(self) -> str:
        """What `repr` shows of it."""
        kind = "transposed, " if self.transposed else ""
        pool = f", pool={self.pool.kernel}" if self.pool else ""
        return f"{kind}{tuple(self.weight.shape)}, adds={self.adds}, post={self.post!r}{pool}"


def _padding(layer: Layer) -> list[int]:
    """The padding as numbers; `can_fuse` has seen to it that these are the same on both sides."""
    padding = layer.options["padding"]
    if not isinstance(padding, str):
        return list(padding)
    if padding == "valid":
        return [0] * layer.dimensions
    kernel, dilation = layer.weight.shape[2:], layer.options["dilation"]
    return [d * (k - 1) // 2 for k, d in zip(kernel, dilation, strict=True)]
