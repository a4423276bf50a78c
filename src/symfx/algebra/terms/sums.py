"""Sums, products and powers of integers: polynomials over atoms, multiplied out."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from typing import TYPE_CHECKING

from symfx.algebra.terms.interning import check_size, combine, intern, scaled
from symfx.algebra.terms.monomials import product
from symfx.algebra.terms.reals import as_ints, real_add, real_mul, real_operation
from symfx.algebra.terms.term import Term, by_uid

if TYPE_CHECKING:
    from symfx.algebra.terms.table import Table

__all__ = ["add", "mul", "neg", "power", "sub", "sum_of"]

# A product of sums is multiplied out up to this many monomials; beyond, its factors stay whole.
_EXPAND_LIMIT = 256
# Powers with a constant exponent are multiplied out up to this exponent.
_EXPAND_POWER = 8
# A product of more factors keeps both its operands whole, as if they were atoms.
_DEGREE = 256


def add(table: Table, a: Term, b: Term) -> Term:
    """a + b"""
    key = (a, b)
    found = table._add_memo.get(key)
    if found is None:
        if a.sort == "int" and b.sort == "int":
            if b.op == "const" and not b.const:
                found = a
            elif a.op == "const" and not a.const:
                found = b
            else:
                found = combine(table, a, 1, b, 1)
        else:
            ints = as_ints(table, a, b)
            found = table.add(*ints) if ints else real_add(table, a, b)
        table._add_memo[key] = found
    return found


def sum_of(table: Table, terms: Iterable[Term]) -> Term:
    """The sum of integer terms, in time linear in their number."""
    coeffs: dict[Term, int] = {}
    const = 0
    for term in terms:
        const += term.const
        for monomial, coeff in term.coeffs.items():
            coeffs[monomial] = coeffs.get(monomial, 0) + coeff
    return table.linear(coeffs, const)


def neg(table: Table, a: Term) -> Term:
    """-a"""
    if a.sort == "int":
        found = table._neg_memo.get(a)
        if found is None:
            found = scaled(table, a, -1)
            table._neg_memo[a], table._neg_memo[found] = found, a
        return found
    if a.sort == "bool":
        return table.neg(table.to_int(a))
    if a.op == "const":
        return table.const(-a.args[0])
    if a.op == "fneg":
        inner: Term = a.args[0]
        return inner
    return intern(table, "fneg", "real", (a,))


def sub(table: Table, a: Term, b: Term) -> Term:
    """a - b"""
    if a.sort == "int" and b.sort == "int":
        key = ("sub", a, b)
        found = table._op_memo.get(key)
        if found is None:
            found = table._op_memo[key] = table.zero if a is b else combine(table, a, 1, b, -1)
        return found
    ints = as_ints(table, a, b)
    if ints:
        return table.sub(*ints)
    # IEEE subtraction is the addition of the negated double, exactly: -0.0 for an integer 0.
    return real_add(table, a, table.neg(table.to_real(b)))


def mul(table: Table, a: Term, b: Term) -> Term:
    """a * b"""
    key = (a, b)
    found = table._mul_memo.get(key)
    if found is None:
        if a.sort == "int" and b.sort == "int":
            found = _int_mul(table, a, b)
        else:
            ints = as_ints(table, a, b)
            found = table.mul(*ints) if ints else real_mul(table, a, b)
        table._mul_memo[key] = found
    return found


def _int_mul(table: Table, a: Term, b: Term) -> Term:
    if b.op == "const":
        a, b = b, a
    if a.op == "const":
        scale = a.const
        if scale == 0:
            return table.zero
        if scale == 1:
            return b
        if b.op == "const":
            check_size(scale.bit_length() + b.const.bit_length())
            return table.const(scale * b.const)
        return scaled(table, b, scale)
    if a.is_monomial and b.is_monomial:
        if len(a.factors) + len(b.factors) > _DEGREE:
            return intern(table, "product", "int", tuple(sorted((a, b), key=by_uid)))
        return product(table, a.factors + b.factors)
    left, right = a.coeffs, b.coeffs
    size = (len(left) + bool(a.const)) * (len(right) + bool(b.const))
    if size > _EXPAND_LIMIT:
        return product(table, (*_whole_factors(a), *_whole_factors(b)))
    total: dict[Term, int] = {}
    for m, c in left.items():
        for n, d in right.items():
            both = product(table, m.factors + n.factors)
            total[both] = total.get(both, 0) + c * d
        if b.const:
            total[m] = total.get(m, 0) + c * b.const
    if a.const:
        for n, d in right.items():
            total[n] = total.get(n, 0) + d * a.const
    result = table.linear(total, a.const * b.const)
    if result.op == "sum":
        factors = (*_known_factors(table, a), *_known_factors(table, b))
        table.products.setdefault(result.base, (result, factors))
    return result


def _known_factors(table: Table, a: Term) -> tuple[Term, ...]:
    """The factors that a term came about from, for a product that is about to be multiplied out."""
    if a.op != "sum":
        return a.factors
    known = table.products.get(a.base)
    return known[1] if known is not None and known[0] is a else (a,)


def _whole_factors(a: Term) -> tuple[Term, ...]:
    """The factors of `a` for a product that is not multiplied out."""
    return a.factors if a.is_monomial else (a,)


def power(table: Table, a: Term, b: Term) -> Term:
    """a ** b: of integers an integer for b >= 0, and a double for a negative constant b."""
    if a.sort != "int" or b.sort != "int":
        ints = as_ints(table, a, b)
        return table.pow(*ints) if ints else real_operation(table, "fpow", a, b, operator.pow)
    if b.op == "const":
        if b.const < 0:
            return real_operation(table, "fpow", a, b, operator.pow)
        if a.op == "const":
            check_size((abs(a.const) > 1) * a.const.bit_length() * b.const)
            return table.const(a.const**b.const)
        if b.const == 0:
            return table.one
        if b.const <= _EXPAND_POWER:
            result = a
            for _ in range(b.const - 1):
                result = table.mul(result, a)
            return result
    if a is table.one:
        return a
    return intern(table, "pow", "int", (a, b))
