"""A convolution with the sum, activation and pooling behind it as one of oneDNN's operators.

A fused operator runs where it is known to be right: on plain dense CPU tensors of the dtype and
rank that it was made for, in inference. Everywhere else (gradients, autocast, fake tensors,
export, functorch, empty batches) the module runs torch's ordinary operators.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from symfx.optimization.runtime.activations import PostOp
from symfx.optimization.runtime.conv_form import ConvForm, Kernel
from symfx.optimization.runtime.conv_kernels import (
    BFLOAT16,
    DIRECT,
    FEW,
    expected_gain,
    known_ways,
    make_kernel,
    other_ways,
)
from symfx.optimization.runtime.layers import Layer, MaxPool
from symfx.optimization.runtime.leaf_calls import leaf_forward
from symfx.optimization.runtime.packed_layer import PackedLayer
from symfx.optimization.runtime.tensor_checks import is_channels_last, is_ordinary

__all__ = ["ALL_SHAPES", "FUNCTIONS", "FusedConv"]

#: Torch's own functions, by the number of spatial dimensions and whether it is transposed.
FUNCTIONS: dict[tuple[int, bool], Callable[..., Tensor]] = {
    (1, False): F.conv1d,
    (2, False): F.conv2d,
    (3, False): F.conv3d,
    (2, True): F.conv_transpose2d,
}
_FORMATS = {2: torch.channels_last, 3: torch.channels_last_3d}


ALL_SHAPES = ()
"""The shape in `FusedConv.ways` that stands for all: the module computes them in another dtype."""


class FusedConv(PackedLayer):
    """A convolution, the addition of a second argument, an activation and a pooling in one.

    Args:
        layer: the convolution.
        post: the activation behind it.
        adds: see `PackedLayer`.
        second: see `PackedLayer`.
        pool: the max-pooling behind ``post``, or None.

    Attributes:
        accumulates: the sum may be written to the second argument's memory.
        last: the layer's weight was channels last in memory, and so were the original's results.
        ways: the name of the way for a shape of input, where it is not ``"direct"``. A compiled
            kernel takes other shapes too, with the same packed weight.
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
        self._dtype: torch.dtype | None = torch.float  # the dtype of the operator

    accumulates: bool

    @property
    def loses_nan(self) -> bool:
        """Whether the operator returns numbers for NaN."""
        return super().loses_nan or self.pool is not None

    @leaf_forward
    def forward(self, x: Tensor, other: Tensor | None = None, finite: bool = True) -> Tensor:
        """The result, channels last in memory.

        Args:
            x: of shape ``(batch, channels_in, ...)``.
            other: the tensor that is added, of the result's shape.
            finite: no argument has NaN or infinities. Some of oneDNN's operators treat NaN as
                zero, so they run only on finite numbers.
        """
        if not (finite and self._fits(x, other)):
            return self.plainly(x, other)
        if self.rank == 1:
            x = self._as_image(x)
            other = None if other is None else other.unsqueeze(2)
        result = self.kernel(x.shape)(x, other, self.accumulates)
        return result.squeeze(2) if self.rank == 1 else result

    def _fits(self, x: Tensor, other: Tensor | None) -> bool:
        """Whether a kernel may take these arguments."""
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

    def plainly(self, x: Tensor, other: Tensor | None) -> Tensor:
        """The result by torch's ordinary operators."""
        function = FUNCTIONS[self.rank, self.transposed]
        weight = self.weight
        if self.rank > 1 and torch._C._functorch.peek_interpreter_stack() is None:
            # The layout of torch's result follows the input and the weight.
            weight = weight.contiguous(memory_format=_FORMATS[self.rank])
        before = self.bias, self.stride, self.padding
        if self.transposed:
            result = function(x, weight, *before, self.output_padding, self.groups, self.dilation)
        else:
            result = function(x, weight, *before, self.dilation, self.groups)
        result = self.finish(result, other)
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

    def form(self) -> ConvForm:
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
        return ConvForm(
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
        """Pack the weight for such an input now, and not at the first run."""
        if self._fits(x, None):
            self.kernel(self._as_image(x).shape)

    def _as_image(self, x: Tensor) -> Tensor:
        """The input; a line is an image with one row."""
        return x.unsqueeze(2) if self.rank == 1 and x.dim() == 3 else x

    def _make(self, key: Any) -> Kernel:
        """A kernel for inputs of a shape."""
        known = list(self._kernels.values())
        form = self.form()
        way = self.ways.get(ALL_SHAPES) or self.ways.get(tuple(key))
        if way is None:
            way = next(iter(known_ways(self.ways.values(), form, key)), DIRECT)
        return make_kernel(way, form, key, known)

    def compute_in(self, way: str) -> None:
        """Compute inputs of all shapes in another dtype from now on: in the way of that name."""
        self.ways = {ALL_SHAPES: way}
        self._kernels.clear()

    def can_compute_in(self, way: str) -> bool:
        """Whether the layer can run in another dtype: in the way of that name."""
        return way == BFLOAT16 and self.available and self._dtype is not None

    def trial_of(
        self, way: str, x: Tensor, adds: bool
    ) -> tuple[Callable[[], Tensor], Callable[[], Tensor]]:
        """Runs on inputs like this one: as the layer computes now, and in the way of that name."""
        x = self._as_image(x)
        now = self.kernel(x.shape)
        other = torch.zeros_like(now(x, None, False)) if adds else None
        then = make_kernel(way, self.form(), x.shape, ())
        return functools.partial(now, x, other, False), functools.partial(then, x, other, False)

    @property
    def kind_of_trial(self) -> tuple[Any, ...]:
        """A key: modules of the same sizes and the same key have the same fastest way."""
        places = self.stride, self.padding, self.dilation, self.groups, self.transposed, self.pool
        return (*map(repr, places), self.post.name == "none")

    def other_ways(self, x: Tensor) -> list[str]:
        """The names of the ways that may compute inputs like this one faster than `DIRECT`."""
        if not (self.available and self.rank < 3 and self._dtype is not None):
            return []
        return other_ways(self.form(), self._as_image(x).shape)

    def expected_gain(self, way: str, x: Tensor) -> float | None:
        """How many times as fast as `DIRECT` a way should be; None where only a trial can tell."""
        return expected_gain(way, self.form(), self._as_image(x).shape)

    def trials(self, x: Tensor, adds: bool) -> dict[str, Callable[[], Tensor]]:
        """Runs of each way to compute inputs like this one, `DIRECT` first.

        A kernel is made when it is first run.
        """
        names = self.other_ways(x)
        if not names:
            return {}
        form, x = self.form(), self._as_image(x)
        shape = x.shape
        direct = self.kernel(shape)
        few = self.pool is not None or form.weight.shape[1] <= FEW  # an input of the graph
        x = x if few else x.contiguous(memory_format=form.format)
        other = torch.zeros_like(direct(x, None, False)) if adds else None
        makers = {DIRECT: lambda: direct}
        makers |= {name: functools.partial(make_kernel, name, form, shape, ()) for name in names}

        def run(make: Callable[[], Kernel]) -> Callable[[], Tensor]:
            kernel = functools.cache(make)
            return lambda: kernel()(x, other, False)

        return {name: run(make) for name, make in makers.items()}

    def choose(self, shape: torch.Size, way: str) -> None:
        """Compute inputs of this shape in this way from now on."""
        if self.rank == 1 and len(shape) == 3:
            shape = torch.Size([*shape[:2], 1, shape[2]])
        self._kernels.pop(shape, None)
        self.ways.pop(tuple(shape), None)
        if way != DIRECT:
            self.ways[tuple(shape)] = way

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
        super()._apply(fn, recurse)
        self._dtype = self.weight.dtype if self.weight.dtype is torch.float else None
        return self

    def describe(self) -> dict[str, Any]:
        """The module as plain data, without its tensors."""
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
        """The text in the module's `repr`."""
        kind = "transposed, " if self.transposed else ""
        pool = f", pool={self.pool.kernel}" if self.pool else ""
        return f"{kind}{tuple(self.weight.shape)}, adds={self.adds}, post={self.post!r}{pool}"


def _padding(layer: Layer) -> list[int]:
    """The padding as numbers; `can_fuse` refuses padding that differs between two sides."""
    padding = layer.options["padding"]
    if not isinstance(padding, str):
        return list(padding)
    if padding == "valid":
        return [0] * layer.dimensions
    kernel, dilation = layer.weight.shape[2:], layer.options["dilation"]
    return [d * (k - 1) // 2 for k, d in zip(kernel, dilation, strict=True)]
