"""Bit operations and shifts of integers; on conditions, the logical operations."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import TYPE_CHECKING

from symfx.algebra.terms.interning import check_size, intern
from symfx.algebra.terms.term import Term, by_uid

if TYPE_CHECKING:
    from symfx.algebra.terms.table import Table

__all__ = ["bit_and", "bit_or", "bit_xor", "lshift", "rshift"]


def bit_and(table: Table, a: Term, b: Term) -> Term:
    """a & b: bitwise of integers, logical of booleans."""
    if a.sort == "bool" and b.sort == "bool":
        return table.and_(a, b)
    for x, mask in ((a, b), (b, a)):
        # x & (2**k - 1) = x % 2**k, and x & -2**k = x - x % 2**k
        if x.sort == mask.sort == "int" and mask.op == "const":
            modulus = mask.const + 1 if mask.const > 0 else -mask.const
            if modulus > 1 and not modulus & (modulus - 1):
                rest = table.mod(x, table.const(modulus))
                return rest if mask.const > 0 else table.sub(x, rest)
    for x, both in ((a, b), (b, a)):
        if both.op == "bit_or" and x in both.args:  # x & (x | y) = x
            return x
    return _bits(table, "bit_and", a, b, operator.and_, unit=-1, absorbing=0)


def bit_or(table: Table, a: Term, b: Term) -> Term:
    """a | b: bitwise of integers, logical of booleans."""
    if a.sort == "bool" and b.sort == "bool":
        return table.or_(a, b)
    for x, both in ((a, b), (b, a)):
        if both.op == "bit_and" and x in both.args:  # x | (x & y) = x
            return x
    return _bits(table, "bit_or", a, b, operator.or_, unit=0, absorbing=-1)


def bit_xor(table: Table, a: Term, b: Term) -> Term:
    """a ^ b: bitwise of integers, "exactly one" of booleans."""
    if a.sort == "bool" and b.sort == "bool":
        return table.or_(table.and_(a, table.not_(b)), table.and_(table.not_(a), b))
    if a is b:
        return table.zero
    for x, both in ((a, b), (b, a)):
        if both.op == "bit_xor" and x in both.args:  # x ^ (x ^ y) = y
            left: Term = both.args[both.args[0] is x]
            return left
    return _bits(table, "bit_xor", a, b, operator.xor, unit=0, absorbing=None)


def _bits(
    table: Table,
    op: str,
    a: Term,
    b: Term,
    compute: Callable[[int, int], int],
    *,
    unit: int,
    absorbing: int | None,
) -> Term:
    """A bit operation of integers; `unit` leaves the other operand, `absorbing` leaves itself."""
    a, b = table.to_int(a), table.to_int(b)
    if a.op == "const" and b.op == "const":
        return table.const(compute(a.const, b.const))
    if b.op == "const":
        a, b = b, a
    if a.op == "const":
        if a.const == unit:
            return b
        if a.const == absorbing:
            return a
    elif a is b:
        return a
    for x, both in ((a, b), (b, a)):
        if both.op == op and x in both.args:  # x & (x & y) = x & y
            return both
    return intern(table, op, "int", tuple(sorted((a, b), key=by_uid)))


def lshift(table: Table, a: Term, b: Term) -> Term:
    """a << b for b >= 0."""
    a, b = table.to_int(a), table.to_int(b)
    if b.op == "const":
        if b.const < 0:
            raise ValueError("negative shift count")
        check_size(b.const)
        return table.mul(table.const(1 << b.const), a)
    if a is table.zero:
        return a
    return intern(table, "lshift", "int", (a, b))


def rshift(table: Table, a: Term, b: Term) -> Term:
    """a >> b for b >= 0: the floor of a divided by 2**b."""
    a, b = table.to_int(a), table.to_int(b)
    if b.op == "const":
        if b.const < 0:
            raise ValueError("negative shift count")
        check_size(b.const)
        return table.floordiv(a, table.const(1 << b.const))
    if a is table.zero or a is table.minus_one:
        return a
    if a.op == "lshift" and a.args[1] is b:
        shifted: Term = a.args[0]
        return shifted
    return intern(table, "rshift", "int", (a, b))
