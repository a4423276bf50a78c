"""Digits: n*a + b == 0 just when a and b are 0, where b is above -n and below n.

So equal flattened indices have equal parts: ``i*n + j == k*n + l`` means that i is k and j is l.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from symfx.algebra.reasoning.limits import DIGITS
from symfx.algebra.terms.monomials import multiset_divide, product
from symfx.algebra.terms.term import Term, by_uid

if TYPE_CHECKING:
    from symfx.algebra.reasoning.prover import Prover

__all__ = ["digits_of_zero"]


def digits_of_zero(prover: Prover, p: Term) -> list[Term]:
    """Sums that are all 0 just when p is: p alone, if none are found."""
    left, found = [p], list[Term]()
    while left:
        now = left.pop()
        split = None
        if now.op == "sum" and len(found) + len(left) < DIGITS:
            split = _by_symbol(prover, now) or _by_constant(prover, now)
        if split:
            left += split
        else:
            found.append(now)
    return found


def _by_constant(prover: Prover, p: Term) -> tuple[Term, Term] | None:
    """(a, b) with p = n*a + b for a constant n, and b above -n and below n."""
    table = p.table
    for n in sorted({abs(c) for c in p.coeffs.values()} - {1}, reverse=True):
        rest = table.linear({m: c for m, c in p.coeffs.items() if c % n})
        if rest.op == "const" or len(rest.coeffs) == len(p.coeffs):
            continue
        low, high = prover.range(rest)
        if low is None or high is None or high - low >= 2 * n - 1:
            continue
        # The multiple of n in the constant goes to one side such that the rest is small.
        const = p.const % n
        for left in (const, const - n):
            if -n < low + left and high + left < n:
                whole = {m: c // n for m, c in p.coeffs.items() if not c % n}
                return table.linear(whole, (p.const - left) // n), rest + left
    return None


def _by_symbol(prover: Prover, p: Term) -> tuple[Term, Term] | None:
    """(a, b) with p = n*a + b for a symbol n, and b above -n and below n."""
    table = p.table
    products = [m for m in p.coeffs if m.op == "product"]
    symbols = {f for m in products for f in m.factors if f.op == "symbol"}
    for n in sorted(symbols, key=by_uid):
        whole: dict[Term, int] = {}
        rest: dict[Term, int] = {}
        const = 0
        for monomial, coeff in p.coeffs.items():
            factors = multiset_divide(monomial.factors, (n,))
            if factors is None:
                rest[monomial] = coeff
            elif factors:
                whole[product(table, factors)] = coeff
            else:
                const = coeff
        a, b = table.linear(whole, const), table.linear(rest, p.const)
        if b.op == "const" or n in b.free_symbols:
            continue
        if prover.decide(table.lt(b, n)) and prover.decide(table.lt(table.neg(n), b)):
            return a, b
    return None
