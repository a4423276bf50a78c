"""oneDNN's fused operators as modules: a convolution with what follows it, weights packed ahead.

A fused operator runs where it is known to be right: plain dense CPU tensors of the dtype and rank
it was made for, in inference. Everywhere else (gradients, autocast, fake tensors, export,
functorch, empty batches) the module computes the same from ordinary operators.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from symfx.optimization.effects import Effect, one_node
from symfx.optimization.kernels import (
    DIRECT,
    FEW,
    Direct,
    Form,
    Kernel,
    PostOp,
    make_kernel,
    other_ways,
)
from symfx.optimization.reading import Activation, Layer, MaxPool

__all__ = [
    "FusedConv",
    "FusedLinear",
    "all_finite",
    "can_fuse",
    "is_channels_last",
    "may_pool",
    "post_op",
]

#: For how many shapes of the input a layer remembers its packed weight.
_REMEMBERED = 64
_FUNCTIONS: dict[tuple[int, bool], Callable[..., Tensor]] = {
    (1, False): F.conv1d,
    (2, False): F.conv2d,
    (3, False): F.conv3d,
    (2, True): F.conv_transpose2d,
}
_FORMATS = {2: torch.channels_last, 3: torch.channels_last_3d}


def _ordinary(x: Tensor) -> bool:
    """Is this call plain inference on a plain tensor, with nobody tracing or transforming it?"""
    return (
        type(x) is Tensor
        and x.device.type == "cpu"
        and x.layout is torch.strided
        and x.numel() > 0
        and not (torch.is_grad_enabled() and x.requires_grad)
        and not torch.is_autocast_enabled("cpu")
        and torch._C._len_torch_dispatch_stack() == 0
        and torch._C._functorch.peek_interpreter_stack() is None
        and not torch.compiler.is_compiling()
        and torch._C._get_tracing_state() is None
    )


def is_channels_last(x: Tensor) -> bool:
    """Does torch take this tensor for one that is channels last in memory?

    Torch asks the strides, dimension by dimension from the innermost; those that dimensions of
    size one have count too, and what remains open is no channels last.
    """
    if x.dim() not in (4, 5) or not x.numel() or x.stride(1) == 0:
        return False
    least = 0
    for dimension in (1, *range(x.dim() - 1, 1, -1), 0):
        stride = x.stride(dimension)
        if stride < least or (dimension == 0 and least == x.stride(1)):
            return False
        least = stride * max(x.shape[dimension], 1)
    return True


@one_node(Effect.FRESH)
def all_finite(*values: Any) -> bool:
    """Is each tensor free of NaN and infinities? Yes for those that nobody computes with now."""
    for value in values:
        looked_at = isinstance(value, Tensor) and _ordinary(value) and value.is_floating_point()
        # A sum is off the finite numbers if a term is, and reads the tensor but once.
        if looked_at and not math.isfinite(float(value.detach().sum())):
            return False
    return True


#: The name of the way of linear layers that is not torch's.
CONVOLUTION = "as a 1x1 convolution"
#: The activations of oneDNN that give a number for NaN.
_LOSES_NAN = frozenset({"relu", "hardtanh", "hardsigmoid"})


def may_pool(layer: Layer, post: Activation | None) -> bool:
    """Is a pooling behind this layer part of its operator?"""
    few = layer.kind is nn.Conv2d and layer.channels_in <= FEW
    return few and (post is None or post.name == "relu")


class FusedConv(nn.Module):
    """A convolution, what is added to its result, an activation and a pooling, as one operator.

    Args:
        layer: the convolution.
        post: what follows.
        adds: is a second argument added before ``post``?
        second: is what the layer computes the second term of that sum? The strides of a sum
            depend on it where those of its terms differ.
        pool: the max-pooling behind ``post``, if there is one.

    Attributes:
        accumulates: may the sum be written to the second argument's memory?
        available: does this machine's torch have the operator?
        last: was the layer's weight channels last in memory, as its results are then?
        ways: how inputs of a shape are computed, by name, where that is not ``"direct"``.
    """

    symfx_effect = Effect.FRESH

    def __init__(
        self,
        layer: Layer,
        post: PostOp,
        *,
        adds: bool,
        second: bool = False,
        pool: MaxPool | None = None,
    ) -> None:
        super().__init__()
        rank = layer.dimensions
        weight = layer.weight.detach()
        self.last = is_channels_last(weight)
        self.register_buffer("weight", weight)
        self.register_buffer("bias", None if layer.bias is None else layer.bias.detach())
        self.post, self.adds, self.second, self.pool = post, adds, second, pool
        self.accumulates = False
        self.available = True
        self.kind = layer.kind
        self.transposed, self.rank = layer.transposed, rank
        options = layer.options
        self.stride, self.dilation = list(options["stride"]), list(options["dilation"])
        self.groups = options["groups"]
        self.padding = _padding(layer)
        self.output_padding = list(options.get("output_padding", [0] * rank))
        self.channels = layer.channels
        self.ways: dict[tuple[int, ...], str] = {}
        self._dtype: torch.dtype | None = torch.float  # that of the operator
        self._kernels: dict[torch.Size, Kernel] = {}

    weight: Tensor
    bias: Tensor | None
    accumulates: bool
    available: bool

    @property
    def loses_nan(self) -> bool:
        """Does the operator give numbers for NaN?"""
        return self.post.name in _LOSES_NAN or self.pool is not None

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
        kernel = self._kernels.get(x.shape) or self.prepare(x.shape)
        result = kernel(x, other, self.accumulates)
        return result.squeeze(2) if self.rank == 1 else result

    def _fits(self, x: Tensor, other: Tensor | None) -> bool:
        """Can the operator take these?"""
        return (
            self.available
            and x.dim() == self.rank + 2
            and x.dtype is self._dtype
            and _ordinary(x)
            and (
                other is None
                or (
                    other.dtype is self._dtype
                    and other.shape == self._shape_of_result(x.shape)
                    and _ordinary(other)
                )
            )
        )

    def _plainly(self, x: Tensor, other: Tensor | None) -> Tensor:
        function = _FUNCTIONS[self.rank, self.transposed]
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
            self.prepare(x.unsqueeze(2).shape if self.rank == 1 else x.shape)

    def prepare(self, shape: torch.Size) -> Kernel:
        """The kernel for inputs of a shape, with its weights packed."""
        if shape in self._kernels:
            return self._kernels[shape]
        while len(self._kernels) >= _REMEMBERED:
            self._kernels.pop(next(iter(self._kernels)), None)
        known = [k.packed for k in self._kernels.values() if isinstance(k, Direct)]
        form = self.form()
        kernel = make_kernel(self.ways.get(tuple(shape), DIRECT), form, shape, known)
        self._kernels[shape] = kernel
        return kernel

    @property
    def kind_of_trial(self) -> tuple[Any, ...]:
        """Operators of which this is the same are alike as to which way is the fastest."""
        places = self.stride, self.padding, self.dilation, self.groups, self.transposed, self.pool
        return (*map(repr, places), self.post.name == "none")

    def trials(self, x: Tensor, adds: bool) -> dict[str, Callable[[], Tensor]]:
        """Runs of each way to compute inputs like this one, `DIRECT` first.

        A kernel is made when it is first run.
        """
        form, shape = self.form(), x.shape
        names = other_ways(form, shape) if self.available and self.rank == 2 else []
        if not names or self._dtype is None:
            return {}
        direct = self.prepare(shape)
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

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_kernels": {}}  # packed tensors can neither be copied nor stored

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
        self._kernels.clear()
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
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


class FusedLinear(nn.Module):
    """A linear layer, what is added to its result, and an activation, as one operator.

    It runs as torch's own operators do, but for the numbers of rows for which oneDNN's 1x1
    convolution was measured to be faster.

    Args:
        layer: the linear layer.
        post: what follows.
        adds: is a second argument added before ``post``?
        second: is what the layer computes the second term of that sum?

    Attributes:
        available: does this machine's torch have the operator?
        rows: how many rows an input has where oneDNN computes it.
    """

    symfx_effect = Effect.FRESH

    def __init__(self, layer: Layer, post: PostOp, *, adds: bool, second: bool = False) -> None:
        super().__init__()
        self.register_buffer("weight", layer.weight.detach().contiguous())
        self.register_buffer("bias", None if layer.bias is None else layer.bias.detach())
        self.post, self.adds, self.second = post, adds, second
        self.available = True
        self.rows: set[int] = set()
        self._kernels: dict[int, Kernel] = {}

    weight: Tensor
    bias: Tensor | None
    available: bool

    @property
    def loses_nan(self) -> bool:
        """Does the operator give numbers for NaN?"""
        return self.post.name in _LOSES_NAN

    def forward(self, x: Tensor, other: Tensor | None = None, finite: bool = True) -> Tensor:
        """The result, contiguous.

        Args:
            x: of shape ``(..., channels_in)``.
            other: what is added, of the result's shape.
            finite: see `FusedConv.forward`.
        """
        if self.rows and finite and self._fits(x, other):
            return self._by_onednn(x, other)
        return self._by_torch(x, other)

    def _fits(self, x: Tensor, other: Tensor | None) -> bool:
        wide, deep = self.weight.shape
        return (
            self.available
            and x.dtype is torch.float is self.weight.dtype
            and x.numel() // deep in self.rows
            and x.is_contiguous()
            and _ordinary(x)
            and (
                other is None
                or (
                    other.dtype is torch.float
                    and other.shape == (*x.shape[:-1], wide)
                    and other.is_contiguous()
                    and _ordinary(other)
                )
            )
        )

    @property
    def kind_of_trial(self) -> tuple[Any, ...]:
        """See `FusedConv.kind_of_trial`."""
        return self.adds, self.post.name

    def trials(self, x: Tensor, adds: bool) -> dict[str, Callable[[], Tensor]]:
        """As `FusedConv.trials`."""
        if not self.available or self.weight.dtype is not torch.float or x.dim() < 2:
            return {}
        x = x.contiguous()
        other = torch.zeros(*x.shape[:-1], self.weight.shape[0]) if adds else None
        ways = {DIRECT: self._by_torch, CONVOLUTION: self._by_onednn}
        return {name: functools.partial(run, x, other) for name, run in ways.items()}

    def choose(self, shape: torch.Size, way: str) -> None:
        """Compute inputs of this shape in this way from now on."""
        rows = shape.numel() // shape[-1]
        self.rows.discard(rows)
        if way != DIRECT:
            self.rows.add(rows)

    def get_ready(self, x: Tensor) -> None:
        """See `FusedConv.get_ready`."""
        if self._fits(x, None):
            self.prepare(x.shape)

    def prepare(self, shape: torch.Size) -> Kernel:
        """oneDNN's kernel for inputs of a shape, with its weights packed."""
        rows = shape.numel() // shape[-1]
        if rows not in self._kernels:
            self._kernels[rows] = Direct(self._form(), (1, shape[-1], rows, 1))
        return self._kernels[rows]

    def _by_torch(self, x: Tensor, other: Tensor | None) -> Tensor:
        result = F.linear(x, self.weight, self.bias)
        if other is not None:
            result = other + result if self.second else result + other
        return self.post.function(result) if self.post.function else result

    def _by_onednn(self, x: Tensor, other: Tensor | None) -> Tensor:
        wide, deep = self.weight.shape
        rows = x.numel() // deep
        kernel = self.prepare(torch.Size([rows, deep]))
        image = _as_image(x, rows)
        added = None if other is None else _as_image(other, rows)
        result = kernel(image, added, False)
        return result.permute(0, 2, 3, 1).view(*x.shape[:-1], wide)

    def _form(self) -> Form:
        kernel = self.weight.detach()[:, :, None, None]
        ones, zeros = [1, 1], [0, 0]
        return Form(kernel, self.bias, ones, zeros, ones, zeros, 1, False, self.post, None)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_kernels": {}}

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
        self._kernels.clear()
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self

    def describe(self) -> dict[str, Any]:
        """All of it but its tensors, as plain data."""
        return {
            "adds": self.adds,
            "second": self.second,
            "post": self.post.describe(),
            "rows": sorted(self.rows),
        }

    def extra_repr(self) -> str:
        """What `repr` shows of it."""
        return f"{tuple(self.weight.shape)}, adds={self.adds}, post={self.post!r}"


