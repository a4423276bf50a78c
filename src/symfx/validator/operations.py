"""Python's operations on z3's numbers, and torch's functions of sizes as such operations."""

from __future__ import annotations

import builtins
import functools
import math
import operator
from collections.abc import Callable
from typing import Any, Protocol

import sympy
import torch

from symfx.errors import SymfxError
from symfx.extras import importing

with importing("z3", "symfx.validator"):
    import z3

__all__ = ["PythonOnZ3", "real", "whole", "z3op"]


class TakesAssertions(Protocol):
    """A validator, as operations see it."""

    def add_assertion(self, e: Any) -> None:
        """Add a condition that holds in any case."""


def real(x: Any) -> Any:
    """A z3 number as a real."""
    return z3.ToReal(x) if x.is_int() else x


def whole(x: Any) -> Any:
    """The greatest integer that is not above a z3 number."""
    return z3.ToInt(x) if x.is_real() else x


class PythonOnZ3:
    """Python's operations on z3's integers and reals.

    z3's functions are total. An operation that Python refuses for some operands states, as a
    requirement, that it has not got these.

    Args:
        require: takes each requirement.
    """

    def __init__(self, require: Callable[[Any], None]) -> None:
        self._require = require

    def truediv(self, a: Any, b: Any) -> Any:
        """``a / b``, a real."""
        self._require(b != 0)
        return real(a) / real(b)

    def floordiv(self, a: Any, b: Any) -> Any:
        """``a // b``, a real where an operand is one."""
        quotient = whole(self.truediv(a, b))
        return quotient if a.is_int() and b.is_int() else real(quotient)

    def mod(self, a: Any, b: Any) -> Any:
        """``a % b``, which has the sign of b."""
        return a - self.floordiv(a, b) * b

    def power(self, base: Any, exponent: Any) -> Any:
        """``base ** exponent``; 0 has no powers below 1."""
        self._require(z3.Or(base != 0, exponent > 0))
        return base**exponent

    def sqrt(self, x: Any) -> Any:
        """``math.sqrt(x)``."""
        x = real(x)
        self._require(x >= 0)
        return x**0.5

    def ceil(self, x: Any) -> Any:
        """``math.ceil(x)``."""
        return x if x.is_int() else -whole(-x)

    def trunc(self, x: Any) -> Any:
        """``math.trunc(x)``."""
        return x if x.is_int() else z3.If(x < 0, self.ceil(x), whole(x))

    def round(self, x: Any) -> Any:
        """``round(x)``: the nearest integer, the even one of two that are as near."""
        if x.is_int():
            return x
        below = whole(x)
        over = x - real(below)
        up = z3.Or(over > 0.5, z3.And(over == 0.5, below % 2 == 1))
        return z3.If(up, below + 1, below)

    def largest(self, a: Any, b: Any) -> Any:
        """``max(a, b)``."""
        return z3.If(a > b, a, b)

    def least(self, a: Any, b: Any) -> Any:
        """``min(a, b)``."""
        return z3.If(a < b, a, b)

    def bits(self, operation: Callable[[Any, Any], Any], a: Any, b: Any) -> Any:
        """A bit operation on 64-bit integers, or its logical counterpart on two booleans."""
        if z3.is_bool(a) and z3.is_bool(b):
            return {operator.and_: z3.And, operator.or_: z3.Or}[operation](a, b)
        return z3.BV2Int(operation(z3.Int2BV(a, 64), z3.Int2BV(b, 64)), is_signed=True)


def z3op(op: Callable[..., Any], validator: TakesAssertions) -> Callable[..., Any]:
    """The counterpart of a function of numbers: it takes and returns z3's expressions.

    Args:
        op: a function that stands in graphs of sizes, such as ``operator.add`` or
            ``torch.sym_max``; ``torch._assert`` is returned as it is.
        validator: takes the requirements of the operations.
    """
    if op is torch._assert:
        return op
    python = PythonOnZ3(validator.add_assertion)
    counterparts: dict[Any, Callable[..., Any]] = {
        operator.not_: z3.Not,
        operator.and_: functools.partial(python.bits, operator.and_),
        operator.or_: functools.partial(python.bits, operator.or_),
        operator.lshift: functools.partial(python.bits, operator.lshift),
        operator.rshift: functools.partial(python.bits, operator.rshift),
        operator.floordiv: python.floordiv,
        operator.truediv: python.truediv,
        operator.mod: python.mod,
        operator.pow: python.power,
        operator.abs: z3.Abs,
        builtins.round: python.round,
        math.ceil: python.ceil,
        math.floor: whole,
        math.trunc: python.trunc,
        torch.sym_float: real,
        torch.sym_max: python.largest,
        torch.sym_min: python.least,
        torch.sym_sum: z3.Sum,
        torch.sym_ite: z3.If,
        getattr(torch, "_sym_sqrt", math.sqrt): python.sqrt,
    }
    function = counterparts.get(op, op)

    def lifted(*args: Any) -> Any:
        if len(args) == 1 and isinstance(args[0], (list, tuple)):
            return function([_lift(a) for a in args[0]])
        # The argument of `not` stands in graphs as 0 or 1 as well.
        return function(*(_lift(bool(a) if _is_flag(op, a) else a) for a in args))

    return lifted


def _is_flag(op: Callable[..., Any], value: Any) -> bool:
    return op is operator.not_ and isinstance(value, int)


def _lift(value: Any) -> Any:
    """A number as a z3 expression."""
    if isinstance(value, z3.ExprRef):
        return value
    if isinstance(value, bool):
        return z3.BoolVal(value)
    if isinstance(value, (int, sympy.Integer)):
        return z3.IntVal(int(value))
    if isinstance(value, (float, sympy.Float)):
        return z3.RealVal(float(value))
    raise SymfxError(
        f"z3 has no number for {value!r}, a {type(value).__name__}",
        fix="pass numbers, or expressions of z3",
    )
