"""Elimination against all small solutions: a contradiction has none, a bound excludes none."""

from __future__ import annotations

import itertools
import random

from profiles import LONG, many

from symfx.algebra import Table
from symfx.algebra.reasoning.elimination import System
from symfx.algebra.reasoning.factors import factors_of

FIRST = random.SystemRandom().randrange(2**40) if LONG else 0


def test_no_solution_is_lost() -> None:
    contradictions = bounds = 0
    for seed in range(FIRST, FIRST + many(250)):
        picks = random.Random(seed)
        names = "abc"[: picks.choice([2, 3])]

        def row(largest: int, picks: random.Random = picks, names: str = names) -> object:
            return {u: picks.randint(-3, 3) for u in names}, picks.randint(-largest, largest)

        equations = [row(5) for _ in range(picks.choice([0, 0, 1, 2]))]
        inequalities = [row(6) for _ in range(picks.randint(1, 6))]
        solutions = [
            point
            for point in itertools.product(range(-5, 6), repeat=len(names))
            if all(_sum(r, names, point) == 0 for r in equations)
            and all(_sum(r, names, point) >= 0 for r in inequalities)
        ]
        solvable = System(equations, inequalities).has_solution()
        assert solvable or not solutions, (seed, equations, inequalities)
        contradictions += not solvable
        least = System(equations, inequalities, kept=frozenset("a")).least("a")
        bounds += least is not None
        assert least is None or all(p[0] >= least for p in solutions), (seed, least)
    assert contradictions > 20 and bounds > 20, "the test would show nothing"


def _sum(row: object, names: str, point: tuple[int, ...]) -> int:
    coeffs, const = row  # type: ignore[misc]
    return const + sum(coeffs[u] * v for u, v in zip(names, point, strict=True))


def test_rounding_finds_what_fractions_would_not() -> None:
    assert not System([({"a": 2, "b": -4}, 1)]).has_solution()
    assert not System([], [({"a": 3}, -1), ({"a": -3}, 2)]).has_solution()
    assert System([], [({"a": 3}, -1), ({"a": -3}, 3)]).has_solution()


def test_factors_multiply_to_the_sum() -> None:
    t = Table()
    a, b, c = map(t.symbol, "abc")
    for p, parts in (
        (a * a - b * b, 2),
        (4 * a * a * c - 9 * b * b * c, 3),
        (2 * a * a - 8, 2),
        (a * b + a * c, 2),
        (a * a * b - 4 * b, 3),
        (a * a + b * b, 1),
        (a * a - 2, 1),
        (9 - a * a * b * b, 2),
    ):
        factors = factors_of(p)
        assert len(factors) == parts, (p, factors)
        product = t.one
        for factor in factors:
            product = product * factor
        # As far as the sign and the zeros go: a common divisor may be left out.
        scale = max(abs(k) for k in (*p.coeffs.values(), p.const)) // max(
            abs(k) for k in (*product.coeffs.values(), product.const)
        )
        assert scale * product is p
