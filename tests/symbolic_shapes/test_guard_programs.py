"""Guards as programs: the compiled checker, the C function and the SMT-LIB text say the same."""

from __future__ import annotations

import ctypes
import gc
import itertools
import linecache
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
import z3
from torch._dynamo.source import ConstantSource, LocalSource

import symfx
from symfx.algebra import Table, evaluate
from symfx.algebra.terms.sharing import plan
from symfx.errors import SymfxError
from symfx.symbolic_shapes import DimDynamic, GuardProgram, ShapeEnv
from symfx.symbolic_shapes.checks.sources import fresh_name, read_source

COMPILER = shutil.which("gcc") or shutil.which("cc")


def environment(source: Any = LocalSource) -> tuple[ShapeEnv, Any, Any]:
    """Two matrices, with guards of many kinds; every stride follows from the sizes."""
    env = ShapeEnv()
    (a, b), _, _ = env.create_symbolic_sizes_strides_storage_offset(torch.empty(8, 6), source("x"))
    (c,), _, _ = env.create_symbolic_sizes_strides_storage_offset(torch.empty(5), source("y"))
    assert (a * b + c) % 4 == 1
    assert a * b + c > 3
    assert (a - 20) // 3 == -4
    assert (c - 9) % 5 == 1
    assert torch.sym_max(a, c) - torch.sym_min(b, c) >= 1
    assert (a * b) // (c - 3) != 7
    assert a * 0.5 < 11.0
    return env, (a, b), c


def every_input() -> Any:
    for a, b, c in itertools.product(range(1, 12), range(1, 8), range(12)):
        yield torch.empty(a, b), torch.empty(c)


def judged_by_python(env: ShapeEnv, x: torch.Tensor, y: torch.Tensor) -> bool:
    """The guards one by one, by the algebra's own interpreter."""
    infos = {
        info.sources[0].replace("L['", "").replace("']", ""): info for info in env.symbol_table()
    }
    values = {
        infos["x.size()[0]"].term: x.size(0),
        infos["x.size()[1]"].term: x.size(1),
        infos["y.size()[0]"].term: y.size(0),
    }
    try:
        return all(v >= 2 for v in values.values()) and all(
            evaluate(guard.term, values) for guard in env.guards
        )
    except ZeroDivisionError:
        return False


@pytest.mark.parametrize("source", [LocalSource, ConstantSource])
def test_the_checker_on_a_grid(source: Any) -> None:
    env, _, _ = environment(source)
    program = env.guard_program()
    assert program.parameters == ("x", "y")
    answers = []
    for x, y in every_input():
        answers.append(program.check(x, y))
        assert answers[-1] == judged_by_python(env, x, y), (x.shape, y.shape)
        assert bool(program.failures(x, y)) != answers[-1]
    assert 3 < sum(answers) < len(answers) / 4


