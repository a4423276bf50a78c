"""Conditions on one size, solved: the range of integers and the remainder that they admit."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import sympy
from torch.utils._sympy import functions as torch_fn

__all__ = [
    "REMAINDERS",
    "SizeSolution",
    "linear_congruence",
    "solve_condition",
    "without_floor",
]

REMAINDERS = (torch_fn.Mod, torch_fn.PythonMod, sympy.Mod)
"""The classes of remainders in sympy."""


@dataclass(frozen=True)
class SizeSolution:
    """The sizes that the constraints on one symbol admit, around its value at tracing.

    Attributes:
        low: the least size, None where there is no lower bound.
        high: the greatest size, None where there is no upper bound.
        modulus: every size leaves `remainder` when divided by it; 1 where the constraints
            admit all remainders.
        remainder: the remainder.
    """

    low: int | None
    high: int | None
    modulus: int
    remainder: int

    @property
    def value(self) -> int | None:
        """The only size, where only one is admitted."""
        return self.low if self.low is not None and self.low == self.high else None

    @property
    def shortfall(self) -> int:
        """What a size lacks to the next multiple of the modulus."""
        return -self.remainder % self.modulus

    def quotients(self) -> tuple[int | None, int | None]:
        """The range of q where the size is ``modulus * q - shortfall``."""
        low, high = (
            None if bound is None else (bound + self.shortfall) // self.modulus
            for bound in (self.low, self.high)
        )
        return low, high


# -- congruences --------------------------------------------------------------------------------


def linear_congruence(symbol: sympy.Symbol, congruence: sympy.Basic) -> tuple[int, int] | None:
    """``(a*s + b) % d == 0`` as ``s == r (mod m)``, for rational a and b; None for other forms."""
    scale = sympy.Integer(1)
    if isinstance(congruence, sympy.Mul):  # sympy takes common factors out of a remainder
        scale, congruence = congruence.as_coeff_Mul()
    if not isinstance(congruence, REMAINDERS) or scale == 0:
        return None
    base, divisor = congruence.args
    coefficient = base.coeff(symbol)
    rest = base - coefficient * symbol
    parts = (coefficient, rest, divisor)
    if not all(getattr(part, "is_Rational", False) for part in parts) or coefficient == 0:
        return None
    common = math.lcm(*(int(part.q) for part in parts))
    a, b, d = (int(part * common) for part in parts)
    g = math.gcd(a, d)
    if b % g:
        return None
    modulus = abs(d // g)
    if modulus == 1:
        return 1, 0
    return modulus, -(b // g) * pow(a // g, -1, modulus) % modulus


def without_floor(condition: sympy.Basic) -> sympy.Basic:
    """A comparison such as ``a * (p // d) + b < c`` as an equivalent bound of p.

    A condition of another form is returned unchanged.
    """
    if not isinstance(condition, (sympy.Lt, sympy.Le, sympy.Gt, sympy.Ge)):
        return condition
    difference = condition.lhs - condition.rhs
    floors = difference.atoms(torch_fn.FloorDiv)
    if len(floors) != 1:
        return condition
    (floor,) = floors
    base, divisor = floor.args
    scale = difference.coeff(floor)
    rest = difference - scale * floor
    numbers = (divisor, scale, rest)
    if not all(n.is_Integer for n in numbers) or divisor <= 0 or base.has(torch_fn.FloorDiv):
        return condition
    # scale * floor + rest < 0 (or <=, >, >=) bounds the integers that the quotient may be.
    bound = -rest / scale
    strict = isinstance(condition, (sympy.Lt, sympy.Gt))
    if isinstance(condition, (sympy.Lt, sympy.Le)) == (scale > 0):
        most = sympy.ceiling(bound) - 1 if strict else sympy.floor(bound)
        return sympy.Lt(base, divisor * (most + 1))
    least = sympy.floor(bound) + 1 if strict else sympy.ceiling(bound)
    return sympy.Ge(base, divisor * least)


# -- ranges -------------------------------------------------------------------------------------


def solve_condition(
    condition: sympy.Basic, symbol: sympy.Symbol, value: Any
) -> tuple[int | None, int | None]:
    """The bounds of the integers around a value for which a condition on one symbol holds.

    Args:
        condition: the condition, as sympy.
        symbol: its only symbol.
        value: the value at tracing, None where it is not known.

    Returns:
        The least and the greatest integer; None for a bound that is not known.
    """
    bounds = _plain_bounds(condition, symbol)
    if bounds is not None:
        low, high = bounds
        if value is None:
            return bounds
        inside = (low is None or low <= value) and (high is None or value <= high)
        return bounds if inside else (None, None)
    # sympy finds exactly the solutions of a symbol that has no assumptions but to be real.
    x = sympy.Symbol("x", real=True)
    if isinstance(condition, sympy.Ne):
        return _between(sympy.Eq(*condition.args).xreplace({symbol: x}), value)
    try:
        where = condition.xreplace({symbol: x})
        solutions = where.as_set() if where not in (sympy.true, sympy.false) else None
    except NotImplementedError:
        solutions = None
    if solutions is None:
        return None, None
    pieces = solutions.args if isinstance(solutions, sympy.Union) else (solutions,)
    for piece in pieces:
        if isinstance(piece, sympy.FiniteSet):
            whole = [int(p) for p in piece if p.is_integer]
            if value is None and len(whole) == 1:
                return whole[0], whole[0]
            if value is not None and int(value) in whole:
                return int(value), int(value)
        elif isinstance(piece, sympy.Interval) and (value is None or piece.contains(value)):
            return _inside(piece)
    return None, None


def _plain_bounds(
    condition: sympy.Basic, symbol: sympy.Symbol
) -> tuple[int | None, int | None] | None:
    """The bound in a comparison of a symbol with an integer; None for other conditions.

    Most conditions are such ones, and sympy is slow to solve them.
    """
    if not isinstance(condition, (sympy.Lt, sympy.Le, sympy.Gt, sympy.Ge)):
        return None
    left, right = condition.args
    below = isinstance(condition, (sympy.Lt, sympy.Le))
    if right == symbol:
        left, right, below = right, left, not below
    if left != symbol or not right.is_Integer:
        return None
    strict = isinstance(condition, (sympy.Lt, sympy.Gt))
    return (None, int(right) - strict) if below else (int(right) + strict, None)


def _between(equation: sympy.Basic, value: Any) -> tuple[int | None, int | None]:
    """The bounds of the integers around a value that do not solve an equation."""
    solutions = equation.as_set() if equation not in (sympy.true, sympy.false) else sympy.EmptySet
    if not isinstance(solutions, sympy.FiniteSet) or value is None:
        return None, None
    excluded = [int(point) for point in solutions if point.is_integer]
    return (
        max((p + 1 for p in excluded if p < value), default=None),
        min((p - 1 for p in excluded if p > value), default=None),
    )


def _inside(piece: Any) -> tuple[int | None, int | None]:
    """The least and the greatest integer of an interval."""
    low = high = None
    if piece.start.is_finite:
        low = int(sympy.ceiling(piece.start))
        low += bool(piece.left_open and low == piece.start)
    if piece.end.is_finite:
        high = int(sympy.floor(piece.end))
        high -= bool(piece.right_open and high == piece.end)
    return low, high
