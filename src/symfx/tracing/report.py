"""A trace as text for people, and a trace with its verification as data for programs."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
from rich.text import Text

from symfx._version import __version__
from symfx.dtypes import short_name
from symfx.symbolic_shapes import Provenance, SymbolInfo
from symfx.tracing.columns import count, section
from symfx.tracing.traced_model import TracedModel
from symfx.tracing.verification import Run, Verification
from symfx.user_code import user_line_of_trace

__all__ = [
    "as_data",
    "call_of",
    "describe_graph",
    "describe_trace",
    "headline",
    "label_of",
    "line_of",
    "module_of",
    "range_of",
    "sources_of",
    "target_of",
    "value_in_words",
]

#: The functions that Python writes as an infix operator.
_INFIX = {
    operator.add: "+",
    operator.sub: "-",
    operator.mul: "*",
    operator.truediv: "/",
    operator.floordiv: "//",
    operator.mod: "%",
    operator.pow: "**",
    operator.eq: "==",
    operator.ne: "!=",
    operator.lt: "<",
    operator.le: "<=",
    operator.gt: ">",
    operator.ge: ">=",
    operator.and_: "&",
    operator.or_: "|",
}
#: The widths of the first two columns; a wider cell moves the rest of its own line alone.
_NAME_WIDTH, _SHAPE_WIDTH = 28, 30


# -- text --------------------------------------------------------------------------------------


def describe_trace(
    trace: TracedModel,
    *,
    graph: bool = True,
    lines: bool = False,
    max_nodes: int | None = None,
) -> list[Text]:
    """A trace as lines: its graph if wanted, its symbols, its guards and assertions, its notes.

    Args:
        trace: the trace.
        graph: whether the graph is among them.
        lines: whether each node of the graph has the line of the program that made it.
        max_nodes: how many nodes to show of a longer graph: the first ones, and the output.
    """
    shown = [Text(headline(trace), style="bold")]
    if graph:
        shown += [Text(), *describe_graph(trace, lines=lines, max_nodes=max_nodes)]
    for part in (_symbols(trace), _specializations(trace), _guards(trace), _asserts(trace)):
        if part:
            shown += [Text(), *part]
    shown += [Text(f"note: {note}", style="yellow") for note in trace.notes]
    return shown


def headline(trace: TracedModel) -> str:
    """A trace in one line.

    Example:
        >>> from symfx.tracing import trace
        >>> headline(trace(torch.relu, torch.randn(3, 4), dynamic=[("n", None)]))
        'relu: 3 nodes, 1 symbol (n), no guards'
    """
    names = [info.name for info in trace.symbols]
    symbols = f"{count(len(names), 'symbol')}" + (f" ({', '.join(names)})" if names else "")
    nodes = count(len(trace.graph_module.graph.nodes), "node")
    fixed = [f"{record.symbol_name} = {record.value}" for record in trace.specializations]
    pinned = f", fixed: {', '.join(fixed)}" if fixed else ""
    return f"{trace.name}: {nodes}, {symbols}, {count(len(trace.guards), 'guard')}{pinned}"


def describe_graph(
    trace: TracedModel, *, lines: bool = False, max_nodes: int | None = None
) -> list[Text]:
    """The graph as lines: for each node its name, its shape and its expression.

    The nodes of a module stand below its name in the model; see `describe_trace`.
    """
    rows: list[tuple[tuple[str, str], ...]] = []
    headers: dict[int, Text] = {}
    running = ""
    for node in _shown_nodes(trace, max_nodes):
        if isinstance(node, int):
            headers[len(rows)] = Text(f"  … {count(node, 'more node')} …", style="dim")
            continue
        path = module_of(node)
        if path is not None and path != running:
            running = path
            headers[len(rows)] = Text(f"  {path or trace.name}:", style="dim")
        style = {"placeholder": "cyan", "get_attr": "dim", "output": "cyan"}.get(node.op, "")
        shape = "" if node.op == "output" else value_in_words(node.meta.get("val"))
        call = (call_of(node), style)
        line = ((line_of(node), "dim"),) if lines else ()
        rows.append(((label_of(node), style), (shape, "green"), call, *line))
    title, *written = section("graph", rows, caps=(_NAME_WIDTH, _SHAPE_WIDTH))
    result = [title]
    for i, row in enumerate(written):
        result += [headers[i]] if i in headers else []
        result.append(row)
    return result


def _shown_nodes(trace: TracedModel, most: int | None) -> list[torch.fx.Node | int]:
    """The nodes to show; a number stands for so many that are left out."""
    nodes: list[torch.fx.Node | int] = list(trace.graph_module.graph.nodes)
    if most is None or len(nodes) <= most:
        return nodes
    first = max(most - 1, 0)
    return [*nodes[:first], len(nodes) - first - 1, nodes[-1]]


def module_of(node: torch.fx.Node) -> str | None:
    """The path of the module that a node belongs to; None for a node of any module."""
    stack = node.meta.get("nn_module_stack")
    if not stack or not isinstance(node.meta.get("val"), (torch.Tensor, list, tuple)):
        return None
    path, _ = next(reversed(stack.values()))
    return str(path)


def line_of(node: torch.fx.Node) -> str:
    """The line of the program that made a node."""
    return user_line_of_trace(node.stack_trace or "") or ""


def _symbols(trace: TracedModel) -> list[Text]:
    rows = []
    for info in trace.symbols:
        example = "known at run time" if info.unbacked else f"example {info.hint}"
        rows.append(
            (
                (info.name, "bold cyan"),
                (range_of(info), ""),
                (example, ""),
                (sources_of(trace, info), "dim"),
            )
        )
    return section("symbols", rows)


def _specializations(trace: TracedModel) -> list[Text]:
    rows = [
        ((f"{record.symbol_name} = {record.value}", "yellow"), *_cause(record.provenance))
        for record in trace.specializations
    ]
    return section("fixed while tracing (the graph holds for these values alone)", rows)


def _guards(trace: TracedModel) -> list[Text]:
    rows = [((str(g.term), "magenta"), *_cause(g.provenance)) for g in trace.guards]
    if not rows:
        return [Text("guards: none", style="bold")]
    return section("guards", rows)


def _asserts(trace: TracedModel) -> list[Text]:
    rows = [
        ((str(a.term), "magenta"), *_cause(a.provenance))
        for a in trace.shape_env.deferred_asserts()
    ]
    return section("asserted at run time", rows)


def _cause(provenance: Provenance) -> tuple[tuple[str, str], ...]:
    """Two cells: the place of the user's line, and its text."""
    frame = provenance.frame
    if frame is None:
        return (provenance.operator or "", "dim"), ("", "")
    return (str(frame), "dim"), (frame.line, "")


