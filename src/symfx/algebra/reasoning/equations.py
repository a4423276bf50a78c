"""Equations: terms that stand for symbols, everywhere or in proofs only, and roots."""

from __future__ import annotations

import contextlib
import math
from typing import TYPE_CHECKING

from symfx.algebra.reasoning import intervals
from symfx.algebra.reasoning.intervals import ANYTHING
from symfx.algebra.reasoning.limits import LONG
from symfx.algebra.terms.definedness import UNDEFINED
from symfx.algebra.terms.interpret import substitute
from symfx.algebra.terms.monomials import common_factors, divide_out
from symfx.algebra.terms.term import Term

if TYPE_CHECKING:
    from symfx.algebra.reasoning.facts import Facts

__all__ = ["learn_remainder", "learn_root", "learn_solution", "replace", "resolve", "solve"]


def resolve(facts: Facts, term: Term) -> Term:
    """The term with every replaced symbol gone."""
    if not facts.replacements:
        return term
    found = facts._resolved.get(term)
    if found is None:
        if facts.replacements.keys() & term.free_symbols:
            found = substitute(term, facts.replacements)
        else:
            found = term
        facts._resolved[term] = found
    return found


def solve(facts: Facts, term: Term) -> Term:
    """The term with every replaced and every solved symbol gone."""
    term = facts.resolve(term)
    if not facts.solved:
        return term
    found = facts._solutions.get(term)
    if found is None:
        if facts.solved.keys() & term.free_symbols:
            found = substitute(term, facts.solved)
        else:
            found = term
        facts._solutions[term] = found
    return found


def replace(facts: Facts, symbol: Term, by: Term) -> None:
    """Learn that a symbol equals a term, which stands for it from now on.

    Facts about the symbol are kept, as facts about the term.

    Raises:
        ValueError: the symbol is replaced already, or the term depends on it.
    """
    by = facts.resolve(by)
    if symbol in by.free_symbols or symbol in facts.replacements:
        raise ValueError(f"{symbol} cannot stand for {by}: one of both depends on the other")
    facts.connections.touch(facts.table.sub(symbol, by))
    for key, old in facts.replacements.items():
        if symbol in old.free_symbols:
            facts.replacements[key] = substitute(old, {symbol: by})
    facts.replacements[symbol] = by
    facts._resolved.clear()
    facts.epoch += 1
    if symbol in facts.solved:
        # The term that it was solved for gives one more equation between the symbols left.
        other = facts.solved.pop(symbol)
        facts._solutions.clear()
        _restate(facts, symbol, by)
        facts.assume(facts.table.eq(by, other))
        return
    for key, old in list(facts.solved.items()):
        if symbol in old.free_symbols:
            new = substitute(old, {symbol: by})
            if key in new.free_symbols:
                del facts.solved[key]  # its equation is a fact, which is restated below
            else:
                facts.solved[key] = new
    facts._solutions.clear()
    _restate(facts, symbol, by)


def _restate(facts: Facts, symbol: Term, by: Term) -> None:
    """Learn the facts about a symbol as facts about the term that it equals."""
    for condition in list(facts.mentioning.get(symbol, ())):
        with contextlib.suppress(*UNDEFINED):  # without a value, a fact says nothing of the rest
            now = substitute(condition, {symbol: by})
            facts.assume(now, because=facts.reasons.get(condition, condition))


