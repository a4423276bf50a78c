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
    "bit_and",
    "bit_or",
    "bit_xor",
    "congruence_add",
    "congruence_multiply",
    "floor_root",
    "hull",
    "intersect",
    "meet",
    "modulo",
    "multiply",
    "power",
    "quotients",
    "roots",
    "scale",
    "shifted_left",
    "shifted_right",
    "to_powers",
]

Interval: TypeAlias = tuple[int | None, int | None]
Congruence: TypeAlias = tuple[int, int]

ANY: Interval = (None, None)
ANYTHING: Congruence = (1, 0)
# The largest shift to the left that is computed.
_SHIFT = 64


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


def shifted_left(a: Interval, by: Interval) -> Interval:
    """a << b for every b >= 0."""
    least = 0 if by[0] is None else max(by[0], 0)
    most = by[1] if by[1] is not None and 0 <= by[1] <= _SHIFT else None
    return (
        _shifted(a[0], min(least, _SHIFT) if at_least(a[0], 0) else most),
        _shifted(a[1], most if at_least(a[1], 0) else min(least, _SHIFT)),
    )


def _shifted(end: int | None, by: int | None) -> int | None:
    if end == 0:
        return 0
    return None if end is None or by is None else end << by


def shifted_right(a: Interval, by: Interval) -> Interval:
    """a >> b for every b >= 0."""
    least = 0 if by[0] is None else max(by[0], 0)
    most = by[1] if by[1] is not None and by[1] >= 0 else None
    low, high = a
    if low is not None:
        low = low >> least if low < 0 else 0 if most is None else low >> most
    if high is not None:
        high = high >> least if high >= 0 else -1 if most is None else high >> most
    return low, high


def bit_and(a: Interval, b: Interval) -> Interval:
    """a & b"""
    masks = [side for side in (a, b) if at_least(side[0], 0)]
    if masks:  # an operand that is not negative bounds the result
        return 0, any_of(min, [high for _, high in masks])
    # Of two negative operands, only bits that one of them lacks are gone.
    below_zero = all(high is not None and high < 0 for _, high in (a, b))
    most = all_of(min if below_zero else max, [a[1], b[1]])
    least = all_of(min, [a[0], b[0]])
    return None if least is None else -1 << (-1 - least).bit_length(), most


def bit_or(a: Interval, b: Interval) -> Interval:
    """a | b, which is ~(~a & ~b)"""
    return complement(bit_and(complement(a), complement(b)))


def bit_xor(a: Interval, b: Interval) -> Interval:
    """a ^ b"""
    if not at_least(a[0], 0):
        a, b = b, a
    if not at_least(a[0], 0):
        if a[1] is None or a[1] >= 0:
            # The signs are not known, and the result needs no more bits than the operands.
            ends = a[0], a[1], b[0], b[1]
            if any(end is None for end in ends):
                return ANY
            bits = max(int(end or 0).bit_length() for end in ends)
            return -1 << bits, (1 << bits) - 1
        return complement(bit_xor(complement(a), b))
    # A number that is not negative leaves the sign of the other.
    low, high = b
    if low is not None:
        if low >= 0:
            low = 0
        else:
            low = None if a[1] is None else -1 << max(a[1], -1 - low).bit_length()
    if high is not None:
        if high < 0:
            high = -1
        else:
            high = None if a[1] is None else (1 << max(a[1], high).bit_length()) - 1
    return low, high


def complement(a: Interval) -> Interval:
    """~a, which is -1 - a"""
    return add(scale(a, -1), (-1, -1))


def to_powers(a: Interval, n: int) -> Interval:
    """The interval from the first to the last n-th power in an interval of n-th powers, n >= 2."""
    low, high = a
    if n % 2 == 0:
        low = max(low or 0, 0)
    if low is not None:
        low = _root_above(low, n) ** n if low >= 0 else -(floor_root(-low, n) ** n)
    if high is not None:
        high = floor_root(high, n) ** n if high >= 0 else -(_root_above(-high, n) ** n)
    return low, high


def roots(a: Interval, n: int, inside: Interval) -> Interval:
    """The interval of the numbers inside of another whose n-th power is in an interval, n >= 1."""
    low, high = a
    if n % 2 == 0:
        if high is not None and high < 0:
            return 1, 0
        top = None if high is None else floor_root(high, n)
        bottom = None if top is None else -top
        if low is not None and low > 0:
            if at_least(inside[0], 0):
                bottom = _root_above(low, n)
            elif inside[1] is not None and inside[1] <= 0:
                top = -_root_above(low, n)
        return bottom, top
    if low is not None:
        low = -floor_root(-low, n) if low < 0 else _root_above(low, n)
    if high is not None:
        high = floor_root(high, n) if high >= 0 else -_root_above(-high, n)
    return low, high


def floor_root(k: int, n: int) -> int:
    """The largest x with x**n <= k, for k >= 0."""
    if n == 1:
        return k
    if n == 2:
        return math.isqrt(k)
    low, above = 0, 1 << (k.bit_length() // n + 1)
    while above - low > 1:
        middle = (low + above) // 2
        low, above = (middle, above) if middle**n <= k else (low, middle)
    return low


def _root_above(k: int, n: int) -> int:
    """The smallest x >= 0 with x**n >= k."""
    return floor_root(k - 1, n) + 1 if k > 0 else 0


def quotients(a: Interval, by: Interval) -> Interval:
    """The interval of the x with x*y in a, for any y in `by`; ANY unless the y have one sign."""
    low, high = a
    least, most = by
    if at_least(low, 1) or (high is not None and high < 0):  # neither factor is 0
        least = 1 if least == 0 else least
        most = -1 if most == 0 else most
    if most is not None and most < 0:
        (low, high), (least, most) = scale(a, -1), scale((least, most), -1)
    if least is None or least < 1:
        return ANY
    if low is not None:
        if low <= 0:
            low = -(-low // least)
        else:
            low = 1 if most is None else -(-low // most)
    if high is not None:
        if high >= 0:
            high = high // least
        else:
            high = -1 if most is None else high // most
    return low, high


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
