"""The steps of a sweep on one model: trace, verify, typecheck, optimize, export."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch.utils import _pytree as pytree

from symfx.errors import SymfxError
from symfx.sweep.jobs import StepResult
from symfx.tracing import trace

if TYPE_CHECKING:
    from symfx.symbolic_shapes import Provenance
    from symfx.tracing import Trace
    from symfx.tracing.verification import MakeInputs

__all__ = ["Subject", "run_steps"]

_LONGEST = 300


@dataclass
class Subject:
    """A model with an example call.

    Attributes:
        model: the model.
        args: the positional arguments of the call.
        kwargs: its keyword arguments.
        dynamic: the dynamic dimensions, as `symfx.trace` takes them.
        where: conditions on them.
        types: the types of the inputs by name, for the type checker; None if they are not known.
        make_inputs: draws inputs of other sizes; None to draw them in the manner of the example's.
        allow_pinned: whether a dimension may be pinned.
        shapes: the number of shapes to verify at beside the example's.
        seed: the seed of shapes and values.
    """

    model: Any
    args: Sequence[Any] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    dynamic: Any = None
    where: Sequence[Any] = ()
    types: Mapping[str, Any] | None = None
    make_inputs: MakeInputs | None = None
    allow_pinned: bool = True
    shapes: int = 4
    seed: int = 0
    traced: Trace | None = None


class _WrongError(Exception):
    """A step whose result is wrong.

    Args:
        message: what is wrong.
        facts: the results from before the failure.
    """

    def __init__(self, message: str, facts: Mapping[str, Any]) -> None:
        self.facts = facts
        super().__init__(message)


def run_steps(subject: Subject, steps: Sequence[str]) -> Iterator[StepResult]:
    """Take steps with a model; a step that fails does not keep the next ones from running."""
    for step in steps:
        if step == "verify" and subject.traced is None:
            yield StepResult(step, "skipped")
            continue
        began = time.perf_counter()
        try:
            with torch.no_grad():
                facts = _STEPS[step](subject)
        except _WrongError as wrong:
            seconds = time.perf_counter() - began
            yield StepResult(step, "failed", seconds, str(wrong), wrong.facts)
        except Exception as error:  # noqa: BLE001 - any failure of a model is a finding
            message = _first_lines(error)
            yield StepResult(step, "failed", time.perf_counter() - began, message)
        else:
            yield StepResult(step, "ok", time.perf_counter() - began, None, facts)


def _trace(subject: Subject) -> dict[str, Any]:
    subject.traced = t = trace(
        subject.model,
        tuple(subject.args),
        dict(subject.kwargs),
        dynamic=subject.dynamic,
        where=list(subject.where) or None,
        strict=not subject.allow_pinned,
    )
    names = _names(subject.dynamic)
    # A pin is told once, and not as a guard too. Numbers of the data are no dimensions.
    pins = {
        f"{record.symbol_name} == {record.value}": record
        for record in t.specializations
        if not names or record.symbol_name in names
    }
    return {
        "nodes": len(t.graph_module.graph.nodes),
        "symbols": [info.name for info in t.symbols],
        "guards": [
            [str(guard.term), _line(guard.provenance)]
            for guard in t.guards
            if str(guard.term) not in pins
        ],
        "pins": [
            [f"{record.symbol_name} = {record.value}", _line(record.provenance)]
            for record in pins.values()
        ],
        "notes": [short(note) for note in t.notes],
    }


def _verify(subject: Subject) -> dict[str, Any]:
    assert subject.traced is not None  # the caller skips the step otherwise
    found = subject.traced.verify(
        shapes=subject.shapes, seed=subject.seed, make_inputs=subject.make_inputs
    )
    facts = {
        "compared": sum(run.compared and not run.example for run in found.runs),
        "difference": found.difference,
        "notes": [short(note) for note in found.notes],
    }
    failed = [run for run in found.runs if not run.passed]
    if failed:
        sizes = ", ".join(f"{name}={size}" for name, size in failed[0].sizes.items())
        raise _WrongError(f"the graph disagrees at {sizes}: {short(str(failed[0].failure))}", facts)
    return facts


def _typecheck(subject: Subject) -> dict[str, Any]:
    from symfx.static_migration import typecheck  # needs z3, which few steps do

    if subject.types is None:
        raise SymfxError("the types of its inputs are not known", fix="describe its inputs")
    where = [str(condition) for condition in subject.where]
    found = typecheck(subject.model, dict(subject.types), where)
    facts = {
        "verdict": found.verdict,
        "unknown": sum("Dyn" in shape for shape in found.shapes.values()),
        "nodes": len(found.shapes),
        "conditions": [str(condition) for condition in found.conditions],
    }
    if found.verdict != "well-typed":
        conflict = found.conflict.message if found.conflict is not None else found.verdict
        raise _WrongError(short(str(conflict)), facts)
    return facts


def _optimize(subject: Subject) -> dict[str, Any]:
    from symfx.optimization.pipeline import optimize

    if not isinstance(subject.model, torch.nn.Module):
        raise SymfxError("only a module can be optimized")
    # Times of models that run side by side say nothing, so that no form is chosen by time.
    fast = optimize(subject.model, list(subject.args), dict(subject.kwargs), measure=False)
    return {"rewrites": len(fast.report.rewrites)}


def _export(subject: Subject) -> dict[str, Any]:
    t = trace(
        subject.model,
        tuple(subject.args),
        dict(subject.kwargs),
        dynamic=subject.dynamic,
        where=list(subject.where) or None,
        strict=not subject.allow_pinned,
        pre_dispatch=True,
    )
    program = t.to_exported_program()
    return {"nodes": len(program.graph.nodes)}


_STEPS: dict[str, Callable[[Subject], dict[str, Any]]] = {
    "trace": _trace,
    "verify": _verify,
    "typecheck": _typecheck,
    "optimize": _optimize,
    "export": _export,
}


def _names(dynamic: Any) -> set[str]:
    """The names of dimensions in an argument ``dynamic`` of plain tuples and names."""
    leaves = pytree.tree_leaves(dict(dynamic) if isinstance(dynamic, Mapping) else dynamic)
    return {leaf for leaf in leaves if isinstance(leaf, str) and leaf.isidentifier()}


def _first_lines(error: Exception) -> str:
    """The first line of a message, and the one that names the user's line."""
    text = str(error)
    name = type(error).__name__
    place = next((x.strip() for x in text.splitlines() if x.strip().startswith("at:")), None)
    first = f"{name}: {short(text)}"
    return first if place is None else f"{first} {_shorter_path(place)[:_LONGEST]}"


def short(text: str) -> str:
    """The first line of a text, with shorter paths of packages."""
    lines = text.strip().splitlines() or ["no message"]
    return _shorter_path(lines[0])[:_LONGEST]


def _shorter_path(text: str) -> str:
    text = re.sub(r"\S*/site-packages/", "", text)
    return re.sub(r"transformers/models/\w+/", "", text)


def _line(provenance: Provenance) -> str:
    """The line behind a guard, with the path of a package in place of that of its file."""
    return short(str(provenance))
