"""Plain forms of conditions hold just where the conditions hold."""

from __future__ import annotations

import itertools
import random

import pytest

from symfx.algebra import Facts, Prover, Table, Term, evaluate
from symfx.algebra.reasoning.plain_forms import joined_remainder, parts_of_equation, plain_form

VALUES = [*range(-9, 14)]


@pytest.mark.parametrize(
    ("condition", "plain"),
    [
        (lambda t, x, y: -x % 4 >= 1, "x % 4 != 0"),
        (lambda t, x, y: -x % 4 <= 0, "x % 4 == 0"),
        (lambda t, x, y: (6 * x % 4).eq(2), "x % 2 == 1"),
        (lambda t, x, y: (7 * x + 7 * y) % 8 <= 0, "(x + y) % 8 == 0"),
        (lambda t, x, y: ((x + 3) % 5).eq(0), "x % 5 == 2"),
        (lambda t, x, y: x % 7 >= 6, "x % 7 == 6"),
        (lambda t, x, y: x % 7 >= 3, "x % 7 >= 3"),
        (lambda t, x, y: x.eq(2 * (x // 2)), "x % 2 == 0"),
        (lambda t, x, y: (3 * ((x + y) // 3)).eq(x + y - 1), "(x + y) % 3 == 1"),
        (lambda t, x, y: x // 16 >= 2, "x >= 32"),
        (lambda t, x, y: (x + 3) // 4 <= 8, "x <= 32"),
        (lambda t, x, y: ((x + 1) // 2 + 3) // 4 >= 2, "x >= 9"),
        (lambda t, x, y: ((x + 1) // 2).eq(x // 2), "x % 2 == 0"),
        (lambda t, x, y: ((x + 4) // 8).eq(x // 8), "x % 8 <= 3"),
        (lambda t, x, y: ((x + 7) // 8).eq(4 * ((x + 31) // 32)), "(x + 7)//8 % 4 == 0"),
        (lambda t, x, y: ((x + 7) // 8).eq(4 * ((x + 30) // 32)), "(x + 7)//8 == 4*((x + 30)//32)"),
        (lambda t, x, y: x.eq(2 * (x // 3)), "x == 2*(x//3)"),
        (lambda t, x, y: t.max(t.zero, x - 5) >= 1, "x >= 6"),
        (lambda t, x, y: t.max(y, x - 5) >= 1, "max(y, x - 5) >= 1"),
        (lambda t, x, y: t.min(t.const(64), x).ne(64), "x <= 63"),
        (lambda t, x, y: t.min(x, y) >= 3, "x >= 3 and y >= 3"),
    ],
)
def test_forms(condition, plain: str) -> None:
    table = Table()
    x, y = table.symbol("x"), table.symbol("y")
    assert str(plain_form(condition(table, x, y))) == plain


def test_random_conditions_keep_their_meaning() -> None:
    rng = random.Random(0)
    changed = 0
    for _ in range(800):
        table = Table()
        x, y = table.symbol("x"), table.symbol("y")
        condition = _random_condition(rng, table, x, y)
        plain = plain_form(condition)
        changed += plain is not condition
        for a, b in itertools.product(VALUES, repeat=2):
            values = {x: a, y: b}
            assert evaluate(condition, values) == evaluate(plain, values), (condition, plain)
    assert changed > 150


def _random_condition(rng: random.Random, table: Table, x: Term, y: Term) -> Term:
    size = rng.randint(-7, 7) * x + rng.choice([0, 0, rng.randint(-5, 5)]) * y + rng.randint(-6, 6)
    other = rng.choice([table.const(rng.randint(-5, 9)), y, y + rng.randint(-3, 3), x - 2])
    extremum = rng.choice([table.min, table.max])(size, other)
    divisor = rng.randint(2, 5)
    if not rng.randint(0, 3):
        times, shift = rng.choice([1, 2, 3]), rng.randint(-2, 8)
        return (size // divisor).eq(times * ((size + shift) // (divisor * times)))
    if not rng.randint(0, 3):
        return (size - rng.choice([divisor, 2]) * (size // divisor)).eq(rng.randint(-1, 5))
    number = rng.choice([size % rng.randint(2, 9), extremum, extremum])
    bound = rng.choice([table.const(rng.randint(-2, 8)), other, size])
    return rng.choice([Term.eq, Term.ne, Term.__ge__, Term.__le__])(number, bound)


def test_joined_remainders_keep_their_meaning() -> None:
    table = Table()
    x = table.symbol("x")
    joined = 0
    for inner, outer, shift in itertools.product((2, 3, 4), (2, 3, 5), range(-4, 5)):
        condition = (x + shift) // inner % outer
        condition = plain_form(condition.eq(0))
        beside = (x % inner).eq(0)
        found = joined_remainder(condition, lambda asked, known=beside: asked is known)
        joined += found is not condition
        for value in range(-40, 60):
            if evaluate(beside, {x: value}):
                assert evaluate(condition, {x: value}) == evaluate(found, {x: value})
    assert joined > 40


def test_remainders_are_not_joined_where_the_quotient_rounds() -> None:
    x = Table().symbol("x")
    condition = (x // 4 % 2).eq(0)
    assert joined_remainder(condition, lambda asked: False) is condition


def test_small_remainders_of_multiples_are_zero() -> None:
    table = Table()
    x = table.symbol("x")
    joined = 0
    for divisor, step, most in itertools.product((4, 6, 8, 12), (2, 3, 4, 6), range(8)):
        condition = plain_form(x % divisor <= most)
        beside = (x % step).eq(0)
        found = joined_remainder(condition, lambda asked, known=beside: asked is known)
        joined += found is not condition
        for value in range(-30, 40):
            if evaluate(beside, {x: value}):
                assert evaluate(condition, {x: value}) == evaluate(found, {x: value})
    assert joined > 10


def test_sums_that_are_zero_in_each_part() -> None:
    table = Table()
    x, y = table.symbol("x"), table.symbol("y")
    given = {x >= 1, y >= 1}
    facts = Facts(table)
    for fact in given:
        facts.assume(fact)
    prover = Prover(facts)

    def holds(condition: Term) -> bool:
        return prover.decide(condition) is True

    r, s = -x % 8, -y % 8
    assert str(parts_of_equation((x * s + y * r + r * s).eq(0), holds)) in (
        "x % 8 == 0 and y % 8 == 0",
        "y % 8 == 0 and x % 8 == 0",
        "y % 8 == 0 and x % 8 == 0 and (7*x % 8)*(7*y % 8) == 0",
    )
    for sum_ in (x * s + y * r, r + 2 * s, -3 * r - y * s):
        plain = parts_of_equation(sum_.eq(0), holds)
        assert plain.op == "and"
        for a, b in itertools.product(range(1, 20), repeat=2):
            assert evaluate(sum_.eq(0), {x: a, y: b}) == evaluate(plain, {x: a, y: b})
    a, b = (x + 31) // 32, (y + 31) // 32
    assert str(parts_of_equation((a * b).eq(1), holds)) == "x <= 32 and y <= 32"
    for sum_ in (x * s - y * r, r + s - 1, (x - 3) * r + s):
        assert parts_of_equation(sum_.eq(0), holds) is sum_.eq(0)
