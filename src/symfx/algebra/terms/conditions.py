"""Conditions in normal form, and choices between terms."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import TYPE_CHECKING

from symfx.algebra.terms.interning import combine, intern
from symfx.algebra.terms.mixed import mixed_eq, mixed_order, without_casts
from symfx.algebra.terms.reals import as_ints
from symfx.algebra.terms.term import Term, by_uid, postorder

if TYPE_CHECKING:
    from symfx.algebra.terms.table import Table

__all__ = ["and_", "eq", "ge_zero", "le", "lt", "ne", "not_", "or_", "to_bool", "where"]


def where(table: Table, cond: Term, a: Term, b: Term) -> Term:
    """`a` where `cond` holds, else `b`; the result has the wider sort of both."""
    if a.sort != b.sort:
        cast = table.to_real if "real" in (a.sort, b.sort) else table.to_int
        a, b = cast(a), cast(b)
    if cond.op == "const":
        return a if cond.args[0] else b
    if a is b:
        return a
    if a.sort == "bool" and b.sort == "bool":
        return table.or_(table.and_(cond, a), table.and_(table.not_(cond), b))
    if cond.op == "not":
        cond, a, b = cond.args[0], b, a
    return intern(table, "where", a.sort, (cond, a, b))


def to_bool(table: Table, a: Term) -> Term:
    """bool(a): the condition that `a` is not zero."""
    if a.sort == "bool":
        return a
    return table.ne(a, table.zero if a.sort == "int" else table.const(0.0))


def eq(table: Table, a: Term, b: Term) -> Term:
    """a == b"""
    if a.sort == "int" and b.sort == "int":
        return _eq_zero(table, table.sub(a, b))
    if a.sort == "bool" and b.sort == "bool":
        return table.and_(table.or_(table.not_(a), b), table.or_(a, table.not_(b)))
    ints = as_ints(table, a, b)
    if ints:
        return table.eq(*ints)
    a, b = without_casts(a, b)
    if a.sort != b.sort:
        return mixed_eq(table, _number(table, a), _number(table, b))
    a, b = sorted((a, b), key=by_uid)
    return _real_compare(table, "feq", a, b, operator.eq)


def _eq_zero(table: Table, p: Term) -> Term:
    if p.op == "const":
        return table.const(p.const == 0)
    decided = _by_cases(table, p, _eq_zero)
    if decided is not None:
        return decided
    coeffs = p.coeffs
    g = math.gcd(*coeffs.values())
    if p.const % g:
        return table.false
    # The monomial made first has a positive coefficient.
    if coeffs[min(coeffs, key=by_uid)] < 0:
        g = -g
    if g != 1:
        p = table.linear({m: c // g for m, c in coeffs.items()}, p.const // g)
    return intern(table, "eq", "bool", (p,))


def ne(table: Table, a: Term, b: Term) -> Term:
    """a != b"""
    return table.not_(table.eq(a, b))


def ge_zero(table: Table, p: Term) -> Term:
    """p >= 0, for an integer term p."""
    if p.op == "const":
        return table.const(p.const >= 0)
    decided = _by_cases(table, p, ge_zero)
    if decided is not None:
        return decided
    g = math.gcd(*p.coeffs.values())
    if g > 1:  # g*x + k >= 0 just when x >= ceil(-k / g)
        p = table.linear({m: c // g for m, c in p.coeffs.items()}, p.const // g)
    return intern(table, "ge", "bool", (p,))


def _by_cases(table: Table, p: Term, test: Callable[[Table, Term], Term]) -> Term | None:
    """`test` of p by cases, where p is a choice between two constants; else None.

    So the question whether an integer is 1 that was cast from a condition is that condition.
    """
    if len(p.coeffs) != 1:
        return None
    ((atom, coeff),) = p.coeffs.items()
    if atom.op != "where" or atom.args[1].op != "const" or atom.args[2].op != "const":
        return None
    cond, a, b = atom.args
    scale, const = table.const(coeff), table.const(p.const)
    when_true = test(table, table.add(table.mul(scale, a), const))
    when_false = test(table, table.add(table.mul(scale, b), const))
    return table.where(cond, when_true, when_false)


def le(table: Table, a: Term, b: Term) -> Term:
    """a <= b"""
    if a.sort == "real" or b.sort == "real":
        return _real_order(table, "fle", a, b, operator.le)
    return table.ge_zero(table.sub(table.to_int(b), table.to_int(a)))


def lt(table: Table, a: Term, b: Term) -> Term:
    """a < b"""
    if a.sort == "real" or b.sort == "real":
        return _real_order(table, "flt", a, b, operator.lt)
    gap = table.sub(table.to_int(b), table.to_int(a))
    return table.ge_zero(table.add(gap, table.minus_one))


def _real_compare(
    table: Table, op: str, a: Term, b: Term, compute: Callable[[float, float], bool]
) -> Term:
    if a.op == "const" and b.op == "const":
        return table.const(compute(a.args[0], b.args[0]))
    return intern(table, op, "bool", (a, b))


def _number(table: Table, a: Term) -> Term:
    return a if a.sort == "real" else table.to_int(a)


def _real_order(
    table: Table, op: str, a: Term, b: Term, compute: Callable[[float, float], bool]
) -> Term:
    a, b = without_casts(a, b)
    if a.sort != b.sort:
        return mixed_order(table, op, _number(table, a), _number(table, b))
    return _real_compare(table, op, a, b, compute)


def not_(table: Table, a: Term) -> Term:
    """The negation of a condition."""
    if a.sort != "bool":
        raise TypeError(f"{a} is {a.sort}; only a condition can be negated")
    found = table._not_memo.get(a)
    if found is None and a.op not in ("and", "or"):
        found = table._not_memo[a] = _negated(table, a)
    elif found is None:
        # De Morgan's rules, operands first: conditions nest deeply and share their parts.
        memo = table._not_memo
        for part in postorder(a, lambda t: t.sort == "bool" and t not in memo):
            memo[part] = _negated(table, part)
        found = memo[a]
    return found


def _negated(table: Table, a: Term) -> Term:
    """The negation of a condition; those of its operands are in the memo."""
    if a.op == "const":
        return table.const(not a.args[0])
    if a.op == "not":
        inner: Term = a.args[0]
        return inner
    if a.op == "ge":  # not p >= 0 is -p - 1 >= 0
        return table.ge_zero(combine(table, a.args[0], -1, table.minus_one, 1))
    if a.op == "and":
        return table.or_(*(table._not_memo[x] for x in a.args))
    if a.op == "or":
        return table.and_(*(table._not_memo[x] for x in a.args))
    # Real comparisons keep their negation: with NaN, not a < b is not b <= a.
    return intern(table, "not", "bool", (a,))


def and_(table: Table, *conditions: Term) -> Term:
    """The condition that all of the conditions hold."""
    return _junction(table, "and", conditions, table.true, table.false)


def or_(table: Table, *conditions: Term) -> Term:
    """The condition that at least one of the conditions holds."""
    return _junction(table, "or", conditions, table.false, table.true)


def _junction(
    table: Table, op: str, conditions: tuple[Term, ...], unit: Term, absorbing: Term
) -> Term:
    parts: dict[Term, None] = {}
    for condition in conditions:
        if condition.sort != "bool":
            raise TypeError(f"{condition} is {condition.sort}, not a condition")
        members: tuple[Term, ...] = condition.args if condition.op == op else (condition,)
        for part in members:
            if part is absorbing:
                return absorbing
            if part is not unit:
                parts[part] = None
    if any(table.not_(part) in parts for part in parts if part.op not in ("and", "or")):
        return absorbing
    # p or q or not (p or q) holds, p and q and not (p and q) fails.
    dual = "and" if op == "or" else "or"
    if any(p.op == dual and all(table.not_(x) in parts for x in p.args) for p in parts):
        return absorbing
    if not parts:
        return unit
    if len(parts) == 1:
        (only,) = parts
        return only
    return intern(table, op, "bool", tuple(sorted(parts, key=by_uid)))
