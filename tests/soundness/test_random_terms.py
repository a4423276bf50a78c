"""Random programs: what their terms compute and print is what Python computes."""

from __future__ import annotations

import math
from typing import Any

import programs
from conftest import examples
from hypothesis import given
from hypothesis import strategies as st

from symfx.algebra import Table, Term, evaluate, substitute, to_python

COUNT = 8


@st.composite
def program(draw: Any, sorts: str = "IBR", depth: int = 3, exclude: str = "") -> str:
    def choose(n: int) -> int:
        return draw(st.integers(0, n - 1))

    sort = sorts[choose(len(sorts))]
    return programs.random_program(choose, sort, depth, exclude=frozenset(exclude))


def built(source: str, table: Table) -> Term | None:
    """The program's term; None where making it raises, and so must every run of it."""
    try:
        return programs.build(source, table, programs.symbols(table))
    except (ZeroDivisionError, ValueError, OverflowError):
        for point in programs.sample_points(0, COUNT):
            try:
                value = programs.run(source, point)
            except programs.UndefinedError:
                continue
            raise AssertionError(f"{source} cannot be built, but is {value} at {point}") from None
        return None


def values(source: str, seed: int) -> list[tuple[dict[str, Any], Any]]:
    """Points at which the program is defined, with Python's value there."""
    found = []
    for point in programs.sample_points(seed, COUNT):
        try:
            found.append((point, programs.run(source, point)))
        except programs.UndefinedError:
            continue
    return found


def at(table: Table, point: dict[str, Any]) -> dict[Term, Any]:
    return {table.symbol(n, programs.SORTS[n]): v for n, v in point.items()}


@examples(2500)
@given(program(depth=4), st.integers(0, 1000))
def test_value_and_text(source: str, seed: int) -> None:
    table = Table()
    term = built(source, table)
    if term is None:
        return
    text = to_python(term)
    for point, expected in values(source, seed):
        assert programs.same(evaluate(term, at(table, point)), expected), (point, text)
        scope = {"math": math, **point}
        assert programs.same(eval(text, scope), expected), (point, text)


@examples(400)
@given(program(depth=3), program("I", depth=2, exclude="R"), st.integers(0, 1000))
def test_substitution(source: str, replacement: str, seed: int) -> None:
    table = Table()
    term, by = built(source, table), built(replacement, table)
    if term is None or by is None:
        return
    x = table.symbol("x")
    for point in programs.sample_points(seed, COUNT):
        try:
            inner = programs.run(replacement, point)
            expected = programs.run(source, {**point, "x": int(inner)})
        except programs.UndefinedError:
            continue
        replaced = substitute(term, {x: by})
        assert programs.same(evaluate(replaced, at(table, point)), expected), (point, replaced)


@st.composite
def polynomial(draw: Any, depth: int = 3) -> str:
    """Of degree 3 at most in each symbol, or larger by chance (the grid has the last word)."""

    def make(depth: int) -> str:
        way = draw(st.integers(0, 5)) if depth else 0
        if way == 0:
            return draw(st.sampled_from(["x", "y", "1", "-1", "2", "x - y", "x*y"]))
        op = "++-*+-"[way]
        return f"({make(depth - 1)}) {op} ({make(depth - 1)})"

    return make(depth)


@examples(600)
@given(polynomial(), polynomial())
def test_polynomials_have_one_form(left: str, right: str) -> None:
    table = Table()
    names = programs.symbols(table)
    a, b = programs.build(left, table, names), programs.build(right, table, names)
    # A polynomial of degree n in each of two symbols is known by its values on an n+1 square.
    size = 1 + max((len(m.factors) for t in (a, b) for m in t.coeffs), default=0)
    grid = programs.points({"x": range(size), "y": range(size)})
    equal = all(programs.run(left, point) == programs.run(right, point) for point in grid)
    assert (a is b) == equal
    # The difference tells the same in another way, and so does a detour.
    assert (table.sub(a, b) is table.zero) == equal
    detour = table.sub(table.mul(table.add(a, names["z"]), b), table.mul(names["z"], b))
    assert detour is table.mul(a, b)
