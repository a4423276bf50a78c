"""A trace as HTML for a notebook: pins first, then symbols, guards, the verification, the graph."""

from __future__ import annotations

from symfx.tracing.markup import Html, element, table
from symfx.tracing.report import (
    call_of,
    headline,
    label_of,
    line_of,
    module_of,
    range_of,
    sources_of,
    value_in_words,
)
from symfx.tracing.tables import AssertTable
from symfx.tracing.traced_model import TracedModel
from symfx.tracing.verification import Verification

__all__ = ["trace_as_html"]

#: How many nodes are shown; `str` of the trace shows all.
_NODES = 500


def trace_as_html(trace: TracedModel, verification: Verification | None) -> str:
    """A trace as HTML, all of whose texts are escaped.

    Args:
        trace: the trace.
        verification: its last verification; None if it has none.
    """
    parts = [element("strong", headline(trace))]
    if trace.specializations:
        pins = Html(trace.specializations._repr_html_())
        warning = "the program pins dimensions: the graph holds for these values alone"
        parts.append(element("p", warning, style="color:#d32f2f;font-weight:bold"))
        parts.append(pins)
    parts += [_symbols(trace), Html(trace.guards._repr_html_())]
    asserts = AssertTable(trace.shape_env.deferred_asserts())
    parts += [Html(asserts._repr_html_())] if asserts else []
    parts += [element("p", f"note: {note}") for note in trace.notes]
    parts += [Html(verification._repr_html_())] if verification is not None else []
    return element("div", *parts, _graph(trace))


def _symbols(trace: TracedModel) -> Html:
    rows = [
        (
            info.name,
            range_of(info),
            "known at run time" if info.unbacked else str(info.hint),
            sources_of(trace, info),
        )
        for info in trace.symbols
    ]
    return table("symbols", ("symbol", "range", "in the example", "inputs"), rows)


def _graph(trace: TracedModel) -> Html:
    """The graph, folded."""
    nodes = list(trace.graph_module.graph.nodes)
    rows = [
        (
            label_of(node),
            "" if node.op == "output" else value_in_words(node.meta.get("val")),
            call_of(node),
            module_of(node) or "",
            line_of(node),
        )
        for node in nodes[:_NODES]
    ]
    left = len(nodes) - len(rows)
    shown = table("graph", ("node", "shape", "expression", "module", "line"), rows)
    more = [element("p", f"and {left} more nodes: print the trace to see them")] if left else []
    summary = element("summary", f"the graph, {len(nodes)} nodes")
    return element("details", summary, shown, *more)
