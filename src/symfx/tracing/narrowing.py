"""Stated conditions compared with what a program needs: too little is refused, too much is told."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator, Sequence

from symfx.algebra import Facts, Prover, Term
from symfx.algebra.reasoning.drawn_values import drawn_values, satisfies
from symfx.errors import SymfxError, TracingError
from symfx.shape_language.lowering import condition_term
from symfx.symbolic_shapes import ShapeGuard
from symfx.tracing.stated import Stated
from symfx.tracing.traced_model import TracedModel

__all__ = ["needless", "refuse_narrowing"]

#: How many sizes of one symbol, and how many combinations of sizes, are tried.
_SIZES, _TRIES = 600, 20_000


def refuse_narrowing(trace: TracedModel, stated: Sequence[Stated]) -> None:
    """Refuse a trace whose program needs more of the dimensions in conditions than they state.

    Args:
        trace: the trace.
        stated: the conditions.

    Raises:
        TracingError: inputs that satisfy the conditions do not satisfy a guard of the program.
    """
    if not stated:
        return
    said = [guard.term for guard in trace.shape_env.guards if guard.provenance.stated]
    named = {symbol for term in said for symbol in term.free_symbols}
    for guard in trace.guards:
        if guard.provenance.stated or not guard.term.free_symbols & named:
            continue
        breaking = _sizes_with(trace, said, without=guard.term)
        if breaking is None:
            continue  # every size that was tried and is stated satisfies the guard
        fitting = {symbol: _hint(trace, symbol) for symbol in breaking}
        names = ", ".join(sorted(s.name for s in guard.term.free_symbols))
        nearest = _conjunction([guard.term, *(t for t in said if not _implied(guard.term, t))])
        error = TracingError(
            f"{trace.name} needs more of {names} than where= states: {guard.term} "
            f"(it holds for {_in_words(fitting)} and not for {_in_words(breaking)})",
            where=str(guard.provenance).removeprefix("at "),
            fix=f"state the nearest condition that holds, where={nearest!r}, or change this line "
            "so that it holds for the other sizes; strict=False, or --allow-pinned on the command "
            "line, accepts the guard",
        )
        error.refused = (trace, (guard,))
        raise error


def needless(
    trace: TracedModel,
    stated: Sequence[Stated],
    traced_under: Callable[[Sequence[Stated]], TracedModel],
) -> Iterator[str]:
    """A sentence for each condition that the program does not need, or needs only in part.

    The model is traced again without the condition.

    Args:
        trace: the trace.
        stated: its conditions.
        traced_under: traces the model under other conditions.
    """
    own = {str(guard.term) for guard in _asked(trace)}
    for condition in stated:
        try:
            again = traced_under([other for other in stated if other is not condition])
        except SymfxError:
            continue  # without the condition the model cannot be traced
        if len(again.specializations) > len(trace.specializations):
            continue
        fresh = [guard.term for guard in _asked(again) if str(guard.term) not in own]
        said = [g.term for g in trace.shape_env.guards if g.provenance.stated]
        if not fresh:
            yield f"the program does not need the stated condition {condition}"
            continue
        texts = {str(term) for term in said}
        if all(str(term) in texts for term in fresh):
            continue
        beyond = _sizes_with(again, fresh, without=_term_of(again, condition))
        if beyond is not None:
            yield (
                f"the program needs less than the stated condition {condition}: "
                f"{_conjunction(fresh)}"
            )


def _asked(trace: TracedModel) -> list[ShapeGuard]:
    """The guards that the program asked for."""
    return [guard for guard in trace.guards if not guard.provenance.stated]


def _term_of(trace: TracedModel, condition: Stated) -> Term:
    """A condition as a term of a trace."""
    env = trace.shape_env
    return condition_term(env.table, condition.tree, env.inputs.named, condition.text)


def _hint(trace: TracedModel, symbol: Term) -> int:
    return int(trace.shape_env.symbols.hints[symbol])


def _implied(condition: Term, by: Term) -> bool:
    """Whether the second condition follows from the first."""
    facts = Facts(condition.table)
    facts.assume(condition)
    return Prover(facts).decide(by) is True


def _conjunction(terms: Sequence[Term]) -> str:
    return " and ".join(f"({term})" if term.op == "or" else str(term) for term in terms)


def _in_words(values: dict[Term, int]) -> str:
    return ", ".join(f"{s.name} = {values[s]}" for s in sorted(values, key=lambda s: s.name))


def _sizes_with(
    trace: TracedModel, holding: Sequence[Term], without: Term
) -> dict[Term, int] | None:
    """Sizes for which conditions hold and one does not; None if none were found.

    The sizes are in the ranges in which the dimensions began.

    Args:
        trace: the trace.
        holding: the conditions that hold.
        without: the one that does not.
    """
    env = trace.shape_env
    symbols = {*without.free_symbols}
    near = [term for term in holding if term.free_symbols & symbols]
    symbols |= {symbol for term in near for symbol in term.free_symbols}
    if not symbols <= env.symbols.hints.keys():
        return None
    near += [term for term in env.knowledge.given if term.free_symbols <= symbols]
    ordered = sorted(symbols, key=lambda s: s.name)
    most = max(int(_TRIES ** (1 / len(ordered))), 4)
    choices = [_choices(_hint(trace, s))[: most if len(ordered) > 1 else None] for s in ordered]
    for sizes in itertools.product(*choices):
        values = dict(zip(ordered, sizes, strict=True))
        if satisfies(near, values) and not satisfies([without], values):
            return values
    ranges: dict[Term, tuple[int | None, int | None]] = dict.fromkeys(ordered, (0, None))
    wanted = [*near, without.table.not_(without)]
    return next(drawn_values(wanted, ranges, {}, random.Random(0)), None)


def _choices(hint: int) -> list[int]:
    """Sizes to try for a symbol, the example's and small ones first."""
    far = [hint + 1, hint - 1, 2 * hint, *(2**i for i in range(10, 20))]
    return list(dict.fromkeys([hint, *range(_SIZES), *far]))
