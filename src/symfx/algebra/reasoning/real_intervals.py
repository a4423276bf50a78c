"""Intervals of real terms, from the intervals of the integers in them.

Rounding to the nearest double keeps order, so if the exact operation is monotone, rounding the ends
bounds the rounded results. A value with an interval is not NaN; a term that may be NaN has no
interval.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TypeAlias

from symfx.algebra.reasoning.intervals import ANY, Interval
from symfx.algebra.terms.table import Term

__all__ = ["RealInterval", "integer_interval", "real_interval"]

RealInterval: TypeAlias = tuple[float, float]

#: The doubles by which a result of the C library may be off, and some more.
_ULPS = 4

_TO_INTEGER: dict[str, Callable[[float], int]] = {
    "floor": math.floor,
    "ceil": math.ceil,
    "trunc": math.trunc,
    "round": round,
}


def integer_interval(atom: Term, real: Callable[[Term], RealInterval | None]) -> Interval:
    """The interval of the floor, ceil, trunc or round of a real term."""
    to_integer = _TO_INTEGER.get(atom.op)
    inside = real(atom.args[0]) if to_integer else None
    if inside is None or to_integer is None:
        return ANY
    low, high = inside
    return (
        None if math.isinf(low) else to_integer(low),
        None if math.isinf(high) else to_integer(high),
    )


def real_interval(
    term: Term,
    real: Callable[[Term], RealInterval | None],
    integer: Callable[[Term], Interval],
    known: Mapping[Term, RealInterval],
) -> RealInterval | None:
    """The interval of a real term; None if it may be NaN or nothing is known.

    Args:
        term: the term.
        real: the function that gives the interval of a real term inside.
        integer: the function that gives the interval of an integer term inside.
        known: intervals that were assumed.
    """
    found = _structural(term, real, integer)
    assumed = known.get(term)
    if found is None or assumed is None:
        return found or assumed
    return max(found[0], assumed[0]), min(found[1], assumed[1])


def _structural(
    term: Term,
    of: Callable[[Term], RealInterval | None],
    integer: Callable[[Term], Interval],
) -> RealInterval | None:
    op = term.op
    if op == "const":
        value = float(term.args[0])
        return None if math.isnan(value) else (value, value)
    if op == "to_real":
        low, high = integer(term.args[0])
        return _double(low, -math.inf), _double(high, math.inf)
    if op == "truediv":
        return _quotient(*map(integer, term.args))
    if op not in _OPERATIONS:
        return None
    parts = [of(a) for a in (term.args[1:] if op == "where" else term.args)]
    if any(p is None for p in parts):
        return None
    return _OPERATIONS[op](*parts)


def _double(value: int | None, unbounded: float) -> float:
    if value is None:
        return unbounded
    try:
        return float(value)
    except OverflowError:  # larger than every double; the conversion itself would raise
        return math.inf if value > 0 else -math.inf


def _quotient(a: Interval, b: Interval) -> RealInterval | None:
    """The interval of a quotient of integers, rounded once; None if the divisor may be 0."""
    if b[0] is not None and b[0] >= 1:
        sign = 1
    elif b[1] is not None and b[1] <= -1:
        sign = -1
    else:
        return None
    ends = [_end(x, y, sign) for x in a if x is not None for y in b]
    low = -math.inf if (a[0] if sign > 0 else a[1]) is None else min(ends)
    high = math.inf if (a[1] if sign > 0 else a[0]) is None else max(ends)
    return low, high


def _end(x: int, y: int | None, sign: int) -> float:
    """x / y at an end; an unbounded y takes the quotient to 0."""
    if y is None:
        return 0.0
    try:
        return x / y
    except OverflowError:
        return math.inf if (x > 0) == (sign > 0) else -math.inf


def _add(a: RealInterval, b: RealInterval) -> RealInterval | None:
    return _without_nan((a[0] + b[0], a[1] + b[1], a[0] + b[1], a[1] + b[0]))


def _multiply(a: RealInterval, b: RealInterval) -> RealInterval | None:
    if (a[0] <= 0 <= a[1] and _unbounded(b)) or (b[0] <= 0 <= b[1] and _unbounded(a)):
        return None  # 0 * inf is NaN
    return _without_nan(x * y for x in a for y in b)


def _divide(a: RealInterval, b: RealInterval) -> RealInterval | None:
    if b[0] <= 0 <= b[1] or (_unbounded(a) and _unbounded(b)):
        return None
    return _without_nan(x / y for x in a for y in b)


def _unbounded(a: RealInterval) -> bool:
    return math.isinf(a[0]) or math.isinf(a[1])


def _without_nan(ends: object) -> RealInterval | None:
    values = list(ends)  # type: ignore[call-overload]
    return None if any(map(math.isnan, values)) else (min(values), max(values))


def _sqrt(a: RealInterval) -> RealInterval | None:
    return (math.sqrt(a[0]), math.sqrt(a[1])) if a[0] >= 0 else None


def _power(a: RealInterval, b: RealInterval) -> RealInterval | None:
    """Powers of numbers from 1 with an exponent above 0, which no rounding brings below 1."""
    return (1.0, math.inf) if a[0] >= 1 and b[0] > 0 else None


def _rising(name: str) -> Callable[[RealInterval], RealInterval | None]:
    """The interval of a function of `math` that rises with its argument.

    The C library does not round to the nearest double, so the ends are moved outwards.
    """
    compute = getattr(math, name)

    def interval(a: RealInterval) -> RealInterval | None:
        ends = []
        for end, outwards in zip(a, (-math.inf, math.inf), strict=True):
            try:
                value = compute(end)
            except ValueError:  # the function is not defined there
                return None
            except OverflowError:
                value = math.inf
            for _ in range(_ULPS):
                value = math.nextafter(value, outwards)
            ends.append(value)
        return _without_nan(ends)

    return interval


def _absolute(a: RealInterval) -> RealInterval:
    ends = abs(a[0]), abs(a[1])
    return (0.0 if a[0] <= 0 <= a[1] else min(ends)), max(ends)


_OPERATIONS: dict[str, Callable[..., RealInterval | None]] = {
    "fadd": _add,
    "fmul": _multiply,
    "fdiv": _divide,
    "fneg": lambda a: (-a[1], -a[0]),
    "fabs": _absolute,
    "fmin": lambda a, b: (min(a[0], b[0]), min(a[1], b[1])),
    "fmax": lambda a, b: (max(a[0], b[0]), max(a[1], b[1])),
    "sqrt": _sqrt,
    "fpow": _power,
    **{
        name: _rising(name)
        for name in ("exp", "expm1", "log", "log1p", "log2", "log10", "asinh", "acosh", "atan")
    },
    "where": lambda a, b: (min(a[0], b[0]), max(a[1], b[1])),
}
