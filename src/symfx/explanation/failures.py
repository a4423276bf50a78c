"""Why a trace failed: a pinned dimension, a question that data decides, inputs that do not fit."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from symfx.algebra import Term
from symfx.errors import SymfxError
from symfx.explanation.answers import Explanation, Reason
from symfx.explanation.assumptions import Assumptions
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
    refused = getattr(error, "refused", None)
    if isinstance(error, SymfxError) and refused is not None:
        trace, subjects = refused
        parts = tuple(explain_subject(trace, subject) for subject in subjects)
        if len(parts) == 1:
            return replace(parts[0], fix=error.fix)
        return Explanation(type(error).__name__, "error", error.what, fix=error.fix, parts=parts)
    cause = error.__cause__
    if isinstance(cause, SymfxError) and not isinstance(error, SymfxError):
        return explain_error(cause, explain_subject)
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
