"""Capabilities of the installed torch and this CPU: oneDNN's fused operators, fast bfloat16."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import nn

from symfx.optimization.runtime.activations import PostOp
from symfx.optimization.runtime.conv_kernels import FEW
from symfx.optimization.runtime.fused_conv import FUNCTIONS, FusedConv
from symfx.optimization.runtime.layers import CONVS, Layer

__all__ = ["can_fuse", "may_pool"]


#: oneDNN takes sizes of 32 bits.
_INT32 = 2**31 - 1


def may_pool(layer: Layer, post: PostOp) -> bool:
    """Whether a max-pooling behind this layer and activation can be part of its operator."""
    few = layer.kind is nn.Conv2d and layer.channels_in <= FEW
    return few and post.name in ("none", "relu")


def can_fuse(layer: Layer, post: PostOp, *, adds: bool) -> str | None:
    """The reason why a layer and the activation behind it are not one operator here, or None.

    Args:
        layer: the layer.
        post: the activation.
        adds: the operator adds a second argument before the activation.
    """
    # The same operator computes a linear layer, as a convolution of 1x1.
    form = layer.dimensions or (2 if layer.kind is nn.Linear else 0), layer.transposed
    if form not in FUNCTIONS:
        return f"oneDNN's fused operators take no {layer.kind.__name__}"
    if layer.weight.dtype is not torch.float or layer.weight.device.type != "cpu":
        return "only float32 on the CPU is fused"
    for name in ("stride", "padding", "dilation"):
        sizes = layer.options.get(name, 0)
        if (
            not isinstance(sizes, str)
            and max([sizes] if isinstance(sizes, int) else sizes) > _INT32
        ):
            return f"its {name} is larger than {_INT32}"
    if layer.options.get("padding_mode", "zeros") != "zeros":
        return "it pads with other values than zeros"
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


@functools.cache
def _works(
    form: tuple[int, bool], name: str, scalars: tuple[float, ...], algorithm: str, adds: bool
) -> bool:
    """Whether the installed torch has the operator, and it agrees with the ordinary ones."""
    if not torch._C._has_mkldnn or not torch.backends.mkldnn.enabled:
        return False
    rank, transposed = form
    if transposed and adds:
        return False
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        weight = torch.randn(4, 4, *[3] * rank)
        ones = (1,) * rank
        options: dict[str, Any] = {"stride": ones, "padding": ones, "dilation": ones, "groups": 1}
        kind = next(kind for kind, of in CONVS.items() if of == form)
        layer = Layer(kind, weight, torch.randn(4), options)
        module = FusedConv(layer, PostOp(name, scalars, algorithm), adds=adds)
        x = 3 * torch.randn(2, 4, *[6] * rank)
        other = 3 * torch.randn(2, 4, *[6] * rank) if adds else None
        try:
            found = module(x, other)
            expected = module.plainly(x, other)
            module.accumulates = adds
            again = module(x, None if other is None else other.clone())
        except (RuntimeError, AttributeError, NotImplementedError):
            return False
        close = functools.partial(torch.allclose, rtol=1e-3, atol=1e-3)
        return close(found, expected) and close(again, expected)
