"""Why a program is ill-typed: the nodes that contradict each other, and inputs that would work."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch.fx import Graph, Node

from symfx.algebra import Term, evaluate
from symfx.shape_rules.sizes import Shape
from symfx.static_migration.analysis import GraphRun, explain_failure, run_graph
from symfx.static_migration.conditions import (
    InputType,
    declared_names,
    dimension_names,
    names_in_condition,
    parse_condition,
)
from symfx.static_migration.decisions import branch_taken
from symfx.static_migration.printing import input_name, place_of, text_of
from symfx.static_migration.results import Conflict
from symfx.static_migration.solver import Solver, smallest_conflict
from symfx.static_migration.term_sizes import TermSizes

__all__ = ["find_conflict"]

#: How far from the user's sizes examples are looked for, by the number of sizes that differ.
_RADIUS = {1: 256, 2: 16, 3: 4}


def find_conflict(
    graph: Graph,
    module: torch.nn.Module,
    inputs: Mapping[str, InputType],
    where: Sequence[str],
    result: GraphRun,
    solver: Solver,
) -> Conflict:
    """Explain a run that failed.

    Args:
        graph: the graph.
        module: the module that the graph's modules and parameters belong to.
        inputs: the types of the inputs, by name.
        where: the user's conditions.
        result: the run.
        solver: answers questions about sizes.
    """
    node, message = result.failed or (None, "sizes contradict each other")
    demands = explain_failure(graph, module, inputs, where, node)
    grouped: dict[Any, list[Term]] = {}
    for demand in demands:
        grouped.setdefault(demand.node or demand.what, []).append(demand.condition)
    keys = [*grouped]
    table = result.sizes.table if not demands else demands[0].condition.table
    conditions = [table.and_(*parts) for parts in grouped.values()]
    core = {keys[i] for i in smallest_conflict(solver, conditions)}
    nodes = [n for n in graph.nodes if n in core]
    if not core and node is not None:  # a wrong rank: no sizes contradict each other
        nodes = [*node.all_input_nodes, node]
    said = tuple(str(key) for key in keys if key in core and isinstance(key, str))
    example, hopeless = _working_example(graph, module, inputs, where, solver)
    return Conflict(
        message,
        tuple(nodes),
        tuple(_line(n, module, result, inputs) for n in nodes),
        tuple(text for text in said if text.startswith("you said")),
        example,
        hopeless,
    )


def _line(
    node: Node, module: torch.nn.Module, result: GraphRun, inputs: Mapping[str, InputType]
) -> str:
    """A node of a conflict with its shape and its place."""
    if node.op == "placeholder":
        name = input_name(node)
        given = inputs[name]
        if given.dims is None or None not in given.dims:
            return f"{name}: {given.written}, as you wrote it"
        names = dimension_names(name, given, declared_names(inputs))
        return f"{name}: [{', '.join(names)}], where you wrote {given}"
    if node.target is branch_taken:
        return str(node.args[2])
    shape = text_of(result.sizes, result.values[node]) if node in result.values else "?"
    return f"{node.name}: {shape}  at {place_of(node, module)}"


def _working_example(
    graph: Graph,
    module: torch.nn.Module,
    inputs: Mapping[str, InputType],
    where: Sequence[str],
    solver: Solver,
) -> tuple[dict[str, tuple[int, ...]] | None, bool]:
    """Find shapes of these ranks for which the program runs, as close as possible to the user's.

    Returns:
        The shapes, or ``None`` if z3 finds none; and whether it is certain that no shapes work.
    """
    freed = {
        name: given if given.dims is None else replace(given, dims=(None,) * len(given.dims))
        for name, given in inputs.items()
    }
    result = run_graph(graph, module, freed)
    sizes = result.sizes
    wishes, near = _as_written(sizes, inputs, result, graph, where)
    demands = [d.condition for d in sizes.demands]
    answer = solver.ask(demands, wishes=wishes, small=True)
    if result.failed is not None or answer.verdict != "sat":
        return None, result.failed is not None or answer.verdict == "unsat"
    values = {sizes.table.symbol(name): value for name, value in answer.values.items()}
    values = _nearer(demands, values, near)
    example: dict[str, tuple[int, ...]] = {}
    for node in graph.nodes:
        shape = result.values[node]
        if node.op == "placeholder" and isinstance(shape, Shape):
            terms = [sizes.term(size) for size in shape]
            known = values | {s: 1 for term in terms for s in term.free_symbols - values.keys()}
            example[input_name(node)] = tuple(int(evaluate(term, known)) for term in terms)
    tried = {**inputs, **{n: replace(inputs[n], dims=shape) for n, shape in example.items()}}
    works = bool(example) and run_graph(graph, module, tried).failed is None
    return (example if works else None), False


def _nearer(
    demands: Sequence[Term], values: dict[Term, int], near: Sequence[tuple[Term, int]]
) -> dict[Term, int]:
    """The values with sizes that are closer to the numbers that the user wrote, if there are any.

    z3 finds some example; for products of sizes it cannot find the closest.
    """
    off = [(size, number) for size, number in near if values.get(size, number) != number]
    farthest = max((abs(values[size] - number) for size, number in off), default=0)
    for distance in range(1, min(_RADIUS.get(len(off), 0), farthest - 1) + 1):
        steps = itertools.product(range(-distance, distance + 1), repeat=len(off))
        shell = [step for step in steps if distance in map(abs, step)]
        for step in sorted(shell, key=lambda each: (len({*each}), sum(map(abs, each)))):
            moved = {size: number + by for (size, number), by in zip(off, step, strict=True)}
            tried = {**values, **moved}
            if min(moved.values()) >= 1 and all(_holds(demand, tried) for demand in demands):
                return tried
    return values


def _holds(demand: Term, values: Mapping[Term, int]) -> bool:
    try:
        return demand.free_symbols <= values.keys() and bool(evaluate(demand, values))
    except ZeroDivisionError:
        return False


def _as_written(
    sizes: TermSizes,
    inputs: Mapping[str, InputType],
    result: GraphRun,
    graph: Graph,
    where: Sequence[str],
) -> tuple[list[Term], list[tuple[Term, int]]]:
    """The user's types as wishes for the example: equal names, then numbers, then conditions.

    Returns:
        The wishes, and the numbers, which the example should be close to if it cannot have them.
    """
    named: dict[str, Term] = {}
    equal: list[Term] = []
    numbers: list[tuple[Term, int]] = []
    for node in graph.nodes:
        shape = result.values.get(node)
        if node.op != "placeholder" or not isinstance(shape, Shape):
            continue
        for dim, size in zip(inputs[input_name(node)].dims or (), shape, strict=True):
            if isinstance(dim, int):
                numbers.append((sizes.term(size), dim))
            elif dim is not None and dim.isidentifier():
                equal.append(named.setdefault(dim, sizes.term(size)).eq(sizes.term(size)))
    said = [text for text in where if {*names_in_condition(text)} <= named.keys()]
    conditions = [parse_condition(sizes.table, text, named) for text in said]
    exact = [size.eq(sizes.table.const(number)) for size, number in numbers]
    return [*equal, *exact, *conditions], numbers
