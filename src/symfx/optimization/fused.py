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
from torch import Tensor, fx, nn

from symfx.optimization.effects import Effect
from symfx.optimization.reading import Activation, Layer

__all__ = ["FusedConv", "PostOp", "activation_named", "can_fuse"]

#: For how many shapes of the input a layer remembers its packed weight.
_REMEMBERED = 64
_FUNCTIONS: dict[tuple[int, bool], Callable[..., Tensor]] = {
    (2, False): F.conv2d,
    (3, False): F.conv3d,
    (2, True): F.conv_transpose2d,
}
_FORMATS = {2: torch.channels_last, 3: torch.channels_last_3d}


class PostOp:
    """What is done to each element of the result: an activation, or nothing.

    Args:
        activation: as read from a graph; None for nothing.
    """

    def __init__(self, activation: Activation | None) -> None:
        self.name = activation.name if activation else "none"
        self.scalars = list(activation.scalars) if activation else []
        self.algorithm = activation.algorithm if activation else ""
        self.function = activation.function if activation else None

    def __repr__(self) -> str:
        return " ".join([self.name, *map(str, self.scalars), self.algorithm]).strip()


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


class FusedConv(nn.Module):
    """A convolution, what is added to its result, and an activation, as one operator.

    Args:
        layer: the convolution.
        post: what follows.
        adds: is a second argument added before ``post``?

    Attributes:
        accumulates: may the sum be written to the second argument's memory?
        available: does this machine's torch have the operator?
    """

    symfx_effect = Effect.FRESH

    def __init__(self, layer: Layer, post: PostOp, *, adds: bool) -> None:
        super().__init__()
        rank = layer.dimensions
        weight = layer.weight.detach().contiguous(memory_format=_FORMATS[rank])
        self.register_buffer("weight", weight)
        self.register_buffer("bias", None if layer.bias is None else layer.bias.detach())
        self.post, self.adds, self.accumulates = post, adds, False
        self.available = True
        self.kind = layer.kind
        self.transposed, self.rank = layer.transposed, rank
        options = layer.options
        self.stride, self.dilation = list(options["stride"]), list(options["dilation"])
        self.groups = options["groups"]
        self.padding = _padding(layer)
        self.output_padding = list(options.get("output_padding", [0] * rank))
        self.channels = layer.channels
        self._dtype: torch.dtype | None = torch.float  # that of the operator
        self._format = _FORMATS[rank]
        self._packed: dict[torch.Size, Tensor] = {}

    weight: Tensor
    bias: Tensor | None
    accumulates: bool
    available: bool

    def forward(self, x: Tensor, other: Tensor | None = None) -> Tensor:
        """The result, channels last in memory.

        Args:
            x: of shape ``(batch, channels_in, ...)``.
            other: what is added, of the result's shape.
        """
        if (
            not self.available
            or x.dim() != self.rank + 2
            or x.dtype is not self._dtype
            or not _ordinary(x)
        ):
            return self._plainly(x, other)
        x = x.contiguous(memory_format=self._format)
        weight = self._packed.get(x.shape)
        if weight is None:
            weight = self._pack(x.shape)
        post = self.post
        ops = torch.ops.mkldnn
        if self.transposed:
            return ops._convolution_transpose_pointwise(  # type: ignore[no-any-return]
                x,
                weight,
                self.bias,
                self.padding,
                self.output_padding,
                self.stride,
                self.dilation,
                self.groups,
                post.name,
                post.scalars,
                post.algorithm,
            )
        if other is None:
            return ops._convolution_pointwise.default(  # type: ignore[no-any-return]
                x,
                weight,
                self.bias,
                self.padding,
                self.stride,
                self.dilation,
                self.groups,
                post.name,
                post.scalars,
                post.algorithm,
            )
        if (
            other.dtype is not self._dtype
            or other.shape != self._shape_of_result(x.shape)
            or not _ordinary(other)
        ):
            return self._plainly(x, other)
        operator = ops._convolution_pointwise.binary
        rest = "add", None, post.name if post.function else None, post.scalars, post.algorithm
        if self.accumulates and other.is_contiguous(memory_format=self._format):
            operator = ops._convolution_pointwise_.binary
            first, second = other, x
        else:
            first, second = x, other.contiguous(memory_format=self._format)
        return operator(  # type: ignore[no-any-return]
            first,
            second,
            weight,
            self.bias,
            self.padding,
            self.stride,
            self.dilation,
            self.groups,
            *rest,
        )

    def _plainly(self, x: Tensor, other: Tensor | None) -> Tensor:
        function = _FUNCTIONS[self.rank, self.transposed]
        if self.transposed:
            result = function(
                x,
                self.weight,
                self.bias,
                self.stride,
                self.padding,
                self.output_padding,
                self.groups,
                self.dilation,
            )
        else:
            result = function(
                x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups
            )
        if other is not None:
            result = result + other
        return self.post.function(result) if self.post.function else result

    def _shape_of_result(self, shape: torch.Size) -> tuple[int, ...]:
        kernel = self.weight.shape[2:]
        sizes = [
            (size + 2 * pad - dilation * (k - 1) - 1) // stride + 1
            for size, pad, dilation, k, stride in zip(
                shape[2:], self.padding, self.dilation, kernel, self.stride, strict=True
            )
        ]
        return (shape[0], self.channels, *sizes)

    def _pack(self, shape: torch.Size) -> Tensor:
        """The weight in the layout that oneDNN's kernel for this shape of input wants.

        Kernels for different shapes want different layouts, and from one of those to another
        oneDNN only knows a slow way; so each shape is remembered with its own, and those that
        are alike are one tensor.
        """
        while len(self._packed) >= _REMEMBERED:
            self._packed.pop(next(iter(self._packed)), None)
        places = self.padding, self.stride, self.dilation, self.groups, list(shape)
        weight = self.weight
        if self.transposed:
            packed = torch.ops.mkldnn._reorder_convolution_transpose_weight(
                weight.contiguous(), self.padding, self.output_padding, *places[1:]
            )
        elif self.rank == 2:
            pack: Any = torch._C._nn.mkldnn_reorder_conv2d_weight
            packed = pack(weight.to_mkldnn(), *places)
        else:
            pack = torch._C._nn.mkldnn_reorder_conv3d_weight
            packed = pack(weight.to_mkldnn(), *places)
        layout = _layout(packed)
        for known in self._packed.values():
            if layout is not None and _layout(known) == layout:
                packed = known
                break
        self._packed[shape] = packed
        result: Tensor = packed
        return result

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_packed": {}}  # packed tensors can neither be copied nor stored

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
        self._packed.clear()
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
            "accumulates": self.accumulates,
            "post": {
                "name": self.post.name,
                "scalars": self.post.scalars,
                "algorithm": self.post.algorithm,
            },
        }

    def extra_repr(self) -> str:
        """What `repr` shows of it."""
        kind = "transposed, " if self.transposed else ""
        return f"{kind}{tuple(self.weight.shape)}, adds={self.adds}, post={self.post!r}"


