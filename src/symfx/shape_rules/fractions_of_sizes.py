"""Fractions of sizes: the floats that programs compute from sizes, as in ``int(x.size(1) / 2)``.

A program that divides with ``/`` gets a float, which is no size. The float is exact as long as
numerator and denominator are small, so ``int`` of it is a size that is known.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from symfx.shape_rules.sizes import Dim, NoTensor, Size, Sizes, size_text

__all__ = [
    "Fraction",
    "compared",
    "computed",
    "magnitude",
    "power",
    "quotient",
    "rounded_up",
    "truncated",
]

#: A float with a larger denominator, such as 0.1, counts as inexact.
_LARGEST_DENOMINATOR = 1024
#: Powers with larger exponents are not computed.
_LARGEST_EXPONENT = 64
#: A size to the power of a larger number is not computed.
_LARGEST_POWER = 8


@dataclass(frozen=True)
class Fraction(NoTensor):
    """A float of the program: a size divided by a number.

    Args:
        numerator: the size.
        denominator: the number, 1 or more.
    """

    numerator: Dim
    denominator: int

    def __str__(self) -> str:
        return f"{size_text(self.numerator)} / {self.denominator}"


def _read(value: Any) -> Fraction | None:
    """A number as a fraction; ``None`` for an inexact one, and for other values."""
    if isinstance(value, Fraction):
        return value
    if isinstance(value, Dim):
        return Fraction(value, 1)
    if isinstance(value, float) and math.isfinite(value):
        top, bottom = value.as_integer_ratio()
        return Fraction(top, bottom) if bottom <= _LARGEST_DENOMINATOR else None
    return None


def computed(d: Sizes, sign: str, left: Any, right: Any) -> Fraction | None:
    """``left sign right`` for ``+ - * //``, as a fraction; ``None`` if a number is inexact."""
    a, b = _read(left), _read(right)
    if a is None or b is None:
        return None
    top, bottom = a.numerator, a.denominator
    if sign in ("+", "-"):
        common = d.compute(sign, top * b.denominator, b.numerator * bottom)
        return Fraction(common, bottom * b.denominator)
    if sign == "*":
        return Fraction(top * b.numerator, bottom * b.denominator)
    divisor = b.numerator
    if sign == "//" and isinstance(divisor, int) and divisor > 0:
        return Fraction(d.compute("//", top * b.denominator, bottom * divisor), 1)
    return None


def magnitude(d: Sizes, value: NoTensor) -> NoTensor:
    """``abs(value)``; the value itself if it is no fraction."""
    if not isinstance(value, Fraction):
        return value
    return Fraction(d.compute("max", value.numerator, 0 - value.numerator), value.denominator)


def compared(d: Sizes, sign: str, left: Any, right: Any) -> Any:
    """``left sign right`` for a comparison; ``None`` if a number is inexact, or none."""
    a, b = _read(left), _read(right)
    if a is None or b is None:
        return None
    return d.compare(sign, a.numerator * b.denominator, b.numerator * a.denominator)


def quotient(d: Sizes, left: Any, right: Any) -> Any:
    """``left / right`` of two numbers; ``None`` if it is inexact."""
    if isinstance(left, (int, float)) and isinstance(right, (int, float)):
        return left / right if right else None
    a, b = _read(left), _read(right)
    if a is None or b is None or not isinstance(b.numerator, int) or b.numerator <= 0:
        return None
    return Fraction(a.numerator * b.denominator, a.denominator * b.numerator)


def power(d: Sizes, base: Any, exponent: Any) -> Any:
    """``base ** exponent`` of two plain numbers, or of a size; ``None`` for other ones."""
    if isinstance(base, Size) and isinstance(exponent, int) and 0 <= exponent <= _LARGEST_POWER:
        return d.product([base] * exponent)
    if not isinstance(base, (int, float)) or not isinstance(exponent, (int, float)):
        return None
    if abs(exponent) > _LARGEST_EXPONENT or (base <= 0 and exponent != abs(int(exponent))):
        return None
    return base**exponent


def truncated(d: Sizes, value: Fraction) -> Dim:
    """``int(value)``, which rounds to 0."""
    top, bottom = value.numerator, value.denominator
    if d.compare(">=", top, 0) is True:
        return d.compute("//", top, bottom)
    above = d.compute("//", d.compute("max", top, 0), bottom)
    below = d.compute("//", d.compute("max", 0 - top, 0), bottom)
    return above - below


def rounded_up(d: Sizes, value: Fraction) -> Dim:
    """``math.ceil(value)``."""
    return 0 - d.compute("//", 0 - value.numerator, value.denominator)
