"""Channels last in memory between fused operators; outside of them, the original's layout."""

from __future__ import annotations

import operator
from collections.abc import Collection
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn

from symfx.optimization.graphs.effect_tables import words
from symfx.optimization.graphs.effects import effect_of
from symfx.optimization.graphs.reader import Reader
from symfx.optimization.runtime.fused_conv import FusedConv
from symfx.optimization.runtime.fused_linear import FusedLinear
from symfx.optimization.runtime.graph_functions import all_finite, laid_out_as
from symfx.optimization.runtime.leaf_calls import Effect
from symfx.optimization.runtime.normalization import ScaleShift
from symfx.optimization.runtime.one_pass import layer_norm

__all__ = ["fused_conv", "keep_layout"]


def fused_conv(reader: Reader, node: fx.Node) -> FusedConv | None:
    """The fused convolution that a node calls, or None."""
    found = reader.modules.get(str(node.target)) if node.op == "call_module" else None
    return found if isinstance(found, FusedConv) else None


# Functions that take a value of any strides and pass them on: neither their results nor their
# errors depend on the strides.
_CARRIES_FUNCTIONS: frozenset[Any] = frozenset(
    {
        operator.add,
        operator.sub,
        operator.mul,
        operator.truediv,
        operator.getitem,
        torch.add,
        torch.sub,
        torch.mul,
        torch.div,
        torch.relu,
        torch.sigmoid,
        torch.tanh,
        torch.cat,
        torch.concat,
        torch.flatten,
        torch.reshape,
        torch.chunk,
        torch.split,
        torch.mean,
        torch.sum,
        torch.permute,
        torch.transpose,
        torch.matmul,
        F.relu,
        F.relu6,
        F.gelu,
        F.silu,
        F.hardswish,
        F.hardsigmoid,
        F.hardtanh,
        F.leaky_relu,
        F.sigmoid,
        F.tanh,
        F.max_pool2d,
        F.avg_pool2d,
        F.adaptive_avg_pool2d,
        F.interpolate,
        F.batch_norm,
        F.linear,
        F.layer_norm,
        F.softmax,
        F.dropout,
    }
)
_CARRIES_METHODS = words(
    """
    add sub mul div relu sigmoid tanh mean sum flatten reshape permute transpose chunk split
    size dim softmax contiguous
    """
)
_CARRIES_MODULES: tuple[type[nn.Module], ...] = (
    nn.ReLU,
    nn.ReLU6,
    nn.GELU,
    nn.SiLU,
    nn.Hardswish,
    nn.Hardsigmoid,
    nn.Hardtanh,
    nn.LeakyReLU,
    nn.Sigmoid,
    nn.Tanh,
    nn.Softmax,
    nn.BatchNorm2d,
    nn.MaxPool2d,
    nn.AvgPool2d,
    nn.AdaptiveAvgPool2d,
    nn.Upsample,
    nn.Identity,
    nn.Dropout,
    nn.Dropout2d,
    nn.Flatten,
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.ConvTranspose2d,
    nn.Linear,
    nn.LayerNorm,
    FusedConv,
    ScaleShift,
)


# Functions and modules whose results are contiguous for every input.
_CONTIGUOUS: tuple[Any, ...] = (F.linear, torch.matmul, F.layer_norm, layer_norm)
_CONTIGUOUS_MODULES: tuple[type[nn.Module], ...] = (nn.Linear, nn.LayerNorm)


def _contiguous(reader: Reader) -> set[fx.Node]:
    """The nodes whose results are contiguous for every input."""
    found: set[fx.Node] = set()
    for node in reader.module.graph.nodes:
        called = reader.modules.get(str(node.target)) if node.op == "call_module" else None
        if isinstance(called, FusedLinear):
            # A sum has the strides of its first term, of the layer's result or of the other.
            known = not (called.adds and called.second) or node.args[1] in found
        elif called is not None:
            known = type(called) in _CONTIGUOUS_MODULES
        elif node.op == "call_method":
            known = node.target == "contiguous" and len(node.args) == 1 and not node.kwargs
        else:
            known = node.op == "call_function" and node.target in _CONTIGUOUS
        if known:
            found.add(node)
    return found


# Functions and methods that change only the strides.
_PERMUTES: tuple[Any, ...] = (torch.permute, torch.transpose, "permute", "transpose")


# If a graph has one of these, each fused operator's result is made contiguous at once.
_TELLS_STRIDES = words(
    """
    stride storage_offset is_contiguous as_strided data_ptr storage untyped_storage
    """
)


