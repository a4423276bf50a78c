"""Why a guard is there, and whether another condition follows from those of a trace."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from symfx.algebra import Term
from symfx.algebra.reasoning.facts import Facts
from symfx.algebra.reasoning.proofs import connected, example, prove_from
from symfx.explanation.answers import Explanation, Reason
from symfx.explanation.assumptions import Assumptions
from symfx.explanation.nodes import nodes_of_guards
from symfx.tracing.admission import holds
from symfx.tracing.traced_model import TracedModel

__all__ = ["explain_condition"]

#: How far from the example sizes are tried that break a condition.
_FAR = 1_000


def explain_condition(
    trace: TracedModel, term: Term, known: Assumptions | None = None
) -> Explanation:
    """Why the graph relies on a condition, or whether it holds for all inputs that fit.

    Args:
        trace: the trace.
        term: a guard, or any other condition on its symbols.
        known: what the trace takes for granted, if it was gathered before.
    """
    known = Assumptions(trace.shape_env) if known is None else known
    shown = next((guard for guard in trace.guards if guard.term is term), None)
    recorded = next((guard for guard in trace.shape_env.guards if guard.term is term), None)
    if shown is not None:
        reason = known.guard(shown)
        return Explanation(
            str(term),
            "guard",
            f"{term} is a guard: {_why(trace, term, reason)}",
            (reason,),
            _details(trace, term, known),
        )
    if recorded is not None:
        return _implied(trace, term, known)
    return _any(trace, term, known)


def _why(trace: TracedModel, term: Term, reason: Reason) -> str:
    if reason.kind == "stated":
        return "where= states it, and the trace relies on it"
    if reason.kind == "follows":
        return "it says in one condition what the program asked for in several"
    asked = f"{reason.operator} asked for it" if reason.operator else "the program asked for it"
    values = _values(trace, term)
    return f"{asked}, no other fact decided it, and it holds for {values} in the example"


def _details(trace: TracedModel, term: Term, known: Assumptions) -> tuple[tuple[str, str], ...]:
    details = []
    broken = _breaking(trace, term, known)
    if broken:
        details.append(("rejects", ", ".join(f"{s.name} = {v}" for s, v in broken.items())))
    nodes = nodes_of_guards(trace, term)
    if nodes:
        details.append(("nodes", ", ".join(nodes)))
    return tuple(details)


def _values(trace: TracedModel, term: Term) -> str:
    hints = trace.shape_env.symbols.hints
    symbols = sorted(term.free_symbols, key=lambda s: s.name)
    return ", ".join(f"{s.name} = {hints[s]}" for s in symbols if s in hints) or "its inputs"


def _breaking(trace: TracedModel, term: Term, known: Assumptions) -> dict[Term, int]:
    """Values at which the other conditions of a trace hold, and a condition does not."""
    env = trace.shape_env
    others = [guard.term for guard in trace.guards if guard.term is not term]
    others += [each.term for each in (known.causes | known.others).values() if each.kind == "range"]
    hints = {s: v for s, v in env.symbols.hints.items() if isinstance(v, int)}
    symbols = sorted(term.free_symbols, key=lambda s: s.name)
    backed = all(symbol in hints for symbol in symbols)
    # The conditions without the symbol hold at the example.
    of_symbol = {s: [c for c in others if s in c.free_symbols] for s in symbols}
    for step in (sign * by for by in range(1, _FAR) for sign in (-1, 1)):
        for symbol in symbols if backed else ():
            tried = {**hints, symbol: hints[symbol] + step}
            # Sizes are never negative.
            if tried[symbol] < 0 or holds(term, tried):
                continue
            if _all_hold(of_symbol[symbol], tried):
                return {s: tried[s] for s in symbols}
    facts = Facts(env.table)
    for condition in connected(term, others):
        facts.assume(condition)
    if facts.contradiction is not None:
        return {}
    found = example(facts, env.table.not_(term), env.symbols.hints) or {}
    if not term.free_symbols <= found.keys() or holds(term, found):
        return {}
    return {s: found[s] for s in symbols}


def _all_hold(conditions: Sequence[Term], values: Mapping[Term, int]) -> bool:
    return all(holds(c, values) for c in conditions if c.free_symbols <= values.keys())


def _implied(trace: TracedModel, term: Term, known: Assumptions) -> Explanation:
    """A guard that the program asked for, and that the guards of the trace imply."""
    listed = [guard.term for guard in trace.guards]
    ranges = [each.term for each in known.causes.values() if each.kind == "range"]
    found = prove_from([*listed, *ranges], term)
    others = " and ".join(map(str, found.facts))
    implied = f"; it is not listed, because it follows from {others}" if found.holds else ""
    return Explanation(
        str(term),
        "guard",
        f"{term} is a guard that the program asked for{implied}",
        (known.causes[term].as_reason(),),
        _details(trace, term, known),
    )


def _any(trace: TracedModel, term: Term, known: Assumptions) -> Explanation:
    """A condition for which no question was asked."""
    answer, because = known.proof(term)
    if answer is None:
        found = _breaking(trace, term, known)
        example_ = ", ".join(f"{s.name} = {v}" for s, v in found.items())
        breaks = f": inputs that fit may have {example_}" if found else ""
        return Explanation(
            str(term),
            "condition",
            f"{term} is no guard, and nothing decides it{breaks}",
            (Reason(str(term), "open", term=term),),
        )
    verdict = "holds" if answer else "fails"
    every = " for all inputs that fit" if because else " whatever the sizes are"
    opposite = term if answer else trace.shape_env.table.not_(term)
    return Explanation(
        str(term),
        "condition",
        f"{term} is no guard: it {verdict}{every}",
        (Reason(str(opposite), "follows", because=because, term=opposite),),
    )
