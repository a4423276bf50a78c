"""Decisions that suppose a consequence of the facts, such as the factors of a known product.

A consequence is supposed in a store beside the facts, so a question narrows no range.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from functools import reduce
from typing import TYPE_CHECKING

from symfx.algebra.reasoning.cases import each
from symfx.algebra.reasoning.digits import digits_of_zero
from symfx.algebra.reasoning.factors import factors_of
from symfx.algebra.reasoning.intervals import (
    ANY,
    Interval,
    at_least,
    intersect,
    multiply,
    quotients,
    roots,
)
from symfx.algebra.reasoning.limits import CARRIED, CHOSEN, DIVIDED, DIVIDEND, LONG, VALUES
from symfx.algebra.reasoning.powers import POWERS, bounds_of_exponents, with_powers_apart
from symfx.algebra.terms.interpret import substitute
from symfx.algebra.terms.monomials import shared_factors
from symfx.algebra.terms.term import Term, by_uid

if TYPE_CHECKING:
    from symfx.algebra.reasoning.prover import Prover

__all__ = [
    "by_digits",
    "by_divisors",
    "by_excluded_ends",
    "by_factors_of_zero",
    "by_known_quotients",
    "by_powers",
    "by_product_equations",
    "by_ranges",
    "by_signs_of_factors",
    "by_symbolic_moduli",
]


def by_symbolic_moduli(prover: Prover, condition: Term) -> bool | None:
    """Decide with ``x == d*q + r`` for each known ``x % d == r`` whose d is no constant.

    So ``(a + b) % d == 0`` follows from ``a % d == 0`` and ``b % d == 0``.
    """
    table = prover.table
    supposed: list[Term] = []
    for p in _sums_known(prover, condition):
        for atom, coeff in p.coeffs.items():
            if atom.op != "mod" or atom.args[1].op == "const" or coeff not in (1, -1):
                continue
            x, d = atom.args
            quotient = table.symbol(f"({x} by {d})")
            rest = atom - coeff * p
            form = table.eq(x, d * quotient + rest)
            if form.op == "eq" and form not in prover.facts.known:
                supposed.append(form)
            break
    return _suppose(prover, condition, supposed)


def by_known_quotients(prover: Prover, condition: Term) -> bool | None:
    """Decide with the remainders in facts whose quotient is 0: ``c % b`` is c for 0 <= c < b."""
    table = prover.table
    seen: dict[Term, None] = {}
    for op in "eq", "ge":
        for p in _sums_known(prover, condition, op):
            divisions = (m for m in p.coeffs if m.op == "mod" and m.args[1].op != "const")
            seen.update(dict.fromkeys(divisions))
    supposed = []
    for atom in itertools.islice(seen, CHOSEN):
        x, d = atom.args
        # By bounds alone: the question itself is one of few that may take long.
        if prover.by_form(x >= 0) and prover.by_form(x < d):
            supposed.append(table.eq(atom, x))
    return _suppose(prover, condition, [c for c in supposed if c not in prover.facts.known])


def by_divisors(prover: Prover, condition: Term) -> bool | None:
    """Decide for each divisor of a constant that is known to be a product with a symbol.

    The other factor may be a sum: in ``d*a - d*b == 6``, d divides 6.
    """
    table = prover.table
    for p in _sums_known(prover, condition):
        if not p.const:
            continue
        coeff = math.gcd(*p.coeffs.values())
        product = abs(p.const) // coeff
        if p.const % coeff or product > DIVIDEND or any(m.op != "product" for m in p.coeffs):
            continue
        for symbol in dict.fromkeys(shared_factors(p.coeffs)):
            if symbol.op != "symbol" or symbol not in condition.free_symbols:
                continue
            low, high = prover.intervals.of_atom(symbol)
            values = [
                value
                for value in _divisors(product)
                if (low is None or low <= value) and (high is None or value <= high)
            ]
            if len(values) <= VALUES:
                return each(prover, condition, [table.eq(symbol, table.const(v)) for v in values])
    return None


def by_product_equations(prover: Prover, condition: Term) -> bool | None:
    """Decide with a product replaced by the terms that it is known to equal.

    So ``h*w//b == s`` follows from ``h*w == b*s``.
    """
    # The other side may have a product that could be replaced in turn, for ever.
    if prover.divided >= DIVIDED:
        return None
    for p in _sums_known(prover, condition):
        for monomial, coeff in p.coeffs.items():
            if monomial.op != "product" or coeff not in (1, -1):
                continue
            form = substitute(condition, {monomial: monomial - coeff * p})
            if form is condition:
                continue
            prover.divided += 1
            try:
                answer = prover.decide(form)
            finally:
                prover.divided -= 1
            if answer is not None:
                return answer
    return None


def by_digits(prover: Prover, condition: Term) -> bool | None:
    """Decide with the parts of known equations of flattened indices, one by one.

    So i == k and j == l follow from ``i*n + j == k*n + l``, where j and l are below n.
    """
    supposed: list[Term] = []
    for p in _sums_known(prover, condition):
        digits = digits_of_zero(prover, p)
        supposed += [d.eq(0) for d in digits] if digits[1:] else []
    return _suppose(prover, condition, [c for c in supposed if c not in prover.facts.known])


def by_powers(prover: Prover, condition: Term) -> bool | None:
    """Decide with known powers of constants in another form, and the bounds of their exponents."""
    table, known = prover.table, prover.facts.known
    supposed: list[Term] = []
    for op, make in ("eq", lambda p: p.eq(0)), ("ge", table.ge_zero):
        for p in _sums_known(prover, condition, op):
            if not any(f.op in POWERS for m in p.coeffs for f in m.factors):
                continue
            form = with_powers_apart(prover, make(p))
            supposed += bounds_of_exponents(p, op)
            supposed.append(form)
            if form.op in ("eq", "ge"):
                supposed += bounds_of_exponents(form.args[0], form.op)
    return _suppose(prover, condition, [c for c in supposed if c.op != "const" and c not in known])


def by_excluded_ends(prover: Prover, condition: Term) -> bool | None:
    """Decide with known sums that are not the least, or the greatest, number that they could be.

    So x >= 33 follows from x >= 1 and ``(x + 31)//32 != 1``, which is ``(x + 31)//32 >= 2``.
    """
    table = prover.table
    supposed: list[Term] = []
    for p in _sums_known(prover, condition, "not"):
        if prover.by_form(table.ge_zero(p)):
            supposed.append(table.ge_zero(p - 1))
        elif prover.by_form(table.ge_zero(-p)):
            supposed.append(table.ge_zero(-p - 1))
    return _suppose(prover, condition, [c for c in supposed if c not in prover.facts.known])


def by_factors_of_zero(prover: Prover, condition: Term) -> bool | None:
    """Decide for each factor of a known zero: a - b and a + b, where ``a*a == b*b``."""
    for p in _sums_known(prover, condition):
        factors = [f for f in dict.fromkeys(factors_of(p)) if f.op != "const"]
        if factors and factors != [p]:
            answer = each(prover, condition, [f.eq(0) for f in factors])
            if answer is not None:
                return answer
    return None


def by_signs_of_factors(prover: Prover, condition: Term) -> bool | None:
    """Decide with known sums without their factors that are above 0.

    So ``a < b`` follows from ``a**3 < b**3``, and from ``a**4 < b**4`` where neither is negative.
    """
    table = prover.table
    supposed: list[Term] = []
    for p in _sums_known(prover, condition, "ge"):
        if all(m.op != "product" for m in p.coeffs):
            continue
        for shift in 0, 1:  # p >= 0, and p + 1 > 0
            shifted = p + shift
            factors = factors_of(shifted)
            if factors == (shifted,):
                continue
            left = [f for f in factors if not at_least(prover.range(f)[0], 1 - shift)]
            if left:
                supposed.append(table.ge_zero(reduce(table.mul, left) - shift))
    known = prover.facts.known
    return _suppose(prover, condition, [c for c in supposed if c.op == "ge" and c not in known])


def by_ranges(prover: Prover, condition: Term) -> bool | None:
    """Decide with the intervals of atoms that follow from known sums and products.

    So ``a*a <= 16`` follows from ``a*a <= 20``, and ``a*b >= a`` from ``a*b > 0`` and a > 0.
    """
    if condition.op not in ("eq", "ge"):
        return None
    table, intervals = prover.table, prover.intervals
    ends = prover.refuter.ends(condition.args[0])

    def end(atom: Term) -> Interval:
        return intersect(ends.get(atom, ANY), intervals.of_atom(atom))

    for monomial, known in list(ends.items()):
        factors = monomial.factors
        if len(factors) > LONG:
            continue
        for atom in dict.fromkeys(factors):
            rest: Interval = (1, 1)
            for factor in factors:
                rest = rest if factor is atom else multiply(rest, end(factor))
            power = quotients(intersect(known, intervals.of(monomial)), rest)
            inside = end(atom)
            ends[atom] = intersect(inside, roots(power, factors.count(atom), inside))
    supposed = []
    for monomial in sorted(ends, key=by_uid):
        old, new = intervals.of(monomial), ends[monomial]
        if new == old or monomial.op == "const":
            continue
        low, high = intersect(old, new)
        if low is not None and high is not None and low > high:
            return None  # the facts contradict each other
        if low is not None and low != old[0]:
            supposed.append(table.le(table.const(low), monomial))
        if high is not None and high != old[1]:
            supposed.append(table.le(monomial, table.const(high)))
    return _suppose(prover, condition, [c for c in supposed if c not in prover.facts.known])


def _sums_known(prover: Prover, condition: Term, op: str = "eq") -> Iterator[Term]:
    """The sums that are 0, at least 0, or not 0, by the assumptions connected with a condition."""
    if not prover.splits:
        return
    near = prover.facts.connected(condition)
    for fact in near if len(near) <= CARRIED else ():
        for part in fact.args if fact.op == "and" else (fact,):
            resolved = prover.facts.resolve(part)
            for form in dict.fromkeys((resolved, prover.facts.solve(resolved))):
                if form.op != op:
                    continue
                inner = form.args[0]
                if op != "not":
                    yield inner
                elif inner.op == "eq":
                    yield inner.args[0]


def _suppose(prover: Prover, condition: Term, supposed: list[Term]) -> bool | None:
    """The answer beside some consequences of the facts, if there are any."""
    if not supposed or not prover.splits:
        return None
    branch = prover.under(prover.table.and_(*supposed), condition)
    return None if branch is None else branch.decide(condition)


def _divisors(product: int) -> list[int]:
    """The divisors of a positive number, those below zero included."""
    small = [d for d in range(1, math.isqrt(product) + 1) if not product % d]
    above = {*small, *(product // d for d in small)}
    return sorted(above | {-d for d in above})
