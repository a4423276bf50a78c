"""The prover judged by brute force and z3: its answers hold wherever the facts hold.

A proved condition holds, and a refuted one fails, at every such point. These tests do not measure
the share of questions that the prover answers.
"""

from __future__ import annotations

import math
import os
import random
from functools import cache

import facts_and_queries as fq
import programs
import pytest
from profiles import LONG, many

from symfx.algebra import Table
from symfx.algebra.reasoning.facts import UNDEFINED, Facts
from symfx.algebra.reasoning.prover import Prover

# The quick run tries the same cases every time, the long run new ones.
FIRST = random.SystemRandom().randrange(2**40) if LONG else 0
SEED = int(os.environ.get("SYMFX_SEED", FIRST))


@cache
def box() -> list[dict[str, int]]:
    return fq.all_points()


def one_case(seed: int) -> int:
    """Learn some facts, ask questions in between, and return the number of answers."""
    choose = fq.choose_by(seed)
    table = Table()
    names = programs.symbols(table)
    facts = Facts(table)
    prover = Prover(facts)
    known: list[str] = []
    points = box()
    answered = 0
    asked: list[str] = []
    for _ in range(1 + choose(5)):
        said, points = fq.satisfiable_fact(choose, points)
        known.append(said)
        term = programs.build(said, table, names)
        facts.assume(term)
        if term.op == "eq" and choose(2):
            _replace(facts, table, names, term)
        assert facts.contradiction is None, (seed, known, facts.contradiction)
        for _ in range(3):
            asked.append(fq.query(choose, known))
        # Earlier questions again: an answer must stay, and an open question may get one.
        for question in [*asked[-3:], asked[choose(len(asked))]]:
            answered += _ask(seed, known, question, points, prover, table, names)
    return answered


def _replace(facts, table, names, equation) -> None:  # type: ignore[no-untyped-def]
    """Let a symbol stand for a term if the equation gives one."""
    p = facts.resolve(equation)
    if p.op != "eq":
        return
    p = p.args[0]
    for monomial, coeff in p.coeffs.items():
        if monomial.op == "symbol" and coeff in (1, -1):
            by = table.sub(monomial, table.mul(table.const(coeff), p))
            if monomial not in by.free_symbols:
                facts.replace(monomial, by)
                return


def _ask(seed, known, question, points, prover, table, names) -> bool:  # type: ignore[no-untyped-def]
    try:
        condition = programs.build(question, table, names)
    except (ZeroDivisionError, ValueError):
        return False
    try:
        answer = prover.decide(condition)
        reduced = prover.reduce(condition)
    except UNDEFINED:
        # The facts make a divisor 0: then the question must be undefined at every point.
        assert not _defined(question, points), (seed, known, question)
        return False
    shown = None if reduced is condition else compile(str(reduced), "<reduced>", "eval")
    for point in points:
        try:
            truth = programs.run(question, point)
        except programs.UndefinedError:
            continue
        story = (seed, known, question, point)
        if answer is not None:
            assert truth == answer, story
        if shown is not None:
            assert eval(shown, {"math": math}, point) == truth, (*story, "reduced to", str(reduced))
    if answer is not None:
        found = fq.z3_counterexample(known, question, answer)
        assert found is None, (seed, known, question, answer, found)
    return answer is not None


def _defined(source: str, points: list[dict[str, int]]) -> bool:
    for point in points:
        try:
            programs.run(source, point)
        except programs.UndefinedError:
            continue
        return True
    return False


@pytest.mark.parametrize("part", range(4))
def test_answers_hold(part: int) -> None:
    count = many(60)
    answered = sum(one_case(SEED + part * count + i) for i in range(count))
    assert answered > 2 * count, "hardly anything was decided: the test would show nothing"


def test_ranges_hold() -> None:
    for seed in range(SEED, SEED + many(100)):
        choose = fq.choose_by(seed)
        table = Table()
        names = programs.symbols(table)
        facts = Facts(table)
        prover = Prover(facts)
        points, known = box(), []
        for _ in range(choose(4)):
            said, points = fq.satisfiable_fact(choose, points)
            known.append(said)
            facts.assume(programs.build(said, table, names))
        for _ in range(4):
            source = programs.random_program(choose, "I", 2, exclude=frozenset("RB"))
            try:
                term = programs.build(source, table, names)
            except (ZeroDivisionError, ValueError):
                continue
            low, high = prover.range(term)
            modulus, rest = prover.congruence(facts.resolve(term))
            for point in points:
                try:
                    value = programs.run(source, point)
                except programs.UndefinedError:
                    continue
                story = (seed, known, source, point, value, (low, high), (modulus, rest))
                assert low is None or low <= value, story
                assert high is None or value <= high, story
                assert value == rest if modulus == 0 else (value - rest) % modulus == 0, story
