"""What the installed torch and this CPU have: oneDNN's fused operators, and fast bfloat16."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import fx, nn

from symfx.optimization.graphs.layers import Activation, Layer
from symfx.optimization.runtime.fused_conv import FUNCTIONS, FusedConv
from symfx.optimization.runtime.kernels import FEW, PostOp

__all__ = ["can_fuse", "has_bfloat16", "may_pool", "post_op"]


def has_bfloat16() -> bool:
    """Does oneDNN compute in bfloat16 on this CPU, and not by way of float32?"""
    found: bool = torch._C._has_mkldnn and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return found


def may_pool(layer: Layer, post: Activation | None) -> bool:
    """Is a pooling behind this layer part of its operator?"""
    few = layer.kind is nn.Conv2d and layer.channels_in <= FEW
    return few and (post is None or post.name == "relu")


def can_fuse(layer: Layer, post: PostOp, *, adds: bool) -> str | None:
    """Why a layer and what follows cannot be one operator here; None when they can."""
    # A linear layer is run by the same operator as a convolution of 1x1.
    form = layer.dimensions or (2 if layer.kind is nn.Linear else 0), layer.transposed
    if form not in FUNCTIONS:
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
