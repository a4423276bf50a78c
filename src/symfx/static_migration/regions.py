"""Conditions of a trace of operators that its program does not need.

A trace holds for sizes that satisfy its guards. Kernels cause many of them: at a size of 1 a
result lies otherwise in memory, or a few rows are multiplied in another way. The shapes are mostly
the same there. So the program is traced again at sizes that a guard excludes, until its traces hold
for all sizes together. If they have one result, the conditions between them are needless.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch.fx import GraphModule

from symfx.algebra import Term, evaluate
from symfx.errors import SymfxError
from symfx.shape_rules.sizes import UNKNOWN
from symfx.static_migration.analysis import GraphRun, run_graph
from symfx.static_migration.conditions import (
    InputType,
    declared_names,
    dimension_names,
    names_in,
)
from symfx.static_migration.equal_values import same_values
from symfx.static_migration.named_sizes import conditions_of, said_of
from symfx.static_migration.nested_inputs import flat_types
from symfx.static_migration.operator_tracing import is_large, traced_at
from symfx.static_migration.results import Migration
from symfx.static_migration.solver import Solver

__all__ = ["without_needless_conditions"]

#: A program is traced at most so many times again.
_MOST_TRACES = 10


def without_needless_conditions(
    found: Migration,
    graph: GraphModule,
    module: torch.nn.Module,
    inputs: Mapping[str, InputType],
    where: Sequence[str],
    timeout: float,
) -> None:
    """Take the needless conditions out of a migration.

    Args:
        found: the migration of the trace.
        graph: the trace.
        module: the program.
        inputs: the types of its inputs.
        where: the user's conditions.
        timeout: seconds that z3 may take for each question.
    """
    wanted = [excluded.condition for excluded in found.excluded]
    if not wanted:
        return
    needless = _needless(wanted, graph, module, inputs, where, Solver(timeout))
    found.conditions = [text for text in found.conditions if text not in needless]
    found.origins = {c: origin for c, origin in found.origins.items() if c not in needless}
    found.excluded = [e for e in found.excluded if e.condition not in needless]


def _needless(
    wanted: Sequence[str],
    graph: GraphModule,
    module: torch.nn.Module,
    inputs: Mapping[str, InputType],
    where: Sequence[str],
    solver: Solver,
) -> set[str]:
    """Those of some conditions that exclude no sizes at which the program has another result."""
    flat = flat_types(inputs)
    first = run_graph(graph.graph, graph, flat, where)
    table = first.sizes.table
    terms = {c.text: c.term for c in conditions_of(first.sizes, declared_names(flat), solver)}
    open_ = {text: terms[text] for text in wanted if text in terms}
    said = said_of(first.sizes)
    known = {symbol for term in (*said, *terms.values()) for symbol in term.free_symbols}
    outside = [table.not_(table.and_(*_region(first, flat)))]
    kept: dict[str, Term] = {}
    for _ in range(_MOST_TRACES):
        wishes = [*open_.values(), *(symbol >= 2 for symbol in known)]
        answer = solver.ask([*said, *kept.values(), *outside], wishes=wishes, small=True)
        if answer.verdict == "unsat":
            return {*open_}
        if answer.verdict != "sat":
            return set()
        values = {symbol: answer.values.get(symbol.name, 3) for symbol in known}
        here = {text for text, term in open_.items() if not evaluate(term, values)}
        if not here:
            return set()
        again = _trace_at(module, inputs, where, answer.values)
        if again is not None and _same_result(first, graph, *again, solver):
            run = again[1]
            outside.append(run.sizes.table.not_(run.sizes.table.and_(*_region(run, flat))))
            continue
        for text in here:
            kept[text] = open_.pop(text)
    return set()


def _region(run: GraphRun, inputs: Mapping[str, InputType]) -> list[Term]:
    """The conditions of a run on the sizes of inputs."""
    shapes = [run.values[n] for n in run.values if n.op == "placeholder"]
    names = {s for shape in shapes for size in shape for s in run.sizes.term(size).free_symbols}
    names |= {run.sizes.table.symbol(name) for name in declared_names(inputs)}
    conditions = [demand.condition for demand in run.sizes.demands]
    return [condition for condition in conditions if condition.free_symbols <= names]


def _trace_at(
    module: torch.nn.Module,
    inputs: Mapping[str, InputType],
    where: Sequence[str],
    values: Mapping[str, int],
) -> tuple[GraphModule, GraphRun] | None:
    """The program traced at other sizes; ``None`` if it fails there or cannot be traced."""
    flat = flat_types(inputs)
    texts = [
        t for n, given in flat.items() for t in dimension_names(n, given, declared_names(flat))
    ]
    names = {name: values.get(name, 3) for text in texts for name in names_in(text)}
    if is_large(flat, names):
        return None
    try:
        graph = traced_at(module, inputs, names)
        run = run_graph(graph.graph, graph, flat, where)
    except SymfxError:
        return None
    return None if run.failed is not None else (graph, run)


def _same_result(
    first: GraphRun, graph: GraphModule, other: GraphModule, run: GraphRun, solver: Solver
) -> bool:
    """Whether two runs have one result for all sizes that satisfy the conditions of the second."""
    one = first.values.get(graph.graph.output_node(), UNKNOWN)
    two = run.values.get(other.graph.output_node(), UNKNOWN)
    conditions = [demand.condition for demand in run.sizes.demands]
    return same_values(one, two, conditions, solver)
