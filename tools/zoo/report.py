"""docs/zoo.md: the outcomes of all models as a page."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import transformers

from tools.zoo.outcomes import SHAPES, Condition, Outcome

__all__ = ["page"]


def page(found: Sequence[Outcome]) -> str:
    """The table, and the guards and pins of each model, as a page of the documentation."""
    good = [r for r in found if r.problem is None]
    free = [r for r in good if not r.pins]
    bare = [r for r in free if not r.guards]
    text = f"""# The zoo

Written by `python -m tools.zoo` with torch {torch.__version__} and transformers
{transformers.__version__}. Each model is an architecture of transformers with tiny random weights,
in eval mode. The dimensions in the second column were asked to be dynamic. The graph was compared
with the model at the example and at {SHAPES} other shapes, or at as many as there are.

- Models: {len(found)}. Traced and equal to the model at every shape: {len(good)}.
- Without a pinned dimension: {len(free)} of these; without a guard either: {len(bare)}.

| model | dynamic | nodes | guards | pins | other shapes | largest difference |
| --- | --- | --- | --- | --- | --- | --- |
"""
    text += "".join(map(_row, found))
    text += "\n## Guards and pins, with the lines that need them\n"
    for r in found:
        if r.guards or r.pins:
            text += f"\n{r.name}:\n"
            text += "".join(f"- pinned: {_code(pin)}\n" for pin in r.pins)
            text += "".join(f"- guard: {_code(guard)}\n" for guard in r.guards)
    bad = [r for r in found if r.problem is not None]
    if bad:
        text += "\n## Not traced, or not equal\n\n"
        text += "".join(f"- {r.name}: `{_cell(str(r.problem))}`\n" for r in bad)
    noted = [r for r in good if r.notes]
    if noted:
        text += "\n## Notes of the verification\n\n"
        text += "".join(f"- {r.name}: {_cell('; '.join(r.notes))}\n" for r in noted)
    return text


def _row(r: Outcome) -> str:
    dims = ", ".join(r.dims)
    if r.problem is not None:
        return f"| {r.name} | {dims} | | | | | {_cell(r.problem.partition(':')[0])} |\n"
    difference = "none" if r.difference is None else f"{r.difference:.1e}"
    counts = f"{r.nodes} | {len(r.guards)} | {len(r.pins)} | {r.compared}"
    return f"| {r.name} | {dims} | {counts} | {difference} |\n"


def _cell(text: str) -> str:
    return text.translate(str.maketrans("|\n", "/ "))


def _code(condition: Condition) -> str:
    """A condition and its line, both as code: a line of Python may read like a link."""
    return f"`{condition.text}`: `{condition.line}`"
