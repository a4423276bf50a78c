"""Questions that could run for ever or nest too deeply: they end within the limits of a search."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from functools import reduce

import pytest

from symfx.algebra import Facts, Prover, Table, Term, evaluate, smtlib_script
from symfx.algebra.languages.sympy import to_sympy
from symfx.algebra.reasoning.limits import LOOKED, STEPS
from symfx.errors import ExpressionError


@pytest.fixture
def t() -> Table:
    return Table()


def ask(facts: Facts, condition: Term) -> bool | None:
    """The answer of a new prover, which must stay within the limits of a search."""
    prover, before = Prover(facts), len(facts.table)
    answer = prover.decide(condition)
    assert prover.effort.steps <= STEPS + 1 and prover.effort.nested == 0
    # Each of the last searches still looks at one term.
    assert prover.effort.looked <= LOOKED + 2 * STEPS
    assert len(facts.table) - before < 60_000
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


CHAINS: dict[str, Callable[[Table, Term, Term, Term, int], Term]] = {
    "remainders": lambda t, y, x, z, i: (y + x * i) % (5 + i % 3),
    "symbolic remainders": lambda t, y, x, z, i: (y + i) % x,
    "symbolic quotients": lambda t, y, x, z, i: (y + i) // x,
    "maxima": lambda t, y, x, z, i: t.max(y - 1, x * i),
    "distances": lambda t, y, x, z, i: t.abs(y - x * i),
    "choices": lambda t, y, x, z, i: t.where(y >= i, y, z),
    "choices by both": lambda t, y, x, z, i: t.where(y.eq(i) | (x >= i) & (z <= i), x + i, y + 1),
    "truncated quotients": lambda t, y, x, z, i: t.where(y >= i, y // 3, -(-y // 3)),
    "bits": lambda t, y, x, z, i: (y + x) ^ z if i % 2 else (y + 1) | z,
    "powers": lambda t, y, x, z, i: (y % 7 + 1) ** z,
    "exponents": lambda t, y, x, z, i: x ** (y % 5),
    "squares": lambda t, y, x, z, i: y * y % (101 + i),
    "shifts": lambda t, y, x, z, i: (y + x) >> z,
    "real quotients": lambda t, y, x, z, i: t.floor(y / x),
    "rounded halves": lambda t, y, x, z, i: t.trunc(t.to_real(y) * 0.5) + x,
}


@pytest.mark.parametrize("links", [12, 25, 300])
@pytest.mark.parametrize("kind", CHAINS)
def test_a_chain_of_one_kind(t: Table, kind: str, links: int) -> None:
    x, y, z = map(t.symbol, "xyz")
    facts = Facts(t)
    for symbol in (x, y, z):
        facts.assume(symbol >= 1)
        facts.assume(symbol <= 9)
    first = y
    for i in range(links):
        y = CHAINS[kind](t, y, x, z, i)
    questions = [y >= 7, y.eq(3), (y % 2).eq(0), y >= x]
    at = {first: 3, x: 2, z: 1}
    for question in questions:
        with contextlib.suppress(OverflowError):
            assert ask(facts, question) in (None, evaluate(question, at))
    # A part that is used several times is written once, and once more in the condition under
    # which each part around it has a value: quadratic, never exponential.
    assert len(smtlib_script([y >= 0])) < 70 * links**2 + 1200 * links + 4000


@pytest.mark.parametrize("links", [12, 300])
@pytest.mark.parametrize("kind", CHAINS)
def test_the_sympy_of_a_chain_shares_its_parts(t: Table, kind: str, links: int) -> None:
    x, y, z = map(t.symbol, "xyz")
    for i in range(links):
        y = CHAINS[kind](t, y, x, z, i)
    found = set()
    waiting = [to_sympy(y)]
    while waiting:
        top = waiting.pop()
        if id(top) not in found:
            found.add(id(top))
            waiting += top.args
    assert len(found) < 20 * links


@pytest.mark.parametrize(("n", "linked"), [(2000, False), (100, True)])
def test_wide_terms(t: Table, n: int, linked: bool) -> None:
    sizes = [t.symbol(f"s{i}") for i in range(n)]
    facts = Facts(t)
    for s in sizes:
        facts.assume(s >= 1)
    total, product, largest = t.sum(sizes), reduce(t.mul, sizes), reduce(t.max, sizes)
    if linked:
        facts.assume(total <= 10 * n)
    for wide in total, product, largest:
        assert len(str(wide)) < 20_000
        assert ask(facts, wide >= 1) is True
        assert ask(facts, wide >= n + 1) is None
        assert ask(facts, (wide % 2).eq(0)) is None
    assert ask(facts, total >= n) is True
    assert ask(facts, product.eq(0)) is False
    assert ask(facts, t.and_(*(s >= 1 for s in sizes))) is True
    for join in t.and_, t.or_:
        assert ask(facts, join(*(s >= 2 for s in sizes))) is None


def test_bounds_of_deep_terms_leave_no_trace(t: Table) -> None:
    """The next question may use as much recursion as the first one, and not more."""
    x = t.symbol("x")
    facts = Facts(t)
    facts.assume(x >= 1)
    prover = Prover(facts)
    for k in range(30):
        y = x + k
        for i in range(100):
            y = (y * y + i) % (101 + i) if k % 2 else (y + i) // 3
        prover.range(y)
    assert prover.intervals._level == 0


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
