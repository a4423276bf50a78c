"""Ways to compute one convolution, with its weight packed ahead for one shape of input."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from symfx.optimization.graphs.layers import MaxPool
from symfx.optimization.runtime.tensors import packed_alike
from symfx.optimization.runtime.winograd import Winograd

__all__ = [
    "ALGORITHMS",
    "BLOCKED",
    "DIRECT",
    "FEW",
    "REFERENCES",
    "SCALARS",
    "WINOGRAD",
    "Direct",
    "Form",
    "Kernel",
    "PostOp",
    "is_way",
    "make_kernel",
    "other_ways",
]

#: The names of the ways.
DIRECT, BLOCKED, WINOGRAD = "direct", "blocked", "winograd"
#: From how many channels on Winograd's algorithm has ever been the faster.
_MANY = 32
#: Up to how many input channels oneDNN's kernels for channels last leave lanes empty.
FEW = 4


#: What oneDNN's activations compute, by name, given their numbers and algorithm.
REFERENCES: dict[str, Callable[[tuple[float, ...], str], Callable[[Tensor], Tensor] | None]] = {
    "none": lambda scalars, algorithm: None,
    "relu": lambda scalars, algorithm: torch.relu,
    "sigmoid": lambda scalars, algorithm: torch.sigmoid,
    "tanh": lambda scalars, algorithm: torch.tanh,
    "swish": lambda scalars, algorithm: F.silu,
    "hardswish": lambda scalars, algorithm: F.hardswish,
    "hardsigmoid": lambda scalars, algorithm: F.hardsigmoid,
    "hardtanh": lambda scalars, algorithm: lambda x: F.hardtanh(x, scalars[0], scalars[1]),
    "leaky_relu": lambda scalars, algorithm: lambda x: F.leaky_relu(x, scalars[0]),
    "gelu": lambda scalars, algorithm: lambda x: F.gelu(x, approximate=algorithm),
}
#: How many numbers each of them has, if any, and which kinds there are of it, if several.
SCALARS = {"hardtanh": 2, "leaky_relu": 1}
ALGORITHMS = {"gelu": ("none", "tanh")}


#: Those that torch can write to their argument's memory: asking for new memory takes time too.
_INPLACE: dict[str, Callable[[Tensor, str], Tensor]] = {
    "relu": lambda x, algorithm: x.relu_(),
    "sigmoid": lambda x, algorithm: x.sigmoid_(),
    "tanh": lambda x, algorithm: x.tanh_(),
    "swish": lambda x, algorithm: F.silu(x, inplace=True),
    "hardswish": lambda x, algorithm: F.hardswish(x, inplace=True),
    "gelu": lambda x, algorithm: torch.ops.aten.gelu_(x, approximate=algorithm),
}


class PostOp:
    """What is done to each element of the result: an activation, or nothing.

    Args:
        name: oneDNN's name for the activation; ``"none"`` for nothing.
        scalars: its numbers.
        algorithm: which of its kinds, where it has several.

    Attributes:
        function: the same for a tensor; None for nothing.
    """

    def __init__(self, name: str, scalars: Sequence[float] = (), algorithm: str = "") -> None:
        self.name, self.scalars, self.algorithm = name, list(scalars), algorithm
        self.function = REFERENCES[name](tuple(scalars), algorithm)

    def __reduce__(self) -> tuple[Any, ...]:
        return PostOp, (self.name, self.scalars, self.algorithm)

    def on(self, x: Tensor) -> Tensor:
        """Applied to a tensor that nobody else holds."""
        inplace: Any = _INPLACE.get(self.name)
        if inplace is not None:
            return cast("Tensor", inplace(x, self.algorithm))
        return self.function(x) if self.function else x

    def describe(self) -> dict[str, Any]:
        """All of it as plain data."""
        return {"name": self.name, "scalars": self.scalars, "algorithm": self.algorithm}

    def __repr__(self) -> str:
        return " ".join([self.name, *map(str, self.scalars), self.algorithm]).strip()


@dataclass(frozen=True)
class Form:
    """A convolution with what follows it.

    Attributes:
        weight: as torch lays it out.
        bias: of shape ``(channels_out,)``, or None.
        stride, padding, dilation, output_padding: one number for each spatial dimension.
        groups: into how many groups the channels fall.
        transposed: is it a transposed convolution?
        post: what is done to each element.
        pool: the max-pooling behind it, or None.
    """

    weight: Tensor
    bias: Tensor | None
    stride: list[int]
    padding: list[int]
    dilation: list[int]
    output_padding: list[int]
    groups: int
    transposed: bool
    post: PostOp
    pool: MaxPool | None

    @property
    def format(self) -> torch.memory_format:
        """Channels last, for this many dimensions."""
        return torch.channels_last if self.weight.ndim == 4 else torch.channels_last_3d

    def pack(self, shape: Sequence[int]) -> Tensor:
        """The weight in the layout that oneDNN's kernel for this shape of input wants."""
        places = self.padding, self.stride, self.dilation, self.groups, list(shape)
        if self.transposed:
            found: Tensor = torch.ops.mkldnn._reorder_convolution_transpose_weight(
                self.weight.contiguous(), self.padding, self.output_padding, *places[1:]
            )
            return found
        nn_: Any = torch._C._nn
        two = self.weight.ndim == 4
        pack = nn_.mkldnn_reorder_conv2d_weight if two else nn_.mkldnn_reorder_conv3d_weight
        packed: Tensor = pack(self.weight.contiguous().to_mkldnn(), *places)
        return packed


