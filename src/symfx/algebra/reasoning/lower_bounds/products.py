"""Lower bounds of products: from their factors, from squares, and from quotients times divisors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from symfx.algebra.reasoning import intervals
from symfx.algebra.reasoning.intervals import better
from symfx.algebra.reasoning.limits import SHORT
from symfx.algebra.terms.monomials import multiset_divide, product
from symfx.algebra.terms.term import Term

if TYPE_CHECKING:
    from symfx.algebra.reasoning.lower_bounds.search import LowerBounds

__all__ = ["by_completing_a_square", "by_factors", "by_known_product", "by_quotients", "by_squares"]


def by_squares(search: LowerBounds, p: Term, depth: int, goal: float) -> int | None:
    """A bound from a*x*x + b*x for a > 0, whose least value is at the turning point or an end."""
    table = search.table
    best: int | None = None
    for square, x, a in _positive_squares(p):
        b = p.coeffs.get(x, 0)
        low, high = search.intervals.of_atom(x)
        turn = -b // (2 * a)  # the turning point, rounded down
        ends = [turn, turn + 1]
        if low is not None and low > turn:
            ends = [low]
        elif high is not None and high < turn + 1:
            ends = [high]
        least = min(a * v * v + b * v for v in ends)
        rest = {m: c for m, c in p.coeffs.items() if m is not square and m is not x}
        others = search.least(table.linear(rest), depth, goal - least)
        if others is not None:
            best = better(best, least + others)
    return best


def by_completing_a_square(search: LowerBounds, p: Term, depth: int, goal: float) -> int | None:
    """p = a*x*x + b*x + c >= c - b*b / (4*a), for a > 0 and terms b and c without x."""
    if len(p.coeffs) > SHORT:
        return None
    table = search.table
    best: int | None = None
    for square, x, a in _positive_squares(p):
        b: dict[Term, int] = {}
        c: dict[Term, int] = {}
        const = 0
        for monomial, coeff in p.coeffs.items():
            factors = list(monomial.factors)
            if monomial is square:
                continue
            if x not in factors:
                c[monomial] = coeff
                continue
            factors.remove(x)
            if x in factors:
                break
            if factors:
                b[product(table, tuple(factors))] = coeff
            else:
                const = coeff
        else:
            if not b:
                continue  # `by_squares` has bounded the parabola itself
            slope = table.linear(b, const)
            scaled = table.mul(table.const(4 * a), table.linear(c))
            rest = table.sub(scaled, table.mul(slope, slope))
            low = search.least(rest, depth, goal * 4 * a)
            if low is not None:
                best = better(best, -(-low // (4 * a)))
    return best


def by_known_product(search: LowerBounds, p: Term, depth: int, goal: float) -> int | None:
    """A bound of a product that was multiplied out, from the bounds of its factors."""
    best: int | None = None
    for sign in (1, -1):
        known = search.table.products.get(p if sign > 0 else search.table.neg(p))
        if known is None:
            continue
        product, factors = known
        total: intervals.Interval = (1, 1)
        for factor, times in Counter(factors).items():
            least = search.least(factor, depth)
            most = search.least(search.table.neg(factor), depth)
            part = (least, None if most is None else -most)
            total = intervals.multiply(total, intervals.power(part, times))
        low, high = total
        # p is the product less its constant, or minus that.
        if sign > 0 and low is not None:
            best = better(best, low - product.const)
        elif sign < 0 and high is not None:
            best = better(best, product.const - high)
    return best


def by_quotients(search: LowerBounds, p: Term, depth: int, goal: float) -> int | None:
    """d * (x // d) = x - x % d, for a divisor d of any sign."""
    table = search.table
    best: int | None = None
    for monomial, coeff in p.coeffs.items():
        form = _without_quotient(search, monomial)
        if form is not None:
            scale = table.const(coeff)
            rest = table.sub(p, table.mul(scale, monomial))
            swapped = table.add(rest, table.mul(scale, form))
            best = better(best, search.least(swapped, depth, goal))
    return best


def _without_quotient(search: LowerBounds, monomial: Term) -> Term | None:
    """The monomial with one d * (x // d) in it written as x - x % d; None if it has none."""
    factors = monomial.factors
    if len(factors) < 2:
        return None
    for quotient in factors:
        if quotient.op != "floordiv":
            continue
        x, d = quotient.args
        if not d.is_monomial:
            continue
        rest = multiset_divide(factors, (quotient, *d.factors))
        if rest is None:
            continue
        table = search.table
        form = table.sub(x, table.mod(x, d))
        return table.mul(product(table, rest), form) if rest else form
    return None


def by_factors(search: LowerBounds, p: Term, depth: int, goal: float) -> int | None:
    """x*A + B >= least(x)*A + B, where A is not negative."""
    counts: dict[Term, int] = {}
    for monomial in p.coeffs:
        if len(monomial.factors) > 1:
            for factor in set(monomial.factors):
                counts[factor] = counts.get(factor, 0) + 1
    if not counts:
        return None
    table = search.table
    best: int | None = None
    for x in counts:
        low_x = search.least(x, depth)
        if low_x is None:
            continue
        inside: dict[Term, int] = {}
        outside: dict[Term, int] = {}
        const = 0
        for monomial, coeff in p.coeffs.items():
            factors = list(monomial.factors)
            if x not in factors:
                outside[monomial] = coeff
                continue
            factors.remove(x)
            if factors:
                inside[product(table, tuple(factors))] = coeff
            else:
                const += coeff
        a = table.linear(inside, const)
        low_a = search.least(a, depth)
        if low_a is None or low_a < 0:
            continue
        rest = table.add(table.mul(table.const(low_x), a), table.linear(outside))
        best = better(best, search.least(rest, depth, goal))
        if best is not None and best >= goal:
            return best
        if low_x >= 0 and outside:
            # The other way to be rid of the product: bounds of x and A by themselves.
            low_b = search.least(table.linear(outside), depth)
            if low_b is not None:
                best = better(best, low_x * low_a + low_b)
    return best


def _positive_squares(p: Term) -> Iterator[tuple[Term, Term, int]]:
    """(x*x, x, coefficient) for each square in a sum that has a positive coefficient."""
    for square, coeff in p.coeffs.items():
        if square.op == "product" and len(square.args) == 2 and coeff > 0:
            x = square.args[0]
            if x is square.args[1]:
                yield square, x, coeff