def range_of(info: SymbolInfo) -> str:
    """The range of a symbol, such as ``2 <= seq <= 512``; ``any`` for one without bounds."""
    left = f"{info.lower} <= " if info.lower is not None else ""
    right = f" <= {info.upper}" if info.upper is not None else ""
    return f"{left}{info.name}{right}" if left or right else "any"


def sources_of(trace: TracedModel, info: SymbolInfo) -> str:
    """The sources of a symbol as a person writes them in Python."""
    if not info.sources:
        return ", ".join(
            f"{number.measure.expression(number.leaf.path)} == {trace.admission.facts[number]}"
            for number in trace.admission.numbers_with(info.term)
        )
    numbers = [(source, trace.admission.number_at(source)) for source in info.sources]
    return ", ".join(
        number.measure.expression(number.leaf.path) if number else source
        for source, number in numbers
    )


# -- nodes ---------------------------------------------------------------------------------------


def value_in_words(value: Any) -> str:
    """The value of a node: ``f32[batch, seq, 64]``, ``2*seq``."""
    if isinstance(value, torch.Tensor):
        return f"{short_name(value.dtype)}[{', '.join(str(n) for n in value.shape)}]"
    if isinstance(value, (list, tuple)):
        return f"({', '.join(map(value_in_words, value))})"
    return str(value)


def call_of(node: torch.fx.Node) -> str:
    """The expression that computes a node, in Python where Python can write it."""
    if node.op == "placeholder":
        return "input" if node.users else "input (not used)"
    if node.op == "get_attr":
        held = operator.attrgetter(str(node.target))(node.graph.owning_module)
        if isinstance(held, torch.nn.Module):
            return "subgraph"
        return "parameter" if isinstance(held, torch.nn.Parameter) else "buffer"
    if node.op == "output":
        return f"return {_argument(node.args[0])}"
    target: Any = node.target
    arguments = [_argument(argument) for argument in node.args]
    if target is operator.getitem:
        return f"{arguments[0]}[{arguments[1]}]"
    if target in _INFIX and len(arguments) == 2:
        return f"{arguments[0]} {_INFIX[target]} {arguments[1]}"
    arguments += [f"{key}={_argument(value)}" for key, value in node.kwargs.items()]
    return f"{_operator(target)}({', '.join(arguments)})"


def _operator(target: Callable[..., Any] | str) -> str:
    """``addmm`` for ``aten.addmm.default``; other libraries' operators keep the library's name."""
    if isinstance(target, torch._ops.OpOverload):
        name = target._opname
        return name if target.namespace == "aten" else f"{target.namespace}.{name}"
    return target if isinstance(target, str) else getattr(target, "__name__", str(target))


