"""Monomials: products of atoms, and the factors that monomials share."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from symfx.algebra.terms.interning import intern
from symfx.algebra.terms.term import Term, by_uid

if TYPE_CHECKING:
    from symfx.algebra.terms.table import Table

__all__ = [
    "common_factors",
    "divide_out",
    "grade",
    "leads_negative",
    "multiset_divide",
    "product",
    "shared_factors",
]


def product(table: Table, factors: tuple[Term, ...]) -> Term:
    """The monomial with these atoms as its factors (one at least)."""
    if len(factors) == 1:
        return factors[0]
    return intern(table, "product", "int", tuple(sorted(factors, key=by_uid)))


def multiset_divide(whole: tuple[Term, ...], part: tuple[Term, ...]) -> tuple[Term, ...] | None:
    """The factors of `whole` without those of `part`, or None if `whole` lacks one of these."""
    rest = list(whole)
    for factor in part:
        try:
            rest.remove(factor)
        except ValueError:
            return None
    return tuple(rest)


def divide_out(table: Table, a: Term, shared: list[Term], g: int) -> Term:
    """`a` without the factors that all its monomials share, and divided by the constant g."""
    coeffs: dict[Term, int] = {}
    const = a.const // g
    for m, c in a.coeffs.items():
        rest = multiset_divide(m.factors, tuple(shared))
        assert rest is not None
        if rest:
            coeffs[product(table, rest)] = c // g
        else:
            const += c // g
    return table.linear(coeffs, const)


def common_factors(p: Term) -> list[Term]:
    """The atoms that every monomial of an integer term has, as often as every one has them."""
    return [] if p.const else shared_factors(p.coeffs)


def shared_factors(monomials: Iterable[Term]) -> list[Term]:
    """The atoms that all the monomials have, as often as every one has them."""
    left_over = iter(monomials)
    first = next(left_over, None)
    shared = [] if first is None else list(first.factors)
    for monomial in left_over:
        if not shared:
            break
        left = list(monomial.factors)
        still = []
        for factor in shared:
            if factor in left:
                left.remove(factor)
                still.append(factor)
        shared = still
    return shared


def leads_negative(a: Term) -> bool:
    """Whether the oldest monomial of an integer term has a negative coefficient."""
    coeffs = a.coeffs
    return coeffs[min(coeffs, key=by_uid)] < 0


def grade(monomial: Term) -> tuple[int, tuple[int, ...]]:
    """The place of a monomial in an order (degree first) under which long division ends."""
    return len(monomial.factors), tuple(sorted((f.uid for f in monomial.factors), reverse=True))
