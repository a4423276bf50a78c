"""The differences between inputs and a trace, put together by what caused them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from symfx.algebra import Term
from symfx.tracing.admission import Admission
from symfx.tracing.mismatches import Kind, Mismatch
from symfx.user_code import SavedFrame, UserFrame

__all__ = ["RejectionCause", "causes_of"]


@dataclass(frozen=True, repr=False)
class RejectionCause:
    """One reason why inputs do not fit a trace.

    Attributes:
        kind: the kind of the condition that the inputs do not satisfy: ``dtype``, ``rank``,
            ``size`` (a static one), ``condition`` (guards), ...
        sentence: the reason in one sentence.
        inputs: the inputs that are concerned, as Python reads them from the parameters.
        conditions: the guards, or the range, that do not hold, as text.
        operator: the torch operator that asked for the guards, if one did.
        line: the line of the program that asked for them, if one did.
    """

    kind: Kind
    sentence: str
    inputs: tuple[str, ...] = ()
    conditions: tuple[str, ...] = ()
    operator: str | None = None
    line: UserFrame | SavedFrame | None = None

    def __repr__(self) -> str:
        return f"<RejectionCause {self.kind}: {self}>"

    def __str__(self) -> str:
        return self.sentence + (f" (at {self.line.with_text})" if self.line else "")


def causes_of(admission: Admission, found: Sequence[Mismatch]) -> tuple[RejectionCause, ...]:
    """The causes of differences, in the order of their first.

    One cause are: a property that differs in the same way in several inputs; the sizes of one
    dimension in several inputs; the guards that one line asked for.
    """
    groups: dict[tuple[object, ...], list[Mismatch]] = {}
    for mismatch in found:
        groups.setdefault(_key(mismatch), []).append(mismatch)
    return tuple(_cause(admission, group) for group in groups.values())


def _key(mismatch: Mismatch) -> tuple[object, ...]:
    """What differences of one cause have in common."""
    kind, cause = mismatch.kind, mismatch.cause
    if kind in ("dtype", "device", "layout"):
        return kind, mismatch.found, mismatch.wanted
    if kind == "equality":
        return kind, mismatch.term
    if kind == "condition" and cause is not None and cause.frame is not None:
        return kind, cause.frame.filename, cause.frame.lineno
    return kind, id(mismatch)


def _cause(admission: Admission, group: Sequence[Mismatch]) -> RejectionCause:
    first = group[0]
    inputs = tuple(dict.fromkeys(_inputs(admission, group)))
    terms = [m.term for m in group if m.term is not None]
    if first.kind == "condition":
        cause = first.cause
        operators = {m.cause.operator for m in group if m.cause is not None}
        return RejectionCause(
            "condition",
            _conditions_in_words(admission, group, terms),
            inputs,
            tuple(str(term) for term in terms),
            next(iter(operators)) if len(operators) == 1 else None,
            cause.frame if cause is not None else None,
        )
    sentence = first.text
    if len(group) > 1 and first.kind in ("dtype", "device", "layout"):
        names = f"{', '.join(inputs[:-1])} and {inputs[-1]}"
        sentence = f"{names} have {first.kind} {first.found}, not {first.wanted}"
    elif len(group) > 1 and first.kind == "equality":
        others = ", ".join(f"{m.found} ({m.number})" for m in group[1:])
        sentence = f"{first.text} and {others}"
    conditions = tuple(str(term) for term in terms if first.kind == "unchecked")
    return RejectionCause(first.kind, sentence, inputs, conditions)


def _inputs(admission: Admission, group: Sequence[Mismatch]) -> Iterator[str]:
    for mismatch in group:
        if mismatch.leaf is not None:
            yield mismatch.leaf.path
        elif mismatch.term is not None:
            for symbol in sorted(mismatch.term.free_symbols, key=lambda s: s.name):
                yield from (n.leaf.path for n in admission.numbers_of(symbol))


def _conditions_in_words(
    admission: Admission, group: Sequence[Mismatch], terms: Sequence[Term]
) -> str:
    """``seq is 3 (dimension 1 of x), and seq >= 4 and seq % 2 == 0 are needed``."""
    values: dict[Term, int] = {}
    for mismatch in group:
        values.update(mismatch.found or {})
    cause = group[0].cause
    given = " and ".join(
        f"{admission.name_of(symbol)} is {value}{_place(admission, symbol)}"
        for symbol, value in sorted(values.items(), key=lambda item: item[0].name)
    )
    pinned = [
        (term, -term.args[0].const // c)
        for term in terms
        if term.op == "eq"
        and len(term.args[0].coeffs) == 1
        and term.free_symbols == term.args[0].coeffs.keys()
        for c in term.args[0].coeffs.values()
    ]
    if len(pinned) == len(terms) == 1 and not (cause is not None and cause.stated):
        return f"{given}; the program pins it to {pinned[0][1]}"
    needed = " and ".join(str(admission.shown(term)) for term in terms)
    if cause is not None and cause.stated:
        return f"{given}; where= states {needed}"
    who = "the program needs"
    if cause is not None and cause.operator and cause.frame is None:
        who = f"{cause.operator} needs"
    return f"{given}; {who} {needed}"


def _place(admission: Admission, symbol: Term) -> str:
    numbers = [n for n in admission.numbers_of(symbol) if str(n) != symbol.name]
    return f" ({numbers[0]})" if numbers and numbers[0].measure.kind != "item" else ""
