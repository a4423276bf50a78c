"""The package stands as docs/architecture.md draws it: its floors, its folders, and no circles."""

from __future__ import annotations

import ast
import dataclasses
import functools
import graphlib
import re
import subprocess
import sys
from collections.abc import Collection, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SRC = ROOT / "src"
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text()

#: Every module of the package by its dotted name; a package stands under its own name.
MODULES = {
    ".".join(path.relative_to(SRC).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(SRC.rglob("*.py"))
}
#: The same for the programs beside the package.
PROGRAMS = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for folder in ("benchmarks", "tools")
    for path in sorted((ROOT / folder).rglob("*.py"))
}
FILES = MODULES | PROGRAMS
SYMPY_VIEW = ("symfx.algebra.sympy_view", "symfx.algebra.languages.sympy")
IDENTITY = "symfx.torch_bridge.identity"
DYNAMO = "symfx.torch_bridge.dynamo"

#: A whole hands itself to its parts: the whole imports the parts, and the parts name the type of
#: the whole. Type-only imports of these modules close circles, and reach up a floor. The list may
#: grow shorter; run-time imports have no exception.
TYPES_OF_A_WHOLE = {
    "symfx.algebra.reasoning.facts": "equations and inequalities work on the facts that hold them",
    "symfx.algebra.reasoning.lower_bounds.search": "each way to a bound asks the search for more",
    "symfx.algebra.reasoning.prover": "a case is tried by the prover that splits into cases",
    "symfx.algebra.terms.table": "each operation on terms gets the table that binds it",
    "symfx.algebra.terms.term": "a rope holds terms, and a term that is a long sum is a rope",
    "symfx.symbolic_shapes.shape_env": "ShapeEnv is made of parts, which are handed the ShapeEnv",
}


@dataclasses.dataclass(frozen=True)
class Import:
    """One name that a module imports, at its top or in a function."""

    line: int
    name: str
    types_only: bool

    @property
    def module(self) -> str | None:
        """The module of the project that the name is or stands in; None outside the project."""
        name = self.name
        while name and name not in FILES:
            name = name.rpartition(".")[0]
        return name or None


@functools.cache
def imports(module: str) -> tuple[Import, ...]:
    path = FILES[module]
    package = module.split(".")
    if path.name != "__init__.py":
        package.pop()

    def walk(node: ast.AST, types_only: bool) -> Iterator[Import]:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(node.lineno, alias.name, types_only)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            name = ".".join([*base, *filter(None, [node.module])])
            # The imported name may be a module itself: `from torch.fx import experimental`.
            for alias in node.names:
                yield Import(node.lineno, f"{name}.{alias.name}", types_only)
        elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            for child in node.body:
                yield from walk(child, True)
            for child in node.orelse:
                yield from walk(child, types_only)
        else:
            for child in ast.iter_child_nodes(node):
                yield from walk(child, types_only)

    return tuple(walk(ast.parse(path.read_text()), False))


def imports_that_count(module: str, exceptions: Collection[str]) -> Iterator[tuple[Import, str]]:
    """The imports of other modules of the project, without the type-only ones of `exceptions`."""
    for imported in imports(module):
        target = imported.module
        if target is None or target == module or (imported.types_only and target in exceptions):
            continue
        yield imported, target


# Floors: docs/architecture.md states them in a table, the highest floor first.


def floors_as_drawn() -> dict[str, int]:
    """Return the height of each room in the table of floors; a room is a path below src/symfx."""
    section = ARCHITECTURE.partition("\n## Floors\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (`.*?`) \|", section, re.MULTILINE)
    rooms = [re.findall(r"`([\w/]+)`", row) for row in rows]
    return {room: height for height, row in enumerate(reversed(rooms)) for room in row}


FLOOR_OF = floors_as_drawn()


def room_of(module: str) -> str:
    """The innermost room of the table that holds a module; `symfx` itself is `__init__`."""
    path = module.partition(".")[2].replace(".", "/") or "__init__"
    while path not in FLOOR_OF and "/" in path:
        path = path.rpartition("/")[0]
    return path


def test_every_room_has_a_floor() -> None:
    rooms = {room_of(module) for module in MODULES}
    assert rooms == set(FLOOR_OF), "list the new room in the table of floors of architecture.md"


@pytest.mark.parametrize("module", MODULES)
def test_floors_import_downwards_only(module: str) -> None:
    room = room_of(module)
    for imported, target in imports_that_count(module, TYPES_OF_A_WHOLE):
        below = room_of(target)
        assert below == room or FLOOR_OF[below] < FLOOR_OF[room], (
            f"{module}:{imported.line} imports {imported.name}, which is not on a floor below"
        )


# Circles of modules.


def circle(exceptions: Collection[str]) -> list[str]:
    """Return the modules of one circle of imports, or nothing."""
    graph = {
        module: {target for _, target in imports_that_count(module, exceptions)} for module in FILES
    }
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return list(error.args[1])
    return []


def test_no_modules_import_each_other_in_a_circle() -> None:
    assert circle(TYPES_OF_A_WHOLE) == []


@pytest.mark.parametrize("module", TYPES_OF_A_WHOLE)
def test_each_exception_is_needed(module: str) -> None:
    others = TYPES_OF_A_WHOLE.keys() - {module}
    assert circle(others), f"nothing needs the exception for {module} any more: delete it"


