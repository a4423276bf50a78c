"""docs/operators.md: the rows of all operators as a page."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from tools.operators.samples import FORMS
from tools.operators.tally import SAMPLES, Row

__all__ = ["page"]


def page(found: Sequence[Row]) -> str:
    """The tables as a page of the documentation."""
    tried = [r for r in found if r.samples]
    text = f"""# Operators

Written by `python -m tools.operators` with torch {torch.__version__}. Each operator of torch's own
test database on CPU is traced with symbolic shapes, for up to {SAMPLES["function"]} samples in
float32 and int64; the forms other than functions get one sample. A sample counts as traced if the
results of the graph equal those of the operator at the traced shapes. They must be equal at another
shape too, where the guards of the trace admit one. The same test decides for symfx and stock torch.

"""
    alone = {r.name for r in tried if r.symfx_alone}
    lost = {r.name for r in tried if r.stock > r.symfx - r.symfx_alone}
    text += f"""Operators with a sample in some form that symfx alone traces: {len(alone)};
that stock torch alone traces: {len(lost)}.

"""
    for form in FORMS:
        text += _section(form, [r for r in tried if r.form == form])
    text += """
## Operator by operator

As functions:

| operator | samples | symfx | stock | symfx's errors for the others |
| --- | --- | --- | --- | --- |
"""
    return text + "".join(_line(r) for r in tried if r.form == "function")


def _section(form: str, found: Sequence[Row]) -> str:
    ours = sum(r.symfx == r.samples for r in found)
    stock = sum(r.stock == r.samples for r in found)
    samples = sum(r.samples for r in found)
    by = [sum(getattr(r, peer) for r in found) for peer in ("symfx", "stock")]
    elsewhere = sum(r.elsewhere for r in found)
    more = [r for r in found if r.symfx_alone]
    less = [r for r in found if r.stock > r.symfx - r.symfx_alone]
    names = ", ".join(r.name for r in more) or "none"
    lost = ", ".join(r.name for r in less) or "none"
    return f"""## {TITLES[form]}

- Operators tried: {len(found)}. All their samples traced: by symfx {ours}, by stock torch {stock}.
- Samples: {samples}. Traced by symfx: {by[0]} ({elsewhere} of them run at another shape too), by
  stock torch: {by[1]}.
- Operators with a sample that symfx alone traces ({len(more)}): {names}.
- Operators with a sample that stock torch alone traces ({len(less)}): {lost}.

"""


TITLES = {
    "function": "As functions",
    "in place": "In place",
    "out=": "With `out=`",
    "gradient": "Gradients",
}


def _line(r: Row) -> str:
    problems = "; ".join(r.problems).translate(str.maketrans("|<>\n", "/() "))
    return f"| {r.name} | {r.samples} | {r.symfx} | {r.stock} | {problems} |\n"
