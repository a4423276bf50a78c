"""Intervals and congruences of integers, and arithmetic on both.

An interval is ``(lo, hi)``, either end None where unbounded. A congruence is ``(m, r)``:
the value is r modulo m; ``m == 1`` says nothing and ``m == 0`` says that it is r.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

__all__ = [
    "ANY",
    "ANYTHING",
    "Congruence",
    "Interval",
    "all_of",
    "any_of",
    "at_least",
    "better",
    "congruence_add",
    "congruence_multiply",
    "hull",
    "intersect",
    "meet",
    "modulo",
    "multiply",
    "power",
    "scale",
]

Interval: TypeAlias = tuple[int | None, int | None]
Congruence: TypeAlias = tuple[int, int]

ANY: Interval = (None, None)
ANYTHING: Congruence = (1, 0)


def intersect(a: Interval, b: Interval) -> Interval:
    """The interval of the values in both intervals. It may be empty (lo > hi)."""
    lo = b[0] if a[0] is None else a[0] if b[0] is None else max(a[0], b[0])
    hi = b[1] if a[1] is None else a[1] if b[1] is None else min(a[1], b[1])
    return lo, hi


def hull(a: Interval, b: Interval) -> Interval:
    """The smallest interval that contains both."""
    lo = None if a[0] is None or b[0] is None else min(a[0], b[0])
    hi = None if a[1] is None or b[1] is None else max(a[1], b[1])
    return lo, hi


def scale(a: Interval, k: int) -> Interval:
    """k * a for a constant k."""
    if k == 0:
        return 0, 0
    lo = None if a[0] is None else k * a[0]
    hi = None if a[1] is None else k * a[1]
    return (lo, hi) if k > 0 else (hi, lo)


def add(a: Interval, b: Interval) -> Interval:
    """a + b"""
    lo = None if a[0] is None or b[0] is None else a[0] + b[0]
    hi = None if a[1] is None or b[1] is None else a[1] + b[1]
    return lo, hi


def _infinite(a: Interval) -> tuple[float, float]:
    return (-math.inf if a[0] is None else a[0], math.inf if a[1] is None else a[1])


def _times(x: float, y: float) -> float:
    # 0 times an unbounded end is 0: the ends are limits, and every member is finite.
    if x == 0 or y == 0:
        return 0
    if isinstance(x, float) or isinstance(y, float):
        # One is infinite; the other may be an integer that no double can hold.
        return math.inf if (x > 0) == (y > 0) else -math.inf
    return x * y


def multiply(a: Interval, b: Interval) -> Interval:
    """a * b"""
    ends = [_times(x, y) for x in _infinite(a) for y in _infinite(b)]
    return _finite(min(ends)), _finite(max(ends))


def _finite(x: float) -> int | None:
    return None if isinstance(x, float) and math.isinf(x) else int(x)


def floordiv(a: Interval, b: Interval) -> Interval:
    """a // b for every b that is not 0."""
    result: Interval | None = None
    # The quotient is monotone in each operand on either side of zero.
    for side in (intersect(b, (1, None)), intersect(b, (None, -1))):
        if side[0] is not None and side[1] is not None and side[0] > side[1]:
            continue
        ends = [_quotient(x, y) for x in _infinite(a) for y in _infinite(side)]
        part = (_finite(min(ends)), _finite(max(ends)))
        result = part if result is None else hull(result, part)
    return ANY if result is None else result


def _quotient(x: float, y: float) -> float:
    """Floor division where either side may be infinite: the limit."""
    if isinstance(y, float) and math.isinf(y):
        if isinstance(x, float) and math.isinf(x):
            # x // y has every value between 0 and x. Other ends give the finite limits.
            return math.copysign(math.inf, x) * math.copysign(1, y)
        # x // y for ever larger y ends at 0 or, where the signs differ, at -1.
        return -1 if x != 0 and (x < 0) != (y < 0) else 0
    if isinstance(x, float) and math.isinf(x):
        return x if y > 0 else -x
    return x // y


def modulo(a: Interval, b: Interval) -> Interval:
    """a % b for every b that is not 0."""
    lo, hi = b
    positive: Interval = (0, None if hi is None else hi - 1)
    negative: Interval = (None if lo is None else lo + 1, 0)
    if lo is not None and lo > 0:
        result = positive
        if a[0] is not None and a[0] >= 0:
            if a[1] is not None and a[1] < lo:
                return a  # smaller than every divisor: unchanged
            result = intersect(result, (0, a[1]))
        return result
    if hi is not None and hi < 0:
        return negative
    return hull(positive, negative)


def power(a: Interval, n: int) -> Interval:
    """a ** n for a constant n >= 1."""
    result = a
    for _ in range(n - 1):
        result = multiply(result, a)
    if n % 2 == 0:
        result = intersect(result, (0, None))
    return result


def meet(a: Congruence, b: Congruence) -> Congruence | None:
    """The congruence of the values that have both (the Chinese remainder theorem), or None."""
    (m, r), (n, s) = a, b
    if m == 0 or n == 0:
        if m != 0:
            (m, r), (n, s) = (n, s), (m, r)
        fits = r == s if n == 0 else (r - s) % n == 0
        return (0, r) if fits else None
    g = math.gcd(m, n)
    if (s - r) % g:
        return None
    whole = m // g * n
    step = (s - r) // g * pow(m // g, -1, n // g) % (n // g) if n // g > 1 else 0
    return whole, (r + m * step) % whole


def congruence_add(a: Congruence, b: Congruence) -> Congruence:
    """a + b"""
    return reduce_(math.gcd(a[0], b[0]), a[1] + b[1])


def congruence_multiply(a: Congruence, b: Congruence) -> Congruence:
    """a * b"""
    (m, r), (n, s) = a, b
    return reduce_(math.gcd(m * n, m * s, n * r), r * s)


def reduce_(m: int, r: int) -> Congruence:
    """(m, r) with r in 0..m-1."""
    return (m, r % m) if m else (0, r)


# -- ends of intervals, which may be unknown -------------------------------------------------


def better(a: int | None, b: int | None) -> int | None:
    """The larger of two lower bounds; None if neither is known."""
    return b if a is None else a if b is None else max(a, b)


def at_least(bound: int | None, k: int) -> bool:
    """Whether a lower bound is known and at least k."""
    return bound is not None and bound >= k


def any_of(pick: Callable[[list[int]], int], ends: list[int | None]) -> int | None:
    """`pick` of the ends that are known; None if none is."""
    known = [e for e in ends if e is not None]
    return pick(known) if known else None


def all_of(pick: Callable[[list[int]], int], ends: list[int | None]) -> int | None:
    """`pick` of the ends; None unless all are known."""
    known = [e for e in ends if e is not None]
    return pick(known) if len(known) == len(ends) else None