def learn_solution(facts: Facts, p: Term, because: Term) -> None:
    """Learn from p == 0 a term that one of its symbols equals."""
    table = facts.table
    p = facts.solve(p)
    if p.op == "const":
        if p.const:
            facts.contradiction = because
        return
    if len(p.coeffs) > LONG:
        return
    shared = common_factors(p)
    idle = [f for f in shared if facts.is_not_zero(f)]
    if idle:
        p = divide_out(table, p, idle, 1)
        facts.assume(table.eq(p, table.zero), because)
        return
    others = divide_out(table, p, shared, 1)
    factors = [f for f in dict.fromkeys((*shared, others)) if f.op != "const"]
    if len(factors) > 1:
        # One of the factors is zero; later facts may tell which one.
        facts.assume(table.or_(*(table.eq(f, table.zero) for f in factors)), because)
        return
    best: tuple[bool, int] | None = None
    for monomial, coeff in p.coeffs.items():
        if monomial.op != "symbol" or coeff not in (1, -1):
            continue
        rest = table.sub(p, table.mul(table.const(coeff), monomial))
        # A constant solution is best, then one for a young symbol: the inputs' symbols are old.
        rank = rest.op != "const", -monomial.uid
        if monomial not in rest.free_symbols and (best is None or rank < best):
            best, symbol, by = rank, monomial, table.mul(table.const(-coeff), rest)
    if best is None:
        return
    forms = {
        key: substitute(old, {symbol: by})
        for key, old in facts.solved.items()
        if symbol in old.free_symbols
    }
    facts.connections.touch(p)
    facts.solved.update(forms)
    facts.solved[symbol] = by
    facts._solutions.clear()
    _restate(facts, symbol, by)


def learn_remainder(facts: Facts, p: Term) -> None:
    """Learn from p == 0, where p is ``x % m - r`` or ``x - m*(x//m) - r``, the remainder of x."""
    for atom, coeff in p.coeffs.items():
        if atom.op == "floordiv" and atom.args[1].op == "const" and len(p.coeffs) == 2:
            x, m = atom.args[0], atom.args[1].const
            if p.coeffs.get(x.base) == -coeff // m and not coeff % m and not x.const:
                times = -coeff // m
                remainder = facts.table.mod(x, atom.args[1])
                if not p.const % times and remainder.op != "const":
                    learn_remainder(facts, remainder + p.const // times)
                return
    if len(p.coeffs) != 1:
        _learn_remainders_of_summands(facts, p)
        return
    ((atom, coeff),) = p.coeffs.items()
    if coeff not in (1, -1) or atom.op != "mod" or atom.args[1].op != "const":
        return
    # x % m == r, with r = -const/coeff
    inner, m, r = atom.args[0], atom.args[1].const, -p.const * coeff
    if len(inner.coeffs) != 1:
        return
    ((x, scale),) = inner.coeffs.items()
    if math.gcd(scale, m) != 1:
        return
    # scale*x + const = r (mod m), and scale has an inverse modulo m.
    _learn_congruence(facts, x, m, (r - inner.const) * pow(scale, -1, m), p)


def _learn_remainders_of_summands(facts: Facts, p: Term) -> None:
    """Learn from p == 0 the remainder of a summand by what divides all others.

    So ``2*a + 3*b == 12`` makes a multiple of 3 of a.
    """
    coeffs = p.coeffs
    if len(coeffs) > LONG:
        return
    for monomial, coeff in coeffs.items():
        m = math.gcd(*(c for other, c in coeffs.items() if other is not monomial))
        g = math.gcd(m, coeff)
        if m > g and not p.const % g:
            m //= g
            _learn_congruence(facts, monomial, m, -p.const // g * pow(coeff // g, -1, m), p)


def _learn_congruence(facts: Facts, x: Term, m: int, r: int, p: Term) -> None:
    """Learn from p == 0 that x is r modulo m."""
    old = facts.congruences.get(x, ANYTHING)
    both = intervals.meet(old, (m, r % m))
    if both is None:
        facts.contradiction = facts.table.eq(p, facts.table.zero)
    elif both != old:
        facts.congruences[x] = both
        facts.connections.touch(x)


def learn_root(facts: Facts, p: Term, because: Term) -> None:
    """Learn from p == 0, where p is ``x*x - k``, the values that x can have."""
    if len(p.coeffs) != 1:
        return
    ((power, coeff),) = p.coeffs.items()
    if power.op != "product" or len(power.args) != 2 or power.args[0] is not power.args[1]:
        return
    square = -p.const // coeff
    root = math.isqrt(square) if square >= 0 else 0
    if root * root != square or p.const % coeff:
        facts.contradiction = because
        return
    x = power.args[0]
    roots = [v for v in (root, -root) if intervals.intersect(facts.bounds(x), (v, v)) == (v, v)]
    facts.assume(facts.table.or_(*map(x.eq, roots)), because)
