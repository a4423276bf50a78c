"""Questions that could run for ever or nest too deeply: they end within the limits of a search."""

from __future__ import annotations

import time

import pytest

from symfx.algebra import Facts, Prover, Table, Term, evaluate
from symfx.algebra.reasoning.limits import STEPS
from symfx.errors import ExpressionError


@pytest.fixture
def t() -> Table:
    return Table()


def ask(facts: Facts, condition: Term) -> bool | None:
    prover = Prover(facts)
    answer = prover.decide(condition)
    assert prover._effort.steps <= STEPS + 1 and prover._effort.nested == 0
    assert len(facts.table) < 60_000
    return answer


def test_a_power_that_no_memory_holds(t: Table) -> None:
    u = t.symbol("u")
    facts = Facts(t)
    facts.assume(u >= 2**31 - 3)
    facts.assume(u <= 2**31 + 3)
    assert ask(facts, t.eq(2**u % 3, t.one)) is None
    for make in (lambda: 2 ** t.const(2**40), lambda: 1 << t.const(2**40), lambda: u >> 2**40):
        with pytest.raises(OverflowError, match="bits is too large"):
            make()


def test_maxima_of_maxima(t: Table) -> None:
    v, i, y = map(t.symbol, "viy")
    facts = Facts(t)
    facts.assume(v >= 0)
    facts.assume(i >= 0)
    for _ in range(40):
        y = t.max(y - 1, v * i)
    assert ask(facts, y >= 0) is True
    assert ask(facts, y >= 5) is None
    z = t.symbol("z")
    for k in range(40):
        z = t.max(z - 1, v * k)
    assert ask(facts, z >= 0) is True
    assert ask(facts, z >= v) is not False


def test_a_long_chain_of_quotients(t: Table) -> None:
    v, y = t.symbol("v"), t.symbol("y")
    facts = Facts(t)
    facts.assume(v >= 1)
    facts.assume(y >= 1)
    for i in range(3000):
        y = (y + v) // (2 + i % 3)
    assert ask(facts, y >= 0) is True
    assert ask(facts, y >= 7) is None
    assert Prover(facts).range(y) == (0, None)
    assert evaluate(y, {t.symbol("v"): 1, t.symbol("y"): 1}) == 0


def test_a_long_chain_of_remainders(t: Table) -> None:
    v, y = t.symbol("v"), t.symbol("y")
    for i in range(600):
        y = (y + v * i) % (5 + i % 3)
    assert ask(Facts(t), y >= 0) is True
    assert ask(Facts(t), y.eq(1)) is None


def test_a_square_of_a_square(t: Table) -> None:
    u = v = t.symbol("u")
    facts = Facts(t)
    facts.assume(u >= 1)
    for _ in range(40):
        u = u * u
    assert ask(facts, u >= 1) is True
    assert len(str(u)) < 100
    assert evaluate(u, {v: 1}) == 1
    facts.assume(v <= 3)
    assert ask(facts, u >= 2) is None
    facts.assume(v >= 2)
    assert ask(facts, u > 10**100) is True


def test_alternating_and_or(t: Table) -> None:
    x = t.symbol("x")
    p = [t.symbol(f"p{i}", "bool") for i in range(7)]
    nested = p[0]
    for i in range(3000):
        nested = t.or_(nested, p[i % 7]) if i % 2 else t.and_(nested, x >= i)
    facts = Facts(t)
    facts.assume(x >= 5)
    assert ask(facts, nested) is None
    assert ask(facts, ~nested) is None
    assert Prover(facts).reduce(nested).sort == "bool"
    assert str(nested).count(" and ") == 1500
    facts.assume(nested)
    assert facts.known[nested] is True


def test_truncated_division_within_itself(t: Table) -> None:
    x = t.symbol("x")
    facts = Facts(t)
    facts.assume(x >= 1)
    y = x
    for _ in range(12):
        y = t.where(y >= 0, y // 3, -(-y // 3)) + 1
    assert ask(facts, y >= 0) is True


def test_the_text_of_a_long_sum_takes_linear_time(t: Table) -> None:
    def seconds(n: int) -> float:
        total = t.sum(t.symbol(f"s{n}_{i}") for i in range(n))
        start = time.process_time()
        assert str(total).count("+") == n - 1
        return time.process_time() - start

    # Quadratic time would be 16 times as much.
    assert min(seconds(8000) for _ in range(2)) < 10 * min(seconds(2000) for _ in range(3))


def test_a_power_with_a_negative_exponent_is_open(t: Table) -> None:
    a = t.symbol("a")
    facts = Facts(t)
    facts.assume(a.eq(-1))
    assert ask(facts, 2**a >= 1) is None
    assert ask(facts, (2**a).eq(0)) is None


def test_a_long_chain_of_doubles(t: Table) -> None:
    r, x = t.symbol("r", "real"), t.symbol("x")
    total = r
    for i in range(3000):
        total = total + 1.5 if i % 2 else t.where(x >= i, total, total * 0.5)
    facts = Facts(t)
    facts.assume(r >= 0.0)
    assert ask(facts, total >= 1.5) is True
    assert ask(facts, total >= 4.0) is None
    assert ask(facts, t.floor(total) >= 1) is True


def test_numbers_on_the_left(t: Table) -> None:
    a = t.symbol("a")
    made = [1 << a, 40 >> a, 6 & a, 6 | a, 6 ^ a, 2**a, 7 // a, 7 % a, 7 / a, 7 - a, 7 * a]
    assert [evaluate(term, {a: 3}) for term in made] == [8, 5, 2, 7, 5, 8, 2, 1, 7 / 3, 4, 21]


def test_a_fact_that_is_not_a_condition(t: Table) -> None:
    b = t.symbol("b")
    for wrong in (b % 8 == 0, True, b, 3):
        with pytest.raises(ExpressionError, match=r"must be a condition, not .*\n.*a\.eq\(b\)"):
            Facts(t).assume(wrong)
        with pytest.raises(ExpressionError, match="must be a condition"):
            Prover(Facts(t)).decide(wrong)
