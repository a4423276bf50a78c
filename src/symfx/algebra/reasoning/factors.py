"""Factors of a sum: known and common ones, those of squares and cubes, and two sums."""

from __future__ import annotations

import math

from symfx.algebra.reasoning.intervals import floor_root
from symfx.algebra.reasoning.limits import SHORT
from symfx.algebra.terms.divisions import divide_exactly
from symfx.algebra.terms.monomials import common_factors, divide_out, multiset_divide, product
from symfx.algebra.terms.term import Term, by_uid

__all__ = ["factors_of", "known_factors_of"]


def known_factors_of(p: Term) -> tuple[Term, ...]:
    """Terms whose product is p or -p, if the table knows some; else p alone."""
    table = p.table
    for form in (p, table.neg(p)):
        known = table.products.get(form.base)
        if known is not None and known[0] is form:
            return known[1]
    if p.is_monomial:
        return p.factors
    common = common_factors(p)
    if not common:
        return (p,)
    return (*common, *known_factors_of(divide_out(table, p, common, 1)))


def factors_of(p: Term) -> tuple[Term, ...]:
    """Terms whose product has the sign and the zeros of p: p alone, if none are found."""
    table = p.table
    g = math.gcd(p.const, *p.coeffs.values())
    common = common_factors(p)
    rest = divide_out(table, p, common, g) if common or g > 1 else p
    for degree in 2, 3:
        roots = _roots(rest, degree)
        if roots is not None:
            a, b = roots
            # a**3 - b**3 = (a - b)*(a*a + a*b + b*b)
            return (*common, a - b, a + b if degree == 2 else a * a + a * b + b * b)
    split = _square_root(rest) or _two_sums(rest)
    return (*common, *split) if split else (*common, rest)


def _square_root(p: Term) -> tuple[Term, Term] | None:
    """(a, a) with p = a*a, for a sum a of two monomials (or of one and a constant); else None."""
    table = p.table
    parts = {**p.coeffs, **({table.one: p.const} if p.const else {})}
    if len(parts) != 3:
        return None
    roots = []
    for monomial, coeff in parts.items():
        base = _root(monomial, 2)
        if base is not None and coeff > 0 and math.isqrt(coeff) ** 2 == coeff:
            roots.append(table.mul(table.const(math.isqrt(coeff)), base))
    for i, a in enumerate(roots):
        for b in roots[i + 1 :]:
            for sum_ in (a + b, a - b):
                if sum_ * sum_ is p:
                    return sum_, sum_
    return None


def _two_sums(p: Term) -> tuple[Term, Term] | None:
    """(a, b) with p = a*b, where b is a symbol plus a sum without it; else None."""
    if len(p.coeffs) > SHORT:
        return None
    table = p.table
    for symbol in sorted(p.free_symbols, key=by_uid):
        slope: dict[Term, int] = {}
        rest: dict[Term, int] = {}
        const = 0
        for monomial, coeff in p.coeffs.items():
            left = multiset_divide(monomial.factors, (symbol,))
            if left is None:
                rest[monomial] = coeff
            elif left:
                slope[product(table, left)] = coeff
            else:
                const = coeff
        a = table.linear(slope, const)
        if len(slope) + bool(const) < 2 or symbol in a.free_symbols:
            continue
        other = divide_exactly(table, table.linear(rest, p.const), a)
        if other is not None and symbol not in other.free_symbols:
            return a, symbol + other
    return None


def _root(monomial: Term, degree: int) -> Term | None:
    """The monomial m with m**degree equal to a monomial, where 1 counts as one; None if no m is."""
    table = monomial.table
    factors = () if monomial is table.one else monomial.factors
    half = factors[::degree]
    if tuple(f for f in half for _ in range(degree)) != factors:
        return None
    return product(table, half) if half else table.one


def _roots(p: Term, degree: int) -> tuple[Term, Term] | None:
    """(a, b) with p = a**degree - b**degree, for monomials a and b (or a constant); else None."""
    table = p.table
    parts = list(p.coeffs.items()) + ([(table.one, p.const)] if p.const else [])
    if len(parts) != 2 or (parts[0][1] > 0) == (parts[1][1] > 0):
        return None
    if parts[0][1] < 0:
        parts.reverse()
    roots = []
    for monomial, coeff in parts:
        root, base = floor_root(abs(coeff), degree), _root(monomial, degree)
        if base is None or root**degree != abs(coeff):
            return None
        roots.append(table.mul(table.const(root), base))
    return roots[0], roots[1]
