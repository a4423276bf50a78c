"""A random program's term printed as C and as SMT-LIB has the value that Python computes."""

from __future__ import annotations

import ctypes
import math
import random
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import checks
import programs
import pytest
import z3
from hypothesis import given
from hypothesis import strategies as st
from profiles import examples, many

from symfx.algebra import Table, Term, evaluate, to_python
from symfx.algebra.languages.c import C_SUPPORT, C_TYPES, c_function, to_c
from symfx.algebra.languages.smtlib import smtlib_script, to_smtlib
from symfx.algebra.terms.definedness import definedness
from symfx.algebra.terms.sharing import plan
from symfx.algebra.terms.term import postorder
from symfx.errors import ExpressionError

COMPILER = shutil.which("gcc") or shutil.which("cc")
RESULT = {"int": ctypes.c_int64, "real": ctypes.c_double, "bool": ctypes.c_bool}


def random_sources(count: int, seed: int, exclude: frozenset[str] = frozenset()) -> list[str]:
    picks = random.Random(seed)
    choose = checks.choose_by(picks)
    return [
        programs.random_program(choose, "IBR"[picks.randrange(3)], 3, exclude=exclude)
        for _ in range(count)
    ]


POINT = [RESULT[sort] for sort in programs.SORTS.values()]


def compiled(text: str, directory: Path) -> Any:
    """A loaded library, compiled from the C text."""
    (directory / "programs.c").write_text(text)
    flags = ["-O0", "-ffp-contract=off", "-shared", "-fPIC", "-Wall", "-Werror=parentheses"]
    done = subprocess.run(
        [str(COMPILER), *flags, "-Wno-unused", "-o", "programs.so", "programs.c", "-lm"],
        cwd=directory,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return ctypes.CDLL(str(directory / "programs.so"))


def integers_in(term: Term) -> Iterator[int]:
    """The integers that occur in a term."""
    for part in postorder(term, lambda t: True):
        if part.sort == "int":
            yield part.const
            yield from part.coeffs.values()


@pytest.mark.skipif(COMPILER is None, reason="no C compiler on this machine")
def test_c_computes_what_python_computes(tmp_path: Path) -> None:
    """Many programs in one library; a result that needs more than 64 bits is refused."""
    symbols = ", ".join(
        [f"int64_t {n}" for n in programs.INTS]
        + [f"bool {n}" for n in programs.BOOLS]
        + [f"double {n}" for n in programs.REALS]
    )
    unused = " ".join(f"(void){n};" for n in programs.SORTS)
    text = [C_SUPPORT]
    terms: dict[str, Term] = {}
    for source in random_sources(many(600), 1):
        table = Table()
        term = checks.built(source, table)
        if term is None or source in terms:
            continue
        try:
            value = to_c(term)
        except ExpressionError:  # a constant that C has no type for
            assert any(abs(number) >= 2**127 for number in integers_in(term)), source
            continue
        name, kind = f"f{len(terms)}", C_TYPES[term.sort]
        outer = "int64_t" if term.sort == "int" else kind
        terms[source] = term
        text.append(
            f"bool {name}({symbols}, {outer} *out) {{ {unused} bool bad = false;\n"
            f"  {kind} value = {value};\n  *out = ({outer})value;\n  return !bad && *out == value;\n}}\n"
            if term.sort != "real"
            else f"bool {name}({symbols}, double *out) {{ {unused} bool bad = false;\n"
            f"  *out = {value};\n  return !bad;\n}}\n"
        )
    library = compiled("\n".join(text), tmp_path)
    compared = refused = 0
    for i, (source, term) in enumerate(terms.items()):
        function = library[f"f{i}"]
        function.restype = ctypes.c_bool
        out = RESULT[term.sort]()
        function.argtypes = [*POINT, ctypes.POINTER(RESULT[term.sort])]
        for point, expected in checks.values(source, i):
            good = function(*(point[n] for n in programs.SORTS), ctypes.byref(out))
            if good:
                compared += 1
                assert programs.same(out.value, expected), (source, str(term), point, out.value)
            else:
                # Python computes the value, so only the size of the numbers excuses a refusal.
                refused += 1
                assert _large(term, point), (source, str(term), to_c(term), point)
    assert compared > 10 * refused > 0


def _large(term: Term, point: dict[str, Any]) -> bool:
    memo: dict[Term, Any] = {}
    try:
        evaluate(term, checks.at(term.table, point), memo)
    except OverflowError:
        return True
    return any(abs(v) >= 2**62 for v in memo.values() if not isinstance(v, float) or v == v)


# -- many conditions in one program ---------------------------------------------------------------


def bundles(count: int) -> list[tuple[Table, list[str], list[Term]]]:
    """Programs that have parts in common, each bundle in one table."""
    choose = checks.choose_by(random.Random(7))
    found = []
    while len(found) < count:
        table = Table()
        parts = [programs.random_program(choose, "I", 2) for _ in range(2)]
        sources: list[str] = []
        for _ in range(4):
            a, b = parts[choose(2)], programs.random_program(choose, "I", 2)
            sources += [
                f"({a}) >= ({b})",
                f"({a}) % 3 == 1",
                f"(({a}) != {choose(4)}) | (({a}) < ({b}))",
            ]
        terms = [checks.built(source, table) for source in sources]
        if all(term is not None for term in terms):
            found.append((table, sources, [t for t in terms if t is not None]))
    return found


def verdicts(sources: list[str], seed: int) -> list[tuple[dict[str, Any], bool]]:
    """Points at which all programs are defined, and whether all of them hold there."""
    found = []
    for point in programs.sample_points(seed, checks.COUNT):
        try:
            values = [programs.run(source, point) for source in sources]  # all programs are defined
            found.append((point, all(values)))
        except programs.UndefinedError:
            continue
    return found


def test_shared_parts_in_python() -> None:
    shared = compared = 0
    for number, (_, sources, terms) in enumerate(bundles(many(60))):
        names: dict[Term, str] = {}
        lines = []
        for step in plan(terms):
            text = to_python(step.term, names)
            if step.name is None:
                lines.append(f"    if not ({text}): return False")
            else:
                shared += 1
                names[step.term] = step.name
                lines.append(f"    {step.name} = {text}")
        scope: dict[str, Any] = {"math": math}
        exec(
            "\n".join([f"def check({', '.join(programs.SORTS)}):", *lines, "    return True"]),
            scope,
        )
        for point, expected in verdicts(sources, number):
            compared += 1
            assert scope["check"](**point) is expected, (sources, lines, point)
    assert shared > many(60) and compared > many(60)


@pytest.mark.skipif(COMPILER is None, reason="no C compiler on this machine")
def test_shared_parts_in_c(tmp_path: Path) -> None:
    kinds = {"int": "int64_t", "bool": "bool", "real": "double"}
    parameters = [(kinds[sort], name) for name, sort in programs.SORTS.items()]
    made = bundles(many(40))
    text = [C_SUPPORT]
    for number, (_, _, terms) in enumerate(made):
        text.append(c_function(f"f{number}", parameters, plan(terms), {}))
    library = compiled("\n".join(text), tmp_path)
    held = 0
    for number, (_, sources, terms) in enumerate(made):
        function = library[f"f{number}"]
        function.restype = ctypes.c_bool
        function.argtypes = POINT
        for point, expected in verdicts(sources, number):
            answer = function(*(point[n] for n in programs.SORTS))
            held += answer
            if answer is not expected:
                assert expected and any(_large(t, point) for t in terms), (sources, point)
    assert held > 3


# -- SMT-LIB ----------------------------------------------------------------------------------------

# Functions of the C library, and powers of doubles, mean nothing to a solver.
UNINTERPRETED = frozenset({"fpow", *programs.MATH}) - {"sqrt"}


def smtlib_agrees(source: str, seed: int) -> int:
    """The number of points at which z3 found that the text has Python's value; it must never refute it."""
    table = Table()
    term = checks.built(source, table)
    if term is None or any(t.op in UNINTERPRETED for t in checks.parts_of(term)):
        return 0
    result = table.symbol("result", term.sort)
    # `id` compares real results as z3 values: 0.0 differs from -0.0, and NaN equals itself.
    wrapped = table.call("id", term.sort, term)
    claim = table.eq(wrapped, result) if term.sort != "bool" else table.or_(wrapped, result)
    script = smtlib_script([claim], defined=False)
    lines = script.splitlines()
    (last,) = [line for line in lines if "(id " in line and "declare" not in line]
    head = "\n".join(line for line in lines if line is not last)
    text = _argument(last)
    compared = 0
    for point, expected in checks.values(source, seed):
        if isinstance(expected, int) and expected.bit_length() > 64:
            continue
        fixed = [
            f"(assert (= {s.name} {to_smtlib(table.const(point[s.name]))}))"
            for s in term.free_symbols
        ]
        value = to_smtlib(table.const(float(expected) if term.sort == "real" else expected))
        context = z3.Context()
        solver = z3.Solver(ctx=context)
        solver.set("timeout", 2000)
        solver.from_string("\n".join([head, *fixed, f"(assert (not (= {text} {value})))"]))
        verdict = solver.check()
        assert verdict != z3.sat, (source, str(term), text, point, expected)
        compared += verdict == z3.unsat
    return compared


def _argument(line: str) -> str:
    """The argument of the call of `id` in a line."""
    start = line.index("(id ") + 4
    depth = 1
    for i in range(start, len(line)):
        depth += (line[i] == "(") - (line[i] == ")")
        if depth == 0:
            return line[start:i]
    raise AssertionError(line)


def test_smtlib_in_bulk() -> None:
    compared = 0

    def check(source: str, number: int) -> None:
        nonlocal compared
        compared += smtlib_agrees(source, number)

    checks.in_bulk(check, many(100), depth=3)
    assert compared > 250


@given(st.data())
@examples(40)
def test_smtlib_computes_what_python_computes(data: st.DataObject) -> None:
    sort = data.draw(st.sampled_from("IBR"))
    source = programs.random_program(lambda n: data.draw(st.integers(0, n - 1)), sort, 3)
    smtlib_agrees(source, 0)


# -- when a term is defined --------------------------------------------------------------------------


@given(st.data())
@examples(150)
def test_a_term_is_defined_just_when_its_python_does_not_raise(data: st.DataObject) -> None:
    sort = data.draw(st.sampled_from("IBR"))
    source = programs.random_program(lambda n: data.draw(st.integers(0, n - 1)), sort, 3)
    table = Table()
    term = checks.built(source, table)
    if term is None:
        return
    text, need = to_python(term), definedness(term)
    for point in programs.sample_points(0, checks.COUNT):
        try:
            value = eval(text, {"math": math, **point})
            works = not isinstance(value, complex)
        except OverflowError:
            continue
        except (ZeroDivisionError, ValueError, TypeError):
            works = False
        try:
            said = eval(to_python(need), {"math": math, **point})
        except OverflowError:
            continue
        except (ValueError, ZeroDivisionError):
            # The parts of an "and" have an order of their own: a part without a value may come
            # before the part that decides. The condition promises nothing then.
            said = False
        if not works:
            assert not said, (source, text, str(need), point)
        elif not any(t.op in ("pow", "fpow") for t in checks.parts_of(term)):
            assert said, (source, text, str(need), point)
