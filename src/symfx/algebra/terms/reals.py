"""Doubles with Python's semantics, and casts between the sorts."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from symfx.algebra.terms.interning import intern
from symfx.algebra.terms.term import Term, by_uid

if TYPE_CHECKING:
    from symfx.algebra.terms.table import Table

__all__ = [
    "MATH_FUNCTIONS",
    "as_ints",
    "ceil",
    "floor",
    "function",
    "is_integer",
    "real_add",
    "real_mul",
    "real_operation",
    "round_to",
    "to_int",
    "to_real",
    "truediv",
    "trunc",
]

MATH_FUNCTIONS = (
    "sqrt",
    "cos",
    "cosh",
    "sin",
    "sinh",
    "tan",
    "tanh",
    "asin",
    "acos",
    "atan",
    "asinh",
    "acosh",
    "atanh",
    "exp",
    "expm1",
    "log",
    "log1p",
    "log2",
    "log10",
)
"""The functions of `math` that `Table.function` knows."""

# -- casts ---------------------------------------------------------------------------------


def to_int(table: Table, a: Term) -> Term:
    """An integer term: of a boolean, 0 or 1; of an integer, the integer itself."""
    if a.sort == "bool":
        if a.op == "const":
            return table.const(int(a.args[0]))
        if a.op == "not":
            return intern(table, "where", "int", (a.args[0], table.zero, table.one))
        return intern(table, "where", "int", (a, table.one, table.zero))
    if a.sort == "real":
        raise TypeError(f"{a} is real; floor, ceil, trunc or round it first")
    return a


def to_real(table: Table, a: Term) -> Term:
    """float(a): the nearest double."""
    if a.sort == "real":
        return a
    a = table.to_int(a)
    if a.op == "const":
        return table.const(float(a.const))
    return intern(table, "to_real", "real", (a,))


def as_ints(table: Table, a: Term, b: Term) -> tuple[Term, Term] | None:
    """Both operands as integers (a boolean counts as 0 or 1); None if one of them is real."""
    if a.sort == "real" or b.sort == "real":
        return None
    return table.to_int(a), table.to_int(b)


# -- arithmetic ----------------------------------------------------------------------------


def real_operation(
    table: Table, op: str, a: Term, b: Term, compute: Callable[[float, float], Any]
) -> Term:
    """An operation of two doubles; of constants, the value that `compute` gives."""
    a, b = table.to_real(a), table.to_real(b)
    if a.op == "const" and b.op == "const":
        value = compute(a.args[0], b.args[0])
        if isinstance(value, complex):
            raise ValueError(f"{a} ** {b} is not real")
        return table.const(float(value))
    return intern(table, op, "real", (a, b))


def real_add(table: Table, a: Term, b: Term) -> Term:
    """a + b of doubles. Addition and multiplication commute; they do not associate."""
    a, b = sorted((table.to_real(a), table.to_real(b)), key=by_uid)
    return real_operation(table, "fadd", a, b, operator.add)


def real_mul(table: Table, a: Term, b: Term) -> Term:
    """a * b of doubles."""
    a, b = sorted((table.to_real(a), table.to_real(b)), key=by_uid)
    return real_operation(table, "fmul", a, b, operator.mul)


def truediv(table: Table, a: Term, b: Term) -> Term:
    """a / b as Python divides: of integers, the double nearest to the exact quotient."""
    if b.op == "const" and not b.args[0]:
        raise ZeroDivisionError(f"({a}) / 0")
    if a.sort == "int" and b.sort == "int":
        if a.op == "const" and b.op == "const":
            return table.const(a.const / b.const)
        if b is table.one:
            return table.to_real(a)
        return intern(table, "truediv", "real", (a, b))
    ints = as_ints(table, a, b)
    if ints:
        return table.truediv(*ints)
    return real_operation(table, "fdiv", a, b, operator.truediv)


def floor(table: Table, a: Term) -> Term:
    """The largest integer at most `a`."""
    return _to_integer(table, "floor", a, math.floor)


def ceil(table: Table, a: Term) -> Term:
    """The smallest integer at least `a`."""
    return _to_integer(table, "ceil", a, math.ceil)


def trunc(table: Table, a: Term) -> Term:
    """`a` rounded towards zero, as an integer."""
    return _to_integer(table, "trunc", a, math.trunc)


def round_to(table: Table, a: Term, ndigits: int | None = None) -> Term:
    """`a` rounded half to even: an integer, or with `ndigits` a number of the sort of `a`."""
    if ndigits is None:
        return _to_integer(table, "round", a, round)
    if a.sort == "int":
        if ndigits >= 0:
            return a
        if a.op == "const":
            return table.const(round(a.const, ndigits))
        return intern(table, "round_int", "int", (a, table.const(ndigits)))
    if a.op == "const":
        return table.const(round(a.args[0], ndigits))
    return intern(table, "round_digits", "real", (a, table.const(ndigits)))


def _to_integer(table: Table, op: str, a: Term, compute: Callable[[float], int]) -> Term:
    if a.sort != "real":
        return table.to_int(a)
    if a.op == "const":
        return table.const(compute(a.args[0]))
    return intern(table, op, "int", (a,))


def is_integer(table: Table, a: Term) -> Term:
    """The condition that a number has no fractional part."""
    if a.sort != "real":
        return table.true
    if a.op == "const":
        return table.const(a.args[0].is_integer())
    if a.op == "to_real":
        return table.true
    return intern(table, "is_integer", "bool", (a,))


def function(table: Table, name: str, a: Term) -> Term:
    """The function `name` of `math` (``"sqrt"``, ``"sin"``, …) of `a`, as a double."""
    compute = getattr(math, name, None)
    if name not in MATH_FUNCTIONS or compute is None:
        raise ValueError(f"no real function named {name!r}; known: {', '.join(MATH_FUNCTIONS)}")
    a = table.to_real(a)
    if a.op == "const":
        return table.const(float(compute(a.args[0])))
    return intern(table, name, "real", (a,))
