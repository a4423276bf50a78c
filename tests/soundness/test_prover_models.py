"""The prover judged by all small models: nested terms, sets, remainders, assumptions, copied stores."""

from __future__ import annotations

import contextlib
import itertools
import os
import random

from profiles import LONG, many

from symfx.algebra import Facts, Prover, Table, Term, evaluate
from symfx.algebra.reasoning.facts import UNDEFINED

FIRST = random.SystemRandom().randrange(2**40) if LONG else 0
SEED = int(os.environ.get("SYMFX_SEED", FIRST))
BOX = range(-5, 9)


class Maker:
    """Random terms and conditions over the symbols of a table."""

    def __init__(self, picks: random.Random, table: Table, symbols: list[Term]) -> None:
        self.picks, self.table, self.symbols = picks, table, symbols

    def term(self, depth: int) -> Term:
        picks, table = self.picks, self.table
        if depth == 0 or picks.random() < 0.22:
            number = table.const(picks.choice([0, 1, 2, 3, 4, 5, 7, -1, -2, 8]))
            return picks.choice(self.symbols) if picks.random() < 0.75 else number
        op = picks.choice("++--**/%%mMawkK&|^")
        a = self.term(depth - 1)
        if op == "k":
            return a * picks.choice([2, 3, -1, -2])
        if op == "K":
            return a + picks.choice([1, 2, -1, -3])
        if op == "a":
            return table.abs(a)
        b = self.term(depth - 1)
        if op in "/%" and picks.random() < 0.75:
            b = table.const(picks.choice([2, 3, 4, 5, -2, 6, 8]))
        if op == "w":
            return table.where(self.condition(0), a, b)
        make = {"+": "add", "-": "sub", "*": "mul", "/": "floordiv", "%": "mod"}
        make |= {"&": "bit_and", "|": "bit_or", "^": "bit_xor"}
        result: Term = getattr(table, make.get(op, "min" if op == "m" else "max"))(a, b)
        return result

    def condition(self, depth: int) -> Term:
        picks, table = self.picks, self.table
        way = picks.random()
        if way < 0.12 and depth:
            join = picks.choice([table.and_, table.or_])
            return join(self.condition(depth - 1), self.condition(depth - 1))
        symbol = picks.choice(self.symbols)
        if way < 0.2:
            members = picks.sample([-3, -1, 0, 1, 2, 3, 4, 6, 8], picks.choice([2, 3]))
            return table.or_(*(symbol.eq(v) for v in members))
        if way < 0.3:
            modulus = picks.choice([2, 3, 4, 6])
            return (symbol % modulus).eq(picks.randrange(modulus))
        compare = picks.choice([table.le, table.lt, table.eq, table.ne])
        number = table.const(picks.choice([0, 1, 2, -1, 4, 5]))
        return compare(self.term(depth), number if way > 0.8 else self.term(max(depth - 1, 0)))


def holds(condition: Term, point: dict[Term, int]) -> bool | None:
    try:
        return bool(evaluate(condition, point))
    except UNDEFINED:
        return None


def one_case(seed: int) -> int:
    """Learn some facts, ask questions, and return the number of answers."""
    picks = random.Random(seed)
    table = Table()
    symbols = [table.symbol(name) for name in "abc"[: picks.choice([1, 2, 2, 3])]]
    make = Maker(picks, table, symbols)
    points = [
        dict(zip(symbols, values, strict=True))
        for values in itertools.product(BOX, repeat=len(symbols))
    ]
    facts = Facts(table)
    known: list[Term] = []
    for _ in range(picks.randrange(6)):
        with contextlib.suppress(*UNDEFINED):
            said = make.condition(2)
            left = [point for point in points if holds(said, point)]
            if left:
                points = left
                known.append(said)
                facts.assume(said)
        if picks.random() < 0.15:
            facts = facts.copy()
        assert facts.contradiction is None, (seed, known)
        for symbol, by in list(facts.solved.items())[: picks.randrange(2)]:
            facts.replace(symbol, by)
    prover = Prover(facts)
    answered = 0
    for _ in range(10):
        try:
            asked = make.condition(2)
            answer, reduced = prover.decide(asked), prover.reduce(asked)
        except UNDEFINED:
            continue
        answered += answer is not None and asked.op != "const"
        for point in points:
            truth = holds(asked, point)
            if truth is not None:
                assert answer in (None, truth), (seed, known, asked, point)
                assert holds(reduced, point) is truth, (seed, known, asked, reduced, point)
    return answered


def test_answers_hold_in_every_small_model() -> None:
    count = many(40)
    answered = sum(one_case(SEED + i) for i in range(count))
    assert answered > count, "hardly anything was decided: the test would show nothing"
