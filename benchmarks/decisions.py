"""The questions about sizes that symfx and JAX settle: ``python -m benchmarks.decisions``.

Each question is a comparison of two expressions of sizes, beside some constraints; sizes are at
least 1, as JAX has them. Models of sizes up to 101 judge the answers. Questions whose truth differs
between models have no answer, and are asked too: neither engine may give one.
"""

from __future__ import annotations

import functools
import itertools
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from types import CodeType
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table as Grid

from symfx.algebra import Facts, Prover, Table

__all__ = ["Question", "compare", "random_question"]

NAMES = "abc"
SIZES = (*range(1, 11), 16, 25, 64, 101)
POINTS = [dict(zip(NAMES, at, strict=True)) for at in itertools.product(SIZES, repeat=3)]
# The engines' own names of operations, of which Python has no operator for all.
_CALLS = {"max": max, "min": min}


@dataclass(frozen=True)
class Question:
    """A comparison of sizes beside constraints, all as Python, and its truth in small models."""

    constraints: tuple[str, ...]
    asked: str
    truth: bool | None


def random_question(picks: random.Random) -> Question:
    """A random question whose constraints some small model satisfies."""
    while True:
        constraints = tuple(_constraint(picks) for _ in range(picks.randrange(4)))
        points = [point for point in POINTS if all(_value(c, point) for c in constraints)]
        if len(points) > 20:
            break
    picked = picks.sample(points, min(len(points), 400))
    sign = picks.choice([">=", "==", "<", ">", "<="])
    asked = f"{_expression(picks, 2)} {sign} {_expression(picks, 2)}"
    truths = {bool(_value(asked, point)) for point in picked}
    if len(truths) == 1:
        truths = {bool(_value(asked, point)) for point in points}
    return Question(constraints, asked, truths.pop() if len(truths) == 1 else None)


def _constraint(picks: random.Random) -> str:
    a, b = picks.sample(NAMES, 2)
    k = picks.choice([2, 3, 4, 8])
    ways = (f"{a} >= {b}", f"{a} <= {k + 4}", f"{a} >= {k}", f"{a} % {k} == 0", f"{a} >= {b} + {k}")
    return picks.choice((*ways, f"{a} + {b} >= {k}", f"{a} <= 2*{b}"))


def _expression(picks: random.Random, depth: int) -> str:
    if not depth or picks.random() < 0.2:
        return str(picks.choice([*NAMES, *NAMES, "1", "2", "4"]))
    left, right = _expression(picks, depth - 1), _expression(picks, depth - 1)
    k = picks.choice([2, 3, 4])
    sums = [f"({left} + {right})", f"({left} - {right})", f"{k}*({left})"]
    divided = [f"({left})//{k}", f"({left}) % {k}", f"({left})//{picks.choice(NAMES)}"]
    others = [f"({left})*({right})", f"max({left}, {right})", f"min({left}, 4)"]
    return str(picks.choice([*sums, *sums, *divided, *others]))


def _value(source: str, point: dict[str, Any]) -> Any:
    return eval(_code(source), {"__builtins__": {}, **_CALLS}, point)


@functools.cache
def _code(source: str) -> CodeType:
    return compile(source, "<question>", "eval")


def _ask_symfx(question: Question) -> bool | None:
    table = Table()
    symbols: dict[str, Any] = {name: table.symbol(name) for name in NAMES}
    extrema = {
        name: lambda a, b, make=make: make(_term(table, a), _term(table, b))
        for name, make in (("min", table.min), ("max", table.max))
    }

    def read(source: str) -> Any:
        # Python's == compares terms by identity: an equation is an equality of its sides.
        left, equals, right = source.partition(" == ")
        scope = {"__builtins__": {}, **extrema}
        if not equals:
            return _term(table, eval(source, scope, symbols))
        return table.eq(*(_term(table, eval(side, scope, symbols)) for side in (left, right)))

    facts = Facts(table)
    for symbol in symbols.values():
        facts.assume(symbol >= 1)
    for constraint in question.constraints:
        facts.assume(read(constraint))
    return Prover(facts).decide(read(question.asked))


def _term(table: Table, value: Any) -> Any:
    return table.const(value) if isinstance(value, (int, bool)) else value


def _ask_jax(question: Question) -> bool | None:
    from jax import core, errors, export

    constraints = tuple(_as_mod(c) for c in question.constraints)
    symbols = dict(
        zip(NAMES, export.symbolic_shape(",".join(NAMES), constraints=constraints), strict=True)
    )
    scope = {"__builtins__": {}, "max": core.max_dim, "min": core.min_dim}
    try:
        answer = bool(eval(question.asked, scope, symbols))
    except errors.InconclusiveDimensionOperation:
        return None
    # JAX takes sizes as different where it cannot tell: its False to an equation says nothing.
    return None if not answer and " == " in question.asked else answer


def _as_mod(constraint: str) -> str:
    """JAX writes a remainder as a call."""
    left, percent, right = constraint.partition(" % ")
    if not percent:
        return constraint
    modulus, _, rest = right.partition(" ")
    return f"mod({left}, {modulus}) {rest}"


def compare(count: int, seed: int) -> dict[str, Counter[str]]:
    """Ask both engines the same questions; for each, how many it settled, and how."""
    picks = random.Random(seed)
    engines: dict[str, Callable[[Question], bool | None]] = {"symfx": _ask_symfx, "jax": _ask_jax}
    found: dict[str, Counter[str]] = {name: Counter() for name in engines}
    for _ in range(count):
        question = random_question(picks)
        answers = {}
        for name, ask in engines.items():
            start = time.process_time()
            answers[name] = answer = ask(question)
            tally = found[name]
            tally["microseconds"] += round(1e6 * (time.process_time() - start))
            tally["asked"] += question.truth is not None
            tally["settled"] += answer is not None and answer is question.truth
            tally["wrong"] += answer is not None and answer is not question.truth
        if answers["jax"] is not None and answers["symfx"] is None:
            found["symfx"]["settled by the other alone"] += 1
        if answers["symfx"] is not None and answers["jax"] is None:
            found["jax"]["settled by the other alone"] += 1
    return found


def main(
    count: Annotated[int, typer.Option(help="The number of questions.")] = 600,
    seed: Annotated[int, typer.Option(help="The seed of the random questions.")] = 0,
) -> None:
    """Ask symfx and JAX the same random questions about sizes."""
    found = compare(count, seed)
    grid = Grid("", "have an answer", "settled", "wrong", "settled by the other alone", "ms in all")
    for name, tally in found.items():
        grid.add_row(
            name,
            *(str(tally[k]) for k in ("asked", "settled", "wrong", "settled by the other alone")),
            f"{tally['microseconds'] / 1000:.0f}",
        )
    Console().print(grid)
    if any(tally["wrong"] for tally in found.values()):
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
