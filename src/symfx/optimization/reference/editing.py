"""Editing fx graphs: match two modules in a row, replace a module, extract a subgraph."""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterable, MutableMapping, Sequence

from torch import fx, nn

from symfx.errors import OptimizationError
from symfx.optimization.graphs.capture import capture, check_module, copy_of
from symfx.optimization.graphs.effect_tables import DROPOUT_MODULES
from symfx.optimization.graphs.effects import read_argument
from symfx.optimization.graphs.reader import Reader
from symfx.optimization.graphs.surgery import clean, replace
from symfx.optimization.passes.fold_layers import fold_affine
from symfx.optimization.passes.inplace import settle_writes
from symfx.optimization.report import Report

__all__ = [
    "extract_subgraph",
    "fuse",
    "matches_module_pattern",
    "remove_dropout",
    "replace_node_module",
]


def matches_module_pattern(
    pattern: Iterable[type], node: fx.Node, modules: dict[str, nn.Module]
) -> bool:
    """Whether a node calls a module of one class on the result of a module of another.

    Args:
        pattern: the two classes, in the order of the data. Subclasses do not match.
        node: the second call.
        modules: the graph's modules by name, as ``dict(graph_module.named_modules())``.

    Returns:
        whether ``node.args[0]`` calls a module whose class is the pattern's first, and ``node``
        one whose class is its second.
    """
    calls = (node.args[0] if node.args else None, node)
    if calls[0] is None:
        return False
    return all(
        isinstance(call, fx.Node)
        and call.op == "call_module"
        and type(modules.get(str(call.target))) is kind
        for kind, call in zip(pattern, calls, strict=False)
    )


def replace_node_module(
    node: fx.Node, modules: MutableMapping[str, nn.Module], new_module: nn.Module
) -> None:
    """Replace the module that a node calls.

    Every node that calls the old module by the same name calls the new one from now on.

    Args:
        node: a ``call_module`` node.
        modules: the graph's modules by name, the root under ``""``; the entry is replaced too.
        new_module: the new module.

    Raises:
        OptimizationError: the node calls no module, or the parent of the module is not in
            ``modules``.
    """
    if not isinstance(node.target, str) or node.op != "call_module":
        raise OptimizationError(
            f"{node.name} is a {node.op} node, and calls no module",
            fix="pass a node whose op is call_module",
        )
    parent, _, name = node.target.rpartition(".")
    if parent not in modules:
        raise OptimizationError(
            f"modules has no {parent!r}, which is the parent of {node.target!r}",
            where="modules",
            fix="pass dict(graph_module.named_modules())",
        )
    setattr(modules[parent], name, new_module)
    modules[node.target] = new_module


def extract_subgraph(
    orig_module: nn.Module,
    nodes: Sequence[fx.Node],
    inputs: Sequence[fx.Node],
    outputs: Sequence[fx.Node],
) -> fx.GraphModule:
    """A module that runs a part of a graph.

    Args:
        orig_module: has the modules and tensors of the nodes; the result shares them.
        nodes: the nodes of the part, in the order of the graph.
        inputs: the nodes whose values are the result's arguments, in this order.
        outputs: the nodes whose values the result returns, as a list, in this order.

    Raises:
        OptimizationError: a node, or the output, takes a value that is neither earlier in
            ``nodes`` nor in ``inputs``.
    """
    graph = fx.Graph()
    twins: dict[fx.Node, fx.Node] = {node: graph.placeholder(node.name) for node in inputs}

    def twin(node: fx.Node, user: str) -> fx.Node:
        if node not in twins:
            raise OptimizationError(
                f"{user} takes {node.name}, which is neither before it in nodes nor in inputs",
                fix=f"add {node.name} to inputs, or to nodes at its place",
            )
        return twins[node]

    for node in nodes:
        twins[node] = graph.node_copy(node, functools.partial(twin, user=node.name))
    graph.output([twin(node, "the output") for node in outputs])
    graph.lint()
    return fx.GraphModule(orig_module, graph)


def fuse(model: nn.Module, inplace: bool = False, no_trace: bool = False) -> nn.Module:
    """Fold batch normalization into the convolutions and linear layers around it.

    A batch normalization stays where folding is not exact: behind a layer whose output another
    node uses too, in train mode, without running statistics, or behind a layer with hooks.

    Args:
        model: the model, normally in eval mode. It is never changed.
        inplace: let the result share the modules and tensors that are not folded, and not copy
            them.
        no_trace: use the graph of a `torch.fx.GraphModule`, without tracing; other models are
            traced all the same.

    Returns:
        a `torch.fx.GraphModule`.

    Raises:
        TracingError: the model cannot be copied.
    """
    check_module(model)
    source = model if inplace else copy_of(model)
    if no_trace and isinstance(source, fx.GraphModule):
        traced = fx.GraphModule(source, copy.deepcopy(source.graph))
        traced.training = source.training
    else:
        traced = capture(source)
    report = Report()
    settle_writes(traced, report)
    fold_affine(traced, report, norms_only=True)
    return clean(traced)


def remove_dropout(model: nn.Module) -> nn.Module:
    """Remove all dropout layers from a model.

    Dropout modules are removed in train mode too; a call of `torch.nn.functional.dropout` is
    removed if it is inactive.

    Args:
        model: the model. It is not changed; the result shares its modules and tensors.

    Returns:
        a `torch.fx.GraphModule`.
    """
    check_module(model)
    traced = capture(model)
    reader = Reader(traced)
    for node in list(traced.graph.nodes):
        module = reader.module_of(node)
        source = reader.idle_source(node)
        if source is None and module is not None and type(module) in DROPOUT_MODULES:
            source = read_argument(node, 0, "input")
        if isinstance(source, fx.Node):
            replace(node, source)
    return clean(traced)
