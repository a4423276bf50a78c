"""Floor division and remainder of integers, for operands of any sign, as in Python."""

from __future__ import annotations

import math
import operator
from typing import TYPE_CHECKING

from symfx.algebra.terms.interning import combine, intern
from symfx.algebra.terms.monomials import (
    divide_out,
    grade,
    leads_negative,
    multiset_divide,
    product,
    shared_factors,
)
from symfx.algebra.terms.reals import as_ints, real_operation
from symfx.algebra.terms.term import Term

if TYPE_CHECKING:
    from symfx.algebra.terms.table import Table

__all__ = ["divide_exactly", "floordiv", "mod"]


def floordiv(table: Table, a: Term, b: Term) -> Term:
    """a // b, rounded down for operands of any sign, as in Python."""
    if a.sort != "int" or b.sort != "int":
        ints = as_ints(table, a, b)
        return (
            table.floordiv(*ints)
            if ints
            else real_operation(table, "ffloordiv", a, b, operator.floordiv)
        )
    key = ("floordiv", a, b)
    found = table._op_memo.get(key)
    if found is None:
        found = table._op_memo[key] = _int_floordiv(table, a, b)
    return found


def _int_floordiv(table: Table, a: Term, b: Term) -> Term:
    if b.op == "const":
        divisor = b.const
        if divisor == 0:
            raise ZeroDivisionError(f"({a}) // 0")
        if divisor < 0:  # a // -c = (-a) // c
            return _floordiv_by_constant(table, table.neg(a), -divisor)
        return _floordiv_by_constant(table, a, divisor)
    if a.op == "const" and not a.const:
        return table.zero
    # (b*q + r) // b = q + r // b for any b that is not zero.
    quotient, rest = _split_multiple(table, a, b)
    if rest is not a:
        return table.add(quotient, table.floordiv(rest, b))
    a, b = _cancel_common(table, a, b)
    if b.op == "const":
        return table.floordiv(a, b)
    exact = divide_exactly(table, a, b)
    if exact is not None:
        return exact
    if leads_negative(b):  # a // -b = (-a) // b
        return table.floordiv(table.neg(a), table.neg(b))
    return intern(table, "floordiv", "int", (a, b))


