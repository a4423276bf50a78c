"""Inequalities: the bounds that a comparison gives, and those that follow along known orders."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from symfx.algebra.reasoning import intervals
from symfx.algebra.reasoning.intervals import ANY
from symfx.algebra.reasoning.limits import CYCLE, LONG, PROPAGATED
from symfx.algebra.terms.term import Term

if TYPE_CHECKING:
    from symfx.algebra.reasoning.facts import Facts

__all__ = ["learn", "learn_hull", "learn_real"]

_UNITS = {1, -1}


def learn(facts: Facts, p: Term, because: Term) -> None:
    """Learn that p >= 0."""
    base = p.base
    least = -p.const
    old = facts.lower.get(base)
    if old is not None and old >= least:
        return
    facts.lower[base] = least
    coeffs = base.coeffs
    if len(coeffs) == 1:
        ((monomial, sign),) = coeffs.items()
        if abs(sign) == 1:
            _narrow(facts, monomial, least if sign > 0 else None, None if sign > 0 else -least)
            low, high = facts.bounds(monomial)
            if low is not None and high is not None and low >= high:
                if low > high:
                    facts.contradiction = because
                else:
                    facts.assume(facts.table.eq(monomial, facts.table.const(low)), because)
            elif monomial.op in ("floordiv", "abs", "min", "max"):
                _learn_operands(facts, monomial, sign, least, because)
            return  # the interval of the monomial says it all
    if len(coeffs) > LONG:
        _meet(facts, least, facts.lower.get(facts.table.neg(base)), base, because)
        return
    touching, sides = facts.touching, facts.sides
    for monomial, coeff in coeffs.items():
        touching.setdefault(monomial, {})[base] = None
        sides.add((monomial, coeff > 0))
    if len(coeffs) == 2 and {*coeffs.values()} == _UNITS:
        x, y = coeffs if next(iter(coeffs.values())) == 1 else reversed(coeffs)
        if x.op != "symbol" or y.op != "symbol":
            facts.entangled.update(coeffs)
        # x - y >= least
        facts.after.setdefault(y, {})[x] = least
        facts.before.setdefault(x, {})[y] = least
        low, high = facts.bounds(y)[0], facts.bounds(x)[1]
        _narrow(facts, x, None if low is None else low + least, None)
        _narrow(facts, y, None, None if high is None else high - least)
        greatest = _difference(facts, y, x)
    else:
        facts.entangled.update(coeffs)
        greatest = facts.lower.get(facts.table.neg(base))
    _meet(facts, least, greatest, base, because)


def _meet(facts: Facts, least: int, opposite: int | None, base: Term, because: Term) -> None:
    """Learn from base >= least and -base >= opposite together."""
    if opposite is None or opposite < -least:
        return
    if opposite > -least:
        facts.contradiction = because
    elif len(base.coeffs) <= LONG:
        facts.assume(facts.table.eq(base, facts.table.const(least)), because)


def _learn_operands(facts: Facts, atom: Term, sign: int, least: int, because: Term) -> None:
    """Learn from sign * atom >= least the bounds of the operands of the atom."""
    table = facts.table
    op, args = atom.op, atom.args
    if op == "floordiv" and args[1].op == "const":
        # x // d >= k just when x >= k*d; x // d <= k just when x <= k*d + d - 1.
        x, d = args[0], args[1].const
        if sign > 0:
            implied = [x - least * d]
        else:
            implied = [(1 - least) * d - 1 - x]
    elif op == "abs" and sign < 0:
        implied = [args[0] - least, -args[0] - least]
    elif op == ("min" if sign > 0 else "max"):
        implied = [sign * x - least for x in args]
    else:
        return
    for p in implied:
        facts.assume(table.ge_zero(p), because)


def _difference(facts: Facts, x: Term, y: Term) -> int | None:
    """The largest k with x >= y + k that a few known orders in a row give."""
    farthest = {y: 0}
    waiting = [y]
    for at in waiting:
        if len(waiting) > CYCLE:
            break
        for target, least in facts.after.get(at, {}).items():
            reached = farthest[at] + least
            if target not in farthest:
                waiting.append(target)
            if reached > farthest.get(target, reached - 1):
                farthest[target] = reached
    return farthest.get(x)


def _narrow(facts: Facts, atom: Term, low: int | None, high: int | None) -> None:
    """Learn bounds of an atom, and pass them on along the known orders."""
    waiting = [(atom, low, high)]
    for _ in range(PROPAGATED):
        if not waiting:
            return
        at, low, high = waiting.pop()
        old = facts._intervals.get(at, ANY)
        new = intervals.intersect(old, (low, high))
        if new == old:
            continue
        facts._intervals[at] = new
        if new[0] != old[0] and new[0] is not None:
            waiting += [(x, new[0] + k, None) for x, k in facts.after.get(at, {}).items()]
        if new[1] != old[1] and new[1] is not None:
            waiting += [(y, None, new[1] - k) for y, k in facts.before.get(at, {}).items()]


def learn_hull(facts: Facts, disjunction: Term, because: Term) -> None:
    """Learn the bounds that all parts of a disjunction have, as of ``s in {1, 2, 4}``."""
    lowest: dict[Term, int] = {}
    for i, part in enumerate(disjunction.args):
        if part.op not in ("eq", "ge"):
            return
        p: Term = part.args[0]
        sides = (p, facts.table.neg(p)) if part.op == "eq" else (p,)
        bounds = {side.base: -side.const for side in sides}
        if i == 0:
            lowest = bounds
        else:
            lowest = {b: min(k, bounds[b]) for b, k in lowest.items() if b in bounds}
    for base, least in lowest.items():
        learn(facts, facts.table.sub(base, facts.table.const(least)), because)


def learn_real(facts: Facts, comparison: Term) -> None:
    """Learn from a comparison of doubles that holds: with a constant, it bounds the other side.

    Where a comparison of doubles holds, neither side is NaN.
    """
    a, b = comparison.args
    sides = [(a, b, math.inf)] if b.op == "const" else []
    sides += [(b, a, -math.inf)] if a.op == "const" else []
    for term, limit, direction in sides:
        low, high = facts.real_bounds.get(term, (-math.inf, math.inf))
        end = limit.args[0]
        if math.isnan(end):
            continue
        if comparison.op == "feq":
            low, high = max(low, end), min(high, end)
        else:
            if comparison.op == "flt":
                end = math.nextafter(end, -direction)
            low, high = (low, min(high, end)) if direction > 0 else (max(low, end), high)
        facts.real_bounds[term] = low, high