class Kernel(Protocol):
    """What computes a convolution for one shape of input."""

    def __call__(self, x: Tensor, other: Tensor | None, accumulate: bool) -> Tensor:
        """The result, channels last in memory.

        Args:
            x: what is convolved.
            other: what is added to the result.
            accumulate: may ``other`` be written to?
        """
        ...


class Direct:
    """oneDNN's fused operator.

    Args:
        form: the convolution.
        shape: of the input.
        known: kernels of the same convolution, for other shapes. Different shapes want their
            weights in different layouts, and from one of those to another oneDNN only knows a
            slow way; so each shape has its own, and those that are alike are one tensor.
    """

    def __init__(self, form: Form, shape: Sequence[int], known: Sequence[Kernel]) -> None:
        self.form = form
        packed = form.pack(shape)
        same = (k.packed for k in known if isinstance(k, Direct) and packed_alike(k.packed, packed))
        self.packed: Tensor = next(same, packed)
        self._format = form.format
        ops, post = torch.ops.mkldnn, form.post
        padding = [form.padding, form.output_padding] if form.transposed else [form.padding]
        places = form.bias, *padding, form.stride, form.dilation, form.groups
        self._operator = (
            ops._convolution_transpose_pointwise if form.transposed else ops._convolution_pointwise
        ).default
        self._alone = *places, post.name, post.scalars, post.algorithm
        after = None if post.name == "none" else post.name, post.scalars, post.algorithm
        self._added = *places, "add", None, *after

    def __call__(self, x: Tensor, other: Tensor | None, accumulate: bool) -> Tensor:
        """See `Kernel`."""
        x = x.contiguous(memory_format=self._format)
        result: Tensor
        if other is None:
            result = self._operator(x, self.packed, *self._alone)
        elif accumulate and other.is_contiguous(memory_format=self._format):
            operator = torch.ops.mkldnn._convolution_pointwise_.binary
            result = operator(other, x, self.packed, *self._added)
        else:
            other = other.contiguous(memory_format=self._format)
            operator = torch.ops.mkldnn._convolution_pointwise.binary
            result = operator(x, other, self.packed, *self._added)
        return self.form.pool.function(result) if self.form.pool else result


class _Tiles:
    """Winograd's algorithm."""

    def __init__(self, form: Form, shape: Sequence[int], known: Sequence[Kernel]) -> None:
        self.post = form.post
        others = [kernel.run for kernel in known if isinstance(kernel, _Tiles)]
        self.run: Winograd = Winograd(form.weight, form.bias, form.padding, shape, others)

    def __call__(self, x: Tensor, other: Tensor | None, accumulate: bool) -> Tensor:
        result = self.run(x.contiguous(memory_format=torch.channels_last))
        if other is not None:
            result.add_(other)
        return self.post.on(result)


class _Blocked:
    """oneDNN's own layout from the image to the pooled result, which is small enough to convert.

    For few input channels its kernels that write this layout are much faster than those that
    write channels last. The activation comes last: `other_ways` sees to it that it may.
    """

    def __init__(self, form: Form, shape: Sequence[int], known: Sequence[Kernel]) -> None:
        self.form = form
        self.packed = form.pack(shape)
        self.bias = None if form.bias is None else form.bias.to_mkldnn()

    def __call__(self, x: Tensor, other: Tensor | None, accumulate: bool) -> Tensor:
        form = self.form
        assert form.pool is not None
        y = torch.mkldnn_convolution(
            x.contiguous().to_mkldnn(),
            self.packed,
            self.bias,
            form.padding,
            form.stride,
            form.dilation,
            form.groups,
        )
        pooled: Tensor = form.pool.function(y).to_dense()
        return form.post.on(pooled).contiguous(memory_format=torch.channels_last)


def other_ways(form: Form, shape: Sequence[int]) -> list[str]:
    """The names of the ways to compute inputs of this shape that may be faster than `DIRECT`."""
    weight = form.weight
    if form.transposed or weight.ndim != 4 or form.groups != 1 or form.dilation != [1, 1]:
        return []
    if form.pool is not None:
        return [BLOCKED] if weight.shape[1] <= FEW and form.post.name in ("none", "relu") else []
    if weight.shape[2:] != (3, 3) or form.stride != [1, 1] or min(weight.shape[:2]) < _MANY:
        return []
    sizes = [size + 2 * pad - 2 for size, pad in zip(shape[2:], form.padding, strict=True)]
    return [WINOGRAD] if min(sizes) >= 4 else []


def is_way(way: str, form: Form, shape: Sequence[int]) -> bool:
    """Is this the name of a way to compute inputs of this shape?"""
    return len(shape) == form.weight.ndim and way in (DIRECT, *other_ways(form, shape))


_MAKERS: dict[str, Callable[[Form, Sequence[int], Sequence[Kernel]], Kernel]] = {
    DIRECT: Direct,
    BLOCKED: _Blocked,
    WINOGRAD: _Tiles,
}


def make_kernel(way: str, form: Form, shape: Sequence[int], known: Sequence[Kernel]) -> Kernel:
    """A kernel for inputs of this shape.

    Args:
        way: `DIRECT` or one of `other_ways`.
        form: the convolution.
        shape: of the input.
        known: kernels of the same convolution for other shapes, to share what is packed alike.

    Raises:
        KeyError: there is no such way.
    """
    return _MAKERS[way](form, shape, known)
