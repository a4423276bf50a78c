"""The prover that asks z3: the questions that it adds, its cost, and that it is optional."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._dynamo.source import LocalSource

from symfx.algebra import Facts, Prover, Table, Term
from symfx.algebra.reasoning.z3_prover import Z3Prover
from symfx.errors import SymfxError
from symfx.symbolic_shapes import ShapeEnv, guard_or_false, statically_known_true

SRC = Path(__file__).parents[2] / "src"


def questions(t: Table) -> list[tuple[str, list[Term], Term, bool]]:
    """(topic, facts, question, answer)."""
    a, b, c = map(t.symbol, "abc")
    u, v = t.symbol("u"), t.symbol("v")
    p = t.symbol("p", "bool")
    return [
        ("squares", [], (a * a + b * b).ne(3), True),
        ("an order of squares", [a >= 0, b >= 0, a * a <= b * b], a <= b, True),
        ("its roots", [a >= 0, (a * a).eq(4 * a)], t.or_(a.eq(0), a.eq(4)), True),
        ("remainders together", [(a % 6).eq(4)], (a % 3).eq(1), True),
        ("two divisors", [(a % 4).eq(1), (a % 6).eq(2)], a >= 0, True),
        ("a symbolic divisor", [b >= 1, a >= 0], (a // b) * b <= a, True),
        ("a negative divisor", [b <= -1], (a % b) <= 0, True),
        ("cases", [t.or_(a >= 5, b >= 5), a.eq(b)], a + b >= 10, True),
        ("a choice", [a >= 0], t.where(p, a, a + 1) >= 0, True),
        ("sums of squares", [], (a * a + b * b).ne(7), True),
        ("a sum of squares", [a * a + b * b <= 60], a + b <= 10, True),
        ("a cube", [a >= 1, a * a * a <= 30], a <= 3, True),
        ("a product of three", [a >= 2, b >= 2, c >= 2, a * b * c <= 12], a + b + c <= 7, True),
        ("no solution", [a >= 2, b >= 2, (a * b).eq(7)], c.eq(c + 1 - 1), True),
        ("refuted", [a >= 1, b >= 1, a * b <= 5], a + b >= 7, False),
        ("minima", [u <= v], t.min(u, v + 3).eq(u), True),
    ]


@pytest.mark.parametrize("number", range(16))
def test_its_answers(number: int) -> None:
    table = Table()
    what, known, asked, answer = questions(table)[number]
    facts = Facts(table)
    for fact in known:
        facts.assume(fact)
    assert Z3Prover(facts, budget_ms=10_000).decide(asked) is answer, what
    assert Prover(facts).decide(asked) in (answer, None), what


def test_the_ordinary_prover_leaves_some_open() -> None:
    beyond = 0
    for number in range(16):
        table = Table()
        _, known, asked, _ = questions(table)[number]
        facts = Facts(table)
        for fact in known:
            facts.assume(fact)
        beyond += Prover(facts).decide(asked) is None
    assert beyond >= 4


def test_a_question_that_depends_stays_open() -> None:
    table = Table()
    a, b = table.symbol("a"), table.symbol("b")
    facts = Facts(table)
    facts.assume(a >= 1)
    prover = Z3Prover(facts, budget_ms=5000)
    assert prover.decide(a * b >= 3) is None
    assert prover.decide(table.pow(a, b) >= 2) is None
    assert prover.decide(table.bit_and(a, b).eq(1)) is None
    assert prover.answered == 0 < prover.asked
    before = prover.asked
    assert prover.decide(a * b >= 3) is None
    assert prover.asked == before, "what is open is not asked again"
    facts.assume(b >= 3)
    assert prover.decide(a * b >= 3) is True, "until something is learned"


def test_a_value_at_tracing_is_not_refuted() -> None:
    table = Table()
    a, b = table.symbol("a"), table.symbol("b")
    values = {a: 3, b: 5}
    from symfx.algebra import evaluate

    prover = Z3Prover(Facts(table), lambda term: evaluate(term, values), budget_ms=5000)
    assert prover.decide((a * a + b * b).ne(3)) is True
    assert prover.decide((a * a + b * b).eq(3)) is False
    assert prover.decide((a * a + b * b).eq(34)) is None


def test_a_division_that_may_not_happen_tells_nothing() -> None:
    """``b == 0 or a // b >= 3`` holds for b == 0, where a // b has no value."""
    table = Table()
    a, b = table.symbol("a"), table.symbol("b")
    facts = Facts(table)
    facts.assume(table.or_(b.eq(0), (a // b) >= 3))
    assert Z3Prover(facts, budget_ms=5000).decide(b.ne(0)) is None
    # One that did happen does.
    facts = Facts(table)
    facts.assume((a // b) >= 3)
    assert Z3Prover(facts, budget_ms=5000).decide(b.ne(0)) is True


def test_the_budget_is_kept() -> None:
    """Fermat's last theorem for exponent 3 is left open, soon."""
    table = Table()
    x, y, z = map(table.symbol, "xyz")
    facts = Facts(table)
    for symbol in (x, y, z):
        facts.assume(symbol >= 1)
    prover = Z3Prover(facts, budget_ms=50)
    start = time.monotonic()
    assert prover.decide((x * x * x + y * y * y).ne(z * z * z)) is None
    assert time.monotonic() - start < 20, "a budget of 50 ms was overdrawn beyond all measure"


# -- in an environment ----------------------------------------------------------------------


def squares(env: ShapeEnv) -> Any:
    u, v = env.create_unbacked_symint(), env.create_unbacked_symint()
    return u * u + v * v != 3


def test_it_is_off_unless_asked_for() -> None:
    assert not statically_known_true(squares(ShapeEnv()))
    assert type(ShapeEnv().prover) is Prover
    env = ShapeEnv(prover="z3", prover_budget_ms=5000)
    assert env.settings.prover == "z3"
    condition = squares(env)
    assert statically_known_true(condition)
    assert guard_or_false(condition)
    assert bool(condition)


def test_guards_that_follow_are_not_issued() -> None:
    found = []
    for prover in ("built-in", "z3"):
        env = ShapeEnv(prover=prover, prover_budget_ms=5000)
        (a, b), _, _ = env.create_symbolic_sizes_strides_storage_offset(
            torch.empty(3, 4), LocalSource("x")
        )
        assert a * a + b * b != 19
        assert a * a + b * b == 25
        found.append(len(env.guards))
    assert found == [2, 1]


def test_a_scope_keeps_the_prover() -> None:
    env = ShapeEnv(prover="z3", prover_budget_ms=5000)
    env.create_symbolic_sizes_strides_storage_offset(torch.empty(3, 4), LocalSource("x"))
    source = next(s for r in env.symbols.records.values() for s in r.sources)
    with env.patch_source_specialization(source, lambda n: n == 3):
        assert type(env.prover) is Z3Prover
    assert type(env.prover) is Z3Prover


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"prover": "cvc5"}, "no prover 'cvc5'"),
        ({"prover": "z3", "prover_budget_ms": 0}, "not a number of milliseconds"),
        ({"prover": "z3", "prover_budget_ms": "soon"}, "not a number of milliseconds"),
    ],
)
def test_settings_that_make_no_sense(settings: Any, message: str) -> None:
    with pytest.raises(SymfxError, match=message):
        ShapeEnv(**settings)


def test_without_z3_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "z3", None)
    ShapeEnv()
    with pytest.raises(SymfxError, match=r'pip install "symfx\[z3\]"'):
        ShapeEnv(prover="z3")