# Names and sizes of files.


@pytest.mark.parametrize("package", [m for m, path in MODULES.items() if path.stem == "__init__"])
def test_no_module_hides_behind_a_name_that_its_package_exports(package: str) -> None:
    """`import symfx.x.trace` gives a function where symfx.x exports a function `trace`."""
    modules = {module for module in MODULES if module.rpartition(".")[0] == package}
    for node in ast.parse(MODULES[package].read_text()).body:
        exported: dict[str, str] = {}  # each name that the statement binds, and its origin
        if isinstance(node, ast.ImportFrom):
            exported = {a.asname or a.name: f"{node.module}.{a.name}" for a in node.names}
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            exported = {node.name: "here"}
        elif isinstance(node, ast.Assign):
            exported = {n.id: "here" for n in node.targets if isinstance(n, ast.Name)}
        for name, origin in exported.items():
            module = f"{package}.{name}"
            assert module not in modules or origin == module, f"{package} exports {name}: {module}"


def test_long_files_say_why_they_are_long() -> None:
    """The docstring of a file of more than 500 lines has a sentence with "long because"."""
    for folder in ("src", "benchmarks", "examples", "tools"):
        for path in (ROOT / folder).rglob("*.py"):
            text = path.read_text()
            name = path.relative_to(ROOT).as_posix()
            if len(text.splitlines()) > 500:
                docstring = ast.get_docstring(ast.parse(text)) or ""
                assert "long because" in " ".join(docstring.split()), name


def drawn_paths() -> Iterator[str]:
    """Each path below src/symfx that the picture of architecture.md draws."""
    picture = re.search(r"```text\nsrc/symfx/\n(.*?)```", ARCHITECTURE, re.DOTALL)
    assert picture, "docs/architecture.md draws the tree of src/symfx in a block"
    folders: list[str] = []
    for line in picture[1].splitlines():
        depth = (len(line) - len(line.lstrip())) // 2 - 1
        names = re.split(r"\s{2,}", line.strip())[0].split()
        folders[depth:] = [names[0]] if names[0].endswith("/") else []
        for name in names:
            yield "".join(folders[:depth]) + name


def test_the_picture_draws_what_is_there() -> None:
    drawn = set(drawn_paths())
    package = SRC / "symfx"
    assert [path for path in sorted(drawn) if not (package / path).exists()] == []
    folders = {f"{p.parent.relative_to(package)}/" for p in package.rglob("*/__init__.py")}
    files = {path.name for path in package.glob("*.py")}
    assert (folders | files) - drawn == set(), "draw it in docs/architecture.md"


def test_the_modules_that_architecture_names_are_there() -> None:
    named = re.findall(r"`([\w/]+\.py)`", ARCHITECTURE)
    assert len(named) > 10
    homes = (SRC / "symfx", ROOT)
    assert [path for path in named if not any((home / path).is_file() for home in homes)] == []


# torch and sympy.


@pytest.mark.parametrize("module", MODULES)
def test_the_experimental_package_is_named_in_one_place(module: str) -> None:
    """Neither an import nor a string given to import_module names it elsewhere."""
    if module == IDENTITY:
        return
    for imported in imports(module):
        assert not imported.name.startswith("torch.fx.experimental"), f"{module}:{imported}"
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        called = isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module")
        assert not (called and "torch.fx.experimental" in ast.unparse(node)), module


def test_what_is_taken_from_torch_for_its_identity() -> None:
    """Classes to answer as, and functions that Dynamo knows; a new name is listed here."""
    prefix = "torch.fx.experimental."
    names = [imported.name for imported in imports(IDENTITY)]
    taken = {name.removeprefix(prefix) for name in names if name.startswith(prefix)}
    assert taken == {
        "_backward_state.BackwardState",
        "dynamic_spec",
        "proxy_tensor",
        "proxy_tensor.PreDispatchTorchFunctionMode",
        "proxy_tensor.ProxyTorchDispatchMode",
        "proxy_tensor.TorchFunctionMetadataMode",
        "sym_node.DynamicInt",
        "sym_node.SymNode",
        "sym_node._DynamicScalar",
        "symbolic_shapes",
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


@pytest.mark.parametrize("module", MODULES)
def test_questions_go_to_torch_in_one_place(module: str) -> None:
    """The module of torch's questions stands in the table whole, and for one reader."""
    taken = {imported.name for imported in imports(module)}
    assert (f"{IDENTITY}.symbolic_shapes_of_torch" in taken) == (module == DYNAMO)


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
    if not module.startswith("symfx.algebra") or module.startswith(SYMPY_VIEW):
        return
    for imported in imports(module):
        assert imported.name.split(".")[0] not in ("torch", "sympy"), f"{module}:{imported}"


def test_tests_stand_in_folders_named_as_those_of_the_package() -> None:
    folders = {
        path.parent.relative_to(ROOT / "tests") for path in ROOT.glob("tests/*/**/test_*.py")
    }
    with_other_oracles = {Path("end_to_end"), Path("parity"), Path("soundness")}
    missing = [f for f in folders - with_other_oracles if not (SRC / "symfx" / f).is_dir()]
    assert missing == []


def test_each_test_module_has_a_name_of_its_own() -> None:
    # pytest imports test modules by their base name: the second of two would not be collected.
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert sorted(names) == sorted(set(names))
