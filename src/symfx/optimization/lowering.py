"""From ordinary layers to oneDNN's fused operators, and one memory layout for all between them."""

from __future__ import annotations

import operator
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn

from symfx.optimization.effects import Effect, effect_of, words
from symfx.optimization.fused import FusedConv, PostOp, can_fuse
from symfx.optimization.inplace import settle_writes, settled_add
from symfx.optimization.log import Report
from symfx.optimization.modules import ScaleShift
from symfx.optimization.reading import Activation, Layer, Reader
from symfx.optimization.surgery import clean, install, succeed

__all__ = ["lower"]


def lower(
    module: fx.GraphModule,
    only: Collection[fx.Node] | None = None,
    report: Report | None = None,
) -> fx.GraphModule:
    """Run a graph's convolutions, with what follows them, as oneDNN's fused operators.

    Between them everything stays channels last in memory; where something looks on that could
    tell (the caller, a module that is not known), results are made contiguous first.

    Args:
        module: the graph, which is changed.
        only: the nodes that may be touched; all by default.
        report: what is done, and what is not and why, is noted in it.

    Returns:
        the graph without what it does not need any more.
    """
    report = report if report is not None else Report()
    settle_writes(module, report)
    reader = Reader(module)
    plans = _plan(reader, only, report)
    for plan in plans:
        _apply(module, plan, report)
    _scale_and_rectify(module, only, report)
    module = clean(module)
    if plans:
        _accumulate(module)
        _keep_layout(module)
    return module


@dataclass(frozen=True)
class _Plan:
    """One fused operator to be: the last of ``nodes`` gives its result."""

    layer: Layer
    post: Activation | None
    other: fx.Node | None
    nodes: tuple[fx.Node, ...]


def _plan(reader: Reader, only: Collection[fx.Node] | None, report: Report) -> list[_Plan]:
    taken: set[fx.Node] = set()
    plans: list[_Plan] = []

    def free(node: fx.Node) -> bool:
        return node not in taken and (only is None or node in only)

    for node in reader.module.graph.nodes:
        layer = reader.layer(node)
        if layer is None or layer.dimensions == 0 or not free(node):
            continue
        why = can_fuse(layer, None, adds=False)
        if why is None and not reader.aliases.is_quiet(layer.source):
            why = "something writes to the memory that it reads"
        if why is not None:
            report.leave(node, f"not run by oneDNN's fused operators: {why}")
            continue
        plan = _Plan(layer, None, None, (node,))
        user = _only_user(reader, node)
        if user is not None and free(user):
            other = _added(reader, user, node)
            if other is not None and can_fuse(layer, None, adds=True) is None:
                plan = _Plan(layer, None, other, (node, user))
                user = _only_user(reader, user)
        if user is not None and free(user):
            post = reader.activation(user)
            adds = plan.other is not None
            fits = post is not None and can_fuse(layer, post, adds=adds) is None
            if post is not None and fits and reader.aliases.effect(user) is Effect.FRESH:
                plan = _Plan(layer, post, plan.other, (*plan.nodes, user))
        plans.append(plan)
        taken.update(plan.nodes)
    return plans


def _only_user(reader: Reader, node: fx.Node) -> fx.Node | None:
    """The one node that takes this one's value, if it can be computed there as well."""
    if len(node.users) != 1 or not reader.aliases.is_quiet(node):
        return None
    user = next(iter(node.users))
    return None if user.op == "output" else user


def _added(reader: Reader, node: fx.Node, term: fx.Node) -> fx.Node | None:
    """The other term, where a node is a sum of ``term`` and another value."""
    is_sum = (
        node.target in (operator.add, torch.add, settled_add)
        if node.op == "call_function"
        else node.op == "call_method" and node.target == "add"
    )
    if not is_sum or len(node.args) != 2 or node.kwargs:
        return None
    other = node.args[1] if node.args[0] is term else node.args[0]
    if not isinstance(other, fx.Node) or other is term or not reader.aliases.is_quiet(other):
        return None
    if other.op == "get_attr":
        return None
    return other


def _apply(module: fx.GraphModule, plan: _Plan, report: Report) -> None:
    fused = FusedConv(plan.layer, PostOp(plan.post), adds=plan.other is not None)
    fused.training = module.training
    args = (plan.layer.node.all_input_nodes[0],)
    if plan.other is not None:
        add = plan.nodes[1]
        others = [a for a in add.args if a is not plan.layer.node]
        args = (*args, others[0])  # type: ignore[assignment]
    last = plan.nodes[-1]
    node = install(module, plan.layer.node, fused, args, "fused")
    last.append(node)
    parts = [plan.layer.kind.__name__]
    parts += ["add"] if plan.other is not None else []
    parts += [plan.post.name] if plan.post is not None else []
    names = [old.name for old in plan.nodes]
    succeed(plan.nodes, node, names[0])
    report.rewrote(f"fused {' + '.join(parts)} by oneDNN", names, node)


