"""symfx.install, uninstall and installed: what they change, when they refuse, and how one sees it."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from torch.export import Dim

import symfx
from symfx.symbolic_shapes import ShapeEnv

SRC = Path(__file__).parents[2] / "src"


@pytest.fixture(autouse=True)
def _torch_as_it_is_alone():
    yield
    symfx.uninstall()


def exported(**options):
    rows = Dim("rows")
    return torch.export.export(
        torch.nn.Linear(4, 2), (torch.ones(3, 4),), dynamic_shapes=({0: rows},), **options
    )


def env_of(program):
    node = next(n for n in program.graph.nodes if n.op == "call_function")
    return node.meta["val"].fake_mode.shape_env


def snapshot():
    """Each global of torch's modules, by place."""
    return {
        (name, key): id(value)
        for name, module in list(sys.modules.items())
        if name.startswith("torch") and hasattr(module, "__dict__")
        for key, value in list(vars(module).items())
        if not isinstance(value, int)  # counters
    }


def test_export_and_compile_make_symfx_environments() -> None:
    seen = []

    def backend(gm, inputs):
        seen.append(torch._guards.TracingContext.get().fake_mode.shape_env)
        return gm

    with symfx.installed():
        for strict in (False, True):
            assert type(env_of(exported(strict=strict))) is ShapeEnv
        torch.compile(lambda x: x + 1, backend=backend, dynamic=True)(torch.ones(3))
    assert [type(env) for env in seen] == [ShapeEnv]
    assert type(env_of(exported())) is not ShapeEnv


def test_no_environment_of_torch_is_built() -> None:
    stock = type(torch.fx.experimental.symbolic_shapes.ShapeEnv())
    gc.collect()
    before = {id(o) for o in gc.get_objects() if type(o) is stock}
    with symfx.installed():
        program = exported().run_decompositions()
        after = {id(o) for o in gc.get_objects() if type(o) is stock}
    assert after <= before and program


def test_uninstall_restores_every_name() -> None:
    with symfx.installed():
        pass  # the modules of torch that use symbolic shapes are loaded from here on
    before = snapshot()
    with symfx.installed():
        program = exported()
        changed = {place for place, value in snapshot().items() if before.get(place) != value}
    assert len(changed) > 50
    after = snapshot()
    assert {place for place, value in before.items() if after.get(place) != value} == set()
    assert type(env_of(program)) is ShapeEnv


def test_a_module_that_is_loaded_while_installed_gets_torchs_names_back() -> None:
    code = "from torch.fx.experimental.proxy_tensor import make_fx"
    user = type(sys)("a_module_of_a_user")
    sys.modules[user.__name__] = user
    stock = torch.fx.experimental.proxy_tensor.make_fx
    try:
        with symfx.installed():
            exec(code, vars(user))
            assert user.make_fx is not stock
        assert user.make_fx is stock
    finally:
        del sys.modules[user.__name__]


def test_install_twice_is_install_once() -> None:
    symfx.install()
    first = symfx.installed_report()
    symfx.install()
    with symfx.installed():
        assert symfx.installed_report() == first
    assert symfx.is_installed()  # the context manager leaves what was there before
    symfx.uninstall()
    symfx.uninstall()
    assert not symfx.is_installed()


def test_the_report() -> None:
    assert str(symfx.installed_report()).startswith("symfx is not installed")
    with symfx.installed():
        report = symfx.installed_report()
    assert report.installed and report.missing == ()
    swapped = {name.name: name.places for name in report.swapped}
    assert "torch.export._trace.make_fx" in swapped["make_fx"]
    assert "torch._dynamo.output_graph.ShapeEnv" in swapped["ShapeEnv"]
    assert "make_fx" in str(report)


