"""A package that only a part of symfx needs: missed in one sentence, and needed by no other part."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from symfx.extras import EXTRAS, importing, missing_packages

ROOT = Path(__file__).parent.parent
EXTRA_PACKAGES = sorted({module for modules in EXTRAS.values() for module in modules})


def python(code: str, *hidden: str) -> subprocess.CompletedProcess[str]:
    """Run code in a process in which modules cannot be imported."""
    hide = f"import sys; sys.modules.update(dict.fromkeys({hidden!r}))\n"
    return subprocess.run(
        [sys.executable, "-c", hide + code], capture_output=True, text=True, check=False
    )


def test_pip_and_the_messages_know_the_same_packages() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for extra, modules in EXTRAS.items():
        named = {text.split(">=")[0] for text in project["optional-dependencies"][extra]}
        assert named == set(modules.values())
    required = {text.split(">=")[0] for text in project["dependencies"]}
    assert not required & {name for modules in EXTRAS.values() for name in modules.values()}
    (everything,) = project["optional-dependencies"]["all"]
    assert set(everything.removeprefix("symfx[").removesuffix("]").split(",")) == set(EXTRAS)


@pytest.mark.parametrize(
    ("use", "module", "package", "extra"),
    [
        ("import symfx.unification", "unification", "logical-unification", "types"),
        ("import symfx.unification.core", "multipledispatch", "multipledispatch", "types"),
        ("import symfx.unification.unification_tools", "toolz", "toolz", "types"),
        ("import symfx.unify_refinements", "unification", "logical-unification", "types"),
        ("import symfx.graph_gradual_typechecker", "unification", "logical-unification", "types"),
        ("import symfx.static_migration", "z3", "z3-solver", "types"),
        ("import symfx.migrate_gradual_types.transform_to_z3", "z3", "z3-solver", "types"),
        ("import symfx.validator", "z3", "z3-solver", "z3"),
        ("from symfx.algebra.z3_tier import needs_z3; needs_z3()", "z3", "z3-solver", "z3"),
    ],
)
def test_a_missing_package_is_told_with_its_extra(
    use: str, module: str, package: str, extra: str
) -> None:
    done = python(use, module)
    assert done.returncode == 1
    *_, error, fix = done.stderr.splitlines()
    assert error.startswith("symfx.errors.MissingPackageError: ")
    assert error.endswith(f" needs the package {package}, which is not installed")
    assert fix == f'  to fix: pip install "symfx[{extra}]"'


def test_it_is_an_import_error_too() -> None:
    done = python("try: import symfx.validator\nexcept ImportError as e: print(e.fix)", "z3")
    assert done.stdout == 'pip install "symfx[z3]"\n'


def test_a_package_that_is_broken_is_not_called_missing() -> None:
    with (
        pytest.raises(ModuleNotFoundError, match="no_such_module") as raised,
        importing("z3", "this test"),
    ):
        import no_such_module  # noqa: F401
    assert type(raised.value) is ModuleNotFoundError


def test_tracing_needs_no_package_of_an_extra() -> None:
    done = python(
        "import torch, symfx\n"
        "t = symfx.trace(torch.nn.Linear(4, 4), torch.ones(3, 4), dynamic={'input': ('n', 4)})\n"
        "assert t.verify() and t.check(torch.ones(7, 4))\n"
        "assert t.cost().modules\n",
        *EXTRA_PACKAGES,
    )
    assert done.returncode == 0, done.stderr


def test_the_command_line_says_it_too() -> None:
    words = ["typecheck", "torch.nn:ReLU", "--input", "input: f32[n]"]
    done = python(f"from symfx.cli import main; main({words!r})", "z3")
    assert (done.returncode, done.stdout) == (2, "")
    assert "error: symfx typecheck needs the package z3-solver, which is not installed" in (
        done.stderr
    )
    assert 'to fix: pip install "symfx[types]"' in done.stderr
    assert "Traceback" not in done.stderr


def test_missing_packages() -> None:
    assert missing_packages("types") == []
    done = python(
        "import json; from symfx.extras import *\n"
        "print(json.dumps([missing_packages('types'), missing_packages('z3')]))",
        "z3",
    )
    assert json.loads(done.stdout) == [["z3-solver"], ["z3-solver"]]