def _carries(reader: Reader, node: fx.Node, contiguous: Collection[fx.Node]) -> bool:
    """Whether the node takes a value of any strides, and returns one tensor, or sizes."""
    if _returns_several(reader, node) and not all(
        user.target is operator.getitem for user in node.users
    ):
        return False
    if node.op == "call_module":
        found = reader.modules.get(str(node.target))
        if isinstance(found, FusedLinear):
            return node in contiguous
        return isinstance(found, FusedConv | ScaleShift) or (
            reader.module_of(node) is not None and type(found) in _CARRIES_MODULES
        )
    if node.target == "contiguous":
        return node in contiguous
    if node.op == "call_method":
        return node.target in _CARRIES_METHODS
    if node.target is getattr:
        return node.args[1] in ("shape", "dtype", "device", "ndim")
    own = getattr(node.target, "symfx_effect", None) is not None
    return node.op == "call_function" and (own or node.target in _CARRIES_FUNCTIONS)


def keep_layout(module: fx.GraphModule) -> None:
    """Give results the original's layout where they leave the region of fused operators."""
    reader = Reader(module)
    graph = module.graph
    inside: set[fx.Node] = set()
    left: set[fx.Node] = set()
    strides_asked_for = any(
        (node.op == "call_method" and node.target in _TELLS_STRIDES)
        or node.target is torch.as_strided
        for node in graph.nodes
    )
    contiguous = _contiguous(reader)
    shown = _shown(reader, contiguous)
    for node in [] if strides_asked_for else list(graph.nodes):
        sources = [source for source in node.all_input_nodes if source in inside]
        seed = fused_conv(reader, node) is not None
        if not seed and (not sources or not _carries(reader, node, contiguous)):
            continue
        if _has_no_tensor(node) or (node.target in _PERMUTES and node in shown):
            continue
        if effect_of(node, reader.modules) is Effect.FRESH and not reader.aliases.is_quiet(node):
            left.add(node)  # a node writes to it: below, it is laid out for all its users
            continue
        inside.add(node)
    left |= {node for node in graph.nodes if fused_conv(reader, node) is not None}
    leaving: dict[fx.Node, list[fx.Node]] = {}
    for node in reversed(graph.nodes):
        outside = [
            user
            for user in node.users
            if user.op == "output"
            or node not in inside
            or not _carries(reader, user, contiguous)
            or (user not in inside and effect_of(user, reader.modules) is Effect.VIEW)
        ]
        if node not in inside and node not in left:
            continue
        if outside and effect_of(node, reader.modules) is Effect.VIEW:
            # A view keeps its own strides, so the tensor that it is a view of is laid out.
            inside.discard(node)
        elif outside and node not in contiguous:
            leaving[node] = outside
    original = _originals(reader, inside | left, contiguous)
    for node, outside in leaving.items():
        with graph.inserting_after(node):
            dense = graph.call_function(laid_out_as, (node, original[node]))
        for user in outside:
            user.replace_input_with(node, dense)
    graph.lint()
    module.recompile()


def _originals(
    reader: Reader, nodes: set[fx.Node], contiguous: Collection[fx.Node]
) -> dict[fx.Node, Any]:
    """For each node, the ``original`` that `laid_out_as` needs for its result."""
    found: dict[fx.Node, Any] = {}
    for node in reader.module.graph.nodes:
        if node in nodes:
            fused = fused_conv(reader, node)
            sources = [source for source in node.all_input_nodes if source.op != "get_attr"]
            if node in contiguous:
                found[node] = False  # a term of a concatenation
            elif (fused is not None and fused.last) or not sources:
                found[node] = fused is not None
            elif node.target in (torch.cat, torch.concat):
                terms: list[Any] = []
                for source in sources:
                    original = found.get(source, source)
                    terms += original if isinstance(original, tuple) else (original,)
                distinct = tuple(dict.fromkeys(terms))
                found[node] = distinct[0] if len(distinct) == 1 else distinct
            else:
                found[node] = found.get(sources[0], sources[0])
    return found


def _shown(reader: Reader, contiguous: Collection[fx.Node]) -> set[fx.Node]:
    """The nodes whose strides may decide those of a value outside of the region."""
    found: set[fx.Node] = set()
    for node in reversed(reader.module.graph.nodes):
        if _has_no_tensor(node):
            continue  # sizes have no strides
        for user in node.users:
            outside = user.op == "output" or not _carries(reader, user, contiguous)
            if outside or (user in found and user not in contiguous):
                found.add(node)
    return found


def _returns_several(reader: Reader, node: fx.Node) -> bool:
    called = reader.modules.get(str(node.target)) if node.op == "call_module" else None
    return (
        node.target in (torch.chunk, torch.split, "chunk", "split")
        or bool(getattr(called, "return_indices", False))
        or bool(node.kwargs.get("return_indices", False))
    )


def _has_no_tensor(node: fx.Node) -> bool:
    if node.target is getattr or node.target is all_finite:
        return True
    return node.op == "call_method" and node.target in ("size", "dim")
