"""Proofs name the facts that are needed and no others; examples satisfy what they must."""

import doctest
import itertools
import random

import pytest

from symfx.algebra import Table, evaluate
from symfx.algebra.reasoning import proofs
from symfx.algebra.reasoning.facts import Facts
from symfx.algebra.reasoning.proofs import example, prove
from symfx.algebra.reasoning.prover import Prover


@pytest.fixture
def facts():
    return Facts(Table())


def symbols(facts, names):
    return [facts.table.symbol(n) for n in names.split()]


def test_docstrings():
    found = doctest.testmod(proofs)
    assert found.attempted and not found.failed


def test_a_proof_leaves_out_what_it_does_not_need(facts):
    a, b, c, d = symbols(facts, "a b c d")
    needed = [a < b, b < c]
    for fact in (d > a, *needed, c < d, a >= 5, (c % 4).eq(0)):
        facts.assume(fact)
    proof = prove(facts, a < c)
    assert proof.holds is True and set(proof.facts) == set(needed)
    assert prove(facts, c <= a).holds is False
    assert prove(facts, a >= 6).holds is None and prove(facts, a >= 6).facts == ()


def test_a_tautology_needs_no_facts(facts):
    (a,) = symbols(facts, "a")
    facts.assume(a >= 3)
    assert prove(facts, a * a >= 0).facts == ()
    assert "whatever" in str(prove(facts, a * a >= 0))


def test_a_chain_of_200_needs_every_link(facts):
    x = symbols(facts, " ".join(f"x{i}" for i in range(201)))
    for a, b in itertools.pairwise(x):
        facts.assume(a < b)
    proof = prove(facts, x[0] + 199 < x[200])
    assert proof.holds and len(proof.facts) == 200


@pytest.mark.parametrize("seed", range(40))
def test_a_proof_is_enough_and_minimal(facts, seed):
    rng = random.Random(seed)
    names = symbols(facts, "a b c d e")

    def condition():
        a, b = rng.sample(names, 2)
        k = rng.randrange(-3, 6)
        return rng.choice([a <= b + k, a >= k, (a % (abs(k) + 2)).eq(0), a.ne(b), 2 * a >= b + k])

    for _ in range(6):
        facts.assume(condition())
    if facts.contradiction is not None:
        return
    for _ in range(10):
        asked = condition()
        proof = prove(facts, asked)
        if proof.holds is None:
            continue

        def decided(assumed, asked=asked):
            alone = Facts(facts.table)
            for fact in assumed:
                alone.assume(fact)
            return Prover(alone).decide(asked)

        assert decided(proof.facts) is proof.holds
        for i in range(len(proof.facts)):
            assert decided(proof.facts[:i] + proof.facts[i + 1 :]) is not proof.holds


@pytest.mark.parametrize("seed", range(40))
def test_examples_satisfy_everything(facts, seed):
    rng = random.Random(seed)
    names = symbols(facts, "a b c")
    point = {s: rng.randrange(0, 20) for s in names}
    for _ in range(4):
        a, b = rng.sample(names, 2)
        true_here = [
            a <= b if point[a] <= point[b] else a > b,
            (a % 4).eq(point[a] % 4),
            (a + b).eq(point[a] + point[b]),
            a >= point[a] - 2,
        ]
        facts.assume(rng.choice(true_here))
    for asked in (names[0] > names[1], names[0].eq(names[1]), names[2] >= 7):
        found = example(facts, asked)
        if found is not None:
            values = {s: found.get(s, 0) for s in names}
            assert evaluate(asked, values)
            near = facts.connected(asked)
            assert all(evaluate(c, values) for c in near)
    assert example(facts, facts.table.false) is None


def test_no_example_of_the_impossible(facts):
    a, b = symbols(facts, "a b")
    facts.assume(a < b)
    assert example(facts, b < a) is None
