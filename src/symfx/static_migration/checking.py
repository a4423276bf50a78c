"""`typecheck`: the types of a module, from the capture of its graph to the conflict."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch.fx import Graph, GraphModule, Node
from torch.nn.parameter import is_lazy

from symfx.shape_rules.errors import IllTypedError, PinnedSizeError
from symfx.static_migration.conditions import InputType, read_annotation
from symfx.static_migration.graph_capture import program_graph
from symfx.static_migration.migration import migrate
from symfx.static_migration.nested_inputs import built, flat_types
from symfx.static_migration.operator_trace import OperatorTrace
from symfx.static_migration.operator_tracing import example_tensor
from symfx.static_migration.printing import place_of
from symfx.static_migration.results import Conflict, Migration
from symfx.static_migration.sample_run import view_that_fails

__all__ = ["typecheck"]


def typecheck(
    module: torch.nn.Module,
    inputs: Mapping[str, Any],
    where: Sequence[str] = (),
    *,
    timeout: float = 10.0,
    allow_pinned: bool = False,
) -> Migration:
    """Capture the graph of a module, and find its most precise types.

    Args:
        module: the module.
        inputs: the types of its inputs, by name, as `migrate` takes them.
        where: conditions on the named sizes.
        timeout: seconds that z3 may take for each question.
        allow_pinned: trace a program that needs the number of a named size at an example of the
            size; the answer then holds for that number alone.

    Returns:
        The migration. A program that fails while its graph is captured is ill-typed, with a
        conflict that has a message and a line, and no nodes.

    Raises:
        SymfxError: an input or a condition cannot be read, or the program cannot be traced.
    """
    types = {name: read_annotation(given) for name, given in inputs.items()}
    try:
        graph = program_graph(module, types, where, timeout, allow_pinned=allow_pinned)
    except (IllTypedError, PinnedSizeError) as error:
        place = (f"at {error.where}",) if error.where else ()
        advice = (f"to fix: {error.fix}",) if error.fix else ()
        failed = Migration("ill-typed", Graph(), timeout=timeout)
        failed.conflict = Conflict(error.what, (), (*place, *advice))
        return failed
    flat = flat_types(types)
    found = migrate(graph, flat, where, timeout=timeout)
    if found and OperatorTrace.of(graph) is None:
        shapes = found.example_shapes

        def run_eager() -> None:
            _run(module, types, shapes)

        node = view_that_fails(graph, flat, shapes, run_eager)
        if node is not None:
            return _conflict_of_view(found, node, graph)
    conflict = found.conflict
    if conflict is not None and conflict.example and not _runs(module, types, conflict.example):
        # The program branches on sizes, or computes on data, and its graph is another there.
        found.conflict = replace(conflict, example=None)
    return found


def _conflict_of_view(found: Migration, node: Node, graph: GraphModule) -> Migration:
    """An ill-typed migration: a view of a tensor whose layout does not allow it."""
    at = ", ".join(f"{name}: {list(shape)}" for name, shape in found.example_shapes.items())
    used = [n for n in node.all_input_nodes if n in found.shapes]
    lines = [f"{n.name}: {found.shapes[n]}  at {place_of(n, graph)}" for n in (*used, node)]
    failed = Migration("ill-typed", found.graph, timeout=found.timeout)
    failed.unknown_operators = found.unknown_operators
    failed.conflict = Conflict(
        f"view cannot merge dimensions that are not adjacent in memory; reshape can: {node.name} "
        f"fails with {at}",
        (*used, node),
        tuple(lines),
    )
    return failed


def _runs(
    module: torch.nn.Module,
    types: Mapping[str, InputType],
    shapes: Mapping[str, tuple[int, ...]],
) -> bool:
    """Whether a module runs in eager on inputs of these shapes."""
    if shapes.keys() != flat_types(types).keys():
        return True  # some inputs are numbers, or have defaults
    if any(is_lazy(parameter) for parameter in module.parameters()):
        return True  # the run would give the lazy layers their sizes
    try:
        _run(module, types, shapes)
    except (RuntimeError, ValueError, TypeError, IndexError, AssertionError, KeyError):
        return False
    return True


def _run(
    module: torch.nn.Module,
    types: Mapping[str, InputType],
    shapes: Mapping[str, tuple[int, ...]],
) -> None:
    """Run a copy of a module in eager on inputs of these shapes; running statistics change."""

    def value_of(name: str, given: InputType) -> torch.Tensor:
        return example_tensor(shapes[name], given.dtype)

    with torch.no_grad():
        copy.deepcopy(module)(**{name: built(name, t, value_of) for name, t in types.items()})