def _as_image(x: Tensor, rows: int) -> Tensor:
    """Rows as the pixels of an image, which is channels last in memory without a copy."""
    return x.view(1, rows, 1, x.shape[-1]).permute(0, 3, 1, 2)


def _padding(layer: Layer) -> list[int]:
    """The padding as numbers; `can_fuse` has seen to it that these are the same on both sides."""
    padding = layer.options["padding"]
    if not isinstance(padding, str):
        return list(padding)
    if padding == "valid":
        return [0] * layer.dimensions
    kernel, dilation = layer.weight.shape[2:], layer.options["dilation"]
    return [d * (k - 1) // 2 for k, d in zip(kernel, dilation, strict=True)]


def can_fuse(layer: Layer, post: PostOp, *, adds: bool) -> str | None:
    """Why a layer and what follows cannot be one operator here; None when they can."""
    # A linear layer is run by the same operator as a convolution of 1x1.
    form = layer.dimensions or (2 if layer.kind is nn.Linear else 0), layer.transposed
    if form not in _FUNCTIONS:
        return f"oneDNN's fused operators take no {layer.kind.__name__}"
    if layer.weight.dtype is not torch.float or layer.weight.device.type != "cpu":
        return "only float32 on the CPU is fused"
    if layer.options.get("padding_mode", "zeros") != "zeros":
        return "it pads with something else than zeros"
    if layer.options.get("padding") == "same" and any(
        d * (k - 1) % 2
        for k, d in zip(layer.weight.shape[2:], layer.options["dilation"], strict=True)
    ):
        return "it pads one side more than the other"
    if layer.bias is not None and layer.bias.dtype is not layer.weight.dtype:
        return "its bias has another dtype"
    if 0 in layer.weight.shape:
        return "its weight is empty"
    name, scalars, algorithm = post.name, tuple(post.scalars), post.algorithm
    if not _works(form, name, scalars, algorithm, adds):
        return f"this build of torch has no fused operator for {name}" + (" of a sum" * adds)
    return None


def post_op(activation: Activation | None) -> PostOp:
    """An activation that was read from a graph, as kernels take it; None is nothing."""
    if activation is None:
        return PostOp("none")
    return PostOp(activation.name, activation.scalars, activation.algorithm)


@functools.cache
def _works(
    form: tuple[int, bool], name: str, scalars: tuple[float, ...], algorithm: str, adds: bool
) -> bool:
    """Does the installed torch have the operator, and does it compute what it should?"""
    if not torch._C._has_mkldnn or not torch.backends.mkldnn.enabled:
        return False
    rank, transposed = form
    if transposed and adds:
        return False
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        weight = torch.randn(4, 4, *[3] * rank)
        options: dict[str, Any] = {
            "stride": (1,) * rank,
            "padding": (1,) * rank,
            "dilation": (1,) * rank,
        }
        kinds: dict[tuple[int, bool], type[nn.Module]] = {
            (1, False): nn.Conv1d,
            (2, False): nn.Conv2d,
            (3, False): nn.Conv3d,
            (2, True): nn.ConvTranspose2d,
        }
        nowhere = fx.Graph().placeholder("x")
        options = {**options, "groups": 1}
        layer = Layer(nowhere, nowhere, kinds[form], weight, torch.randn(4), options)
        module = FusedConv(layer, PostOp(name, scalars, algorithm), adds=adds)
        x = 3 * torch.randn(2, 4, *[6] * rank)
        other = 3 * torch.randn(2, 4, *[6] * rank) if adds else None
        try:
            found = module(x, other)
            expected = module._plainly(x, other)
            module.accumulates = adds
            again = module(x, None if other is None else other.clone())
        except (RuntimeError, AttributeError, NotImplementedError):
            return False
        close = functools.partial(torch.allclose, rtol=1e-3, atol=1e-3)
        return close(found, expected) and close(again, expected)
