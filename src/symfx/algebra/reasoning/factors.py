"""Factors of a sum: those that it came about from, common ones, and differences of squares."""

from __future__ import annotations

import math

from symfx.algebra.terms.monomials import common_factors, divide_out, product
from symfx.algebra.terms.term import Term

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
    roots = _square_roots(rest)
    if roots is None:
        return (*common, rest)
    a, b = roots
    return (*common, a - b, a + b)


def _square_roots(p: Term) -> tuple[Term, Term] | None:
    """(a, b) with p = a*a - b*b, for monomials a and b (or a constant); else None."""
    table = p.table
    parts = list(p.coeffs.items()) + ([(table.one, p.const)] if p.const else [])
    if len(parts) != 2 or (parts[0][1] > 0) == (parts[1][1] > 0):
        return None
    if parts[0][1] < 0:
        parts.reverse()
    roots = []
    for monomial, coeff in parts:
        root = math.isqrt(abs(coeff))
        factors = () if monomial is table.one else monomial.factors
        if root * root != abs(coeff) or len(factors) % 2 or factors[::2] != factors[1::2]:
            return None
        half = product(table, factors[::2]) if factors else table.one
        roots.append(table.mul(table.const(root), half))
    return roots[0], roots[1]
