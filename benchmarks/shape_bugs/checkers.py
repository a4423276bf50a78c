"""The checkers that shape bugs are put to, each with what it says of one program.

Each checker gets the program and the types of its inputs, with names of sizes or with numbers.
ShapeProp and jaxtyping run a program on numbers and have no answer for names.
"""

from __future__ import annotations

import re
import traceback
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from benchmarks.shape_bugs.cases import Case, Program, instance
from symfx.static_migration import typecheck
from symfx.static_migration.conditions import InputType, parse_input

__all__ = ["CHECKERS", "Checker", "Verdict", "run_eager"]


@dataclass(frozen=True)
class Verdict:
    """The answer of a checker about one program.

    Args:
        refused: the checker refuses the program.
        text: what the user reads.
        unknown: some shape stays unknown.
        offer: inputs that would work, or a hint for the mend, is part of the text.
    """

    refused: bool
    text: str = ""
    unknown: bool = False
    offer: bool = False

    def names_line_of(self, case: Case) -> bool:
        """Whether the text has a line of the bug."""
        found = {f"{file}:{line}" for file, line in re.findall(r"(\w+\.py):(\d+)", self.text)}
        traced = re.findall(r'File "[^"]*?(\w+\.py)", line (\d+)', self.text)
        found |= {f"{file}:{line}" for file, line in traced}
        return bool(found & {*case.lines()})


@dataclass(frozen=True)
class Checker:
    """A checker.

    Args:
        name: its name in the table.
        check: checks a program of a case, with names of sizes or without.
        takes_names: it has an answer for names of sizes.
    """

    name: str
    check: Callable[[Case, Program, bool], Verdict]
    takes_names: bool


def _types(case: Case, named: bool) -> dict[str, InputType]:
    return dict(map(parse_input, case.inputs if named else case.sized_inputs()))


def _examples(case: Case) -> dict[str, torch.Tensor]:
    made: dict[str, torch.Tensor] = {}
    for name, given in _types(case, False).items():
        dtype: torch.dtype = getattr(torch, given.dtype)
        shape = [int(dim) for dim in given.dims or () if dim is not None]
        made[name] = torch.zeros(shape, dtype=dtype)
    return made


def run_eager(case: Case, program: Program) -> Any:
    """The result of a program of a case in eager, on the sizes of the case."""
    with torch.no_grad():
        return instance(program)(**_examples(case))


def _refusal() -> Verdict:
    return Verdict(True, traceback.format_exc())


# -- symfx -----------------------------------------------------------------------------------------


def _symfx(case: Case, program: Program, named: bool) -> Verdict:
    """As ``symfx typecheck --strict``."""
    where = case.where if named else ()
    found = typecheck(instance(program), _types(case, named), where)
    said = [str(part) for part in (*found.fixed, *found.excluded, *found.warnings)]
    if found.conflict is not None:
        said.append(str(found.conflict))
    text = "\n".join(said)
    unknown = bool(found.unknown_operators) or "Dyn" in "".join(found.shapes.values())
    hints = [name.hint for name in found.fixed] + [sizes.hint for sizes in found.excluded]
    offer = "this would work" in text or "hint: " in text or any(hints)
    return Verdict(bool(said) or found.verdict != "well-typed", text, unknown, offer)


# -- torch -----------------------------------------------------------------------------------------


def _shape_prop(case: Case, program: Program, named: bool) -> Verdict:
    from torch.fx.passes.shape_prop import ShapeProp

    try:
        traced = torch.fx.symbolic_trace(instance(program))
        inputs = _examples(case)
        names = [str(n.target) for n in traced.graph.nodes if n.op == "placeholder"]
        ShapeProp(traced).propagate(*(inputs[name] for name in names))
    except Exception:  # noqa: BLE001 - the checker may refuse in any way
        return _refusal()
    unknown = any("tensor_meta" not in n.meta for n in traced.graph.nodes if n.op == "call_module")
    return Verdict(False, unknown=unknown)


def _module(program: Program) -> torch.nn.Module:
    """The model of a class, or a function as a model, which torch.export takes alone."""
    if isinstance(program, type):
        return instance(program)
    made: Any = type("Function", (torch.nn.Module,), {"forward": staticmethod(program)})
    return made()


def _export(case: Case, program: Program, named: bool) -> Verdict:
    dims = _export_dims(case) if named else {}
    shapes = {
        name: {i: dims[dim] for i, dim in enumerate(given.dims or ()) if dim in dims}
        for name, given in _types(case, True).items()
    }
    try:
        torch.export.export(
            _module(program), (), _examples(case), dynamic_shapes=shapes if named else None
        )
    except Exception:  # noqa: BLE001 - the checker may refuse in any way
        return _refusal()
    return Verdict(False)


def _export_dims(case: Case) -> Mapping[Any, Any]:
    """The names of sizes as ``torch.export.Dim``, with the conditions that it can say."""
    dims: dict[Any, Any] = {}
    for name in case.sizes:
        bounds: dict[str, int] = {}
        factor = 1
        for condition in case.where:
            if found := re.fullmatch(rf"{name} (>=|<=) (\d+)", condition):
                bounds["min" if found[1] == ">=" else "max"] = int(found[2])
            elif found := re.fullmatch(rf"{name} % (\d+) == 0", condition):
                factor = int(found[1])
        dim: Any = torch.export.Dim(f"{name}_part" if factor > 1 else name, **bounds)
        dims[name] = factor * dim if factor > 1 else dim
    return dims


# -- jaxtyping -------------------------------------------------------------------------------------


def _jaxtyping(case: Case, program: Program, named: bool) -> Verdict:
    """Check a run: arguments as the case describes them, results as the mended program's."""
    import jaxtyping
    from beartype import beartype

    kinds = {
        "float32": jaxtyping.Float32,
        "int64": jaxtyping.Int64,
        "bool": jaxtyping.Bool,
    }
    annotations: dict[str, Any] = {
        name: kinds[given.dtype][torch.Tensor, " ".join(str(dim) for dim in given.dims or ())]
        for name, given in _types(case, True).items()
    }
    result = run_eager(case, case.mended)
    if isinstance(result, torch.Tensor):
        sizes = {size: name for name, size in case.sizes.items()}
        dims = " ".join(str(sizes.get(size, size)) for size in result.shape)
        annotations["return"] = jaxtyping.Shaped[torch.Tensor, dims]

    module = instance(program)
    is_model = isinstance(module, torch.nn.Module)
    plain: Any = type(module).forward if is_model else lambda _, *inputs: module(*inputs)

    names = ", ".join(case.inputs[i].partition(":")[0] for i in range(len(case.inputs)))
    space: dict[str, Any] = {"plain": plain}
    exec(f"def forward(self, {names}):\n    return plain(self, {names})", space)
    forward: Any = space["forward"]
    forward.__annotations__ = annotations
    checked = jaxtyping.jaxtyped(typechecker=beartype)(forward)
    try:
        with torch.no_grad():
            checked(module, **_examples(case))
    except Exception:  # noqa: BLE001 - the checker may refuse in any way
        return _refusal()
    return Verdict(False)


CHECKERS = (
    Checker("symfx typecheck --strict", _symfx, takes_names=True),
    Checker("torch.export", _export, takes_names=True),
    Checker("torch.fx ShapeProp", _shape_prop, takes_names=False),
    Checker("jaxtyping with beartype", _jaxtyping, takes_names=False),
)

warnings.filterwarnings("ignore", module="torch")
