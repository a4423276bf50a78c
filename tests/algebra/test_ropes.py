"""Long sums: built by parts, still one object each."""

from __future__ import annotations

import random
from functools import reduce

import pytest

from symfx.algebra import Table, Term, evaluate

N = 400


@pytest.fixture
def t() -> Table:
    return Table()


@pytest.fixture
def parts(t: Table) -> list[Term]:
    symbols = [t.symbol(f"u{i}") for i in range(N)]
    return [(i % 5 - 2 or 3) * s for i, s in enumerate(symbols)]


def tree(t: Table, parts: list[Term]) -> Term:
    while len(parts) > 1:
        halves = zip(parts[::2], parts[1::2], strict=False)
        rest = parts[-1:] if len(parts) % 2 else []
        parts = [t.add(a, b) for a, b in halves] + rest
    return parts[0]


def test_every_order_gives_the_same_object(t: Table, parts: list[Term]) -> None:
    left = reduce(t.add, parts)
    shuffled = parts[:]
    random.Random(1).shuffle(shuffled)
    assert reduce(t.add, shuffled) is left
    assert reduce(t.add, reversed(parts)) is left
    assert tree(t, parts) is left
    assert t.sum(parts) is left
    assert t.linear(dict(left.coeffs)) is left
    assert reduce(t.sub, [-p for p in parts[1:]], parts[0]) is left


def test_scaled_and_shifted(t: Table, parts: list[Term]) -> None:
    total = reduce(t.add, parts)
    assert 3 * total + 7 is reduce(t.add, [3 * p for p in parts], t.const(7))
    assert -(-total) is total
    assert total + total is 2 * total
    assert (6 * total + 3) // 3 is 2 * total + 1
    assert (total * 2) % 2 is t.zero


def test_cancelling_down(t: Table, parts: list[Term]) -> None:
    total = reduce(t.add, parts)
    assert total - total is t.zero
    assert total + 5 - total is t.const(5)
    assert total - t.sum(parts[1:]) is parts[0]
    last = t.symbol("u7")
    assert (total + last) - total is last
    assert (total + 2 * last + 1) - total is 2 * last + 1
    assert total - t.sum(parts[1:]) - parts[0] is t.zero
    half = t.sum(parts[: N // 2])
    assert (total - half) + half is total


def test_cancelling_down_while_nothing_was_read(t: Table, parts: list[Term]) -> None:
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    for part in reversed(parts[1:]):
        total = total - part
    assert total is parts[0]


def test_value(t: Table, parts: list[Term]) -> None:
    total = reduce(t.add, parts)
    point = {t.symbol(f"u{i}"): i * i - 50 for i in range(N)}
    expected = sum((i % 5 - 2 or 3) * (i * i - 50) for i in range(N))
    assert evaluate(total, point) == expected
    assert evaluate(total // 7, point) == expected // 7


def test_shared_ropes(t: Table, parts: list[Term]) -> None:
    """A rope that two others grow from is read by both."""
    trunk = reduce(t.add, parts[:100])
    left = reduce(t.add, parts[100:200], trunk)
    right = reduce(t.add, parts[200:300], trunk)
    assert left - right is t.sum(parts[100:200]) - t.sum(parts[200:300])
    assert left + right is 2 * trunk + t.sum(parts[100:300])
    doubled = trunk
    for _ in range(200):  # 2**200 times the trunk, by doubling
        doubled = doubled + doubled
    assert doubled is (2**200) * trunk


def test_building_a_sum_makes_few_terms(t: Table, parts: list[Term]) -> None:
    before = len(t)
    reduce(t.add, parts)
    assert len(t) - before <= 2 * N


def test_thousands_are_compared_and_printed(t: Table) -> None:
    symbols = [t.symbol(f"u{i}") for i in range(3000)]
    a, b = reduce(t.add, symbols), reduce(t.add, reversed(symbols))
    assert a is b
    assert (a >= b) is t.true
    assert str(a).count("+") == 2999
    assert str(t.ge_zero(a - 1)).endswith(">= 1")
