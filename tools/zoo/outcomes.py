"""What tracing and verifying one model gave, as a row of the page."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from symfx.sweep import Result
from symfx.sweep.architectures import ARCHITECTURES

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
        dims: the dimensions that were asked to be dynamic.
        nodes: the nodes of the graph; 0 where there is none.
        guards: each guard, with the line that needs it.
        pins: each dimension that was asked to be dynamic and has one value, with the line.
        compared: the number of other shapes at which graph and model were compared.
        difference: the largest difference of any result; None if none was compared.
        problem: why the model was not traced, or where the graph disagrees; None if neither.
        notes: what the verification tells beside its comparisons.
    """

    name: str
    dims: list[str]
    nodes: int = 0
    guards: list[Condition] = field(default_factory=list)
    pins: list[Condition] = field(default_factory=list)
    compared: int = 0
    difference: float | None = None
    problem: str | None = None
    notes: list[str] = field(default_factory=list)


_PROBLEMS = {"trace": "not traced: ", "verify": "not verified: "}


def outcome(result: Result) -> Outcome:
    """The row of a result of a sweep whose steps are trace and verify."""
    named = ARCHITECTURES[result.name].dynamic.values()
    row = Outcome(result.name, list(dict.fromkeys(d for entry in named for d in entry if d)))
    for step in result.steps:
        facts = step.facts
        if step.step == "trace" and step.outcome == "ok":
            row.nodes = facts["nodes"]
            row.guards = [Condition(*guard) for guard in facts["guards"]]
            row.pins = [Condition(*pin) for pin in facts["pins"]]
        if step.step == "verify" and facts:
            row.compared, row.difference = facts["compared"], facts["difference"]
            row.notes = facts["notes"]
        if step.outcome not in ("ok", "skipped"):
            # A graph that disagrees has a sentence of its own.
            kind = "" if facts else _PROBLEMS.get(step.step, "")
            row.problem = row.problem or f"{kind}{step.message}"
    return row
