"""Whether the guards of a trace are few: each necessary, and no shape refused that torch takes.

A guard is necessary if some sizes satisfy the other guards and not this one: such sizes are the
witness. They are searched among small sizes first, and then by z3.
"""

from __future__ import annotations

import contextlib
import itertools
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import z3

import symfx
from symfx.algebra import Term
from symfx.algebra.languages.smtlib import smtlib_script
from symfx.sweep.architectures import Architecture
from symfx.tracing.admission import holds

__all__ = ["Minimality", "minimality", "needless"]

_SMALL = (1, 2, 3, 4, 5, 7, 8, 12, 16, 17, 32, 64)
_TRIES, _SECONDS = 4000, 20


@dataclass
class Minimality:
    """What was found of the guards of one model.

    Attributes:
        name: the model.
        guards: the number of its guards.
        needless: the guards without a witness.
        refused: shapes that the program of torch.export takes and the trace refuses.
        asked: the number of shapes at which both were asked.
        problem: why there is no trace, or no exported program; None if both are there.
    """

    name: str
    guards: int = 0
    needless: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    asked: int = 0
    problem: str | None = None


def needless(t: symfx.Trace) -> list[Term]:
    """The guards of a trace whose removal would leave the admitted inputs as they are.

    Args:
        t: the trace.
    """
    terms = [guard.term for guard in t.guards]
    found = []
    for term in terms:
        others = [other for other in terms if other is not term]
        if _witness(t, term, others) is None:
            found.append(term)
    return found


def _witness(t: symfx.Trace, term: Term, others: Sequence[Term]) -> Mapping[Term, int] | None:
    """Sizes that satisfy the other guards and the ranges at the beginning, and not this guard."""
    symbols = sorted({s for c in (term, *others) for s in c.free_symbols}, key=lambda s: s.name)
    given = [c for c in t.shape_env.knowledge.given if c.free_symbols <= set(symbols)]
    wanted = [*given, *others]
    for values in _small_sizes(symbols):
        if not holds(term, values) and all(holds(c, values) for c in wanted):
            return values
    # z3 reads the number of a symbol by the place of its declaration.
    names = {s: f"n{i}" for i, s in enumerate(symbols)}
    script = smtlib_script(wanted, names, declare=symbols)
    refuted = smtlib_script([term], names, declare=symbols)
    solver = z3.Solver()
    solver.set("timeout", _SECONDS * 1000)
    solver.from_string(script)
    solver.add(z3.Not(z3.And(*z3.parse_smt2_string(refuted))))
    if solver.check() != z3.sat:
        return None
    model = solver.model()
    return {
        s: model.eval(z3.Int(names[s]), model_completion=True).as_long()  # type: ignore[union-attr]
        for s in symbols
    }


def _small_sizes(symbols: Sequence[Term]) -> Iterator[dict[Term, int]]:
    picks = random.Random(0)
    if len(_SMALL) ** len(symbols) <= _TRIES:
        every = itertools.product(range(65) if len(symbols) == 1 else _SMALL, repeat=len(symbols))
        yield from (dict(zip(symbols, values, strict=True)) for values in every)
        return
    for _ in range(_TRIES):
        yield {s: picks.choice(_SMALL) for s in symbols}


def minimality(model: Architecture, shapes: int) -> Minimality:
    """Look for needless guards of a model, and for shapes that torch.export alone takes.

    Args:
        model: the model.
        shapes: how many shapes are drawn for the second.
    """
    found = Minimality(model.name)
    module, inputs = model.build(), model.example()
    try:
        with torch.no_grad():
            t = symfx.trace(module, (), inputs, dynamic=_from_one(model), strict=False)
    except symfx.SymfxError as error:
        found.problem = f"not traced: {error.what.splitlines()[0]}"
        return found
    found.guards = len(t.guards)
    found.needless = [str(term) for term in needless(t)]
    _compare(found, t, model, module, inputs, shapes)
    return found


def _from_one(model: Architecture) -> dict[str, Any]:
    """The dynamic dimensions of a model, which may be 1: torch.export does not exclude it."""
    return {
        name: tuple(d and symfx.Dim(d, min=1) for d in entry)
        for name, entry in model.dynamic.items()
    }


def _compare(
    found: Minimality,
    t: symfx.Trace,
    model: Architecture,
    module: torch.nn.Module,
    inputs: dict[str, Any],
    shapes: int,
) -> None:
    auto = torch.export.Dim.AUTO
    dynamic = {
        name: {d: auto for d, entry in enumerate(model.dynamic.get(name, ())) if entry}
        for name in inputs
    }
    try:
        with torch.no_grad():
            program: Any = torch.export.export(module, (), inputs, dynamic_shapes=dynamic).module()
    except Exception as error:  # noqa: BLE001 - torch.export raises what the model raises
        found.problem = f"torch.export: {str(error).splitlines()[0] if str(error) else error!r}"
        return
    picks = random.Random(0)
    names = {d for entry in model.dynamic.values() for d in entry if d}
    for _ in range(shapes):
        sizes = {name: picks.choice(_SMALL) for name in sorted(names)}
        with contextlib.suppress(Exception), torch.no_grad():
            given = model.at(sizes)
            module(**given)  # where the model itself fails there is nothing to take
            program(**given)
            found.asked += 1
            refusal = t.check(**given)
            if not refusal:
                found.refused.append(f"{sizes}: {refusal.failures[0]}")
