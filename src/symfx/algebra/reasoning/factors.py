"""Factors of a sum: known and common ones, those of differences of powers, and two sums."""

from __future__ import annotations

import math

from symfx.algebra.reasoning.intervals import floor_root
from symfx.algebra.reasoning.limits import SHORT
from symfx.algebra.terms.divisions import divide_exactly
from symfx.algebra.terms.monomials import (
    common_factors,
    divide_out,
    grade,
    multiset_divide,
    product,
)
from symfx.algebra.terms.term import Term, by_uid

__all__ = ["factors_of", "has_no_root", "known_factors_of"]

# The degrees of powers whose differences are recognized; 4 and 6 are 2 in steps.
_DEGREES = 2, 3, 5, 7


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
    for degree in _DEGREES:
        roots = _roots(rest, degree) or _roots_of_sums(rest, degree)
        if roots is not None:
            a, b = roots
            # a**n - b**n has the sign and the zeros of a - b for an odd n: the other factor is
            # above 0, or a and b are 0. So it is with a + b for two squares.
            if degree % 2:
                return (*common, a - b)
            others = () if _is_square(a) and _is_square(b) else (a + b,)
            return (*common, *factors_of(a - b), *others)
    split = _square_root(rest) or _by_roots(rest) or _two_sums(rest)
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


def has_no_root(p: Term) -> bool:
    """Whether p is a*x*x + b*x + c for numbers a, b and c such that it is 0 for no integer x."""
    if len(p.coeffs) > 2:
        return False
    square = max(p.coeffs, key=grade)
    x = square.factors[0]
    if square.factors != (x, x) or not p.coeffs.keys() <= {x, square}:
        return False
    a, b = p.coeffs[square], p.coeffs.get(x, 0)
    squared = b * b - 4 * a * p.const  # 4*a*p = (2*a*x + b)**2 - squared
    root = math.isqrt(squared) if squared > 0 else 0
    return root * root != squared or all((sign * root - b) % (2 * a) for sign in (1, -1))


def _by_roots(p: Term) -> tuple[Term, Term] | None:
    """Two sums whose product has the sign of p = a*x*x + b*x + c, where its roots are rational."""
    if len(p.coeffs) != 2:
        return None
    x, square = sorted(p.coeffs, key=grade)
    a, b = p.coeffs[square], p.coeffs[x]
    squared = b * b - 4 * a * p.const
    if square.factors != (x, x) or squared < 0 or math.isqrt(squared) ** 2 != squared:
        return None
    # 4*a*p = (2*a*x + b)**2 - root**2
    table, root = p.table, math.isqrt(squared)
    first, second = (table.linear({x: 2 * a}, b + sign * root) for sign in (-1, 1))
    return _primitive(first if a > 0 else -first), _primitive(second)


def _primitive(p: Term) -> Term:
    """A sum divided by the common divisor of its numbers."""
    return divide_out(p.table, p, [], math.gcd(p.const, *p.coeffs.values()))


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


def _is_square(p: Term) -> bool:
    """Whether a monomial with a coefficient, or a constant, is seen to be no less than 0."""
    if p.op == "const":
        return p.const >= 0
    return all(_root(m, 2) is not None and c > 0 for m, c in p.coeffs.items()) and not p.const


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


def _roots_of_sums(p: Term, degree: int) -> tuple[Term, Term] | None:
    """(a, b) with p = a**degree - b**degree, for sums a and b without common symbols; else None."""
    powers = (m for m in p.coeffs if m.op == "product" and m.args.count(m.args[0]) >= degree)
    if len(p.coeffs) > SHORT or next(powers, None) is None:
        return None
    table = p.table
    roots: list[tuple[Term, int]] = []
    const = p.const
    for part in _independent_parts(p):
        lead = part.coeffs[max(part.coeffs, key=grade)]
        sign = 1 if lead > 0 else -1
        root = None if len(roots) == 2 else _root_of_sum(table.mul(table.const(sign), part), degree)
        if root is None:
            return None
        roots.append((root, sign))
        const -= sign * root.const**degree
    if len(roots) == 1:
        left = floor_root(abs(const), degree)
        if left**degree != abs(const):
            return None
        roots.append((table.const(left), 1 if const >= 0 else -1))
    elif const:
        return None
    (a, sign), (b, other) = roots
    if degree % 2:
        return table.mul(table.const(sign), a), table.mul(table.const(-other), b)
    return None if sign == other else (a, b) if sign > 0 else (b, a)


def _independent_parts(p: Term) -> list[Term]:
    """Sums without constant and without common symbols whose sum is p, but for its constant."""
    groups: list[tuple[frozenset[Term], dict[Term, int]]] = []
    for monomial, coeff in p.coeffs.items():
        symbols, together = monomial.free_symbols, {monomial: coeff}
        apart = []
        for theirs, others in groups:
            if symbols.isdisjoint(theirs):
                apart.append((theirs, others))
            else:
                symbols, together = symbols | theirs, {**others, **together}
        groups = [*apart, (symbols, together)]
    return [p.table.linear(together) for _, together in groups]


def _root_of_sum(p: Term, degree: int) -> Term | None:
    """A sum whose power is p but for the constant, for p with a positive leading coefficient."""
    table = p.table
    lead = max(p.coeffs, key=grade)
    base, coeff = _root(lead, degree), floor_root(p.coeffs[lead], degree)
    if base is None or base is table.one or coeff**degree != p.coeffs[lead]:
        return None
    root = table.mul(table.const(coeff), base)
    # (root + x)**n = root**n + n*root**(n - 1)*x + smaller terms: the next x, one after another.
    for _ in range(SHORT):
        rest = p - table.pow(root, table.const(degree))
        if not rest.coeffs:
            return root
        first = max(rest.coeffs, key=grade)
        factors = multiset_divide(first.factors, base.factors * (degree - 1))
        times, odd = divmod(rest.coeffs[first], degree * coeff ** (degree - 1))
        if factors is None or odd or len(factors) > len(base.factors):
            return None
        root += table.mul(table.const(times), product(table, factors) if factors else table.one)
    return None
