"""The house stands as docs/architecture.md draws it, and the README's commands are the real ones."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SRC = ROOT / "src"

# A room may import rooms of its own floor and of those below it. Every room of src/symfx stands here.
FLOORS: tuple[frozenset[str], ...] = (
    frozenset(
        {
            "_config",
            "_version",
            "config",
            "dtypes",
            "dynamic_spec",
            "errors",
            "torch_bridge",
            "untrusted",
            "user_code",
        }
    ),
    frozenset({"algebra"}),
    frozenset({"fake_operators", "recording", "sym_node", "symbolic_shapes"}),
    frozenset({"meta_tracer", "proxy_tensor"}),
    # Shapes of graphs that are not run: on the language of FX graphs alone.
    frozenset({"refinement_types", "rewriter", "shape_rules", "unification"}),
    frozenset({"migrate_gradual_types"}),
    frozenset({"graph_gradual_typechecker"}),
    frozenset({"unify_refinements"}),
    frozenset({"optimization", "static_migration", "tracing"}),
    frozenset({"__init__", "__main__", "cli"}),
)
FLOOR_OF = {room: height for height, floor in enumerate(FLOORS) for room in floor}

MODULES = sorted(path.relative_to(SRC).as_posix() for path in SRC.rglob("*.py"))
SYMPY_VIEW = ("symfx/algebra/sympy_view.py", "symfx/algebra/languages/sympy/")
IDENTITY = "symfx/torch_bridge/identity.py"


def imports(module: str) -> Iterator[tuple[int, str]]:
    """Every module that a module imports, at its top or in a function, with the line."""
    package = module.split("/")[:-1]
    for node in ast.walk(ast.parse((SRC / module).read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            name = ".".join([*base, *filter(None, [node.module])])
            # What is imported may be a module itself: `from torch.fx import experimental`.
            yield from ((node.lineno, f"{name}.{alias.name}") for alias in node.names)


def room_of(module: str) -> str:
    """`symfx/algebra/expr.py` is in the room algebra, `symfx/cli.py` is the room cli."""
    return module.split("/")[1].removesuffix(".py")


def test_every_room_has_its_floor() -> None:
    rooms = {room_of(module) for module in MODULES}
    assert rooms == set(FLOOR_OF), "list the new room in FLOORS, and draw it in architecture.md"


@pytest.mark.parametrize("module", MODULES)
def test_floors_import_downwards_only(module: str) -> None:
    height = FLOOR_OF[room_of(module)]
    for line, name in imports(module):
        parts = name.split(".")
        if parts[0] != "symfx" or len(parts) < 2:
            continue
        # `from symfx import trace` asks the front door, where all floors meet.
        room = parts[1] if parts[1] in FLOOR_OF else "__init__"
        assert FLOOR_OF[room] <= height, f"{module}:{line} imports {name}, from above"


@pytest.mark.parametrize("module", MODULES)
def test_the_experimental_package_is_named_in_one_place(module: str) -> None:
    """Including in strings, that nothing be imported or patched behind the test's back."""
    if module == IDENTITY:
        return
    for line, name in imports(module):
        assert not name.startswith("torch.fx.experimental"), f"{module}:{line} imports {name}"
    tree = ast.parse((SRC / module).read_text())
    for node in ast.walk(tree):
        called = isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module")
        assert not (called and "torch.fx.experimental" in ast.unparse(node)), f"{module}"