def target_of(node: torch.fx.Node) -> str:
    """What a node calls: ``aten.relu.default``, ``operator.getitem``; an attribute's name."""
    target: Any = node.target
    if isinstance(target, (str, torch._ops.OperatorBase)):
        return str(target)
    module = getattr(target, "__module__", None)
    name = getattr(target, "__qualname__", str(target))
    return f"{module.removeprefix('_')}.{name}" if isinstance(module, str) else name


def label_of(node: torch.fx.Node) -> str:
    """The name of a node in a report: for a parameter, its name in the model."""
    return str(node.target) if node.op == "get_attr" else node.name


def _argument(value: Any, label: Callable[[torch.fx.Node], str] = label_of) -> str:
    """An argument of a node as text."""
    if isinstance(value, torch.fx.Node):
        return label(value)
    if isinstance(value, (tuple, list)):
        parts = ", ".join(_argument(part, label) for part in value)
        if isinstance(value, list):
            return f"[{parts}]"
        return f"({parts}{',' if len(value) == 1 else ''})"
    if isinstance(value, dict):
        parts = ", ".join(f"{key!r}: {_argument(part, label)}" for key, part in value.items())
        return "{" + parts + "}"
    if isinstance(value, torch.dtype):
        return short_name(value)
    return str(value) if isinstance(value, (torch.device, torch.layout)) else repr(value)


# -- data ------------------------------------------------------------------------------------------


def as_data(trace: TracedModel, verification: Verification | None = None) -> dict[str, Any]:
    """A trace, and its verification if given, as plain data for JSON.

    Sizes are numbers where they are static and text (``"2*batch"``) where they are symbolic.
    Arguments of nodes are text; other nodes appear in it by name.
    """
    env = trace.shape_env
    data: dict[str, Any] = {
        "symfx": __version__,
        "torch": torch.__version__,
        "model": trace.name,
        "graph": [_node_data(node) for node in trace.graph_module.graph.nodes],
        "symbols": [
            {
                "name": info.name,
                "sources": sources_of(trace, info).split(", ") if info.sources else [],
                "example": info.hint,
                "lower": info.lower,
                "upper": info.upper,
                "unbacked": info.unbacked,
            }
            for info in trace.symbols
        ],
        "guards": [_condition_data(g.term, g.provenance) for g in trace.guards],
        "runtime_asserts": [
            _condition_data(a.term, a.provenance) | {"message": a.message}
            for a in env.deferred_asserts()
        ],
        "specializations": [
            {"symbol": r.symbol_name, "value": r.value, **_cause_data(r.provenance)}
            for r in trace.specializations
        ],
        "notes": list(trace.notes),
    }
    if verification is not None:
        data["verification"] = verification_data(verification)
    return data


def verification_data(verification: Verification) -> dict[str, Any]:
    """A verification as plain data for JSON."""
    return {
        "passed": bool(verification),
        "largest_difference": _json_number(verification.difference),
        "note": verification.note,
        "notes": list(verification.notes),
        "runs": [_run_data(run) for run in verification.runs],
    }


def _node_data(node: torch.fx.Node) -> dict[str, Any]:
    name = operator.attrgetter("name")
    return {
        "name": node.name,
        "op": node.op,
        "target": str(node.target),
        "args": [_argument(argument, name) for argument in node.args],
        "kwargs": {key: _argument(value, name) for key, value in node.kwargs.items()},
        "value": _value_data(node.meta.get("val")),
        "module": module_of(node),
        "line": line_of(node) or None,
    }


def _value_data(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        dtype = str(value.dtype).removeprefix("torch.")
        return {"dtype": dtype, "shape": [_size_data(n) for n in value.shape]}
    if isinstance(value, (list, tuple)):
        return [_value_data(part) for part in value]
    return _size_data(value)


def _size_data(value: Any) -> Any:
    return value if isinstance(value, (bool, int, float, str, type(None))) else str(value)


def _condition_data(condition: object, provenance: Provenance) -> dict[str, Any]:
    return {"condition": str(condition), **_cause_data(provenance)}


def _cause_data(provenance: Provenance) -> dict[str, Any]:
    frame = provenance.frame
    return {
        "file": frame.filename if frame else None,
        "line": frame.lineno if frame else None,
        "function": frame.function if frame else None,
        "source": frame.line if frame else None,
        "operator": provenance.operator,
    }


def _run_data(run: Run) -> dict[str, Any]:
    return {
        "sizes": dict(run.sizes),
        "example": run.example,
        "passed": run.passed,
        "compared": run.compared,
        "largest_difference": _json_number(run.difference),
        "largest_relative_difference": _json_number(run.relative),
        "failure": run.failure,
        "model_error": run.model_error,
    }


def _json_number(value: float | None) -> float | str | None:
    """A number; an infinity as text, because JSON has none."""
    return str(value) if value is not None and value in (float("inf"), float("-inf")) else value