def test_importing_symfx_alone_changes_nothing() -> None:
    code = """
import torch, torch._dynamo, torch.export, torch._functorch.aot_autograd, sys
def look():
    return {(n, k): id(v) for n, m in list(sys.modules.items()) if n.startswith("torch")
            for k, v in list(vars(m).items()) if callable(v)}
before = look()
import symfx, symfx.installation, symfx.tracing
after = look()
print([p for p, v in before.items() if after[p] != v])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# Refusals.


def refused_in(call):
    found = []

    def try_it():
        with pytest.raises(symfx.InstallError) as error:
            call()
        found.append(str(error.value))

    return try_it, found


@pytest.mark.parametrize("installed", [False, True])
def test_it_is_refused_in_a_trace_of_make_fx(installed) -> None:
    from torch.fx.experimental.proxy_tensor import make_fx

    call = symfx.uninstall if installed else symfx.install
    try_it, found = refused_in(call)

    def f(x):
        try_it()
        return x + 1

    if installed:
        symfx.install()
    try:
        make_fx(f, tracing_mode="symbolic")(torch.ones(3))
    finally:
        symfx.uninstall()
    assert "during a trace of make_fx" in found[0] and "before torch begins" in found[0]


def test_it_is_refused_in_an_export_and_in_a_compilation() -> None:
    try_it, found = refused_in(symfx.install)

    class Model(torch.nn.Module):
        def forward(self, x):
            try_it()
            return x + 1

    torch.export.export(Model(), (torch.ones(3),))

    def backend(gm, inputs):
        try_it()
        return gm

    torch.compile(lambda x: x + 1, backend=backend)(torch.ones(3))
    assert len(found) == 2 and not symfx.is_installed()


def test_it_is_refused_while_another_thread_compiles() -> None:
    inside, go_on = threading.Event(), threading.Event()

    def backend(gm, inputs):
        inside.set()
        assert go_on.wait(60)
        return gm

    compiled = torch.compile(lambda x: x + 1, backend=backend)
    thread = threading.Thread(target=compiled, args=(torch.ones(3),))
    thread.start()
    try:
        assert inside.wait(60)
        with pytest.raises(symfx.InstallError, match="another thread"):
            symfx.install()
    finally:
        go_on.set()
        thread.join()
    with symfx.installed():
        assert symfx.is_installed()


def test_threads_export_at_the_same_time() -> None:
    results = {}

    def work(i):
        rows = Dim("rows")
        model = torch.nn.Sequential(torch.nn.Linear(4, i), torch.nn.ReLU())
        program = torch.fx.experimental.proxy_tensor.make_fx(
            lambda x: model(x).sum(0), tracing_mode="symbolic", _allow_non_fake_inputs=True
        )(torch.ones(3, 4))
        x = torch.randn(7, 4)
        results[i] = torch.allclose(program(x), model(x).sum(0)), type(program.shape_env)
        assert rows.__name__ == "rows"

    with symfx.installed():
        threads = [threading.Thread(target=work, args=(i,)) for i in range(1, 6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert results == dict.fromkeys(range(1, 6), (True, ShapeEnv))


# The command and the variable.

PROGRAM = """
import sys, torch
from torch.export import Dim, export
program = export(torch.nn.Linear(4, 2), (torch.ones(3, 4),), dynamic_shapes=({0: Dim("rows")},))
node = next(n for n in program.graph.nodes if n.op == "call_function")
print(type(node.meta["val"].fake_mode.shape_env).__module__, sys.argv[1:], __name__)
"""


def run(*words, **environment):
    return subprocess.run(
        [sys.executable, *words],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(SRC), **environment},
    )


def test_symfx_run(tmp_path) -> None:
    script = tmp_path / "a_script_of_a_user.py"
    script.write_text(PROGRAM + "sys.exit(5)")
    done = run("-m", "symfx", "run", "--report", str(script), "--flag", "word")
    assert done.stdout.split(maxsplit=1) == [
        "symfx.symbolic_shapes.shape_env",
        "['--flag', 'word'] __main__\n",
    ]
    assert done.returncode == 5 and done.stderr.startswith("symfx is installed in torch")
    lost = run("-m", "symfx", "run", str(tmp_path / "no_such.py"))
    assert lost.returncode == 2 and "there is no file" in lost.stderr


def test_symfx_run_of_programs_that_fail(tmp_path) -> None:
    script = tmp_path / "a_script_of_a_user.py"
    script.write_text("def f():\n    raise ValueError('boom')\nf()\n")
    done = run("-m", "symfx", "run", str(script))
    assert done.returncode == 1 and done.stderr.endswith("ValueError: boom\n")
    assert done.stderr.count("  File ") == 2, "only the frames of the program"
    script.write_text("def f(:\n")
    done = run("-m", "symfx", "run", str(script))
    assert done.returncode == 1 and "SyntaxError" in done.stderr and "runpy" not in done.stderr
    lost = run("-m", "symfx", "run", "-m", "no_such.module")
    assert lost.returncode == 2 and lost.stderr.startswith("there is no module no_such.module")


def test_processes_of_a_program_use_symfx_too(tmp_path) -> None:
    script = tmp_path / "a_script_of_a_user.py"
    script.write_text("""
import multiprocessing, sys, torch
def work(n):
    import symfx
    rows = torch.export.Dim("rows")
    made = torch.fx.experimental.symbolic_shapes.ShapeEnv()
    return type(made).__module__, n
if __name__ == "__main__":
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        print(pool.map(work, [len(sys.argv)]))
""")
    done = run("-m", "symfx", "run", str(script), "a", "b")
    assert done.stdout == "[('symfx.symbolic_shapes.shape_env', 3)]\n", done.stderr


def test_the_variable(tmp_path) -> None:
    for value, module in (("1", "symfx.symbolic_shapes.shape_env"), ("0", "torch.fx.exp")):
        done = run("-c", "import symfx\n" + PROGRAM, SYMFX_INSTALL=value)
        assert done.stdout.startswith(module), done.stderr