def test_what_is_taken_from_torch_for_its_identity() -> None:
    """Classes to answer as, to derive from and to take members of; a new one is listed here."""
    prefix = "torch.fx.experimental."
    taken = {name.removeprefix(prefix) for _, name in imports(IDENTITY) if name.startswith(prefix)}
    assert taken == {
        "dynamic_spec",
        "proxy_tensor",
        "proxy_tensor.PreDispatchTorchFunctionMode",
        "proxy_tensor.ProxyTorchDispatchMode",
        "proxy_tensor.TorchFunctionMetadataMode",
        "sym_node.DynamicInt",
        "sym_node.SymNode",
        "sym_node._DynamicScalar",
        "symbolic_shapes.CallMethodKey",
        "symbolic_shapes.Constraint",
        "symbolic_shapes.ConstraintViolationError",
        "symbolic_shapes.ConvertIntKey",
        "symbolic_shapes.DimDynamic",
        "symbolic_shapes.DivideByKey",
        "symbolic_shapes.EqualityConstraint",
        "symbolic_shapes.GuardOnDataDependentSymNode",
        "symbolic_shapes.InnerTensorKey",
        "symbolic_shapes.PendingUnbackedSymbolNotFound",
        "symbolic_shapes.RelaxedUnspecConstraint",
        "symbolic_shapes.ShapeEnv",
        "symbolic_shapes.Specialization",
        "symbolic_shapes.StatefulSymbolicContext",
        "symbolic_shapes.StatelessSymbolicContext",
        "symbolic_shapes.StrictMinMaxConstraint",
        "symbolic_shapes.SubclassSymbolicContext",
        "symbolic_shapes.SymIntSymbolicContext",
        "symbolic_shapes.SymbolicContext",
        "symbolic_shapes.TrackedFake",
        "symbolic_shapes._ShapeEnvGuardError",
    }


@pytest.mark.parametrize("module", ["symfx", "symfx.algebra", "symfx.errors", "symfx.untrusted"])
def test_light_modules_bring_in_neither_torch_nor_sympy(module: str) -> None:
    code = f"import sys, {module}; print(sorted({{'torch', 'sympy'}} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": str(SRC)},
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("module", MODULES)
def test_the_algebra_knows_no_torch_and_but_for_its_view_no_sympy(module: str) -> None:
    """The view speaks torch's dialect of sympy, so it may import both."""
    if room_of(module) != "algebra" or module.startswith(SYMPY_VIEW):
        return
    for line, name in imports(module):
        assert name.split(".")[0] not in ("torch", "sympy"), f"{module}:{line} imports {name}"


def readme_command(kind: str) -> str:
    """The shell block of the README that follows the marker of a command."""
    found = re.findall(
        rf"<!-- command: {kind} -->\n```sh\n(.*?)\n```", (ROOT / "README.md").read_text(), re.DOTALL
    )
    assert len(found) == 1, f"README.md must have one `<!-- command: {kind} -->` before a sh block"
    return found[0]


def test_the_readme_has_one_command_for_each_job() -> None:
    for kind in ("main", "test"):
        command = readme_command(kind)
        assert len(command.splitlines()) == 1
        assert command.startswith("python3 -m venv .venv && .venv/bin/pip install ")
    assert "symfx trace examples/" in readme_command("main")
    assert ".[test]" in readme_command("test")
    assert "pytest" in readme_command("test")


def test_the_file_that_the_readme_traces_is_there() -> None:
    (target,) = re.findall(r"symfx trace (\S+):", readme_command("main"))
    assert (ROOT / target).is_file()


def test_ci_runs_the_readmes_own_commands() -> None:
    """In an environment of its own, and otherwise word for word."""
    done = subprocess.run(
        ["bash", ROOT / ".ci" / "run", "--show"], capture_output=True, text=True, check=True
    )
    commands = [readme_command(kind).replace(".venv", ".ci-venv") for kind in ("main", "test")]
    assert done.stdout.splitlines() == commands


def test_the_readme_says_what_symfx_is_for_in_its_first_ten_lines() -> None:
    first = "\n".join((ROOT / "README.md").read_text().splitlines()[:10])
    assert "PyTorch" in first
    assert "symbolic shapes" in first


def test_each_document_that_is_linked_is_there() -> None:
    for document in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")):
        for link in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", document.read_text()):
            assert (document.parent / link).exists(), f"{document.name} links to {link}"


def test_every_room_is_drawn() -> None:
    drawn = (ROOT / "docs" / "architecture.md").read_text()
    rooms = set(FLOOR_OF) - {"__init__", "_version"}
    assert [room for room in sorted(rooms) if not re.search(rf"\b{room}\b", drawn)] == []


def test_each_test_module_has_a_name_of_its_own() -> None:
    # pytest imports them by base name: the second of two would not be collected.
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert sorted(names) == sorted(set(names))
