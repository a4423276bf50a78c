"""Random programs: the term, its text and its sympy have the value that Python computes."""

from __future__ import annotations

from typing import Any

import checks
import programs
from hypothesis import given
from hypothesis import strategies as st
from profiles import examples, many

from symfx.algebra import Table


@st.composite
def program(draw: Any, sorts: str = "IBR", depth: int = 3, exclude: str = "") -> str:
    def choose(n: int) -> int:
        return draw(st.integers(0, n - 1))

    sort = sorts[choose(len(sorts))]
    return programs.random_program(choose, sort, depth, exclude=frozenset(exclude))


def test_value_and_text_in_bulk() -> None:
    checks.in_bulk(checks.value_and_text, many(4000), depth=4)


def test_value_and_text_of_large_programs() -> None:
    checks.in_bulk(checks.value_and_text, many(300), depth=6)


def test_sympy_and_back_in_bulk() -> None:
    checks.in_bulk(checks.sympy_and_back, many(1200), depth=3)


def test_sympy_and_back_of_large_programs() -> None:
    checks.in_bulk(checks.sympy_and_back, many(100), depth=5)


# hypothesis shrinks failing programs, and prefers small and unusual ones.


@examples(500)
@given(program(depth=4), st.integers(0, 1000))
def test_value_and_text(source: str, seed: int) -> None:
    checks.value_and_text(source, seed)


@examples(200)
@given(program(depth=3), st.integers(0, 1000))
def test_sympy_and_back(source: str, seed: int) -> None:
    checks.sympy_and_back(source, seed)


@examples(400)
@given(program(depth=3), program("I", depth=2, exclude="R"), st.integers(0, 1000))
def test_substitution(source: str, replacement: str, seed: int) -> None:
    checks.substitution(source, replacement, seed)


@st.composite
def polynomial(draw: Any, depth: int = 3) -> str:
    def make(depth: int) -> str:
        way = draw(st.integers(0, 5)) if depth else 0
        if way == 0:
            return draw(st.sampled_from(["x", "y", "1", "-1", "2", "x - y", "x*y"]))
        op = "++-*+-"[way]
        return f"({make(depth - 1)}) {op} ({make(depth - 1)})"

    return make(depth)


@examples(500)
@given(polynomial(), polynomial())
def test_polynomials_have_one_form(left: str, right: str) -> None:
    table = Table()
    names = programs.symbols(table)
    a, b = programs.build(left, table, names), programs.build(right, table, names)
    # The values on an (n+1)x(n+1) square determine a polynomial of degree n in two symbols.
    size = 1 + max((len(m.factors) for t in (a, b) for m in t.coeffs), default=0)
    grid = programs.points({"x": range(size), "y": range(size)})
    equal = all(programs.run(left, point) == programs.run(right, point) for point in grid)
    assert (a is b) == equal
    # The difference must give the same answer, and so must a detour.
    assert (table.sub(a, b) is table.zero) == equal
    detour = table.sub(table.mul(table.add(a, names["z"]), b), table.mul(names["z"], b))
    assert detour is table.mul(a, b)