def _layout(packed: Tensor) -> bytes | None:
    """oneDNN's own description of a packed tensor's layout."""
    try:
        described = bytearray(torch.ops.mkldnn._get_mkldnn_serialized_md(packed).numpy())
    except (AttributeError, RuntimeError):
        return None  # a build that does not tell
    # Four bytes of it stand for nothing, and are whatever was there before. Were it ever others,
    # a packed weight would be found that fits less well: it carries its own layout.
    described[108:112] = bytes(4)
    return bytes(described)


def _padding(layer: Layer) -> list[int]:
    """The padding as numbers; `can_fuse` has seen to it that these are the same on both sides."""
    padding = layer.options["padding"]
    if not isinstance(padding, str):
        return list(padding)
    if padding == "valid":
        return [0] * layer.dimensions
    kernel, dilation = layer.weight.shape[2:], layer.options["dilation"]
    return [d * (k - 1) // 2 for k, d in zip(kernel, dilation, strict=True)]


def can_fuse(layer: Layer, activation: Activation | None, *, adds: bool) -> str | None:
    """Why a layer and what follows cannot be one operator here; None when they can."""
    form = layer.dimensions, layer.transposed
    if form not in _FUNCTIONS:
        return f"oneDNN's fused operators take no {layer.kind.__name__}"
    if layer.weight.dtype is not torch.float or layer.weight.device.type != "cpu":
        return "only float32 on the CPU is fused"
    if layer.options.get("padding_mode", "zeros") != "zeros":
        return "it pads with something else than zeros"
    if layer.options["padding"] == "same" and any(
        d * (k - 1) % 2
        for k, d in zip(layer.weight.shape[2:], layer.options["dilation"], strict=True)
    ):
        return "it pads one side more than the other"
    if layer.bias is not None and layer.bias.dtype is not layer.weight.dtype:
        return "its bias has another dtype"
    if 0 in layer.weight.shape:
        return "its weight is empty"
    name = activation.name if activation else "none"
    algorithm = activation.algorithm if activation else ""
    if not _works(form, name, activation.scalars if activation else (), algorithm, adds):
        return f"this build of torch has no fused operator for {name}" + (" of a sum" * adds)
    return None


def activation_named(name: str, scalars: tuple[float, ...], algorithm: str) -> Activation | None:
    """The activation of a name, as `PostOp` has it, that stands in no graph.

    Raises:
        KeyError: there is none of this name.
    """
    function = _REFERENCES[name](scalars, algorithm)
    if function is None:
        return None
    nowhere = fx.Graph().placeholder("x")
    return Activation(nowhere, nowhere, name, scalars, algorithm, function)


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
        options = {"stride": (1,) * rank, "padding": (1,) * rank, "dilation": (1,) * rank}
        kind: Any = {(2, False): nn.Conv2d, (3, False): nn.Conv3d, (2, True): nn.ConvTranspose2d}
        layer = Layer(None, None, kind[form], weight, torch.randn(4), {**options, "groups": 1})  # type: ignore[arg-type]
        activation = activation_named(name, scalars, algorithm)
        module = FusedConv(layer, PostOp(activation), adds=adds)
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


_REFERENCES: dict[str, Callable[[tuple[float, ...], str], Callable[[Tensor], Tensor] | None]] = {
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
