"""Why a trace failed: a pinned dimension, a question that data decides, inputs that do not fit."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from symfx.algebra import Term
from symfx.errors import InputMismatchError, SymfxError
from symfx.explanation.answers import Explanation, Reason
from symfx.explanation.assumptions import Assumptions
from symfx.explanation.rejections import rejection_of
from symfx.symbolic_shapes import GuardOnDataDependentSymNode
from symfx.user_code import raised_at

__all__ = ["explain_error"]

#: How many known facts about the numbers of a question are shown.
_FACTS = 4
_NAMED = re.compile(r"^  (.+) \((\w+)\) is made ", re.MULTILINE)


def explain_error(
    error: BaseException, explain_subject: Callable[[Any, Any], Explanation]
) -> Explanation:
    """The conditions, operators and lines behind an exception.

    Args:
        error: the exception.
        explain_subject: explains a dimension or a guard of a trace.
    """
    if isinstance(error, GuardOnDataDependentSymNode) and error.question is not None:
        return _data_dependent(error)
    if isinstance(error, SymfxError) and error.refused is not None:
        trace, subjects = error.refused
        if isinstance(error, InputMismatchError):
            return _unfit(trace, subjects, error)
        parts = tuple(explain_subject(trace, subject) for subject in subjects)
        if len(parts) == 1:
            return replace(parts[0], fix=error.fix)
        return Explanation(type(error).__name__, "error", error.what, fix=error.fix, parts=parts)
    cause = error.__cause__
    inner = _inner(error)
    if inner is not None:
        return explain_error(inner, explain_subject)
    frame = raised_at(cause or error)
    what = error.what if isinstance(error, SymfxError) else f"{type(error).__name__}: {error}"
    place = getattr(error, "where", None)
    details = [("at", place)] if place else []
    if frame is not None and (not place or frame.with_text not in place):
        details.append(("raised at", frame.with_text))
    return Explanation(
        type(error).__name__,
        "error",
        what,
        details=tuple(details),
        fix=getattr(error, "fix", None),
    )


def _inner(error: BaseException) -> SymfxError | None:
    """The error that an exception was raised for, if that one has more to say.

    torch.export and torch.compile raise exceptions of their own for those of symfx.
    """
    seen: set[int] = set()
    at = error.__cause__ or error.__context__
    while at is not None and id(at) not in seen:
        seen.add(id(at))
        has_more = getattr(at, "question", None) or getattr(at, "refused", None)
        if isinstance(at, SymfxError) and (has_more or not isinstance(error, SymfxError)):
            return at
        at = at.__cause__ or at.__context__
    return None


def _unfit(trace: Any, leaves: Sequence[Any], error: SymfxError) -> Explanation:
    """Inputs that a trace refused, with the nearest that it admits."""
    rejection = rejection_of(trace, leaves)
    reasons = tuple(
        Reason(cause.sentence, "unfit", cause.operator, cause.line) for cause in rejection
    )
    nearest = tuple((path, text) for path, text in rejection.nearest.items())
    return Explanation(
        trace.name,
        "error",
        "these inputs do not fit; the nearest that fit stand below",
        reasons,
        nearest,
        error.fix,
    )


def _data_dependent(error: GuardOnDataDependentSymNode) -> Explanation:
    """The question, the operators that make its numbers from data, and what is known of these."""
    assert error.question is not None
    env, term, cause = error.question
    known = Assumptions(env)
    # The message calls a number by the variable of the program: "n (u0) is made by ...".
    names = {name: f"which is {variable}" for variable, name in _NAMED.findall(error.what)}
    made = []
    for symbol in sorted(term.free_symbols, key=lambda s: s.uid):
        record = env.symbols.records.get(symbol)
        if record is not None and symbol not in env.symbols.hints:
            origin = record.provenance
            made.append(
                Reason(
                    symbol.name, "data", origin.operator, origin.frame, names.get(symbol.name, "")
                )
            )
    facts = [each.as_reason() for each in _near(known, term)]
    first = error.what.splitlines()[0]
    asked = Reason(
        str(term), "open", cause.operator, cause.frame, because=(*made, *facts), term=term
    )
    examples = [line.strip() for line in error.what.splitlines()[1:]]
    shown = [line for line in examples if line.startswith(("True for", "False for"))]
    return Explanation(
        str(term),
        "error",
        first,
        (asked,),
        tuple(("example", line) for line in shown),
        error.fix,
    )


def _near(known: Assumptions, term: Term) -> list[Any]:
    """The assumptions that are nearest to a question: those with the fewest other symbols."""
    every = [
        each
        for fact, each in (known.causes | known.others).items()
        if fact.free_symbols & term.free_symbols
    ]
    every.sort(key=lambda each: len(each.term.free_symbols - term.free_symbols))
    return every[:_FACTS]
