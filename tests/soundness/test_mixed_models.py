"""The prover against small models of integers and doubles together: no answer is wrong.

``SYMFX_LONG=35 pytest -s tests/soundness/test_mixed_models.py`` asks a million new questions.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import random
from collections.abc import Callable
from typing import Any

from profiles import LONG, many

from symfx.algebra import Facts, Prover, Table, Term, interpret
from symfx.algebra.reasoning.facts import UNDEFINED
from symfx.algebra.terms.interpret import PYTHON_OPS

FIRST = random.SystemRandom().randrange(2**40) if LONG else 0
SEED = int(os.environ.get("SYMFX_SEED", FIRST))
INTEGERS = (*range(-4, 7), 2**53 - 1, 2**53, 2**53 + 1, -(2**53) - 1)
DOUBLES = (0.0, -0.0, 0.5, 1.0, -1.5, 2.5, 3.0, 2.0**53, -(2.0**53) - 2, math.inf, -math.inf)
DOUBLES = (*DOUBLES, math.nan)
CONSTANTS = (0, 1, 2, 3, 5, -1, -2, 2**53, 2**53 + 1, 0.5, 2.0, -1.5, 2.5, 2.0**53)


class Maker:
    """Random terms and conditions."""

    def __init__(self, picks: random.Random, table: Table, symbols: list[Term]) -> None:
        self.picks, self.table = picks, table
        self.of_sort = {
            sort: [s for s in symbols if s.sort == sort] or symbols for sort in ("int", "real")
        }

    def number(self, sort: str, depth: int) -> Term:
        picks, t = self.picks, self.table
        if depth == 0 or picks.random() < 0.25:
            if picks.random() < 0.7:
                return picks.choice(self.of_sort[sort])
            return t.const(picks.choice(CONSTANTS))
        a = self.number(sort, depth - 1)
        other = sort if picks.random() < 0.75 else ("real" if sort == "int" else "int")
        b = self.number(other, depth - 1)
        ways: list[Callable[[], Term]] = [
            *[lambda: t.add(a, b)] * 3,
            *[lambda: t.sub(a, b)] * 2,
            *[lambda: t.mul(a, b)] * 2,
            lambda: t.floordiv(a, b),
            lambda: t.mod(a, b),
            lambda: t.floordiv(a, t.const(picks.choice([2, 3, 4, -2]))),
            lambda: t.mod(a, t.const(picks.choice([2, 3, 4, 6]))),
            lambda: t.min(a, b),
            lambda: t.max(a, b),
            lambda: t.abs(a),
            lambda: t.where(self.condition(0), a, b),
            lambda: t.to_real(a),
            lambda: t.truediv(a, b),
            lambda: t.floor(a),
            lambda: t.trunc(b),
            lambda: t.bit_and(t.floor(a), t.trunc(b)),
            lambda: t.bit_xor(t.floor(a), t.const(6)),
        ]
        return picks.choice(ways)()

    def condition(self, depth: int) -> Term:
        picks, t = self.picks, self.table
        way = picks.random()
        if way < 0.15 and depth:
            parts = [self.condition(depth - 1) for _ in range(picks.choice([2, 2, 3, 4]))]
            return picks.choice([t.and_, t.or_])(*parts)
        compare = picks.choice([t.le, t.lt, t.eq, t.ne])
        left, right = picks.choice(["int", "int", "real"]), picks.choice(["int", "int", "real"])
        if way < 0.5:
            return compare(self.number(left, depth), t.const(picks.choice(CONSTANTS)))
        return compare(self.number(left, depth), self.number(right, max(depth - 1, 0)))


def _text(op: str) -> Callable[..., str]:
    return lambda *args: f"_{op}({', '.join(map(str, args))})"


def compiled(term: Term, symbols: list[Term]) -> Callable[..., Any]:
    """The term as a Python function that evaluates every part, those of "and" and "or" too."""
    ops = {op: _text(op) for op in PYTHON_OPS} | {"const": lambda v: f"({v!r})"}
    for op, sign in {"add": "+", "mul": "*", "floordiv": "//", "mod": "%"}.items():
        ops[op] = lambda *args, sign=sign: "(" + f" {sign} ".join(args) + ")"
    body = interpret(term, lambda symbol: symbol.name, ops)
    scope = {f"_{op}": function for op, function in PYTHON_OPS.items()}
    scope |= {"inf": math.inf, "nan": math.nan}
    return eval(f"lambda {', '.join(s.name for s in symbols)}: {body}", scope)  # type: ignore[no-any-return]


def holds(condition: Callable[..., Any], point: tuple[Any, ...]) -> bool | None:
    try:
        return bool(condition(*point))
    except UNDEFINED:
        return None


def one_case(seed: int, asked: int = 12) -> tuple[int, int]:
    """Learns some facts and asks; the number of questions, and of answers among them."""
    picks = random.Random(seed)
    table = Table()
    symbols = [table.symbol("x")]
    if picks.random() < 0.6:
        symbols.append(table.symbol("y"))
    if picks.random() < 0.6:
        symbols.append(table.symbol("r", "real"))
    make = Maker(picks, table, symbols)
    values = [INTEGERS if s.sort == "int" else DOUBLES for s in symbols]
    points = list(itertools.product(*values))
    if len(points) > 700:
        points = picks.sample(points, 700)
    facts = Facts(table)
    known: list[Term] = []
    for _ in range(picks.randrange(5)):
        with contextlib.suppress(*UNDEFINED):
            said = make.condition(2)
            run = compiled(said, symbols)
            left = [point for point in points if holds(run, point)]
            if left:
                points = left
                known.append(said)
                facts.assume(said)
        assert facts.contradiction is None, (seed, [str(k) for k in known])
    prover = Prover(facts)
    answered = 0
    for _ in range(asked):
        try:
            condition = make.condition(2)
            answer = prover.decide(condition)
        except UNDEFINED:
            continue
        if answer is None:
            continue
        answered += condition.op != "const"
        run = compiled(condition, symbols)
        for point in points:
            truth = holds(run, point)
            story = (seed, [str(k) for k in known], str(condition), point, answer)
            assert truth is None or truth is answer, story
    return asked, answered


def test_no_answer_is_wrong() -> None:
    counts = [one_case(SEED + i) for i in range(many(60))]
    asked, answered = (sum(column) for column in zip(*counts, strict=True))
    print(f"{asked:,} questions, of which {answered:,} were answered, from seed {SEED} on")
    assert answered > asked / 15, "hardly anything was decided: the test would show nothing"


def test_the_judge_knows_python() -> None:
    table = Table()
    x, r = table.symbol("x"), table.symbol("r", "real")
    term = table.or_(x < r, (x // 2).eq(3))
    assert holds(compiled(term, [x, r]), (6, -1.0)) is True
    assert holds(compiled((7 // x).eq(3), [x]), (0,)) is None
