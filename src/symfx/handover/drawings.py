"""A trace as nodes, edges and groups with texts: what a program that draws graphs needs."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import fx

from symfx.symbolic_shapes import ShapeGuard
from symfx.tracing.report import call_of, label_of, line_of, module_of, target_of, value_in_words
from symfx.tracing.traced_model import TracedModel

__all__ = ["Drawing", "Edge", "Group", "Node", "drawings_of"]

Guards = Mapping[str, Sequence[ShapeGuard]]


@dataclass(frozen=True)
class Edge:
    """A value that one node takes from another.

    Attributes:
        source: the node that made the value.
        target: the node that takes it.
        output: which of the results of the source it is.
        shape: the value in words: ``f32[batch, seq, 64]``.
    """

    source: str
    target: str
    output: int
    shape: str


@dataclass(frozen=True)
class Node:
    """A node of a graph.

    Attributes:
        name: its name, which no other node of the graph has.
        label: the operator, or the name of an input or a parameter.
        kind: torch.fx's word: ``placeholder``, ``get_attr``, ``call_function``, ``output``.
        group: the modules around it, outermost first.
        shapes: its results in words.
        details: more about it: labels with texts.
        graphs: the names of the graphs that it calls.
    """

    name: str
    label: str
    kind: str
    group: tuple[str, ...]
    shapes: tuple[str, ...]
    details: Mapping[str, str]
    graphs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Group:
    """The nodes of one module, and the groups inside.

    Attributes:
        path: the modules around it, and itself, outermost first.
        nodes: the nodes of the module itself.
        groups: the groups of the modules inside, by the name of the module.
    """

    path: tuple[str, ...]
    nodes: list[Node] = field(default_factory=list)
    groups: dict[str, Group] = field(default_factory=dict)


@dataclass(frozen=True)
class Drawing:
    """A graph.

    Attributes:
        name: its name; that of the graph of a branch is the path of the branch.
        nodes: its nodes, in the order in which they run.
        edges: its edges.
        classes: the class of each module that has nodes, by the path of the group.
    """

    name: str
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    classes: Mapping[tuple[str, ...], str]

    def grouped(self) -> Group:
        """The nodes by the modules around them."""
        root = Group(())
        for node in self.nodes:
            at = root
            for part in node.group:
                at = at.groups.setdefault(part, Group((*at.path, part)))
            at.nodes.append(node)
        return root


def drawings_of(trace: TracedModel, guards: Guards) -> list[Drawing]:
    """The graph of a trace, and the graphs that it calls.

    Args:
        trace: the trace.
        guards: the guards that each node of the graph caused, by its name.
    """
    found = []
    for path, module in trace.graph_module.named_modules():
        if isinstance(module, fx.GraphModule):
            found.append(_drawing(trace, module, path, guards if not path else {}))
    return found


def _drawing(trace: TracedModel, module: fx.GraphModule, path: str, guards: Guards) -> Drawing:
    nodes = list(module.graph.nodes)
    classes: dict[tuple[str, ...], str] = {}
    for node in nodes:
        for key, kind in (node.meta.get("nn_module_stack") or {}).values():
            name = kind.__name__ if isinstance(kind, type) else str(kind).rpartition(".")[2]
            classes[_group(key)] = name
    groups = _groups(nodes)
    drawn = tuple(_node(node, path, groups[node], guards.get(node.name, ())) for node in nodes)
    edges = tuple(edge for node in nodes for edge in _edges(node))
    used = {each.group[:i] for each in drawn for i in range(1, len(each.group) + 1)}
    return Drawing(
        path or trace.name, drawn, edges, {g: c for g, c in classes.items() if g in used}
    )


def _group(path: str | None) -> tuple[str, ...]:
    return tuple(path.split(".")) if path else ()


def _groups(nodes: Sequence[fx.Node]) -> dict[fx.Node, tuple[str, ...]]:
    """The modules around each node; a parameter belongs to the module of its first user."""
    groups = {node: _group(module_of(node)) for node in nodes if node.op == "call_function"}
    for node in nodes:
        if node.op == "get_attr":
            first = next((user for user in node.users if user in groups), None)
            groups[node] = groups[first] if first is not None else ()
    return {node: groups.get(node, ()) for node in nodes}


def _node(node: fx.Node, path: str, group: tuple[str, ...], guards: Sequence[ShapeGuard]) -> Node:
    details = {"expression": call_of(node)}
    if node.op == "call_function":
        details["operator"] = target_of(node)
    if (line := line_of(node)) != "":
        details["line"] = line
    if guards:
        details["guards"] = "; ".join(str(guard.term) for guard in guards)
    label = label_of(node)
    if node.op == "call_function":
        label = details["expression"].partition("(")[0]
        if not label.replace(".", "_").replace("::", "_").isidentifier():
            label = details["expression"]
    return Node(
        node.name,
        label,
        node.op,
        group,
        tuple(_shapes(node)),
        details,
        tuple(_called(node, path)),
    )


def _called(node: fx.Node, path: str) -> Iterator[str]:
    """The graphs that a node calls, by the names of their drawings."""
    for argument in node.all_input_nodes:
        if argument.op == "get_attr":
            owner = argument.graph.owning_module
            held = operator.attrgetter(str(argument.target))(owner)
            if isinstance(held, fx.GraphModule):
                yield f"{path}.{argument.target}" if path else str(argument.target)


def _shapes(node: fx.Node) -> Iterator[str]:
    value: Any = node.meta.get("val")
    if node.op == "output" or value is None:
        return
    parts = value if isinstance(value, (list, tuple)) else [value]
    yield from map(value_in_words, parts)


def _edges(node: fx.Node) -> Iterator[Edge]:
    for source in node.all_input_nodes:
        value, output = source.meta.get("val"), 0
        if node.target is operator.getitem and isinstance(node.args[1], int):
            output = node.args[1]
            value = node.meta.get("val")
        known = isinstance(value, (torch.Tensor, list, tuple, torch.SymInt, torch.SymFloat, int))
        yield Edge(source.name, node.name, output, value_in_words(value) if known else "")
