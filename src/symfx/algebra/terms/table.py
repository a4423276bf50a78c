"""Hash-consed terms: the table that makes them, with all its operations.

`symfx.algebra.terms.term` says what a term is.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from symfx.algebra.terms.conditions import Conditions
from symfx.algebra.terms.reals import MATH_FUNCTIONS
from symfx.algebra.terms.term import Scalar, Sort, Term, by_uid, leads_negative

__all__ = ["MATH_FUNCTIONS", "Scalar", "Sort", "Table", "Term"]


class Table(Conditions):
    """The home of interned terms, and the operations that make them.

    Every operation takes terms of this table and gives one of this table in normal form.
    Operations on constants compute with Python's own semantics, and raise what Python raises
    (`ZeroDivisionError`). A rewrite may assume that what it rewrites is defined: ``x // x`` is
    1, although it raises for ``x == 0``.

    Example:
        >>> t = Table()
        >>> s = t.symbol("s")
        >>> (2 * s + 4) // 2 is s + 2
        True
        >>> str((s + 1) * (s - 1))
        's**2 - 1'
    """

    def abs(self, a: Term) -> Term:
        """The absolute value."""
        if a.sort == "bool":
            return self.to_int(a)
        if a.op == "const":
            return self.const(abs(a.args[0]))
        if a.sort == "real":
            return a if a.op == "fabs" else self._intern("fabs", "real", (a,))
        if a.op == "abs":
            return a
        if a.op == "sum" and leads_negative(a):
            return self.abs(self.neg(a))
        g = math.gcd(a.const, *a.coeffs.values())
        if g > 1:
            inner = self.linear({m: c // g for m, c in a.coeffs.items()}, a.const // g)
            return self.mul(self.const(g), self.abs(inner))
        return self._intern("abs", "int", (a,))

    def min(self, a: Term, b: Term) -> Term:
        """The smaller of two."""
        return self._extremum("min", a, b)

    def max(self, a: Term, b: Term) -> Term:
        """The larger of two."""
        return self._extremum("max", a, b)

    def _extremum(self, op: str, a: Term, b: Term) -> Term:
        if a.sort != "int" or b.sort != "int":
            ints = self._as_ints(a, b)
            return (
                self._extremum(op, *ints)
                if ints
                else self._real_op("f" + op, a, b, min if op == "min" else max)
            )
        key = (op, a, b)
        found = self._op_memo.get(key)
        if found is not None:
            return found
        other = "max" if op == "min" else "min"
        parts: dict[Term, Term] = {}
        for operand in (a, b):
            for part in operand.args if operand.op == op else (operand,):
                # Terms that differ by a constant compare without knowing their symbols.
                base = part.base if part.op != "const" else self.zero
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
            result = self._intern(op, "int", tuple(sorted(kept, key=by_uid)))
        self._op_memo[key] = result
        return result

    def bit_and(self, a: Term, b: Term) -> Term:
        """a & b, bitwise on integers, logical on booleans."""
        if a.sort == "bool" and b.sort == "bool":
            return self.and_(a, b)
        return self._bits("bit_and", a, b, lambda x, y: x & y, unit=-1, absorbing=0)

    def bit_or(self, a: Term, b: Term) -> Term:
        """a | b, bitwise on integers, logical on booleans."""
        if a.sort == "bool" and b.sort == "bool":
            return self.or_(a, b)
        return self._bits("bit_or", a, b, lambda x, y: x | y, unit=0, absorbing=-1)

    def bit_xor(self, a: Term, b: Term) -> Term:
        """a ^ b, bitwise on integers, "exactly one" on booleans."""
        if a.sort == "bool" and b.sort == "bool":
            return self.or_(self.and_(a, self.not_(b)), self.and_(self.not_(a), b))
        if a is b:
            return self.zero
        return self._bits("bit_xor", a, b, lambda x, y: x ^ y, unit=0, absorbing=None)

    def _bits(
        self,
        op: str,
        a: Term,
        b: Term,
        compute: Callable[[int, int], int],
        *,
        unit: int,
        absorbing: int | None,
    ) -> Term:
        a, b = self.to_int(a), self.to_int(b)
        if a.op == "const" and b.op == "const":
            return self.const(compute(a.const, b.const))
        if b.op == "const":
            a, b = b, a
        if a.op == "const":
            if a.const == unit:
                return b
            if a.const == absorbing:
                return a
        elif a is b:
            return a
        return self._intern(op, "int", tuple(sorted((a, b), key=by_uid)))

    def lshift(self, a: Term, b: Term) -> Term:
        """a << b for b >= 0."""
        a, b = self.to_int(a), self.to_int(b)
        if b.op == "const":
            if b.const < 0:
                raise ValueError("negative shift count")
            return self.mul(self.const(1 << b.const), a)
        if a is self.zero:
            return a
        return self._intern("lshift", "int", (a, b))

    def rshift(self, a: Term, b: Term) -> Term:
        """a >> b for b >= 0: the floor of a divided by 2**b."""
        a, b = self.to_int(a), self.to_int(b)
        if b.op == "const":
            if b.const < 0:
                raise ValueError("negative shift count")
            return self.floordiv(a, self.const(1 << b.const))
        if a is self.zero or a is self.minus_one:
            return a
        return self._intern("rshift", "int", (a, b))
