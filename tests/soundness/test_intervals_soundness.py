"""Arithmetic on intervals and congruences, judged by all members of small ones."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest

from symfx.algebra.reasoning import intervals
from symfx.algebra.reasoning.intervals import Congruence, Interval

ENDS = (None, -7, -2, -1, 0, 1, 3, 6)
INTERVALS = [(lo, hi) for lo in ENDS for hi in ENDS if lo is None or hi is None or lo <= hi]
# Members of unbounded intervals are tried up to here.
FAR = 40
CONGRUENCES = [
    (1, 0),
    *((0, r) for r in range(-6, 7)),
    *((m, r) for m in (2, 3, 4, 6) for r in range(m)),
]


def members(a: Interval, far: int = FAR) -> range:
    lo, hi = a
    return range(-far if lo is None else lo, (far if hi is None else hi) + 1)


def holds(value: int, a: Interval) -> bool:
    return (a[0] is None or a[0] <= value) and (a[1] is None or value <= a[1])


def tried(a: Interval) -> list[int]:
    """Members near the ends and near zero, and some far away."""
    within = members(a)
    near = {*within[:4], *within[-4:], *range(-4, 5)}
    return sorted(v for v in near if v in within)


@pytest.mark.parametrize(
    ("of_intervals", "of_numbers"),
    [
        (intervals.add, lambda x, y: x + y),
        (intervals.multiply, lambda x, y: x * y),
        (intervals.floordiv, lambda x, y: x // y),
        (intervals.modulo, lambda x, y: x % y),
        (intervals.shifted_left, lambda x, y: x << y),
        (intervals.shifted_right, lambda x, y: x >> y),
        (intervals.bit_and, lambda x, y: x & y),
        (intervals.bit_or, lambda x, y: x | y),
        (intervals.bit_xor, lambda x, y: x ^ y),
    ],
    ids=lambda function: getattr(function, "__name__", ""),
)
def test_binary(
    of_intervals: Callable[[Interval, Interval], Interval], of_numbers: Callable[[int, int], int]
) -> None:
    for a, b in itertools.product(INTERVALS, INTERVALS):
        if b == (0, 0) and of_intervals in (intervals.floordiv, intervals.modulo):
            continue  # the only divisor is 0
        result = of_intervals(a, b)
        for x, y in itertools.product(tried(a), tried(b)):
            try:
                value = of_numbers(x, y)
            except (ZeroDivisionError, ValueError):  # a divisor of 0, a shift below 0
                continue
            assert holds(value, result), (a, b, x, y, result)


@pytest.mark.parametrize("name", ["add", "multiply", "floordiv"])
def test_bounded_results_are_tight(name: str) -> None:
    """For bounded intervals and no zero divisor, both ends of the result occur."""
    compute = {"add": int.__add__, "multiply": int.__mul__, "floordiv": int.__floordiv__}[name]
    bounded = [i for i in INTERVALS if None not in i]
    for a, b in itertools.product(bounded, bounded):
        if name == "floordiv" and holds(0, b):
            continue
        values = {compute(x, y) for x in members(a) for y in members(b)}
        assert getattr(intervals, name)(a, b) == (min(values), max(values)), (a, b)


def test_intervals_of_bits() -> None:
    assert intervals.bit_and((0, 5), (None, None)) == (0, 5)
    assert intervals.bit_and((None, -3), (None, -9)) == (None, -9)
    assert intervals.bit_or((None, 5), (None, 9)) == (None, 15)
    assert intervals.bit_or((-3, 5), (2, None)) == (-3, None)
    assert intervals.bit_xor((0, 7), (None, 15)) == (None, 15)
    assert intervals.bit_xor((-4, -1), (-20, 7)) == (-32, 31)


def test_unary() -> None:
    for a in INTERVALS:
        for x in tried(a):
            for k in (-3, -1, 0, 1, 4):
                assert holds(k * x, intervals.scale(a, k)), (a, k, x)
            for n in (1, 2, 3, 4):
                assert holds(x**n, intervals.power(a, n)), (a, n, x)


def test_roots_and_powers() -> None:
    for a, n in itertools.product(INTERVALS, (1, 2, 3, 4)):
        for inside in INTERVALS:
            found = intervals.roots(a, n, inside)
            for x in members(inside, 12):
                assert not holds(x**n, a) or holds(x, found), (a, n, x)
        if n > 1:
            narrow = intervals.to_powers(a, n)
            for x in range(-12, 13):
                assert not holds(x**n, a) or holds(x**n, narrow), (a, n, x)
    assert intervals.roots((10, 20), 2, (0, None)) == (4, 4)
    assert intervals.roots((-30, 30), 3, (None, None)) == (-3, 3)
    assert intervals.to_powers((-30, 30), 3) == (-27, 27)
    assert intervals.to_powers((None, 20), 2) == (0, 16)


def test_factors_of_products() -> None:
    for a, by in itertools.product(INTERVALS, INTERVALS):
        found = intervals.quotients(a, by)
        for x, y in itertools.product(range(-12, 13), tried(by)):
            assert not holds(x * y, a) or holds(x, found), (a, by, x, y, found)
    assert intervals.quotients((16, None), (1, 4)) == (4, None)
    assert intervals.quotients((1, None), (0, None)) == (1, None)
    assert intervals.quotients((None, 12), (-5, -3)) == (-4, None)


def test_intersection_and_hull() -> None:
    for a, b in itertools.product(INTERVALS, INTERVALS):
        both, either = intervals.intersect(a, b), intervals.hull(a, b)
        for x in range(-12, 13):
            assert holds(x, both) == (holds(x, a) and holds(x, b))
            assert holds(x, either) or not (holds(x, a) or holds(x, b))


def test_bounds_of_any_size() -> None:
    huge = 10**400
    assert intervals.multiply((huge, None), (1, None)) == (huge, None)
    assert intervals.multiply((None, huge), (0, 0)) == (0, 0)
    assert intervals.floordiv((huge, None), (1, 3)) == (huge // 3, None)
    assert intervals.add((huge, huge), (1, None)) == (huge + 1, None)


def is_in(value: int, c: Congruence) -> bool:
    m, r = c
    return value == r if m == 0 else (value - r) % m == 0


def test_congruences() -> None:
    for a, b in itertools.product(CONGRUENCES, CONGRUENCES):
        total, product = intervals.congruence_add(a, b), intervals.congruence_multiply(a, b)
        both = intervals.meet(a, b)
        for x in range(-12, 13):
            if both is not None:
                assert is_in(x, both) == (is_in(x, a) and is_in(x, b)), (a, b, x, both)
            else:
                assert not (is_in(x, a) and is_in(x, b)), (a, b, x)
            if not is_in(x, a):
                continue
            for y in range(-12, 13):
                if is_in(y, b):
                    assert is_in(x + y, total), (a, b, x, y, total)
                    assert is_in(x * y, product), (a, b, x, y, product)