def _scale_and_rectify(
    module: fx.GraphModule, only: Collection[fx.Node] | None, report: Report
) -> None:
    """A batch normalisation that could not be folded, and the ReLU behind it, in one module."""
    reader = Reader(module)
    for node in list(module.graph.nodes):
        affine = reader.affine(node)
        if affine is None or affine.name not in ("BatchNorm2d", "BatchNorm3d"):
            continue
        norm = reader.module_of(node)
        if norm is None or affine.spatial is None or (only is not None and node not in only):
            continue
        if any(t.dtype not in (torch.float, torch.long) for t in norm.state_dict().values()):
            continue
        user = _only_user(reader, node)
        free = user is not None and (only is None or user in only)
        post = reader.activation(user) if user is not None and free else None
        rectify = post is not None and post.name == "relu"
        rectify = rectify and user is not None and reader.aliases.effect(user) is Effect.FRESH
        new = ScaleShift(
            affine.scale.float(), affine.shift.float(), affine.spatial, rectify=rectify
        )
        new.training = module.training
        call = install(module, node, new, (affine.source,), "scaled")
        taken = (node, user) if rectify and user is not None else (node,)
        names = [old.name for old in taken]
        succeed(taken, call, names[0])
        report.rewrote(f"{affine.name} as a scaling" + " and relu" * rectify, names, call)


def _accumulate(module: fx.GraphModule) -> None:
    """Let a sum be written to the memory of a term that nobody needs any more."""
    reader = Reader(module)
    order = {node: index for index, node in enumerate(module.graph.nodes)}
    for node in module.graph.nodes:
        fused = _fused(reader, node)
        if fused is None or not fused.adds or len(node.args) != 2:
            continue
        other = node.args[1]
        if not isinstance(other, fx.Node) or other is node.args[0]:
            continue
        if reader.aliases.effect(other) is not Effect.FRESH or not reader.aliases.is_quiet(other):
            continue
        family = reader.aliases.family(other)
        if node.args[0] in family:
            continue
        users = {user for member in family for user in member.users}
        fused.accumulates = all(
            user.op != "output" and (user is node or order[user] < order[node]) for user in users
        )


def _fused(reader: Reader, node: fx.Node) -> FusedConv | None:
    found = reader.modules.get(str(node.target)) if node.op == "call_module" else None
    return found if isinstance(found, FusedConv) else None


# What can be given a value whatever its strides, and passes them on: nothing it computes, and no
# error that it raises, depends on them.
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
    size dim softmax
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


# Where one of these is about, every result is made contiguous at once.
_TELLS_STRIDES = words(
    """
    stride storage_offset is_contiguous as_strided data_ptr storage untyped_storage
    """
)


def _carries(reader: Reader, node: fx.Node) -> bool:
    """Can the node be given a value of any strides, and does it return one tensor, or sizes?"""
    if _returns_several(reader, node) and not all(
        user.target is operator.getitem for user in node.users
    ):
        return False
    if node.op == "call_module":
        found = reader.modules.get(str(node.target))
        return isinstance(found, FusedConv | ScaleShift) or (
            reader.module_of(node) is not None and type(found) in _CARRIES_MODULES
        )
    if node.op == "call_method":
        return node.target in _CARRIES_METHODS
    if node.target is getattr:
        return node.args[1] in ("shape", "dtype", "device", "ndim")
    own = getattr(node.target, "symfx_effect", None) is not None
    return node.op == "call_function" and (own or node.target in _CARRIES_FUNCTIONS)


def _keep_layout(module: fx.GraphModule) -> None:
    """Make results contiguous where they leave the region of fused operators."""
    reader = Reader(module)
    graph = module.graph
    inside: set[fx.Node] = set()
    left: set[fx.Node] = set()
    strides_asked_for = any(
        (node.op == "call_method" and node.target in _TELLS_STRIDES)
        or node.target is torch.as_strided
        for node in graph.nodes
    )
    for node in [] if strides_asked_for else list(graph.nodes):
        sources = [source for source in node.all_input_nodes if source in inside]
        seed = _fused(reader, node) is not None
        if not seed and (not sources or not _carries(reader, node)):
            continue
        if effect_of(node, reader.modules) is Effect.FRESH and not reader.aliases.is_quiet(node):
            left.add(node)  # somebody writes to it: it is made contiguous for all, below
            continue
        if not _has_no_tensor(node):
            inside.add(node)
    left |= {node for node in graph.nodes if _fused(reader, node) is not None}
    for node in [n for n in graph.nodes if n in inside or n in left]:
        outside = [
            user
            for user in node.users
            if user.op == "output" or node not in inside or not _carries(reader, user)
        ]
        if not outside:
            continue
        with graph.inserting_after(node):
            dense = graph.call_method("contiguous", (node,))
        for user in outside:
            user.replace_input_with(node, dense)
    graph.lint()
    module.recompile()


def _returns_several(reader: Reader, node: fx.Node) -> bool:
    called = reader.modules.get(str(node.target)) if node.op == "call_module" else None
    return (
        node.target in (torch.chunk, torch.split, "chunk", "split")
        or bool(getattr(called, "return_indices", False))
        or bool(node.kwargs.get("return_indices", False))
    )


def _has_no_tensor(node: fx.Node) -> bool:
    if node.target is getattr:
        return True
    return node.op == "call_method" and node.target in ("size", "dim")
