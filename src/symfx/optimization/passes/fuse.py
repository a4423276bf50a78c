"""Fusing: a layer, a sum, an activation and a pooling become one of oneDNN's operators."""

from __future__ import annotations

import operator
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn

from symfx.optimization.graphs.layers import Activation, LayerCall
from symfx.optimization.graphs.reader import Reader
from symfx.optimization.graphs.surgery import clean, install, succeed
from symfx.optimization.passes.expand_attention import expand_attention
from symfx.optimization.passes.inplace import settle_writes
from symfx.optimization.passes.join_projections import join_projections
from symfx.optimization.passes.memory_layout import fused_conv, keep_layout
from symfx.optimization.passes.use_kernels import use_kernels
from symfx.optimization.report import Report
from symfx.optimization.runtime.activations import PostOp
from symfx.optimization.runtime.capabilities import can_fuse, may_pool
from symfx.optimization.runtime.fused_conv import FusedConv
from symfx.optimization.runtime.fused_linear import FusedLinear
from symfx.optimization.runtime.graph_functions import all_finite, settled_add
from symfx.optimization.runtime.layers import MaxPool
from symfx.optimization.runtime.leaf_calls import Effect
from symfx.optimization.runtime.normalization import ScaleShift
from symfx.optimization.runtime.one_pass import layer_norm

__all__ = ["lower"]


def lower(
    module: fx.GraphModule,
    only: Collection[fx.Node] | None = None,
    report: Report | None = None,
    *,
    linears: bool = False,
) -> fx.GraphModule:
    """Run a graph's convolutions, with the operations behind them, as oneDNN's fused operators.

    Values between fused operators stay channels last in memory. A value that the caller or an
    unknown module can see gets the layout that the original gives it.

    Args:
        module: the graph, which is changed.
        only: the nodes that may be rewritten; all by default.
        report: gets the fused operators, and the layers that stay with the reasons.
        linears: make a `FusedLinear` of each linear layer too, also inside attention and
            transformer layers. It runs torch's operators, except for the shapes for which
            `symfx.optimization.tuning` measures a faster way.

    Returns:
        the graph without its unused nodes, modules and tensors.
    """
    report = report if report is not None else Report()
    if linears:
        module = expand_attention(module, report)
    settle_writes(module, report)
    if linears:
        use_kernels(module, report)
        join_projections(module, report)
    reader = Reader(module)
    plans = _plan(reader, only, report, linears)
    for plan in plans:
        _apply(module, plan, report)
    _scale_and_rectify(module, only, report)
    if linears:
        _settle_terms(module)
    module = clean(module)
    if plans:
        _accumulate(module)
        _guard(module)
        keep_layout(module)
    return module


@dataclass(frozen=True)
class _Plan:
    """A fused operator and the nodes that it replaces; the last node returns its result."""

    layer: LayerCall
    post: Activation | None
    other: fx.Node | None
    pool: MaxPool | None
    nodes: tuple[fx.Node, ...]


_NOTHING = PostOp("none")


def _post_op(activation: Activation | None) -> PostOp:
    """An activation of the graph as kernels take it; None is no activation."""
    if activation is None:
        return _NOTHING
    return PostOp(activation.name, activation.scalars, activation.algorithm)


def _plan(
    reader: Reader, only: Collection[fx.Node] | None, report: Report, linears: bool
) -> list[_Plan]:
    taken: set[fx.Node] = set()
    plans: list[_Plan] = []

    def free(node: fx.Node) -> bool:
        return node not in taken and (only is None or node in only)

    for node in reader.module.graph.nodes:
        layer = reader.layer(node)
        if layer is None or not free(node) or (layer.dimensions == 0 and not linears):
            continue
        why = can_fuse(layer, _NOTHING, adds=False)
        if why is None and not reader.aliases.is_quiet(layer.source):
            why = "a node writes to the memory that it reads"
        if why is not None:
            report.leave(node, f"not run by oneDNN's fused operators: {why}")
            continue
        plan = _Plan(layer, None, None, None, (node,))
        user = _only_user(reader, node)
        if user is not None and free(user):
            other = _added(reader, user, node)
            if other is not None and can_fuse(layer, _NOTHING, adds=True) is None:
                plan = _Plan(layer, None, other, None, (node, user))
                user = _only_user(reader, user)
        if user is not None and free(user):
            post = reader.activation(user)
            adds = plan.other is not None
            fits = post is not None and can_fuse(layer, _post_op(post), adds=adds) is None
            if post is not None and fits and reader.aliases.effect(user) is Effect.FRESH:
                plan = _Plan(layer, post, plan.other, None, (*plan.nodes, user))
                user = _only_user(reader, user)
        if user is not None and free(user) and plan.other is None:
            pool = reader.max_pool(user)
            if pool is not None and may_pool(layer, _post_op(plan.post)):
                plan = _Plan(layer, plan.post, None, pool, (*plan.nodes, user))
        plans.append(plan)
        taken.update(plan.nodes)
    return plans


def _only_user(reader: Reader, node: fx.Node) -> fx.Node | None:
    """The only user of a node's value, if the value may be computed there; otherwise None."""
    if len(node.users) != 1 or not reader.aliases.is_quiet(node):
        return None
    user = next(iter(node.users))
    return None if user.op == "output" else user