def _floordiv_by_constant(table: Table, a: Term, c: int) -> Term:
    """a // c for c > 0."""
    if c == 1:
        return a
    divisor = c
    # (c*q + r) // c = q + r // c: each coefficient leaves its remainder, in 0..c-1.
    coeffs = a.coeffs
    whole: dict[Term, int] = {}
    rest = coeffs
    if coeffs and not (min(coeffs.values()) > 0 and max(coeffs.values()) < c):
        whole = {m: q for m, coeff in coeffs.items() if (q := coeff // c)}
        rest = {m: r for m, coeff in coeffs.items() if (r := coeff % c)}
    q, k = divmod(a.const, c)
    outer = table.linear(whole, q)
    if not rest:
        return outer
    # (g*x + k) // (g*d) = (x + k//g) // d for g, d > 0.
    g = math.gcd(c, *rest.values())
    if g > 1:
        rest = {m: r // g for m, r in rest.items()}
        k //= g
        c //= g
        if c == 1:
            return table.add(outer, table.linear(rest, k))
    if len(rest) == 1:
        ((only, coeff),) = rest.items()
        if coeff == 1 and only.op == "floordiv" and only.args[1].op == "const":
            # (x//d + k) // c = (x + k*d) // (c*d) for c > 0.
            inner, d = only.args[0], only.args[1].const
            merged = _floordiv_by_constant(table, table.add(inner, table.const(k * d)), c * d)
            return table.add(outer, merged)
    changed = whole or k != a.const or c != divisor
    inner = table.linear(rest, k) if changed else a
    atom = intern(table, "floordiv", "int", (inner, table.const(c)))
    return table.add(outer, atom)


def mod(table: Table, a: Term, b: Term) -> Term:
    """a % b, with the sign of b, as in Python."""
    if a.sort != "int" or b.sort != "int":
        ints = as_ints(table, a, b)
        return table.mod(*ints) if ints else real_operation(table, "fmod", a, b, operator.mod)
    key = ("mod", a, b)
    found = table._op_memo.get(key)
    if found is None:
        found = table._op_memo[key] = _int_mod(table, a, b)
    return found


def _int_mod(table: Table, a: Term, b: Term) -> Term:
    if b.op == "const":
        divisor = b.const
        if divisor == 0:
            raise ZeroDivisionError(f"({a}) % 0")
        if divisor < 0:  # a % -c = -((-a) % c)
            return table.neg(_mod_by_constant(table, table.neg(a), -divisor))
        return _mod_by_constant(table, a, divisor)
    if a.op == "const" and not a.const:
        return table.zero
    _, rest = _split_multiple(table, a, b)
    if rest is not a:
        return table.mod(rest, b)
    if divide_exactly(table, a, b) is not None:
        return table.zero
    # (m*x) % (m*y) = m * (x % y) for any m that is not zero.
    x, y = _cancel_common(table, a, b)
    if y is not b:
        # Both were divided by the same m, which long division finds again.
        common = b if y is table.one else divide_exactly(table, b, y)
        if y.op == "const" and y is not table.one:
            common = table.linear({m: c // y.const for m, c in b.coeffs.items()})
        if common is not None:
            return table.mul(common, table.mod(x, y))
    if leads_negative(b):  # a % -b = -((-a) % b)
        return table.neg(table.mod(table.neg(a), table.neg(b)))
    return intern(table, "mod", "int", (a, b))


def _mod_by_constant(table: Table, a: Term, c: int) -> Term:
    """a % c for c > 0."""
    rest: dict[Term, int] = {}
    extra: list[Term] = []
    for monomial, coeff in a.coeffs.items():
        if not coeff % c:
            continue
        if _constant_modulus(monomial) and not _constant_modulus(monomial) % c:
            # x % (c*d) is x plus a multiple of c.
            extra.append(table.mul(table.const(coeff), monomial.args[0]))
        else:
            rest[monomial] = coeff % c
    k = a.const % c
    if extra:
        return table.mod(table.add(table.sum(extra), table.linear(rest, k)), table.const(c))
    if not rest:
        return table.const(k)
    # (g*x + k) % (g*d) = g*((x + k//g) % d) + k % g for g, d > 0.
    g = math.gcd(c, *rest.values())
    if g > 1:
        reduced = table.linear({m: r // g for m, r in rest.items()}, k // g)
        inner = _mod_by_constant(table, reduced, c // g)
        return table.add(table.mul(table.const(g), inner), table.const(k % g))
    inner_sum = table.linear(rest, k)
    if 0 < _constant_modulus(inner_sum) <= c:  # x % d is already in 0..d-1
        return inner_sum
    return intern(table, "mod", "int", (inner_sum, table.const(c)))


def _split_multiple(table: Table, a: Term, b: Term) -> tuple[Term, Term]:
    """(q, r) with a = b*q + r, where q has every part of `a` that `b` divides by form."""
    if b.op == "sum" and (b.const or len(b.coeffs) != 1):
        # Whole multiples of a sum: k*b + r, with k read off the first monomial of b.
        head, head_coeff = next(iter(b.coeffs.items()))
        k, left_over = divmod(a.coeffs.get(head, 0), head_coeff)
        if not k or left_over:
            return table.zero, a
        rest = combine(table, a, 1, b, -k)
        if rest.op == "const" or len(rest.coeffs) < len(a.coeffs):
            return table.const(k), rest
        return table.zero, a
    ((monomial, scale),) = b.coeffs.items()
    quotient: dict[Term, int] = {}
    kept: dict[Term, int] = {}
    q_const = 0
    for m, c in a.coeffs.items():
        below = multiset_divide(m.factors, monomial.factors) if not c % scale else None
        if below is None:
            kept[m] = c
        elif below:
            part = product(table, below)
            quotient[part] = quotient.get(part, 0) + c // scale
        else:
            q_const += c // scale
    if not quotient and not q_const:
        return table.zero, a
    return table.linear(quotient, q_const), table.linear(kept, a.const)


def _cancel_common(table: Table, a: Term, b: Term) -> tuple[Term, Term]:
    """`a` and `b` without the factors that all their monomials share."""
    if a.op == "const" or a.const or b.const:
        shared: list[Term] = []
    else:
        shared = shared_factors([*a.coeffs, *b.coeffs])
    g = math.gcd(a.const, b.const, *a.coeffs.values(), *b.coeffs.values())
    if not shared and g <= 1:
        return a, b
    return divide_out(table, a, shared, g), divide_out(table, b, shared, g)


def divide_exactly(table: Table, a: Term, b: Term) -> Term | None:
    """The q with a = b*q as polynomials, or None. Long division by the leading monomial."""
    if b.op == "const" or len(a.coeffs) > 64 or len(b.coeffs) > 16:
        return None
    lead = max(b.coeffs, key=grade)
    lead_coeff = b.coeffs[lead]
    quotient: Term = table.zero
    rest = a
    for _ in range(64):
        if rest.op == "const":
            return quotient if not rest.const else None
        top = max(rest.coeffs, key=grade)
        below = multiset_divide(top.factors, lead.factors)
        if below is None or rest.coeffs[top] % lead_coeff:
            return None
        coeff = rest.coeffs[top] // lead_coeff
        step = table.linear({product(table, below): coeff}) if below else table.const(coeff)
        quotient = table.add(quotient, step)
        rest = table.sub(rest, table.mul(step, b))
    return None


def _constant_modulus(term: Term) -> int:
    """The d of a term ``x % d`` with constant d, 0 for every other term."""
    if term.op == "mod" and term.args[1].op == "const":
        divisor: int = term.args[1].const
        return divisor
    return 0
