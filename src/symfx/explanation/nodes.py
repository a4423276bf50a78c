"""The nodes of a trace: the guards that each caused, the symbols that it made, and its story."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import cache

import torch
from torch import fx

from symfx.algebra import Term
from symfx.explanation.answers import Explanation
from symfx.explanation.assumptions import Assumptions
from symfx.symbolic_shapes import Provenance, ShapeGuard
from symfx.tracing.report import call_of, module_of, target_of, value_in_words
from symfx.tracing.traced_model import TracedModel
from symfx.user_code import frame_of_trace, frames_of_trace

__all__ = ["explain_node", "guards_by_node", "named_nodes", "new_symbols", "nodes_of_guards"]


def named_nodes(trace: TracedModel) -> dict[str, fx.Node]:
    """The nodes of the graph by name, and those of the graphs in it by the path of their graph.

    A parameter or a buffer is found by its name in the model too.
    """
    found: dict[str, fx.Node] = {}
    inner: dict[str, fx.Node] = {}
    for path, module in trace.graph_module.named_modules():
        if not isinstance(module, fx.GraphModule):
            continue
        for node in module.graph.nodes:
            if path:
                inner[f"{path}.{node.name}"] = node
                continue
            found[node.name] = node
            if node.op == "get_attr":
                found.setdefault(str(node.target), node)
    return {**inner, **found}


def guards_by_node(trace: TracedModel) -> dict[str, tuple[ShapeGuard, ...]]:
    """The guards that each node of the graph caused, by the name of the node.

    A node causes the guards that its operator asked for in its line; of several such nodes, the
    first one does. A guard for which no operator asked, such as that of an ``if``, belongs to the
    first node of the line, if the line has one.
    """
    return _guards_by_node(trace, trace.guards)


def nodes_of_guards(trace: TracedModel, term: Term) -> list[str]:
    """The names of the nodes that caused the guards with a condition."""
    return list(_guards_by_node(trace, [guard for guard in trace.guards if guard.term is term]))


def _guards_by_node(
    trace: TracedModel, guards: Sequence[ShapeGuard]
) -> dict[str, tuple[ShapeGuard, ...]]:
    nodes = _Nodes(trace) if guards else None
    found: dict[str, list[ShapeGuard]] = defaultdict(list)
    for guard in guards:
        node = nodes.of_cause(guard.provenance) if nodes is not None else None
        if node is not None:
            found[node.name].append(guard)
    return {name: tuple(of_node) for name, of_node in found.items()}


class _Nodes:
    """The nodes of a graph that call operators, by their lines and by their operators."""

    def __init__(self, trace: TracedModel) -> None:
        self._by_line: dict[tuple[str, int], list[fx.Node]] = defaultdict(list)
        self._by_operator: dict[str, list[fx.Node]] = defaultdict(list)
        frames = cache(frame_of_trace)  # many nodes have one line
        for node in trace.graph_module.graph.nodes:
            frame = frames(node.stack_trace or "")
            if frame is not None and node.op == "call_function":
                self._by_line[frame.filename, frame.lineno].append(node)
                for name in {str(node.target), _aten(node)}:
                    self._by_operator[name].append(node)

    def of_cause(self, cause: Provenance) -> fx.Node | None:
        """The node that asked for a guard; None if no node did."""
        if cause.frame is None:
            return None
        near = self._by_line.get((cause.frame.filename, cause.frame.lineno), [])
        own = [node for node in near if cause.operator in (str(node.target), _aten(node))]
        if not near:
            # A function of torch may stand between the line of the node and that of its question.
            every = self._by_operator.get(cause.operator or "", [])
            own = every if len(every) == 1 else []
        return next(iter(own or near), None)


def _aten(node: fx.Node) -> str:
    """The operator from which a node was decomposed."""
    return str(node.meta.get("original_aten"))


def new_symbols(trace: TracedModel, node: fx.Node) -> list[str]:
    """The names of the symbols that a node brings into the graph."""
    seen: set[str] = set()
    for each in node.graph.nodes:
        names = set(_symbols_of(each.meta.get("val")))
        if each is node:
            known = {info.name for info in trace.shape_env.symbol_table()}
            return sorted((names - seen) & known)
        seen |= names
    return []


def _symbols_of(value: object) -> Iterator[str]:
    if isinstance(value, torch.Tensor):
        for size in value.shape:
            yield from _symbols_of(size)
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from _symbols_of(part)
    elif isinstance(value, (torch.SymInt, torch.SymFloat, torch.SymBool)):
        term = getattr(value.node, "term", None)
        if term is not None:
            yield from (symbol.name for symbol in term.free_symbols)


def explain_node(trace: TracedModel, node: fx.Node) -> Explanation:
    """What a node computes, which lines made it, and which guards and symbols it brought.

    Args:
        trace: the trace.
        node: a node of its graph, or of a graph in it.
    """
    value = node.meta.get("val")
    shape = value_in_words(value) if node.op != "output" else ""
    line = frame_of_trace(node.stack_trace or "")
    sentence = f"{node.name} is {shape}: " if shape else f"{node.name}: "
    sentence += call_of(node)
    if line is not None:
        sentence += f", made by {line.with_text}"
    own = guards_by_node(trace).get(node.name, ()) if node.graph is trace.graph_module.graph else ()
    known = Assumptions(trace.shape_env)
    reasons = [known.guard(guard) for guard in own]
    details = []
    if node.op in ("call_function", "call_method", "call_module"):
        details.append(("operator", target_of(node)))
    module = module_of(node)
    stack = node.meta.get("nn_module_stack") or {}
    if module is not None and stack:
        _, kind = next(reversed(stack.values()))
        details.append(("module", f"{module or trace.name} ({_class_name(kind)})"))
    symbols = new_symbols(trace, node)
    if symbols:
        details.append(("symbols", ", ".join(symbols)))
        for info in trace.shape_env.symbol_table():
            if info.name in symbols and info.unbacked:
                reasons += known.bounds(info.term)
    frames = frames_of_trace(node.stack_trace or "")
    if len(frames) > 1:
        details.append(("lines", "\n".join(frame.with_text for frame in frames)))
    if node.users:
        details.append(("used by", ", ".join(user.name for user in node.users)))
    return Explanation(node.name, "node", sentence, tuple(reasons), tuple(details))


def _class_name(kind: object) -> str:
    return kind.__name__ if isinstance(kind, type) else str(kind).rpartition(".")[2]
