"""Terms as C and SMT-LIB: division of every sign, names, constants and refusals."""

from __future__ import annotations

import ctypes
import itertools
import math
import shutil
import subprocess
from pathlib import Path

import pytest
import z3

from symfx.algebra import Table, Term, definedness, smtlib_script, to_c, to_python, to_smtlib
from symfx.algebra.languages.c import C_SUPPORT, c_function
from symfx.algebra.terms.sharing import plan
from symfx.errors import ExpressionError

COMPILER = shutil.which("gcc") or shutil.which("cc")
GRID = [-17, -8, -3, -2, -1, 0, 1, 2, 3, 7, 16]


def operations(t: Table) -> dict[str, Term]:
    """Terms by the Python expression that judges them."""
    a, b = t.symbol("a"), t.symbol("b")
    return {
        "a // b": a // b,
        "a % b": a % b,
        "a // 3": a // 3,
        "a % 3": a % 3,
        "a // -3": a // -3,
        "a % -3": a % -3,
        "-a // b": -a // b,
        "abs(a) ** abs(b)": t.pow(abs(a), abs(b)),
        "a ** abs(b % 4)": t.pow(a, abs(b % 4)),
        "min(a, b) - max(a, 2)": t.min(a, b) - t.max(a, t.const(2)),
        "(a if a < b else -b)": t.where(a < b, a, -b),
        "a & b": a & b,
        "a | b": a | b,
        "a ^ b": a ^ b,
        "a & 6": a & 6,
        "a & -7": a & -7,
        "a | 12": a | 12,
        "a << abs(b)": a << abs(b),
        "a >> abs(b)": a >> abs(b),
        "round(a, -1)": t.round(a, -1),
        "int(a / b)": t.trunc(a / b),
        "math.floor(a / 4)": t.floor(a / t.const(4)),
        "math.ceil(a / b)": t.ceil(a / b),
        "round(a / b)": t.round(a / b),
    }


@pytest.mark.skipif(COMPILER is None, reason="no C compiler on this machine")
def test_c_on_a_grid(tmp_path: Path) -> None:
    terms = operations(Table())
    functions = [
        f"bool f{i}(int64_t a, int64_t b, int64_t *out) {{ bool bad = false; (void)b;\n"
        f"  int128 r = {to_c(term)}; *out = (int64_t)r; return !bad && *out == r; }}"
        for i, term in enumerate(terms.values())
    ]
    (tmp_path / "f.c").write_text("\n".join([C_SUPPORT, *functions]))
    command = [str(COMPILER), "-shared", "-fPIC", "-O1", "-o", "f.so", "f.c", "-lm"]
    subprocess.run(command, cwd=tmp_path, check=True)
    library = ctypes.CDLL(str(tmp_path / "f.so"))
    for i, source in enumerate(terms):
        function = library[f"f{i}"]
        function.restype = ctypes.c_bool
        function.argtypes = [ctypes.c_int64, ctypes.c_int64, ctypes.POINTER(ctypes.c_int64)]
        for a, b in itertools.product(GRID, GRID):
            out = ctypes.c_int64()
            good = function(a, b, out)
            try:
                expected = eval(source, {"math": math}, {"a": a, "b": b})
            except ZeroDivisionError:
                assert not good, (source, a, b)
                continue
            if -(2**63) <= expected < 2**63:
                assert good and out.value == expected, (source, a, b, out.value)
            else:
                assert not good, (source, a, b)


def test_smtlib_on_a_grid() -> None:
    proved = 0
    for source in operations(Table()):
        t = Table()
        term = operations(t)[source]
        a, b = t.symbol("a"), t.symbol("b")
        slow = ("py.pow", "(py.and", "py.truediv")  # tests/soundness asks about some of those
        if any(name in to_smtlib(term) for name in slow):
            continue
        result = t.symbol("result")
        solver = z3.Solver(ctx=z3.Context())
        solver.set("timeout", 200)
        solver.from_string(smtlib_script([term.eq(result)], defined=False, declare=[a, b]))
        context = solver.ctx
        for x, y in itertools.product(GRID[::2], GRID[1::3]):
            try:
                expected = eval(source, {"math": math}, {"a": x, "b": y})
            except ZeroDivisionError:
                continue
            if abs(expected) > 10**9:
                continue
            at = [
                z3.Int("a", context) == x,
                z3.Int("b", context) == y,
                z3.Int("result", context) != int(expected),
            ]
            verdict = solver.check(*at)
            assert verdict != z3.sat, (source, x, y)
            proved += verdict == z3.unsat
    assert proved > 8 * 12