def _added(reader: Reader, node: fx.Node, term: fx.Node) -> fx.Node | None:
    """The other term of a node that is a sum with the term ``term``; None for other nodes."""
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
    adds, post = plan.other is not None, _post_op(plan.post)
    second = adds and plan.nodes[1].args[1] is plan.layer.node
    fused: FusedConv | FusedLinear
    if plan.layer.dimensions == 0:
        fused = FusedLinear(plan.layer, post, adds=adds, second=second)
    else:
        fused = FusedConv(plan.layer, post, adds=adds, second=second, pool=plan.pool)
    fused.training = module.training
    # The arguments may have been replaced since the plan was made.
    args = [plan.layer.current_source]
    if adds:
        args += [a for a in plan.nodes[1].all_input_nodes if a is not plan.layer.node]
    last = plan.nodes[-1]
    node = install(module, plan.layer.node, fused, args, "fused")
    last.append(node)
    names = [old.name for old in plan.nodes]
    succeed(plan.nodes, node, names[0])
    if plan.layer.dimensions:
        parts = [plan.layer.kind.__name__]
        parts += ["add"] if adds else []
        parts += [plan.post.name] if plan.post is not None else []
        parts += ["max_pool2d"] if plan.pool is not None else []
        report.rewrote(f"fused {' + '.join(parts)} by oneDNN", names, node)


def _settle_terms(module: fx.GraphModule) -> None:
    """Make the first terms of linear layers' sums contiguous where nothing shows their strides.

    A sum has the strides of its first term; behind an image with channels last, for example, all
    residuals of a transformer would have odd strides, which no kernel takes.
    """
    reader = Reader(module)
    hidden: set[fx.Node] = set()
    settled: dict[fx.Node, fx.Node] = {}

    def fused(node: fx.Node) -> FusedLinear | None:
        found = reader.modules.get(str(node.target)) if node.op == "call_module" else None
        return found if isinstance(found, FusedLinear) else None

    def hides(user: fx.Node, value: fx.Node) -> bool:
        """Whether a user's result does not depend on the strides of a value."""
        layer = fused(user)
        if layer is not None:
            own = user in hidden or not layer.second
            return own if layer.adds and user.args[1] is value else True
        if user.target is operator.add:
            return user in hidden
        asks = user.target is getattr and user.args[1] in ("shape", "dtype", "device")
        return asks or user.target is layer_norm

    for node in reversed(module.graph.nodes):
        if all(hides(user, node) for user in node.users):
            hidden.add(node)
    for node in list(module.graph.nodes):
        layer = fused(node)
        if layer is None or not (layer.adds and layer.second) or node not in hidden:
            continue
        term = node.args[1]
        if not isinstance(term, fx.Node) or fused(term) is not None:
            continue
        if term not in settled:
            with module.graph.inserting_after(term):
                settled[term] = module.graph.call_method("contiguous", (term,))
        node.replace_input_with(term, settled[term])


def _scale_and_rectify(
    module: fx.GraphModule, only: Collection[fx.Node] | None, report: Report
) -> None:
    """Compute a batch normalization that was not folded, and the ReLU behind it, in one module."""
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
    """Let a fused operator write its sum to the memory of a term that no later node reads."""
    reader = Reader(module)
    order = {node: index for index, node in enumerate(module.graph.nodes)}
    for node in module.graph.nodes:
        fused = fused_conv(reader, node)
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


# Functions that return finite numbers for finite numbers, overflow aside.
_KEEPS_FINITE: frozenset[Any] = frozenset(
    {
        operator.add,
        operator.sub,
        operator.mul,
        operator.getitem,
        settled_add,
        torch.add,
        torch.cat,
        torch.flatten,
        torch.relu,
        torch.sigmoid,
        torch.tanh,
        F.relu,
        F.relu6,
        F.gelu,
        F.silu,
        F.hardswish,
        F.max_pool2d,
        F.avg_pool2d,
        F.adaptive_avg_pool2d,
        F.interpolate,
        layer_norm,
    }
)
_KEEPS_FINITE_MODULES = (
    FusedConv,
    FusedLinear,
    ScaleShift,
    nn.AdaptiveAvgPool2d,
    nn.AvgPool2d,
    nn.Conv2d,
    nn.ConvTranspose2d,
    nn.Flatten,
    nn.LayerNorm,
    nn.Linear,
    nn.MaxPool2d,
    nn.ReLU,
    nn.Sigmoid,
    nn.Upsample,
)


def _guard(module: fx.GraphModule) -> None:
    """Pass ``finite`` to each operator that would treat NaN as zero.

    The values that NaN could come from, mostly the graph's inputs, are checked once, and each
    operator that depends on them gets the result.
    """
    reader = Reader(module)
    sources: dict[fx.Node, frozenset[fx.Node]] = {}
    checks: dict[frozenset[fx.Node], fx.Node] = {}
    order = {node: index for index, node in enumerate(module.graph.nodes)}
    for node in list(module.graph.nodes):
        called = reader.modules.get(str(node.target)) if node.op == "call_module" else None
        keeps = node.target in _KEEPS_FINITE or isinstance(called, _KEEPS_FINITE_MODULES)
        inputs = node.all_input_nodes
        if node.op == "get_attr" or not (keeps and inputs):
            sources[node] = frozenset({node})
            continue
        sources[node] = frozenset().union(*(sources[i] for i in inputs if i.op != "get_attr"))
        if not isinstance(called, FusedConv | FusedLinear) or not called.loses_nan:
            continue
        found = sources[node]
        if not found:
            continue  # only constants of the graph reach it
        if found not in checks:
            roots = sorted(found, key=order.__getitem__)
            with module.graph.inserting_after(roots[-1]):
                checks[found] = module.graph.call_function(all_finite, tuple(roots))
        node.update_kwarg("finite", checks[found])
