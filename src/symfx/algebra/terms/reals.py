"""Casts, and IEEE doubles with Python's semantics."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from symfx.algebra.terms.interning import Interning
from symfx.algebra.terms.term import Term, by_uid

__all__ = ["MATH_FUNCTIONS", "RealTerms"]

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
    "exp",
    "log",
    "log2",
)
"""The functions of `math` that `Table.function` knows."""


class RealTerms(Interning):
    """What a `Table` does with doubles, and between the sorts."""

    # -- casts -----------------------------------------------------------------------------

    def to_int(self, a: Term) -> Term:
        """A boolean as 0 or 1; an integer as it is."""
        if a.sort == "bool":
            if a.op == "const":
                return self.const(int(a.args[0]))
            if a.op == "not":
                return self._intern("where", "int", (a.args[0], self.zero, self.one))
            return self._intern("where", "int", (a, self.one, self.zero))
        if a.sort == "real":
            raise TypeError(f"{a} is real; floor, ceil, trunc or round it first")
        return a

    def _as_ints(self, a: Term, b: Term) -> tuple[Term, Term] | None:
        """Both operands as integers, booleans counting as 0 and 1; None where one is real."""
        if a.sort == "real" or b.sort == "real":
            return None
        return self.to_int(a), self.to_int(b)

    def to_real(self, a: Term) -> Term:
        """float(a): the nearest double."""
        if a.sort == "real":
            return a
        a = self.to_int(a)
        if a.op == "const":
            return self.const(float(a.const))
        return self._intern("to_real", "real", (a,))

    # -- reals -----------------------------------------------------------------------------

    def _real_op(self, op: str, a: Term, b: Term, compute: Callable[[float, float], Any]) -> Term:
        a, b = self.to_real(a), self.to_real(b)
        if a.op == "const" and b.op == "const":
            value = compute(a.args[0], b.args[0])
            if isinstance(value, complex):
                raise ValueError(f"{a} ** {b} is not real")
            return self.const(float(value))
        return self._intern(op, "real", (a, b))

    def _real_add(self, a: Term, b: Term) -> Term:
        # Addition and multiplication of doubles commute; they do not associate.
        a, b = sorted((self.to_real(a), self.to_real(b)), key=by_uid)
        return self._real_op("fadd", a, b, lambda x, y: x + y)

    def _real_mul(self, a: Term, b: Term) -> Term:
        a, b = sorted((self.to_real(a), self.to_real(b)), key=by_uid)
        return self._real_op("fmul", a, b, lambda x, y: x * y)

    def truediv(self, a: Term, b: Term) -> Term:
        """a / b as Python divides: of integers, the double nearest to the exact quotient."""
        if b.op == "const" and not b.args[0]:
            raise ZeroDivisionError(f"({a}) / 0")
        if a.sort == "int" and b.sort == "int":
            if a.op == "const" and b.op == "const":
                return self.const(a.const / b.const)
            if b is self.one:
                return self.to_real(a)
            return self._intern("truediv", "real", (a, b))
        ints = self._as_ints(a, b)
        if ints:
            return self.truediv(*ints)
        return self._real_op("fdiv", a, b, lambda x, y: x / y)

    def floor(self, a: Term) -> Term:
        """The largest integer at most `a`."""
        return self._to_integer("floor", a, math.floor)

    def ceil(self, a: Term) -> Term:
        """The smallest integer at least `a`."""
        return self._to_integer("ceil", a, math.ceil)

    def trunc(self, a: Term) -> Term:
        """`a` rounded towards zero, as an integer."""
        return self._to_integer("trunc", a, math.trunc)

    def round(self, a: Term, ndigits: int | None = None) -> Term:
        """`a` rounded half to even; with `ndigits`, a real (of an integer, an integer)."""
        if ndigits is None:
            return self._to_integer("round", a, round)
        if a.sort == "int":
            if ndigits >= 0:
                return a
            if a.op == "const":
                return self.const(round(a.const, ndigits))
            return self._intern("round_int", "int", (a, self.const(ndigits)))
        if a.op == "const":
            return self.const(round(a.args[0], ndigits))
        return self._intern("round_digits", "real", (a, self.const(ndigits)))

    def _to_integer(self, op: str, a: Term, compute: Callable[[float], int]) -> Term:
        if a.sort != "real":
            return self.to_int(a)
        if a.op == "const":
            return self.const(compute(a.args[0]))
        return self._intern(op, "int", (a,))

    def is_integer(self, a: Term) -> Term:
        """Whether a real has no fractional part."""
        if a.sort != "real":
            return self.true
        if a.op == "const":
            return self.const(a.args[0].is_integer())
        if a.op == "to_real":
            return self.true
        return self._intern("is_integer", "bool", (a,))

    def function(self, name: str, a: Term) -> Term:
        """A function of `math` by its name (``"sqrt"``, ``"sin"``, …) applied to a real."""
        compute = getattr(math, name, None)
        if name not in MATH_FUNCTIONS or compute is None:
            raise ValueError(f"no real function named {name!r}; known: {', '.join(MATH_FUNCTIONS)}")
        a = self.to_real(a)
        if a.op == "const":
            return self.const(float(compute(a.args[0])))
        return self._intern(name, "real", (a,))
