"""Each rewrite rule is proved twice: by Python over a grid, and by z3 for all integers."""

from __future__ import annotations

import ast
import math

import programs
import pytest
import rules
import z3
from profiles import LONG
from rules import Rule

from symfx.algebra import Table

INTS = range(-7, 8)
DOUBLES = (0.0, -0.0, 1.0, -1.5, 2.5, 1e300, -1e300, math.inf, -math.inf, math.nan)
GRID = {
    **{name: tuple(INTS) for name in "xyz"},
    **dict.fromkeys("pq", (False, True)),
    **dict.fromkeys("rs", DOUBLES),
}
SORTS = {
    **dict.fromkeys("xyz", "int"),
    **dict.fromkeys("pq", "bool"),
    **dict.fromkeys("rs", "real"),
}


def names_in(*sources: str) -> list[str]:
    nodes = [n for s in sources for n in ast.walk(ast.parse(s))]
    return sorted({n.id for n in nodes if isinstance(n, ast.Name) and n.id in GRID})


@pytest.mark.parametrize("rule", rules.ALL, ids=str)
def test_holds_on_the_grid(rule: Rule) -> None:
    for left, right in rule.instances():
        tried = 0
        for point in programs.points({n: GRID[n] for n in names_in(left, right)}):
            try:
                expected = programs.run(left, point)
            except programs.UndefinedError:
                continue
            tried += 1
            assert programs.same(programs.run(right, point), expected), (left, right, point)
        assert tried or "{c}" in rule.left, f"{left} is defined nowhere"


@pytest.mark.parametrize("rule", rules.BY_Z3, ids=str)
def test_holds_for_all_integers(rule: Rule) -> None:
    instances = list(rule.instances())
    if not LONG:
        # An even choice with both ends, because z3 is slow.
        instances = instances[:: max(1, len(instances) // (3 if rule in NONLINEAR else 12))]
    for left, right in instances:
        of = {n: z3.Bool(n) if n in "pq" else z3.Int(n) for n in names_in(left, right)}
        lhs, rhs = programs.Z3Program(of), programs.Z3Program(of)
        a, b = lhs.read(_without_powers(left)), rhs.read(_without_powers(right))
        if not (z3.is_bool(a) and z3.is_bool(b)):
            a, b = programs.as_int(a), programs.as_int(b)
        solver = z3.Solver()
        # z3 gets enough time on a busy machine if it has to find a proof.
        solver.set("timeout", 1_000 if rule in NONLINEAR and not LONG else 20_000)
        solver.add(*lhs.defined, z3.Or(a != b, *(z3.Not(d) for d in rhs.defined)))
        verdict = solver.check()
        assert verdict != z3.sat, (left, right, solver.model())
        if verdict == z3.unknown:
            assert rule in NONLINEAR, f"z3 gave up on {left} = {right}"


# z3's arithmetic is incomplete for products and quotients of symbols: if z3 gives up, the grid
# alone judges these rules.
NONLINEAR = [
    r
    for r in (*rules.DIVISIONS, *rules.REMAINDERS, *rules.FORMS)
    if "y" in r.right or "y" in r.left
]


def _without_powers(source: str) -> str:
    """The program with symbolic exponents, which z3 lacks, written out for 0..5."""
    for power in ("1 ** abs(x)", "0 << abs(x)", "0 >> abs(x)", "-1 >> abs(x)"):
        choice = power.replace("abs(x)", "5")
        for k in range(5):
            choice = f"where(abs(x) == {k}, {power.replace('abs(x)', str(k))}, {choice})"
        source = source.replace(power, choice)
    return source


@pytest.mark.parametrize("rule", rules.REWRITES, ids=str)
def test_the_algebra_rewrites_as_the_rule_says(rule: Rule) -> None:
    table = Table()
    names = {n: table.symbol(n, SORTS[n]) for n in "xyzpqrs"}  # type: ignore[arg-type]
    for left, right in rule.instances():
        try:
            made = programs.build(left, table, names)
        except ZeroDivisionError:
            assert rule.consts, left
            continue
        assert made is programs.build(right, table, names), (left, right, made)


def test_doubles_by_z3() -> None:
    r, s = z3.FP("r", z3.Float64()), z3.FP("s", z3.Float64())
    mode = z3.RNE()
    for a, b in [
        (z3.fpAdd(mode, r, s), z3.fpAdd(mode, s, r)),
        (z3.fpSub(mode, r, s), z3.fpAdd(mode, r, z3.fpNeg(s))),
        (z3.fpNeg(z3.fpNeg(r)), r),
        (z3.fpAbs(z3.fpAbs(r)), z3.fpAbs(r)),
    ]:
        solver = z3.Solver()
        solver.add(a != b)
        assert solver.check() == z3.unsat