def test_an_unknown_function() -> None:
    t = Table()
    s = t.symbol("s")
    called = t.call("f", "int", s, s + 1) + 1
    with pytest.raises(ExpressionError, match="calls f, an uninterpreted function"):
        to_c(called)
    script = smtlib_script([called >= 3])
    assert "(declare-fun f (Int Int) Int)" in script
    solver = z3.Solver()
    solver.from_string(script)
    assert solver.check() == z3.sat


def test_a_function_of_math_is_uninterpreted() -> None:
    t = Table()
    r = t.symbol("r", "real")
    script = smtlib_script([t.lt(t.function("cos", r), t.const(0.5))])
    assert script.count("(declare-fun math.cos (Float64) Float64)") == 1
    assert to_c(t.lt(t.function("cos", r), t.const(0.5))) == "py_call(cos, r, &bad) < 0.5"


@pytest.mark.parametrize("value", [0, -1, 2**31, -(2**31), 2**62, 2**63, -(2**100), 2**126 - 1])
def test_constants_in_c(value: int) -> None:
    text = to_c(Table().const(value))
    for macro in ("INT64_C", "(int128)"):
        text = text.replace(macro, "")
    assert eval(text) == value


def test_a_constant_that_is_too_large() -> None:
    with pytest.raises(ExpressionError, match="too large"):
        to_c(Table().const(2**126))


def test_names() -> None:
    t = Table()
    s, odd = t.symbol("s"), t.symbol("x.size()[0]")
    assert to_smtlib(odd + s, {s: "mod"}) in ("(+ |x.size()[0]| mod_)", "(+ mod_ |x.size()[0]|)")
    assert to_smtlib(t.symbol("a|b\\c")) == "|a!b/c|"
    assert to_c(s + 1, {s: "n"}) == "py_add(n, 1, &bad)"
    # Any term can have a name, not symbols alone.
    assert to_c(s // 2 + 1, {s // 2: "half"}) == "py_add(half, 1, &bad)"
    assert to_smtlib(s * s + 1, {s * s: "square"}) == "(+ square 1)"


def test_doubles_in_smtlib() -> None:
    t = Table()
    for value in (0.0, -0.0, 0.1, -1e300, 5e-324, math.inf, -math.inf):
        text = to_smtlib(t.const(value))
        (claim,) = z3.parse_smt2_string(f"(declare-const r Float64) (assert (= r {text}))")
        parsed = z3.simplify(claim.arg(1) if claim.arg(0).decl().name() == "r" else claim.arg(0))
        assert z3.is_true(z3.simplify(parsed == z3.FPVal(value, z3.Float64()))), value
    assert to_smtlib(t.const(math.nan)) == "(_ NaN 11 53)"


def test_definedness_is_lazy() -> None:
    t = Table()
    a, b, p = t.symbol("a"), t.symbol("b"), t.symbol("p", "bool")
    assert str(definedness(t.where(p, a // b, a))) == "not p or p and b != 0"
    assert definedness(t.where(b.ne(0), a // b, a)) is t.true
    assert str(definedness(t.and_(p, (a // b).eq(1)))) == "b != 0 or not p"
    assert definedness(a // 3 + a % 5) is t.true


def test_parts_that_are_repeated_within_each_other() -> None:
    t = Table()
    x = y = t.symbol("x")
    for _ in range(30):
        y = t.where(y >= 0, y // 3, -(-y // 3)) + 1
    with pytest.raises(ExpressionError, match="longer than 1,000,000 characters") as error:
        to_c(y >= 1)
    assert "c_function" in str(error.value)
    program = plan([y >= 1, y <= 7])
    assert len(c_function("fits", [("int64_t", "x")], program, {x: "x"})) < 8000
    assert len(smtlib_script([y >= 1, y <= 7])) < 12_000
    names = {step.term: step.name for step in program if step.name}
    done: dict[Term, str] = {}
    for step in program:
        assert len(to_python(step.term, done)) < 100
        done.update({step.term: names[step.term]} if step.name else {})
