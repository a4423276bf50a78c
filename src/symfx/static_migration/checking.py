"""`typecheck`: the types of a program, from the capture of its graph to the conflict."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch.fx import Graph, GraphModule, Node
from torch.fx.tensor_type import Dyn

from symfx.errors import SpecError, SymfxError
from symfx.shape_rules.errors import GradualError, IllTypedError, PinnedSizeError
from symfx.shape_rules.sizes import UNKNOWN
from symfx.static_migration.analysis import Interpreter, run_graph
from symfx.static_migration.conditions import (
    InputType,
    bounds_of,
    names_in_condition,
    read_annotation,
    with_leading,
)
from symfx.static_migration.decisions import Decision, Decisions, branch_taken, explored
from symfx.static_migration.eager_runs import PROGRAM_ERRORS, has_lazy_weights, run_at
from symfx.static_migration.equal_values import same_values
from symfx.static_migration.graph_capture import program_graph, program_raises
from symfx.static_migration.mends import Mend
from symfx.static_migration.migration import migrate_traced
from symfx.static_migration.nested_inputs import flat_types
from symfx.static_migration.operator_trace import OperatorTrace
from symfx.static_migration.printing import place_of, text_of
from symfx.static_migration.programs import FunctionProgram, ModelWithLoss, input_parameters
from symfx.static_migration.results import Conflict, ExcludedSizes, FixedName, Migration
from symfx.static_migration.sample_run import Failure, failure_at
from symfx.static_migration.solver import Solver
from symfx.work import share_of_work

__all__ = ["typecheck"]


#: How many dimensions ``*dims`` is taken for, one number after the other.
_LEADING = (2, 1, 0, 3)
#: The usual shares of the time on a path that its graph and its types take.
_SHARES = {"graph": (0.0, 0.6), "types": (0.6, 0.7)}


def typecheck(
    program: Callable[..., Any],
    inputs: Mapping[str, Any],
    where: Sequence[str] = (),
    *,
    loss: Callable[..., Any] | None = None,
    last_batch: int | Mapping[str, Any] | None = None,
    timeout: float = 10.0,
    allow_pinned: bool = False,
) -> Migration:
    """Capture the graph of a program, and find its most precise types.

    Args:
        program: a module, or a function.
        inputs: the types of its inputs, by name, as `migrate` takes them.
        where: conditions on the named sizes.
        loss: a module or a function that takes the result of the program, and the inputs that the
            program does not take: under their names, or else in their order.
        last_batch: the size of the last, smaller batch, or types of the inputs that differ in it.
            The program is checked for it, too.
        timeout: seconds that z3 may take for each question.
        allow_pinned: trace a program that needs the number of a named size at an example of the
            size; the answer then holds for that number alone.

    Returns:
        The migration. A program that fails while its graph is captured is ill-typed, with a
        conflict that has a message and a line, and no nodes. A program with a branch that the types
        leave open has one migration for each path in `Migration.paths`; it is ill-typed if one of
        them is.

    Raises:
        SymfxError: an input or a condition cannot be read, or the program cannot be traced.
    """
    types = {name: read_annotation(given) for name, given in inputs.items()}
    module = program if isinstance(program, torch.nn.Module) else FunctionProgram(program, types)
    if loss is not None:
        module = ModelWithLoss(module, loss, types)
    _refuse_unknown_inputs(module, types)
    where = [*where, *bounds_of(types.values())]
    found = _for_leading(module, types, where, timeout, allow_pinned=allow_pinned)
    types = {name: with_leading(given, _LEADING[0]) for name, given in types.items()}
    if found.verdict != "well-typed" or last_batch is None:
        return found
    smaller = _last_batch(types, last_batch)
    last = _along_paths(module, smaller, where, timeout, allow_pinned=allow_pinned)
    if last.verdict == "well-typed" and not last.fixed:
        return found
    if last.conflict is not None:
        shapes = ", ".join(f"{name}: {smaller[name]}" for name in smaller)
        last.conflict = last.conflict.under(f"for the last batch, {shapes}")
    return last


def _for_leading(
    module: torch.nn.Module,
    types: Mapping[str, InputType],
    where: Sequence[str],
    timeout: float,
    *,
    allow_pinned: bool,
) -> Migration:
    """The migration for the first number of leading dimensions, or for the first that fails."""
    migrations = []
    for count in _LEADING:
        ranked = {name: with_leading(given, count) for name, given in types.items()}
        found = _along_paths(module, ranked, where, timeout, allow_pinned=allow_pinned)
        if ranked == types:
            return found
        if found.verdict != "well-typed":
            if found.conflict is not None:
                found.conflict = found.conflict.under(f"with {_dimensions(count)}")
            return found
        migrations.append(found)
    first = migrations[0]
    for count, found in zip(_LEADING[1:], migrations[1:], strict=True):
        _add_faults(first, found, f" (with {_dimensions(count)})")
    first.leading = {
        count: tuple(found.conditions) for count, found in zip(_LEADING, migrations, strict=True)
    }
    return first


def _dimensions(count: int) -> str:
    return f"{count} leading dimension{'' if count == 1 else 's'}"


def _add_faults(first: Migration, other: Migration, note: str) -> None:
    """Add what is wrong with a program for another number of leading dimensions."""
    fixed = {name.name for name in first.fixed}
    first.fixed += [
        replace(name, origin=name.origin + note) for name in other.fixed if name.name not in fixed
    ]
    excluded = {sizes.condition for sizes in first.excluded}
    first.excluded += [
        replace(sizes, origin=sizes.origin + note)
        for sizes in other.excluded
        if sizes.condition not in excluded
    ]
    lines = {text.rpartition(", at ")[2] for text in first.warnings}
    first.warnings += [t + note for t in other.warnings if t.rpartition(", at ")[2] not in lines]


def _refuse_unknown_inputs(module: torch.nn.Module, types: Mapping[str, InputType]) -> None:
    """Refuse an input that the program does not take."""
    parameters = input_parameters(module)
    if isinstance(module, GraphModule) or any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return
    for name in types:
        if name not in parameters:
            raise GradualError(
                f"the model has no input {name!r}",
                fix=f"its inputs are {', '.join(parameters) or 'none'}",
            )


def _last_batch(
    types: Mapping[str, InputType], given: int | Mapping[str, Any]
) -> dict[str, InputType]:
    """The types of the inputs in the last batch."""
    if not isinstance(given, int):
        changed = {name: read_annotation(type_) for name, type_ in given.items()}
        unknown = [name for name in changed if name not in types]
        if unknown:
            raise SpecError(
                f"the last batch has an input {unknown[0]}, and the program none of this name",
                where="--last-batch",
                fix=f"the inputs are {', '.join(types)}",
            )
        return {**types, **changed}
    leading = [t.dims[0] for t in flat_types(types).values() if t.dims]
    if given < 1 or not leading:
        raise SpecError(
            f"{given} is not the size of a batch of these inputs",
            where="--last-batch",
            fix="give a positive number, or the inputs of the last batch",
        )
    return {name: _smaller(type_, leading[0], given) for name, type_ in types.items()}


def _smaller(type_: InputType, leading: Any, size: int) -> InputType:
    """The type of an input in a batch of another size."""
    if type_.is_nested:
        parts = ((key, _smaller(part, leading, size)) for key, part in type_.parts)
        return replace(type_, parts=tuple(parts))
    if type_.dims and type_.dims[0] == leading:
        return replace(type_, dims=(size, *type_.dims[1:]))
    return type_


# -- paths -----------------------------------------------------------------------------------------


def _along_paths(
    module: torch.nn.Module,
    types: Mapping[str, InputType],
    where: Sequence[str],
    timeout: float,
    *,
    allow_pinned: bool,
) -> Migration:
    """The migration of a program; one for each path if the types leave a branch open."""

    def follow(decisions: Decisions) -> Migration:
        return _one_path(module, types, where, timeout, decisions, allow_pinned=allow_pinned)

    found: list[Migration] = []
    conditions: list[list[str]] = []
    failed: list[Migration] = []
    excluded: list[ExcludedSizes] = []
    for decisions, path in explored(follow):
        if decisions and _fails_at(path, branch_taken):
            continue  # no inputs take this path
        path.branches = tuple(map(str, decisions))
        if path.conflict is not None:
            path.conflict = path.conflict.under(*path.branches)
        if path.verdict == "well-typed":
            found.append(path)
            conditions.append([d.condition for d in decisions if d.condition])
            continue
        refusing = _refusing(path, decisions)
        if path.verdict != "ill-typed" or refusing is None:
            return path
        failed.append(path)
        if refusing.condition:
            found_here = _excluded(types, where, decisions, refusing, timeout)
            excluded.append(replace(found_here, fails_at=_place_of_failure(path)))
    if not found:
        return failed[0]
    if len(found) == 1:
        common = found[0]
    else:
        one = _one_program(found, conditions, flat_types(types), where, timeout)
        common = _of_paths(found) if one is None else one
    for sizes in excluded:
        fixing = re.fullmatch(r"([^\W\d]\w*) == (\d+)", sizes.condition)
        if fixing is None:
            common.excluded.append(sizes)
        else:
            common.fixed.append(FixedName(fixing[1], int(fixing[2]), sizes.origin))
    return common


def _place_of_failure(path: Migration) -> str:
    """The line at which a path fails; empty if it is that of its last branch."""
    nodes = path.conflict.nodes if path.conflict is not None else ()
    root = path.graph.owning_module
    if not nodes or nodes[-1].target in (branch_taken, program_raises) or root is None:
        return ""
    return place_of(nodes[-1], root)


def _fails_at(path: Migration, target: Any) -> bool:
    """Whether the operator that fails on a path is a call of a function."""
    nodes = path.conflict.nodes if path.conflict is not None else ()
    return bool(nodes) and nodes[-1].target is target


def _refusing(path: Migration, decisions: Sequence[Decision]) -> Decision | None:
    """The decision by which the program refuses the inputs of a path that fails.

    An operator may depend on a size without a branch of the program, and the program may raise
    behind its branch. ``None`` for any other path.
    """
    if decisions and _fails_at(path, program_raises):
        return decisions[-1]
    return next((d for d in reversed(decisions) if d.branch.implicit and not d.truth), None)


def _excluded(
    types: Mapping[str, InputType],
    where: Sequence[str],
    decisions: Sequence[Decision],
    last: Decision,
    timeout: float,
) -> ExcludedSizes:
    """The sizes for which a program fails, by the last decision of a path."""
    conditions = [d.condition for d in decisions if d.condition]
    described = Interpreter(torch.nn.Module(), flat_types(types), [*where, *conditions])
    demands = [demand.condition for demand in described.sizes.demands]
    sizes = Solver(timeout).ask(demands, small=True).values
    names = names_in_condition(last.condition)
    failing = {name: size for name, size in sizes.items() if name in names}
    return ExcludedSizes(last.opposite, failing, last.branch.place)


def _one_path(
    module: torch.nn.Module,
    types: Mapping[str, InputType],
    where: Sequence[str],
    timeout: float,
    decisions: Decisions,
    *,
    allow_pinned: bool,
) -> Migration:
    try:
        with share_of_work(*_SHARES["graph"]):
            graph = program_graph(
                module, types, where, timeout, allow_pinned=allow_pinned, decisions=decisions
            )
    except (IllTypedError, PinnedSizeError) as error:
        place = (f"at {error.where}",) if error.where else ()
        advice = (f"to fix: {error.fix}",) if error.fix else ()
        failed = Migration("ill-typed", Graph(), timeout=timeout)
        failed.conflict = Conflict(error.what, (), (*place, *advice))
        return failed

    def retrace(mend: Mend) -> GraphModule | None:
        again = Decisions([decision.truth for decision in decisions.taken])
        try:
            return program_graph(module, types, where, timeout, decisions=again, mend=mend)
        except SymfxError:
            return None

    cut = any(node.target is program_raises for node in graph.graph.nodes)
    flat = flat_types(types)
    with share_of_work(*_SHARES["types"]):
        again = retrace if cut else None
        found = migrate_traced(graph, flat, where, timeout=timeout, retrace=again)
    if found and OperatorTrace.of(graph) is not None:
        # Few programs need symfx's own tracer, and its import takes half a second.
        from symfx.static_migration.regions import without_needless_conditions

        without_needless_conditions(found, graph, module, types, where, timeout)
    elif found:
        sizes = {n: found.example[n] for n, given in flat.items() if given.kind == "int"}
        example: dict[str, tuple[int, ...] | int] = {**found.example_shapes, **sizes}

        def run_eager(integer: int, dtypes: Mapping[str, str]) -> None:
            run_at(module, types, example, integer, dtypes)

        failure = failure_at(graph, flat, example, found.example_values(), run_eager)
        if failure is not None:
            return _conflict_of(found, failure, graph)
    conflict = found.conflict
    if conflict is not None and conflict.example and not _runs(module, types, conflict.example):
        # The program branches on sizes, or computes on data, and its graph is another there.
        found.conflict = replace(conflict, example=None)
    return found


def _of_paths(found: list[Migration]) -> Migration:
    """The migration of a program with several paths: the graph of the first, and the others."""
    first = found[0]
    common = replace(first, shapes={**first.shapes}, paths=tuple(found), branches=())
    output = first.graph.output_node()
    if any(_result_of(path) != _result_of(first) for path in found):
        common.shapes[output] = "Dyn"
    common.make_types = lambda: {
        node: Dyn if node is output and common.shapes[node] == "Dyn" else type_
        for node, type_ in first.types.items()
    }
    common.conditions = [c for c in first.conditions if all(c in p.conditions for p in found)]
    common.fixed = [*{str(name): name for path in found for name in path.fixed}.values()]
    common.excluded = [*{str(e): e for path in found for e in path.excluded}.values()]
    common.warnings = [*dict.fromkeys(text for path in found for text in path.warnings)]
    common.unknown_operators = {n: o for p in found for n, o in p.unknown_operators.items()}
    return common


def _result_of(path: Migration) -> str:
    return path.shapes[path.graph.output_node()]


def _one_program(
    found: list[Migration],
    conditions: list[list[str]],
    types: Mapping[str, InputType],
    where: Sequence[str],
    timeout: float,
) -> Migration | None:
    """The migration of the first path, for all sizes, if its result is that of all paths.

    A model may branch on ``t > 1`` only to choose a kernel. No path may have conditions of its own.

    Args:
        found: the migrations of the paths.
        conditions: the conditions on sizes of each path.
        types: the types of the inputs.
        where: the user's conditions.
        timeout: seconds that z3 may take for each question.
    """
    first = found[0]
    root = first.graph.owning_module
    if root is None:
        return None
    graph = copy.deepcopy(first.graph)
    for node in [*graph.nodes]:
        if node.target is branch_taken:
            graph.erase_node(node)
    for path, said in zip(found, conditions, strict=True):
        run = run_graph(graph, root, types, [*where, *said])
        result = run.values.get(graph.output_node(), UNKNOWN)
        if run.failed is not None:
            return None
        if text_of(run.sizes, result) != _result_of(path) and not _has_result(
            path, result, types, [*where, *said], timeout
        ):
            return None
    whole = migrate_traced(GraphModule(root, graph), types, where, timeout=timeout)
    for path, said in zip(found, conditions, strict=True):
        own = {*path.conditions}
        if not own <= {*whole.conditions, *said} or not {*whole.conditions} <= {*first.conditions}:
            return None
    unknown = "".join(whole.shapes.values()).count("Dyn")
    if unknown != "".join(first.shapes.values()).count("Dyn"):
        return None
    whole.other_paths = tuple("; ".join(path.branches) for path in found[1:])
    return whole


def _has_result(
    path: Migration,
    result: Any,
    types: Mapping[str, InputType],
    where: Sequence[str],
    timeout: float,
) -> bool:
    """Whether a path has a certain result, which may be written otherwise."""
    root = path.graph.owning_module
    if root is None:
        return False
    run = run_graph(path.graph, root, types, where)
    own = run.values.get(path.graph.output_node(), UNKNOWN)
    demands = [demand.condition for demand in run.sizes.demands]
    return same_values(result, own, demands, Solver(timeout))


def _conflict_of(found: Migration, failure: Failure, graph: GraphModule) -> Migration:
    """An ill-typed migration of a program that fails at the example of its types."""
    at = ", ".join(f"{name}: {list(shape)}" for name, shape in found.example_shapes.items())
    if failure.of_layout and failure.node is not None:
        message = (
            "view cannot merge dimensions that are not adjacent in memory; reshape can: "
            f"{failure.node.name} fails with {at}"
        )
    else:
        message = f"the program fails with {at}: {failure.message}"
    nodes: tuple[Node, ...] = ()
    if failure.node is not None:
        used = [n for n in failure.node.all_input_nodes if n in found.shapes]
        nodes = (*used, failure.node)
    lines = [f"{n.name}: {found.shapes[n]}  at {place_of(n, graph)}" for n in nodes]
    failed = Migration("ill-typed", found.graph, timeout=found.timeout)
    failed.unknown_operators = found.unknown_operators
    failed.conflict = Conflict(message, nodes, tuple(lines or [f"at {failure.line}"]))
    return failed


# -- eager -----------------------------------------------------------------------------------------


def _runs(
    module: torch.nn.Module,
    types: Mapping[str, InputType],
    example: Mapping[str, tuple[int, ...] | int],
) -> bool:
    """Whether a module runs in eager on inputs of these shapes, and on these numbers."""
    if not example.keys() <= flat_types(types).keys() or has_lazy_weights(module):
        return True  # an input has no described type, or the run would give lazy layers their sizes
    try:
        run_at(module, types, example)
    except PROGRAM_ERRORS:
        return False
    return True