@pytest.mark.skipif(COMPILER is None, reason="no C compiler on this machine")
def test_the_c_function_on_a_grid(tmp_path: Path) -> None:
    env, _, _ = environment()
    program = env.guard_program()
    (tmp_path / "guards.c").write_text(program.to_c("fits"))
    flags = ["-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-Werror", "-Wno-unused-function"]
    done = subprocess.run(
        [str(COMPILER), *flags, "-o", "guards.so", "guards.c", "-lm"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    fits = ctypes.CDLL(str(tmp_path / "guards.so")).fits
    fits.restype = ctypes.c_bool
    kinds = {"int": ctypes.c_int64, "real": ctypes.c_double, "bool": ctypes.c_bool}
    fits.argtypes = [kinds[given.term.sort] for given in program.inputs]
    for x, y in every_input():
        assert fits(*program.read(x, y)) == program.check(x, y), (x.shape, y.shape)


def test_the_smtlib_text_on_a_grid() -> None:
    env, _, _ = environment()
    program = env.guard_program()
    solver = z3.Solver()
    solver.from_string(program.to_smtlib())
    assert solver.check() == z3.sat
    both = {True: 0, False: 0}
    for x, y in itertools.islice(every_input(), 0, None, 7):
        known = [
            z3.Int(given.name) == value
            for given, value in zip(program.inputs, program.read(x, y), strict=True)
        ]
        answer = solver.check(*known)
        assert answer != z3.unknown
        both[answer == z3.sat] += 1
        assert (answer == z3.sat) == program.check(x, y), (x.shape, y.shape)
    x, y = torch.empty(8, 6), torch.empty(5)
    known = [z3.Int(g.name) == v for g, v in zip(program.inputs, program.read(x, y), strict=True)]
    assert solver.check(*known) == z3.sat
    assert both[False]


def test_the_source_reads_like_a_persons() -> None:
    env = ShapeEnv()
    (n, m), _, _ = env.create_symbolic_sizes_strides_storage_offset(
        torch.empty(4, 6), LocalSource("x")
    )
    assert n * m % 8 == 0
    assert n * m > 10
    source = env.guard_program().source
    a, b = (info.name for info in env.symbol_table())
    lines = [line.partition("  #")[0] for line in source.splitlines()]
    assert lines == [
        "def check(x):",
        "    try:",
        "        x_size = x.size()",
        f"        {a} = x_size[0]",
        f"        {b} = x_size[1]",
        "        x_stride = x.stride()",
        "        x_stride_1 = x_stride[1]",
        "        x_stride_0 = x_stride[0]",
        "        x_storage_offset = x.storage_offset()",
        "        if not (x_stride_1 == 1):",
        "            return False",
        f"        if not ({b} == x_stride_0):",
        "            return False",
        "        if not (x_storage_offset == 0):",
        "            return False",
        f"        if not ({a} >= 2):",
        "            return False",
        f"        if not ({b} >= 2):",
        "            return False",
        f"        t0 = {'*'.join(sorted((a, b)))}",
        "        if not (t0 % 8 == 0):",
        "            return False",
        "        if not (t0 >= 11):",
        "            return False",
        "    except (ArithmeticError, ValueError, IndexError):",
        "        return False",
        "    return True",
    ]  # fmt: skip
    assert ": assert n * m % 8 == 0" in source


def test_a_traced_model() -> None:
    def f(x: torch.Tensor, y: torch.Tensor, n: int) -> Any:
        if x.shape[0] * n > 10:
            return x @ y
        return x + n

    trace = symfx.trace(f, (torch.randn(4, 6), torch.randn(6, 8), 3), dynamic=[True, True, True])
    program = trace.guard_program()
    assert program.parameters == ("x", "y", "n")
    for shapes in itertools.product((0, 1, 2, 4), (1, 2, 6), (2, 6), (1, 2, 8)):
        x, y = torch.randn(shapes[:2]), torch.randn(shapes[2:])
        for n in (-1, 0, 3, 6):
            assert program.check(x, y, n) == bool(trace.check(x, y, n)), (shapes, n)
    # Strides of dimensions of one element, and of tensors without any, say nothing.
    assert program.check(torch.randn(6, 4).t(), torch.randn(6, 8), 3) is False
    assert program.check(torch.randn(4, 6), n=3, y=torch.randn(6, 8)) is True


@pytest.mark.parametrize(
    ("size", "admitted"),
    [("10 - b", [*range(9)]), ("2*b - 3", [1, 3, 5, 7]), ("b + 1", [*range(3, 9)])],
)
def test_sizes_that_are_expressions(size: str, admitted: list[int]) -> None:
    """No input holds the symbol itself; a stride does not matter at the sizes 0 and 1."""
    trace = symfx.trace(torch.sin, torch.randn(3, 8), dynamic=[f"[{size}, 8]"])
    program = trace.guard_program()
    for n in range(9):
        x = torch.randn(n, 8)
        assert program.check(x) == bool(trace.check(x)) == (n in admitted), n
    assert not trace.check(torch.randn(3, 16)[:, :8])
    assert bool(trace.check(torch.randn(1, 16)[:, :8])) == (1 in admitted)


def test_a_view_as_an_input() -> None:
    """Its base is of interest while tracing alone: other inputs need not be views."""
    base = torch.randn(6, 4)
    trace = symfx.trace(lambda x: x * 2, (base.t(),), dynamic=[True])
    for program in (trace.guard_program(), trace.shape_env.guard_program()):
        assert program.parameters == ("x",)
        assert program.check(torch.randn(8, 5).t())
        assert program.check(torch.empty_strided((5, 8), (1, 5)))
        assert not program.check(torch.randn(5, 8))
    assert trace.check(torch.empty_strided((5, 8), (1, 5)))


def test_what_a_trace_checks_is_what_its_sentences_say() -> None:
    """The compiled checker lets a call through; the sentences are for what it does not."""
    trace = symfx.trace(
        lambda x, y: x + y.sum() if x.shape[0] % 2 == 0 else x,
        (torch.randn(4, 3), torch.randn(4)),
        dynamic=[("n", None), ("m",)],
    )
    slow = type(trace.admission)(trace.admission.layout, trace.admission.entries, trace.shape_env)
    slow._fits = lambda leaves: False  # type: ignore[method-assign]
    for n, k, m in itertools.product((0, 1, 2, 3, 4, 7), (2, 3), (0, 1, 2, 5)):
        inputs = torch.randn(n, k), torch.randn(m)
        quick = trace.check(*inputs)
        assert bool(quick) == bool(slow.check(inputs, {}))
        assert bool(quick) == (not quick.failures)
    assert trace.check(torch.randn(4, 3), torch.randn(4, dtype=torch.float64)).failures


def test_what_is_not_enough_dimensions_does_not_fit() -> None:
    env, _, _ = environment()
    assert env.guard_program().check(torch.empty(8), torch.empty(5)) is False


def test_numbers_as_inputs() -> None:
    env = ShapeEnv()
    n = env.create_symintnode(env.create_unspecified_symbol(7, LocalSource("max")), hint=7)
    f = env.create_symfloatnode(
        env.create_unspecified_symbol(2.5, LocalSource("if"), DimDynamic.DYNAMIC), hint=2.5
    )
    assert f * 2.0 < n
    assert max(n, 3) == 7 or n
    program = env.guard_program()
    # Names that the code needs for itself get an underscore.
    assert set(program.parameters) == {"max_", "if_"}
    assert program.check(max_=7, if_=2.5)
    assert not program.check(max_=7, if_=3.5)
    assert "double if_" in program.to_c()
    assert "Float64" in program.to_smtlib()


def test_a_choice_of_guards() -> None:
    env, _, _ = environment()
    whole = env.guard_program()
    few = env.guard_program(guards=env.guards[:1])
    assert isinstance(few, GuardProgram)
    assert len(few) < len(whole)
    assert [c.term for c in few.conditions] == [
        c.term for c in whole.conditions if c.term in {d.term for d in few.conditions}
    ]


def test_no_inputs_no_conditions() -> None:
    program = ShapeEnv().guard_program()
    assert program.check() is True
    assert len(program) == 0
    assert "bool check_guards(void)" in program.to_c()
    solver = z3.Solver()
    solver.from_string(program.to_smtlib())
    assert solver.check() == z3.sat


def test_a_guard_about_data_is_refused() -> None:
    env = ShapeEnv()
    u = env.create_unbacked_symint()
    torch._check(u > 3)
    guard = env.deferred_asserts()[0]
    with pytest.raises(SymfxError, match="u0, which no input has"):
        env.guard_program(guards=[guard])


@pytest.mark.parametrize(
    "source",
    [
        "__import__('os').system('true')",
        "x.size()[0] or 1",
        "x.size(0)",
        "x.__class__",
        "(lambda: 1)()",
        "x[y]",
        "L['x y']",
        "",
        "x.size()[0]; y",
    ],
)
def test_a_source_is_never_run_as_it_stands(source: str) -> None:
    with pytest.raises(SymfxError, match="read from its arguments"):
        read_source(source)


def test_sources() -> None:
    read = read_source("L['args'][0].weight.size()[1]")
    assert (read.parameter, read.base) == ("args", "args[0].weight.size()")
    assert read.label == "args_0_weight_size_1"
    assert (read.owner, read.measure) == ("args[0].weight", ("size", 1))
    assert read_source("L['max'].stride()[0]").owner == "max"
    for name, expected in [
        ("x.storage_offset()", ("x", ("storage_offset", None))),
        ("n", ("n", ("value", None))),
        ("x.size()", ("x.size()", ("value", None))),
        ("x.shape[0]", ("x.shape[0]", ("value", None))),
    ]:
        assert (read_source(name).owner, read_source(name).measure) == expected
        owner, measure = read_source(name).owner, read_source(name).measure
        assert measure.source(owner) == name
    assert read_source("G['n']").expression == "n"
    assert fresh_name("for", ()) == "for_"
    assert fresh_name("a b", {"_a_b"}) == "_a_b_"


def test_what_may_raise_is_not_computed_ahead() -> None:
    t = Table()
    a, b, p = t.symbol("a"), t.symbol("b"), t.symbol("p", "bool")
    risky = t.or_(p, (a // b).eq(3))
    steps = plan([risky, t.or_(t.not_(p), (a // b).eq(4))])
    assert all(step.name is None for step in steps)
    sure = plan([(a // b).ne(5), risky])
    assert [step.term for step in sure if step.name] == [a // b]
    # Without a divisor nothing can go wrong.
    harmless = plan([t.or_(p, (a // 3).eq(3)), t.or_(t.not_(p), (a // 3).eq(4))])
    assert [step.term for step in harmless if step.name] == [a // 3]


def test_programs_leave_no_source_behind() -> None:
    env, _, _ = environment()
    gc.collect()
    before = set(linecache.cache)
    program = GuardProgram.of(env)
    program.failures(torch.empty(8, 6), torch.empty(5))
    assert set(linecache.cache) > before
    del program
    gc.collect()
    assert set(linecache.cache) <= before
