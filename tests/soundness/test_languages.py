"""A random program's term printed as C and as SMT-LIB has the value that Python computes."""

from __future__ import annotations

import ctypes
import math
import random
import shutil
import struct
import subprocess
from pathlib import Path
from typing import Any

import checks
import programs
import pytest
import z3
from hypothesis import given
from hypothesis import strategies as st
from profiles import examples, many

from symfx.algebra import Table, Term
from symfx.algebra.c_code import C_SUPPORT, C_TYPES, to_c
from symfx.algebra.definedness import definedness
from symfx.algebra.smtlib import smtlib_script

COMPILER = shutil.which("gcc") or shutil.which("cc")
RESULT = {"int": ctypes.c_int64, "real": ctypes.c_double, "bool": ctypes.c_bool}


def random_sources(count: int, seed: int, exclude: frozenset[str] = frozenset()) -> list[str]:
    picks = random.Random(seed)
    choose = checks.choose_by(picks)
    return [
        programs.random_program(choose, "IBR"[picks.randrange(3)], 3, exclude=exclude)
        for _ in range(count)
    ]


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
        name, kind = f"f{len(terms)}", C_TYPES[term.sort]
        outer = "int64_t" if term.sort == "int" else kind
        terms[source] = term
        text.append(
            f"bool {name}({symbols}, {outer} *out) {{ {unused} bool bad = false;\n"
            f"  {kind} value = {to_c(term)};\n  *out = ({outer})value;\n  return !bad && *out == value;\n}}\n"
            if term.sort != "real"
            else f"bool {name}({symbols}, double *out) {{ {unused} bool bad = false;\n"
            f"  *out = {to_c(term)};\n  return !bad;\n}}\n"
        )
    (tmp_path / "programs.c").write_text("\n".join(text))
    flags = ["-O0", "-ffp-contract=off", "-shared", "-fPIC", "-Wall", "-Werror=parentheses"]
    subprocess.run(
        [str(COMPILER), *flags, "-Wno-unused", "-o", "programs.so", "programs.c", "-lm"],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
    )
    library = ctypes.CDLL(str(tmp_path / "programs.so"))
    kinds = [ctypes.c_int64] * 3 + [ctypes.c_bool] * 2 + [ctypes.c_double] * 2
    compared = refused = 0
    for i, (source, term) in enumerate(terms.items()):
        function = library[f"f{i}"]
        function.restype = ctypes.c_bool
        out = RESULT[term.sort]()
        function.argtypes = [*kinds, ctypes.POINTER(RESULT[term.sort])]
        for point, expected in checks.values(source, i):
            good = function(*(point[n] for n in programs.SORTS), ctypes.byref(out))
            if good:
                compared += 1
                assert programs.same(out.value, expected), (source, str(term), point, out.value)
            else:
                # Strictly defined in Python, so only the size of the numbers excuses it.
                refused += 1
                assert _large(term, point), (source, str(term), to_c(term), point)
    assert compared > 10 * refused > 0


def _large(term: Term, point: dict[str, Any]) -> bool:
    from symfx.algebra import evaluate

    memo: dict[Term, Any] = {}
    try:
        evaluate(term, checks.at(term.table, point), memo)
    except OverflowError:
        return True
    return any(abs(v) >= 2**62 for v in memo.values() if not isinstance(v, float) or v == v)


# -- SMT-LIB ----------------------------------------------------------------------------------------


def z3_value(value: Any) -> Any:
    if isinstance(value, bool):
        return z3.BoolVal(value)
    if isinstance(value, int):
        return z3.IntVal(value)
    (bits,) = struct.unpack(">Q", struct.pack(">d", value))
    return z3.simplify(z3.fpBVToFP(z3.BitVecVal(bits, 64), z3.Float64()))


def parsed(term: Term) -> Any:
    """The term as z3 reads its SMT-LIB."""
    table = term.table
    if term.sort == "bool":
        goal = z3.And(*z3.parse_smt2_string(smtlib_script([table.or_(term, table.symbol("?", "bool"))], defined=False)))
        return z3.substitute(goal, (z3.Bool("?"), z3.BoolVal(False)))
    if term.sort == "int":
        script = smtlib_script([table.call("id", "int", term).eq(table.symbol("?"))], defined=False)
    else:
        script = smtlib_script(
            [table.eq(table.call("id", "real", term), table.symbol("?", "real"))], defined=False
        )
    (goal,) = z3.parse_smt2_string(script)
    calls = [goal]
    while calls:
        top = calls.pop()
        if top.decl().name() == "id":
            return top.arg(0)
        calls.extend(top.children())
    raise AssertionError(script)


def holds(claim: Any) -> bool | None:
    """Whether a closed formula is true; None where z3 cannot tell."""
    claim = z3.simplify(claim)
    if z3.is_true(claim) or z3.is_false(claim):
        return bool(z3.is_true(claim))
    solver = z3.SolverFor("ALL") if False else z3.Solver()
    solver.set("timeout", 2000)
    solver.add(z3.Not(claim))
    answer = solver.check()
    if answer == z3.unknown:
        return None
    return bool(answer == z3.unsat)


UNINTERPRETED = frozenset({"fpow", "cos", "atan", "exp", "log"})


def smtlib_agrees(source: str, seed: int) -> int:
    """The number of points at which z3's value of the text was compared with Python's."""
    table = Table()
    term = checks.built(source, table)
    if term is None or any(t.op in UNINTERPRETED for t in checks.parts_of(term)):
        return 0
    # z3 must not be asked to raise -3 to the power of 4095.
    formula = parsed(term)
    compared = 0
    for point, expected in checks.values(source, seed):
        if isinstance(expected, int) and expected.bit_length() > 64:
            continue
        known = [
            ({"int": z3.Int, "bool": z3.Bool}.get(sort, lambda n: z3.FP(n, z3.Float64()))(name), z3_value(point[name]))
            for name, sort in programs.SORTS.items()
        ]
        value = z3.substitute(formula, *known)
        verdict = holds(value == z3_value(expected))
        assert verdict is not False, (source, str(term), point, expected, z3.simplify(value))
        compared += verdict is True
        if checks.COUNT and not _large(term, point):
            need = definedness(term)
            from symfx.algebra import evaluate

            assert evaluate(need, checks.at(table, point)) is True, (source, str(need), point)
    return compared


def test_smtlib_in_bulk() -> None:
    compared = 0

    def check(source: str, number: int) -> None:
        nonlocal compared
        compared += smtlib_agrees(source, number)

    checks.in_bulk(check, many(150), depth=3)
    assert compared > 400


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
    from symfx.algebra import evaluate, to_python

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
        if not works:
            assert not said, (source, text, str(need), point)
        elif not any(t.op in ("pow", "fpow") for t in checks.parts_of(term)):
            assert said, (source, text, str(need), point)
