"""The smaller and the larger of two terms, and absolute values."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from symfx.algebra.terms.interning import intern
from symfx.algebra.terms.monomials import leads_negative
from symfx.algebra.terms.reals import as_ints, real_operation
from symfx.algebra.terms.term import Term, by_uid

if TYPE_CHECKING:
    from symfx.algebra.terms.table import Table

__all__ = ["absolute", "maximum", "minimum"]


def absolute(table: Table, a: Term) -> Term:
    """The absolute value of `a`."""
    if a.sort == "bool":
        return table.to_int(a)
    if a.op == "const":
        return table.const(abs(a.args[0]))
    if a.sort == "real":
        return a if a.op == "fabs" else intern(table, "fabs", "real", (a,))
    if a.op == "abs":
        return a
    if a.op == "sum" and leads_negative(a):
        return table.abs(table.neg(a))
    g = math.gcd(a.const, *a.coeffs.values())
    if g > 1:
        inner = table.linear({m: c // g for m, c in a.coeffs.items()}, a.const // g)
        return table.mul(table.const(g), table.abs(inner))
    return intern(table, "abs", "int", (a,))


def minimum(table: Table, a: Term, b: Term) -> Term:
    """The smaller of `a` and `b`."""
    return _extremum(table, "min", a, b)


def maximum(table: Table, a: Term, b: Term) -> Term:
    """The larger of `a` and `b`."""
    return _extremum(table, "max", a, b)


def _extremum(table: Table, op: str, a: Term, b: Term) -> Term:
    if a.sort != "int" or b.sort != "int":
        ints = as_ints(table, a, b)
        return (
            _extremum(table, op, *ints)
            if ints
            else real_operation(table, "f" + op, a, b, min if op == "min" else max)
        )
    key = (op, a, b)
    found = table._op_memo.get(key)
    if found is not None:
        return found
    other = "max" if op == "min" else "min"
    parts: dict[Term, Term] = {}
    for operand in (a, b):
        for part in operand.args if operand.op == op else (operand,):
            # Of terms that differ by a constant alone, the constant decides.
            base = part.base if part.op != "const" else table.zero
            best = parts.get(base)
            if best is None or (part.const < best.const) == (op == "min"):
                parts[base] = part
    # min(a, max(a, b)) is a, and the other way round: absorption.
    kept = [
        p
        for p in parts.values()
        if not (p.op == other and any(q in p.args for q in parts.values()))
    ]
    if len(kept) == 1:
        result = kept[0]
    else:
        result = intern(table, op, "int", tuple(sorted(kept, key=by_uid)))
    table._op_memo[key] = result
    return result