def test_z3_is_not_imported_unless_asked_for() -> None:
    code = (
        "import sys, torch; from symfx.symbolic_shapes import ShapeEnv; e = ShapeEnv();"
        "u = e.create_unbacked_symint(); torch._check(u > 3); e.guard_program().to_smtlib();"
        "assert 'z3' not in sys.modules; ShapeEnv(prover='z3'); assert 'z3' in sys.modules"
    )
    subprocess.run(
        [sys.executable, "-c", code], check=True, env={"PYTHONPATH": str(SRC), "PATH": ""}
    )


def test_a_proof_names_what_only_z3_used() -> None:
    env = ShapeEnv(prover="z3", prover_budget_ms=20_000)
    a, b, c = (env.create_unbacked_symint() for _ in range(3))
    for fact in (a >= 2, b >= 2, a * a + b * b <= 60, c >= 100, a <= b + 50):
        torch._check(fact)
    proof = env.proof(a + b <= 10)
    assert proof.holds is True
    assert {str(f) for f in proof.facts} == {"u0**2 + u1**2 <= 60"}
    assert env.proof(a + b >= 11).holds is False
    assert env.proof(c >= 101).holds is None and env.proof(c >= 101).facts == ()
    without = ShapeEnv()
    u, v = without.create_unbacked_symint(), without.create_unbacked_symint()
    for fact in (u >= 2, v >= 2, u * u + v * v <= 60):
        torch._check(fact)
    assert without.proof(u + v <= 10).holds is None
