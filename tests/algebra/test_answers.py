"""The questions of `questions.py`: answered, rightly, and whatever the table has made before."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest
import questions

from symfx.algebra import Facts, Prover, Table

ALL = questions.questions()
BOXES = {
    0: range(1),
    1: range(-200, 400),
    2: range(-40, 70),
    3: range(-9, 20),
    4: range(-5, 9),
    5: range(-3, 6),
}
MOST = 3000


def names_in(question: str) -> list[str]:
    found = set(re.findall(r"\b[a-z]\w*\b", question))
    return sorted(found - {"and", "or", "not", "min", "max", "abs", "where", "float"})


def models(known: list[str], names: list[str]) -> list[dict[str, int]]:
    """Points of a box at which all facts hold: all of them, or many of them."""
    points: list[dict[str, int]] = [{}]
    for i, name in enumerate(names):
        given = set(names[: i + 1])
        ready = [f for f in known if name in names_in(f) and given.issuperset(names_in(f))]
        box = BOXES.get(len(names), range(-1, 4))
        grown = ({**point, name: value} for point in points for value in box)
        points = [point for point in grown if all(holds(fact, point) for fact in ready)]
        if len(points) > 20 * MOST:
            points = random.Random(0).sample(points, 20 * MOST)
    return points if len(points) <= MOST else random.Random(0).sample(points, MOST)


def holds(condition: str, point: dict[str, int]) -> bool | None:
    try:
        return bool(questions.value(condition, point))
    except (ZeroDivisionError, ValueError):
        return None


def ask(table: Table, question: str) -> list[bool | None]:
    known, asked, _ = questions.split(question)
    facts = Facts(table)
    for fact in known:
        facts.assume(questions.read(fact, table))
    prover = Prover(facts)
    return [prover.decide(questions.read(condition, table)) for condition in asked]


@pytest.mark.parametrize(("kind", "question"), ALL)
def test_the_answer_in_a_fresh_table(kind: str, question: str) -> None:
    known, asked, follows = questions.split(question)
    for condition in asked:
        alone = ask(Table(), f"{';'.join(known)} {'|-' if follows else '|?'} {condition}")
        assert alone == [True if follows else None], (kind, condition)


@pytest.mark.parametrize(("kind", "question"), ALL)
def test_no_small_model_refutes_it(kind: str, question: str) -> None:
    known, asked, follows = questions.split(question)
    points = models(known, names_in(question))
    assert points, "the facts hold nowhere in the box: the test would show nothing"
    for condition in asked:
        truths = {holds(condition, point) for point in points} - {None}
        assert truths == ({True} if follows else {True, False}), (kind, condition)


PAGE = Path(__file__).parents[2] / "docs" / "algebra.md"


def rows_of_the_page() -> list[tuple[str, str]]:
    """(facts, conclusion) for each row of the table on the page, the facts apart by semicolons."""
    table = PAGE.read_text(encoding="utf-8").partition("| kind | from | follows |\n")[2]
    rows = []
    for line in table.partition("\n\n")[0].splitlines()[1:]:
        _, known, follows = line.strip("|").split("|")
        rows.append(("; ".join(re.findall("`(.*?)`", known)), follows.strip("` ")))
    return rows


@pytest.mark.parametrize(("known", "follows"), rows_of_the_page())
def test_a_row_of_the_page(known: str, follows: str) -> None:
    assert ask(Table(), f"{known} |- {follows}") == [True]
    facts = [fact for fact in known.split(";") if fact]
    points = models(facts, names_in(f"{known} {follows}"))
    assert all(holds(follows, point) in (True, None) for point in points)


def test_the_page_has_all_kinds() -> None:
    assert len(rows_of_the_page()) > 25


def unrelated(table: Table, picks: random.Random) -> None:
    """Make terms of the symbols of the questions, in some order."""
    symbols = [table.symbol(name) for name in picks.sample("abcdehmswxy", 11)]
    for _ in range(60):
        a, b = picks.sample(symbols, 2)
        k = picks.choice([2, 3, 4, 5, 7, 8, 10])
        picks.choice([a // k, a % k, a // b, a * b - a, (a - b) * (a + b), table.max(a, b) + k])


@pytest.mark.parametrize("seed", range(3))
def test_the_answer_does_not_depend_on_the_history(seed: int) -> None:
    picks = random.Random(seed)
    table = Table()
    unrelated(table, picks)
    for kind, question in picks.sample(ALL, len(ALL)):
        _, asked, follows = questions.split(question)
        assert ask(table, question) == [True if follows else None] * len(asked), (kind, question)


@pytest.mark.parametrize(("kind", "question"), ALL)
def test_a_question_narrows_no_range(kind: str, question: str) -> None:
    known, asked, _ = questions.split(question)
    table = Table()
    facts = Facts(table)
    for fact in known:
        facts.assume(questions.read(fact, table))
    if facts.alternatives:
        pytest.skip("a question settles a known alternative, which the facts then hold")
    conditions = [questions.read(condition, table) for condition in asked]
    symbols = [questions.read(name, table) for name in names_in(question)]

    def state() -> object:
        learned = {c for c in facts.known if c.free_symbols <= set(symbols)}
        return [facts.bounds(s) for s in symbols], learned, dict(facts.congruences)

    before = state()
    prover = Prover(facts)
    for condition in conditions:
        prover.decide(condition)
    assert state() == before, kind
