"""Comparisons of an integer with a double, which Python makes exactly, without rounding.

A comparison with a constant double becomes one of integers, a comparison with a constant integer
one of doubles. Otherwise the comparison keeps both operands as they are: ``float(x) < r`` rounds x
beyond 2**53, and would be another condition.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from symfx.algebra.terms.interning import intern
from symfx.algebra.terms.term import Term, by_uid

if TYPE_CHECKING:
    from symfx.algebra.terms.table import Table

__all__ = ["mixed_eq", "mixed_order", "without_casts"]


def without_casts(a: Term, b: Term) -> tuple[Term, Term]:
    """The operands of a comparison of doubles, where one is a cast integer and one is constant.

    The integer itself then compares in the same way: below 2**53 no cast rounds, and beyond it none
    rounds down to a double below.
    """
    if a.op == "to_real" and b.op == "const" and abs(b.args[0]) < 2**53:
        a = a.args[0]
    elif b.op == "to_real" and a.op == "const" and abs(a.args[0]) < 2**53:
        b = b.args[0]
    return a, b


def mixed_eq(table: Table, a: Term, b: Term) -> Term:
    """a == b of an integer and a double."""
    x, r = (a, b) if a.sort == "int" else (b, a)
    if r.op == "const":
        value = r.args[0]
        if not (math.isfinite(value) and value.is_integer()):
            return table.false
        return table.eq(x, table.const(int(value)))
    if x.op == "const":
        near, order = _nearest(x.const)
        return table.false if order else table.eq(table.const(near), r)
    return intern(table, "feq", "bool", tuple(sorted((x, r), key=by_uid)))


def mixed_order(table: Table, op: str, a: Term, b: Term) -> Term:
    """a <= b ("fle") or a < b ("flt") of an integer and a double, in either order."""
    x, r = (a, b) if a.sort == "int" else (b, a)
    strict = op == "flt"
    if r.op == "const":
        value = r.args[0]
        if math.isnan(value):
            return table.false
        if math.isinf(value):
            return table.const((value > 0) == (x is a))
        if x is a:  # x <= r just if x <= floor(r), x < r just if x < ceil(r)
            end = table.const(math.ceil(value) if strict else math.floor(value))
            return table.lt(x, end) if strict else table.le(x, end)
        end = table.const(math.floor(value) if strict else math.ceil(value))
        return table.lt(end, x) if strict else table.le(end, x)
    if x.op == "const":
        near, order = _nearest(x.const)
        # No double lies between the integer and the double nearest to it.
        if order:
            strict = (order > 0) == (x is b)
        end = table.const(near)
        sides = (end, r) if x is a else (r, end)
        return table.lt(*sides) if strict else table.le(*sides)
    return intern(table, op, "bool", (a, b))


def _nearest(value: int) -> tuple[float, int]:
    """The double nearest to an integer, and 1, 0 or -1: whether it is above, equal or below."""
    try:
        near = float(value)
    except OverflowError:
        near = math.inf if value > 0 else -math.inf
    return near, (near > value) - (near < value)
