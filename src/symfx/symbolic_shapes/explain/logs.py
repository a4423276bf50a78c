"""The log lines about symbols and guards; switches of `symfx.config` add the stack to some.

The same facts go into torch's structured trace and into its log of dynamic shapes, under the names
that torch's own environments use.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import sympy
import torch
from torch.utils import _pytree as pytree

from symfx import config
from symfx.algebra.languages.sympy import to_sympy
from symfx.sym_node import SymTypes
from symfx.symbolic_shapes.explain.provenance import Provenance
from symfx.torch_bridge.dynamic_log import log_dynamic
from symfx.torch_bridge.structured_trace import is_traced, trace_event
from symfx.user_code import UserFrame, user_frame

if TYPE_CHECKING:
    from symfx.algebra import Scalar, Term
    from symfx.symbolic_shapes.records import RuntimeAssert, ShapeGuard

__all__ = ["log_guard", "log_observed", "log_specialization", "log_symbol"]

log = logging.getLogger("symfx.symbolic_shapes")

SourceOf: TypeAlias = Callable[[sympy.Symbol], str | None]


def log_symbol(term: Term, source: Any, hint: Any, low: int | None, provenance: Provenance) -> None:
    """Log, at INFO, that a symbol was made.

    The line has the Python stack if ``config.extended_debug_create_symbol`` lists the symbol's
    name; commas stand between the names in that list.
    """

    def fields() -> dict[str, Any]:
        place = "" if source is None else source.name
        number = {} if hint is None else {"val": repr(hint), "source": place}
        least = "-int_oo" if low is None else low
        return {"symbol": str(to_sympy(term)), "vr": f"[{least}, int_oo]", **number}

    name = "create_unbacked_symbol" if hint is None else "create_symbol"
    trace_event(name, provenance.summary, fields)

    def text() -> str:
        of = fields()
        value = "" if hint is None else f" = {of['val']} for {of['source']}"
        return f"{name} {of['symbol']}{value} {of['vr']}"

    variable = "TORCHDYNAMO_EXTENDED_DEBUG_CREATE_SYMBOL"
    log_dynamic(text, provenance.in_torchs_words, (variable, lambda: term.name))
    if not log.isEnabledFor(logging.INFO):
        return
    wanted = (config.extended_debug_create_symbol or "").split(",")
    place = f" for {source.name}" if source is not None else ""
    value = "" if hint is None else f" = {hint}"
    _log(f"symbol {term.name}{value}{place} made", term.name in wanted)


def log_guard(guard: ShapeGuard | RuntimeAssert, source_of: SourceOf, *, at_run_time: bool) -> None:
    """Log, at INFO, that a guard was added, or an assertion at run time.

    The line has the Python stack if ``config.extended_debug_guard_added`` is the text of the
    guard, as sympy or as symfx writes it.

    Args:
        guard: the guard or the assertion.
        source_of: gives the name of the input that a symbol stands for, or None.
        at_run_time: whether it is an assertion.
    """
    if is_traced():
        _trace_guard(guard, source_of, at_run_time=at_run_time)
    log_dynamic(
        lambda: f"{'runtime_assert' if at_run_time else 'eval'} {guard.expr} [guard added]",
        guard.provenance.in_torchs_words,
        ("TORCHDYNAMO_EXTENDED_DEBUG_GUARD_ADDED", lambda: str(guard.expr)),
    )
    if not log.isEnabledFor(logging.INFO):
        return
    wanted = config.extended_debug_guard_added
    asked = wanted is not None and wanted in (str(guard.expr), str(guard.term))
    _log(f"{'assertion' if at_run_time else 'guard'} {guard} added", asked)


def _trace_guard(
    guard: ShapeGuard | RuntimeAssert, source_of: SourceOf, *, at_run_time: bool
) -> None:
    here = guard.provenance.summary
    trace_event("guard_added_fast", here, lambda: {"expr": str(guard.expr)})
    trace_event(
        "guard_added",
        here,
        lambda: {
            "expr": str(guard.expr),
            "prefix": "runtime_assert" if at_run_time else "eval",
            "expr_node_id": None,
            **_circumstances(guard.expr, source_of),
        },
        detailed=True,
    )


def log_observed(
    condition: sympy.Basic, value: Scalar, source_of: SourceOf, provenance: Provenance
) -> None:
    """Trace that the run on real tensors answered a question about data.

    Args:
        condition: the question.
        value: the answer.
        source_of: gives the name of the input that a symbol stands for, or None.
        provenance: what asked.
    """

    def fields() -> dict[str, Any]:
        return {"expr": repr(condition), "result": repr(value)}

    trace_event("propagate_real_tensors", provenance.summary, fields)
    trace_event(
        "propagate_real_tensors_provenance",
        provenance.summary,
        lambda: {**fields(), "expr_node_id": None, **_circumstances(condition, source_of)},
        detailed=True,
    )


def log_specialization(
    symbol: Term, value: object, sources: Sequence[Any], provenance: Provenance
) -> None:
    """Warn that a symbol was pinned to a value, if ``config.print_specializations`` is set."""
    trace_event(
        "symbolic_shape_specialization",
        provenance.summary,
        lambda: {
            "symbol": repr(to_sympy(symbol)),
            "sources": [source.name for source in sources],
            "value": repr(value),
            "reason": str(provenance),
        },
    )
    log_dynamic(
        lambda: f"set_replacement {symbol.name} = {value} (specialized) VR[{value}, {value}]"
    )
    name = sources[0].name if sources else symbol.name
    if config.print_specializations:
        log.warning("Specializing %s to %s", name, value)


def _circumstances(expr: sympy.Basic, source_of: SourceOf) -> dict[str, Any]:
    """The inputs behind the symbols of an expression, and the user's line with its variables."""
    named = {str(symbol): source_of(symbol) for symbol in expr.free_symbols}
    sources = {symbol: source for symbol, source in named.items() if source is not None}
    return {"symbol_to_sources": sources, "frame_locals": _line_and_numbers(sources)}


def _line_and_numbers(sources: dict[str, str]) -> dict[str, Any]:
    """The user's line, its variables that hold symbolic numbers or tensors, and their symbols."""
    frame = user_frame()
    if frame is None:
        return {"loc": None, "locals": {}, "symbols": {}}
    line = UserFrame(frame.f_code, frame.f_lineno).line
    shown: dict[str, list[str | None]] = {}
    for name in dict.fromkeys(re.findall(r"\b[A-Za-z_]\w*\b", line)):
        if name not in frame.f_locals:
            continue
        shown[name] = [_shown(leaf) for leaf in pytree.tree_leaves(frame.f_locals[name])]
    return {"loc": line, "locals": shown, "symbols": sources}


def _shown(value: Any) -> str | None:
    """A tensor or a symbolic number as the trace has it; None for other values."""
    if isinstance(value, SymTypes):
        return str(value)
    if not isinstance(value, torch.Tensor):
        return None
    layout = ""
    if value.layout is torch.strided:
        layout = f", stride: {value.stride()}, storage_offset: {value.storage_offset()}"
    return f"Tensor(shape: {value.size()}{layout})"


def _cpp_stack() -> list[str]:
    from torch.utils._traceback import CapturedTraceback

    stack: list[str] = CapturedTraceback.extract(cpp=True).format()  # type: ignore[no-untyped-call]
    return stack


def _log(text: str, with_stack: bool) -> None:
    if with_stack and config.extended_debug_cpp:
        text += "\nC++ stack trace:\n" + "".join(_cpp_stack())
    log.info("%s", text, stack_info=with_stack)
