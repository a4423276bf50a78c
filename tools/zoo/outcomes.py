"""What tracing and verifying one model gave."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field
from typing import NamedTuple

import torch

import symfx
from symfx.symbolic_shapes import Provenance
from tools.zoo.models import ZooModel

__all__ = ["SHAPES", "Condition", "Outcome", "outcome"]

#: The number of shapes, beside the example's, at which a graph is compared with its model.
SHAPES = 4


class Condition(NamedTuple):
    """A guard or a pin, and the line that needs it."""

    text: str
    line: str


@dataclass
class Outcome:
    """The row of a model.

    Attributes:
        name: the model.
        kind: what it takes: text, images and so on.
        dims: the dimensions that were asked to be dynamic.
        nodes: the nodes of the graph; 0 where there is none.
        guards: each guard, with the line that needs it.
        pins: each dimension that was asked to be dynamic and has one value, with the line.
        compared: the number of other shapes at which graph and model were compared.
        difference: the largest difference of any result; None if none was compared.
        problem: why the model was not traced, or where the graph disagrees; None if neither.
        notes: what the verification tells beside its comparisons.
        seconds: the time that tracing took.
    """

    name: str
    kind: str
    dims: list[str]
    nodes: int = 0
    guards: list[Condition] = field(default_factory=list)
    pins: list[Condition] = field(default_factory=list)
    compared: int = 0
    difference: float | None = None
    problem: str | None = None
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def __post_init__(self) -> None:
        """Take conditions as lists too, as they are read from JSON."""
        self.guards = [Condition(*guard) for guard in self.guards]
        self.pins = [Condition(*pin) for pin in self.pins]


def outcome(model: ZooModel, shapes: int = SHAPES) -> Outcome:
    """Trace a model, and compare its graph with it at other shapes."""
    dims = [d for entry in model.dynamic.values() for d in entry if d]
    row = Outcome(model.name, model.kind, list(dict.fromkeys(dims)))
    module, inputs = model.build(), model.example()
    began = time.perf_counter()
    with torch.no_grad():
        try:
            # Not strict: pins are what the table tells.
            t = symfx.trace(module, (), inputs, dynamic=dict(model.dynamic), strict=False)
        except Exception as error:  # noqa: BLE001 - any failure is a finding, and goes into the table
            row.problem = f"not traced: {type(error).__name__}: {_with_line(str(error))}"
            return row
        row.seconds = time.perf_counter() - began
        row.nodes = len(t.graph_module.graph.nodes)
        # A pin is told once, and not as a guard too. Numbers of the data are no dimensions.
        pinned = {
            f"{r.symbol_name} == {r.value}": r
            for r in t.specializations
            if r.symbol_name in row.dims
        }
        row.pins = [
            Condition(f"{record.symbol_name} = {record.value}", _line(record.provenance))
            for record in pinned.values()
        ]
        row.guards = [
            Condition(str(guard.term), _line(guard.provenance))
            for guard in t.guards
            if str(guard.term) not in pinned
        ]
        try:
            found = t.verify(shapes=shapes, make_inputs=model.at)
        except Exception as error:  # noqa: BLE001 - a finding
            row.problem = f"not verified: {type(error).__name__}: {_short(str(error))}"
            return row
    row.difference = found.difference
    row.compared = sum(run.compared and not run.example for run in found.runs)
    row.notes = [_short(note) for note in found.notes]
    failed = [run for run in found.runs if not run.passed]
    if failed:
        sizes = ", ".join(f"{name}={size}" for name, size in failed[0].sizes.items())
        row.problem = f"the graph disagrees at {sizes}: {_short(str(failed[0].failure))}"
    return row


def _short(text: str) -> str:
    lines = text.strip().splitlines() or ["no message"]
    return _shorter_path(lines[0])[:300]


def _with_line(text: str) -> str:
    """The first line of a message, and the one that names the user's line."""
    place = next((x.strip() for x in text.splitlines() if x.strip().startswith("at:")), None)
    return _short(text) if place is None else f"{_short(text)} {_shorter_path(place)}"


def _shorter_path(text: str) -> str:
    text = re.sub(r"\S*/site-packages/", "", text)
    return re.sub(r"transformers/models/\w+/", "", text)


def _line(provenance: Provenance) -> str:
    """The line behind a guard, with the path of a package in place of that of its file."""
    return _short(_shorter_path(str(provenance)))
