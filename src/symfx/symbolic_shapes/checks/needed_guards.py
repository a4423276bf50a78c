"""The guards of a trace without those that follow from the others.

A guard is recorded when the facts leave a question open. A later guard often says more: after
``n != 1`` a program may ask for ``n >= 3``. The first of them then checks nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from symfx.algebra import Term
from symfx.algebra.reasoning.facts import UNDEFINED, Facts
from symfx.algebra.reasoning.plain_forms import joined_remainder, parts_of_equation, plain_form
from symfx.algebra.reasoning.prover import Prover
from symfx.algebra.terms.definedness import definedness

if TYPE_CHECKING:
    from symfx.symbolic_shapes.records import ShapeGuard
    from symfx.symbolic_shapes.shape_env import ShapeEnv

__all__ = ["implied_by_ranges", "needed_guards"]

# A guard among more connected ones than this is kept without a look, so that the work is bounded.
_CONNECTED = 40


def needed_guards(env: ShapeEnv) -> tuple[ShapeGuard, ...]:
    """The guards of an environment, in order, without those that the others imply.

    A guard is implied if it holds, and has a value, wherever the other guards and the ranges that
    the inputs began with hold. So the remaining guards admit the same inputs.

    Args:
        env: the environment.
    """
    kept: dict[Term, ShapeGuard] = {}
    for guard in env.guards:
        for part in _parts(guard.term, env):
            simple = guard if part is guard.term else replace(guard, term=part, asked=None)
            kept.setdefault(part, simple)
    kept = _joined(kept, env)
    for term in tuple(kept):
        others = _connected(term, [t for t in kept if t is not term])
        if len(others) > _CONNECTED:
            continue
        if _implied(term, [*_given(env, (term, *others)), *others], env):
            del kept[term]
    return tuple(kept.values())


def implied_by_ranges(condition: Term, env: ShapeEnv) -> bool:
    """Whether a condition holds wherever the ranges hold that its symbols began with.

    Args:
        condition: the condition.
        env: its environment.
    """
    return _implied(condition, _given(env, (condition,)), env)


def _parts(condition: Term, env: ShapeEnv) -> tuple[Term, ...]:
    """Conditions that say together what one says, in the form that a person would write."""
    if condition.op == "or":
        left = list(condition.args)
        for part in condition.args:
            others = [other for other in left if other is not part]
            if any(_implied(other, [*_given(env, left), part], env) for other in others):
                left = others
        return (env.table.or_(*left),)
    plain = plain_form(
        parts_of_equation(condition, partial(_implied, assumed=_given(env, (condition,)), env=env))
    )
    # The order of the arguments is that in which the terms were made, so another one after loading.
    return tuple(sorted(plain.args, key=str)) if plain.op == "and" else (plain,)


def _joined(kept: dict[Term, ShapeGuard], env: ShapeEnv) -> dict[Term, ShapeGuard]:
    """``n % 8 == 0`` in place of ``n//4 % 2 == 0`` beside ``n % 4 == 0``, which then follows."""
    left = dict(kept)
    found: dict[Term, ShapeGuard] = {}
    for term, guard in kept.items():
        del left[term]
        others = _connected(term, [*found, *left])
        joined = term
        if len(others) <= _CONNECTED:
            joined = joined_remainder(term, partial(_implied, assumed=others, env=env))
        same = joined is term
        found.setdefault(joined, guard if same else replace(guard, term=joined, asked=None))
    return found


def _given(env: ShapeEnv, terms: Sequence[Term]) -> list[Term]:
    """The ranges in which the symbols of some terms began."""
    symbols = {s for term in terms for s in term.free_symbols}
    return [c for c in env.knowledge.given if c.free_symbols <= symbols]


def _connected(term: Term, others: Iterable[Term]) -> list[Term]:
    """The terms that share symbols with a term, or with others that do, in their order."""
    left = list(others)
    reached = set(term.free_symbols)
    found: set[Term] = set()
    while near := [t for t in left if t not in found and t.free_symbols & reached]:
        found.update(near)
        reached.update(s for t in near for s in t.free_symbols)
    return [t for t in left if t in found]


def _implied(condition: Term, assumed: Iterable[Term], env: ShapeEnv) -> bool:
    """Whether a condition holds, and can be computed, wherever the assumptions hold."""
    facts = Facts(env.table)
    for assumption in assumed:
        facts.assume(assumption)
    prover = Prover(facts, env.hint_of)
    try:
        return prover.decide(condition) is True and prover.decide(definedness(condition)) is True
    except UNDEFINED:
        return False
