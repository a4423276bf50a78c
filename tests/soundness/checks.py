"""Properties of every program, as functions that raise AssertionError."""

from __future__ import annotations

import ast
import math
import os
import random
from collections.abc import Callable
from typing import Any

import programs
import sympy

from symfx.algebra import Table, Term, evaluate, substitute, to_python
from symfx.algebra.languages.sympy import SympyReader, to_sympy

COUNT = 8
"""The number of points that a program is run at."""


def choose_by(picks: random.Random) -> Callable[[int], int]:
    """A chooser for `programs.random_program`."""
    return lambda n: picks.randrange(n)


def in_bulk(check: Callable[[str, int], None], count: int, depth: int, sorts: str = "IBR") -> None:
    """Run `check` on many random programs, and on new ones at each long run.

    The error about a failing program names its smallest part that fails too. Plain random choices,
    unlike hypothesis's, do not prefer small programs.
    """
    seed = random.SystemRandom().randrange(2**32) if os.environ.get("SYMFX_LONG") else 0
    picks = random.Random(seed)
    for number in range(count):
        sort = sorts[picks.randrange(len(sorts))]
        source = programs.random_program(choose_by(picks), sort, depth)
        try:
            check(source, number)
        except Exception as error:
            raise AssertionError(
                f"{_smallest(source, check, number)!r} fails, a part of {source!r} "
                f"(program {number} of seed {seed})"
            ) from error


def _smallest(source: str, check: Callable[[str, int], None], seed: int) -> str:
    parts = {ast.unparse(n) for n in ast.walk(ast.parse(source)) if isinstance(n, ast.expr)}
    for part in sorted(parts, key=len):
        if part in programs.FUNCTIONS:
            continue
        try:
            check(part, seed)
        except Exception:  # noqa: BLE001
            return part
    return source


def built(source: str, table: Table) -> Term | None:
    """The program's term; None if making it raises, and then every run must raise too."""
    try:
        return programs.build(source, table, programs.symbols(table))
    except (ZeroDivisionError, ValueError, OverflowError):
        assert not values(source, 0), f"{source} cannot be built, but has values"
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
    """A point in the form that `evaluate` takes."""
    return {table.symbol(n, programs.SORTS[n]): v for n, v in point.items()}


def value_and_text(source: str, seed: int) -> None:
    """The term and its text compute the values of the program."""
    table = Table()
    term = built(source, table)
    if term is None:
        return
    text = to_python(term)
    for point, expected in values(source, seed):
        assert programs.same(evaluate(term, at(table, point)), expected), (point, text)
        assert programs.same(eval(text, {"math": math, **point}), expected), (point, text)


def substitution(source: str, replacement: str, seed: int) -> None:
    """Replacing x in the term gives the value of the program at the replaced x."""
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


# -- sympy -------------------------------------------------------------------------------------------


def reader_of(table: Table, positive: bool) -> SympyReader:
    """A reader of the random programs' symbols, on request with assumptions on two of them."""
    symbols = programs.symbols(table)
    if positive:
        symbols["x"].sympy = sympy.Symbol("x", integer=True, positive=True)
        symbols["y"].sympy = sympy.Symbol("y", integer=True, nonnegative=True)
    return SympyReader(table, {to_sympy(s): s for s in symbols.values()})


def _within(point: dict[str, Any], positive: bool) -> dict[str, Any]:
    """The point, moved to where the assumptions hold and sympy has all numbers."""
    moved = {
        n: 1.25 if isinstance(v, float) and not math.isfinite(v) else v for n, v in point.items()
    }
    if positive:
        moved |= {"x": abs(moved["x"]) + 1, "y": abs(moved["y"])}
    return moved


def _number(value: sympy.Basic) -> Any:
    if value in (sympy.true, sympy.false):
        return bool(value)
    assert value.is_Number, value
    return int(value) if value.is_Integer else float(value)


def sympy_and_back(source: str, seed: int) -> None:
    """The term's sympy has its value, and reads back as the term or an equal one."""
    table = Table()
    positive = bool(seed % 2)
    reader = reader_of(table, positive)
    term = built(source, table)
    if term is None:
        return
    view = to_sympy(term)
    try:
        back = term if _infinite(term) else reader.read(view)
    except ZeroDivisionError:
        # If both branches of a divisor are zeros of different signs, sympy sees one zero.
        assert not values(source, seed), source
        return
    assert back.sort == term.sort
    for point in programs.sample_points(seed, COUNT):
        point = _within(point, positive)
        try:
            expected = programs.run(source, point)
        except programs.UndefinedError:
            continue
        where = at(table, point)
        if back is not term:
            # sympy has only one zero: -0.0 comes back as 0.0.
            assert evaluate(back, where) == expected, (point, str(back))
        if _finite_throughout(term, where):
            shown = {to_sympy(s): sympy.sympify(point[s.name]) for s in term.free_symbols}
            assert _number(view.xreplace(shown)) == expected, (point, view)


def _infinite(term: Term) -> bool:
    return any(
        t.sort == "real" and t.op == "const" and not math.isfinite(t.args[0])
        for t in parts_of(term)
    )


def _finite_throughout(term: Term, where: dict[Term, Any]) -> bool:
    """Whether sympy's numbers are those of the machine in every part of a term.

    Such numbers are finite doubles that are not subnormal, and integers that torch's PowByNatural
    does not call infinite.
    """
    memo: dict[Term, Any] = {}
    evaluate(term, where, memo)
    return all(
        math.isfinite(v) and (v == 0 or abs(v) > 1e-300)
        if isinstance(v, float)
        else v.bit_length() < 62
        for v in memo.values()
    )


def parts_of(term: Term) -> set[Term]:
    """All terms in a term."""
    found: set[Term] = set()
    stack = [term]
    while stack:
        top = stack.pop()
        if top not in found:
            found.add(top)
            stack.extend(top.operands)
    return found
