"""Why a dimension has its size: pinned, equal to others, in a range, static, or known from data."""

from __future__ import annotations

import re

from symfx.algebra import Term
from symfx.algebra.reasoning.proofs import prove_from
from symfx.explanation.answers import Explanation, Reason
from symfx.explanation.assumptions import Assumptions, reason_of
from symfx.symbolic_shapes import SpecializationRecord, SymbolInfo
from symfx.tracing.mismatches import LeafMeasure
from symfx.tracing.pin_advice import advice_for
from symfx.tracing.report import sources_of
from symfx.tracing.traced_model import TracedModel

__all__ = ["dimension_names", "explain_dimension", "explain_size", "size_at"]

#: The ways to write one size of an input: ``x.shape[1]``, ``x.size(1)``, ``x.size()[1]``.
_SIZE = re.compile(
    r"(?P<path>.+?)\.(?:shape\[|size\(\)\[|size\()(?P<dim>-?\d+)[\])]"
    r"|dimension (?P<number>-?\d+) of (?P<input>.+)"
)


def dimension_names(trace: TracedModel) -> dict[str, SymbolInfo]:
    """The symbols of a trace by name, pinned ones and those of data among them."""
    return {info.name: info for info in trace.shape_env.symbol_table()}


def size_at(trace: TracedModel, text: str) -> LeafMeasure | None:
    """The size of an input that a text such as ``x.shape[1]`` names; None if it names none."""
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        return None
    path, dim = found["path"] or found["input"], int(found["dim"] or found["number"])
    for leaf in trace.admission.layout.leaves:
        if path in (leaf.path, leaf.name) and hasattr(leaf.example, "dim"):
            at = dim + leaf.example.dim() if dim < 0 else dim
            return trace.admission.number_at(f"{leaf.name}.size()[{at}]")
    return None


def explain_size(trace: TracedModel, size: LeafMeasure) -> Explanation:
    """Why a size of an input is what it is.

    Args:
        trace: the trace.
        size: the size.
    """
    env = trace.shape_env
    source = size.measure.source(size.leaf.name)
    for info in env.symbol_table():
        if source in info.sources:
            return explain_dimension(trace, info)
    term = trace.admission.facts[size]
    subject = size.measure.expression(size.leaf.path)
    if term.free_symbols:
        names = ", ".join(sorted(symbol.name for symbol in term.free_symbols))
        return Explanation(
            subject,
            "dimension",
            f"{subject} is {term}, as dynamic= describes it",
            details=(("in the example", str(size.of(size.leaf.example))), ("depends on", names)),
        )
    value = size.of(size.leaf.example)
    sentence = f"{subject} is {value}: it is static, because dynamic= gives it no name"
    fix = "give it a name in dynamic= if it is to change"
    if value in (0, 1):
        sentence += "; without a name, a size of 0 or 1 is always static"
        fix = "trace with an example whose size is 2 or more, and name it in dynamic="
    return Explanation(subject, "dimension", sentence, fix=fix)


def explain_dimension(
    trace: TracedModel, info: SymbolInfo, known: Assumptions | None = None
) -> Explanation:
    """Why a symbol has the values that the trace admits.

    Args:
        trace: the trace.
        info: the symbol.
        known: what the trace takes for granted, if it was gathered before.
    """
    known = Assumptions(trace.shape_env) if known is None else known
    record = next(
        (r for r in trace.shape_env.specialization_records() if r.symbol_name == info.name), None
    )
    by = trace.shape_env.facts.replacements.get(info.term)
    if record is not None:
        return _pinned(trace, info, record, known)
    if by is not None and by.free_symbols:
        return _replaced(trace, info, by, known)
    if info.unbacked:
        return _of_data(trace, info, known)
    return _free(trace, info, known)


def _pinned(
    trace: TracedModel, info: SymbolInfo, record: SpecializationRecord, known: Assumptions
) -> Explanation:
    table = trace.shape_env.table
    condition = table.eq(info.term, table.const(record.value))
    reason = known.reason(condition)
    causes = [leaf for leaf in reason.leaves() if leaf.line is not None]
    where = f", because of {causes[0].line.with_text}" if causes and causes[0].line else ""
    if not reason.because and reason.kind == "follows":
        reason = reason_of(condition, "fact", record.provenance)
    stated = all(leaf.kind in ("stated", "range") for leaf in reason.leaves())
    where = ", as where= states" if stated and not where else where
    return Explanation(
        info.name,
        "dimension",
        f"{info.name} is pinned to {record.value}{where}; the graph holds for this value alone",
        (reason,),
        _places(trace, info),
        None if stated else advice_for(record.provenance),
    )


def _replaced(trace: TracedModel, info: SymbolInfo, by: Term, known: Assumptions) -> Explanation:
    table = trace.shape_env.table
    return Explanation(
        info.name,
        "dimension",
        f"{info.name} is always {by}",
        (known.reason(table.eq(info.term, by)), *known.bounds(info.term)),
        _places(trace, info),
    )


def _of_data(trace: TracedModel, info: SymbolInfo, known: Assumptions) -> Explanation:
    cause = trace.shape_env.symbols.records[info.term].provenance
    where = f": {sources_of(trace, info)}" if info.sources else ""
    made = f", made by {cause.operator}" if cause.operator else ""
    sentence = f"{info.name} is known only when the graph runs{where}{made}"
    origin = Reason(info.name, "data", cause.operator, cause.frame)
    reasons = [*known.bounds(info.term), *_mentioning(info, known, ("assertion", "guard"))]
    return Explanation(
        info.name,
        "dimension",
        sentence,
        ((origin,) if cause.operator or cause.frame else ()) + _once(reasons),
        _places(trace, info),
    )


def _free(trace: TracedModel, info: SymbolInfo, known: Assumptions) -> Explanation:
    bounds = list(known.bounds(info.term))
    range_ = [bound.term for bound in bounds if bound.term is not None]
    others = [
        known.guard(guard)
        for guard in trace.guards
        if info.term in guard.term.free_symbols and prove_from(range_, guard.term).holds is not True
    ]
    needs = " for which its guards hold" if others else ""
    if info.lower is not None and info.lower == info.upper:
        values = f"{info.lower} alone"
    elif info.lower is not None and info.upper is not None and info.upper < 1 << 62:
        values = f"any value from {info.lower} to {info.upper}"
    elif info.lower is not None:
        values = f"any value of at least {info.lower}"
    else:
        values = "any value"
    shown = {leaf.statement for bound in bounds for leaf in bound.leaves()}
    others = [reason for reason in others if reason.statement not in shown]
    return Explanation(
        info.name,
        "dimension",
        f"{info.name} is dynamic: the graph holds for {values}{needs}",
        _once([*bounds, *others]),
        _places(trace, info),
    )


def _mentioning(info: SymbolInfo, known: Assumptions, kinds: tuple[str, ...]) -> list[Reason]:
    """The assumptions of some kinds about a symbol."""
    return [
        each.as_reason()
        for term, each in known.causes.items()
        if info.term in term.free_symbols and each.kind in kinds
    ]


def _once(reasons: list[Reason]) -> tuple[Reason, ...]:
    return tuple({reason.statement: reason for reason in reasons}.values())


def _places(trace: TracedModel, info: SymbolInfo) -> tuple[tuple[str, str], ...]:
    """The inputs that have a symbol's value, and its value in the example."""
    places = sources_of(trace, info) if not info.unbacked or info.sources else ""
    details = [("inputs", places)] if places else []
    if info.hint is not None:
        details.append(("in the example", str(info.hint)))
    return tuple(details)
