"""`migrate`: the most precise types of a program, or the conflict that makes it ill-typed."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch.fx import Graph, GraphModule, Node
from torch.fx.tensor_type import Dyn, TensorType

from symfx.algebra import Term, evaluate
from symfx.shape_rules.errors import GradualError
from symfx.shape_rules.graphs import annotation_of, graph_of
from symfx.shape_rules.ranks import get_max_rank
from symfx.shape_rules.sizes import UNKNOWN, Dim, Shape, Size
from symfx.static_migration.analysis import GraphRun, run_graph
from symfx.static_migration.conditions import (
    InputType,
    bounds_of,
    declared_names,
    read_annotation,
)
from symfx.static_migration.conflicts import find_conflict
from symfx.static_migration.mends import Mend, Mender
from symfx.static_migration.named_sizes import (
    conditions_of,
    excluded_sizes,
    fixed_names,
)
from symfx.static_migration.printing import input_name, text_of
from symfx.static_migration.results import Migration
from symfx.static_migration.solver import Solver
from symfx.static_migration.suspicious import broadcast_warnings
from symfx.static_migration.term_sizes import TermSizes

__all__ = ["migrate", "migrate_traced"]

#: The words in the text of a shape or of a condition that name no size.
_WORDS = frozenset(("Dyn", "min", "max", "or", "and", "not", "where", "floor", "Mod", "Min", "Max"))

#: With more combinations of ranks than this, inputs of unknown rank stay unknown.
_MOST_COMBINATIONS = 700


def migrate(
    module: torch.nn.Module,
    inputs: Mapping[str, Any] | None = None,
    where: Sequence[str] = (),
    *,
    graph: Graph | None = None,
    timeout: float = 10.0,
) -> Migration:
    """Find the most precise types of a program.

    Args:
        module: a GraphModule.
        inputs: the types of the inputs, by name: text as on the command line
            (``"[batch, 3, h, w]"``), a sequence of numbers, names and ``Dyn``, a `TensorType`, or
            ``int``. The annotation counts for an input that is not named here. All sizes of inputs
            are assumed to be 1 or more.
        where: conditions on the named sizes, such as ``"batch % 8 == 0"``.
        graph: the graph, where `module` has none.
        timeout: seconds that z3 may take for each question.

    Raises:
        SpecError: an input or a condition cannot be read.
        GradualError: there is no graph, or it is empty or cyclic, or an input is unknown to it.

    Example:
        >>> class Program(torch.nn.Module):
        ...     def forward(self, x, y):
        ...         return torch.matmul(x, y).relu()
        >>> traced = torch.fx.symbolic_trace(Program())
        >>> found = migrate(traced, {"x": "[n, 4]", "y": "[?, m]"}, ["n % 2 == 0"])
        >>> found.verdict, found.inputs["y"], found.shapes[list(traced.graph.nodes)[-1]]
        ('well-typed', '[4, m]', '[n, m]')
    """
    return migrate_traced(module, inputs, where, graph=graph, timeout=timeout)


def migrate_traced(
    module: torch.nn.Module,
    inputs: Mapping[str, Any] | None = None,
    where: Sequence[str] = (),
    *,
    graph: Graph | None = None,
    timeout: float = 10.0,
    retrace: Callable[[Mend], GraphModule | None] | None = None,
) -> Migration:
    """As `migrate`, for a graph that may end at the operator that fails.

    Args:
        module: a GraphModule.
        inputs: the types of the inputs, by name.
        where: conditions on the named sizes.
        graph: the graph, where `module` has none.
        timeout: seconds that z3 may take for each question.
        retrace: the graph of the whole program, traced with a mend.
    """
    looked = graph_of(module, graph)
    types = _input_types(looked, inputs or {})
    where = [*where, *bounds_of(types.values())]
    solver = Solver(timeout)
    found: list[tuple[GraphRun, Migration]] = []
    best: tuple[int, dict[str, InputType], GraphRun] | None = None
    undecided: Migration | None = None
    for choice in _rank_choices(module, looked, types):
        result = run_graph(looked, module, choice, where)
        if result.failed is None:
            outcome = _conclude(looked, module, result, choice, where, solver)
            if outcome.verdict == "well-typed":
                found.append((result, outcome))
                continue
            if outcome.verdict == "unknown":
                undecided = outcome
                continue
        reached = len(result.values)
        if best is None or reached > best[0]:
            best = (reached, choice, result)
    if found:
        return found[0][1] if len(found) == 1 else _common(looked, [m for _, m in found])
    if undecided is not None:
        return undecided
    assert best is not None
    _, choice, result = best
    failed = Migration("ill-typed", looked, timeout=timeout)
    failed.unknown_operators = result.unknown_operators
    conflict = find_conflict(looked, module, choice, where, result, solver)
    if result.failed is not None and result.failed[0] is not None:
        mender = _mender(looked, module, choice, where, solver, retrace)
        conflict = replace(conflict, hint=mender.hint(result.failed[0], result))
    failed.conflict = conflict
    return failed


def _mender(
    graph: Graph,
    module: torch.nn.Module,
    inputs: Mapping[str, InputType],
    where: Sequence[str],
    solver: Solver,
    retrace: Callable[[Mend], GraphModule | None] | None = None,
) -> Mender:
    """A mender whose programs fix and equate no names, and broadcast nothing suspicious."""

    def run(mended: Graph, root: GraphModule | None) -> GraphRun:
        return run_graph(mended, root or module, inputs, where)

    def fits(mended: Graph, root: GraphModule | None, result: GraphRun) -> bool:
        sizes = result.sizes
        return (
            not broadcast_warnings(mended, root or module, result)
            and solver.ask([demand.condition for demand in sizes.demands]).verdict == "sat"
            and not fixed_names(sizes, declared, solver, root or module)
            and not _narrows(result, declared, solver, root or module)
        )

    declared = declared_names(inputs)
    return Mender(graph, run, fits, retrace)


def _narrows(
    result: GraphRun, declared: Sequence[str], solver: Solver, root: torch.nn.Module
) -> bool:
    """Whether a run equates sizes that the user declared apart, or bounds them from above."""
    conditions = conditions_of(result.sizes, declared, solver)
    excluded = excluded_sizes(result.sizes, declared, conditions, solver, root)
    return any("==" in found.condition or "<" in found.condition for found, _ in excluded)


def _input_types(graph: Graph, given: Mapping[str, Any]) -> dict[str, InputType]:
    placeholders = {input_name(n): n for n in graph.nodes if n.op == "placeholder"}
    for name in given:
        if name not in placeholders:
            raise GradualError(
                f"the model has no input {name!r}",
                fix=f"its inputs are {', '.join(placeholders) or 'none'}",
            )
    types: dict[str, InputType] = {}
    for name, node in placeholders.items():
        types[name] = read_annotation(given[name] if name in given else annotation_of(node))
        dims = types[name].dims
        if dims is not None and len(dims) > get_max_rank():
            raise GradualError(
                f"{name} has {len(dims)} dimensions, the bound is {get_max_rank()}",
                fix=f"raise the bound: --max-rank {len(dims)}, or "
                f"symfx.shape_rules.set_max_rank({len(dims)})",
            )
    return types


def _rank_choices(
    module: torch.nn.Module, graph: Graph, types: Mapping[str, InputType]
) -> Iterator[dict[str, InputType]]:
    """Yield the inputs' types, with each possible rank for the inputs of unknown rank."""
    unknown = [n for n, t in types.items() if t.kind == "tensor" and t.dims is None]
    if not unknown:
        yield dict(types)
        return
    ranks = {name: _possible_ranks(module, graph, types, name) for name in unknown}
    total = 1
    for possible in ranks.values():
        total *= len(possible)
    if total > _MOST_COMBINATIONS:
        yield dict(types)
        return
    for choice in itertools.product(*ranks.values()):
        ranked = {
            name: InputType("tensor", (None,) * rank)
            for name, rank in zip(ranks, choice, strict=True)
        }
        yield {**types, **ranked}


def _possible_ranks(
    module: torch.nn.Module, graph: Graph, types: Mapping[str, InputType], name: str
) -> list[int]:
    """The ranks of one input for which the program does not fail, the other inputs unchanged."""
    every = [*range(get_max_rank() + 1)]
    fitting = []
    for rank in every:
        ranked = {**types, name: InputType("tensor", (None,) * rank)}
        if run_graph(graph, module, ranked).failed is None:
            fitting.append(rank)
    return fitting or every


# -- results ---------------------------------------------------------------------------------------


def _conclude(
    graph: Graph,
    module: torch.nn.Module,
    result: GraphRun,
    inputs: Mapping[str, InputType],
    where: Sequence[str],
    solver: Solver,
) -> Migration:
    """Ask z3 whether the demands can hold, and write the types."""
    sizes = result.sizes
    demands = [demand.condition for demand in sizes.demands]
    made = Migration("well-typed", graph, timeout=solver.timeout)
    made.unknown_operators = result.unknown_operators
    named = {s for node in graph.nodes for s in _symbols_of(sizes, node, result)}
    symbols = sorted(named, key=lambda symbol: symbol.uid)
    # Sizes of 1, and windows that reach over all of a dimension, hide what other sizes show.
    large = sizes.table.and_(*(symbol >= 4 for symbol in symbols))
    wishes = [large, *(symbol >= 2 for symbol in symbols)]
    answer = solver.ask(demands, wishes=wishes, small=True)
    if answer.verdict != "sat":
        made.verdict = "unknown" if answer.verdict == "unknown" else "ill-typed"
        return made
    made.example = answer.values
    made.example_values = lambda: _values_at(result, answer.values)
    inputs_at = _values_at(result, answer.values, inputs_only=True)
    made.example_shapes = {
        input_name(node): tuple(size for size in value if isinstance(size, int))
        for node, value in inputs_at.items()
        if isinstance(value, Shape)
    }
    _force(result, demands, answer.values, solver)
    for node in graph.nodes:
        value = result.values.get(node, UNKNOWN)
        made.shapes[node] = text_of(sizes, value)
        if node.op == "placeholder":
            made.inputs[input_name(node)] = made.shapes[node]
    made.make_types = lambda: {
        node: _type_of(sizes, result.values.get(node, UNKNOWN)) for node in graph.nodes
    }
    declared = declared_names(inputs)
    conditions = conditions_of(sizes, declared, solver)
    made.conditions = [condition.text for condition in conditions]
    made.origins = {found.text: found.origin for found in conditions if found.origin}
    mender = _mender(graph, module, inputs, where, solver)
    for fixed, nodes in fixed_names(sizes, declared, solver, module):
        hint = mender.hint(nodes[-1], result) if nodes else ""
        made.fixed.append(replace(fixed, hint=hint))
    found = excluded_sizes(sizes, declared, conditions, solver, module)
    for excluded, nodes in found:
        hint = mender.hint(nodes[-1], result) if nodes and "==" in excluded.condition else ""
        made.excluded.append(replace(excluded, hint=hint))
    made.warnings = broadcast_warnings(graph, module, result)
    return made


def _symbols_of(sizes: TermSizes, node: Node, result: GraphRun) -> set[Term]:
    """The symbols in the shape of an input."""
    shape = result.values.get(node) if node.op == "placeholder" else None
    if not isinstance(shape, Shape):
        return set()
    return {symbol for size in shape for symbol in sizes.term(size).free_symbols}


def _values_at(
    result: GraphRun, values: Mapping[str, int], *, inputs_only: bool = False
) -> dict[Node, Any]:
    """The values of the nodes, with numbers for the names."""
    sizes = result.sizes
    known = {sizes.table.symbol(name): value for name, value in values.items()}

    def at(value: Any) -> Any:
        if isinstance(value, Shape):
            return Shape(map(at, value))
        if isinstance(value, Size):
            term = sizes.term(value)
            others = dict.fromkeys(term.free_symbols - known.keys(), 2)
            try:
                return int(evaluate(term, known | others))
            except ZeroDivisionError:
                return 1  # a size that depends on data divides, and may be 0
        if isinstance(value, (tuple, list)):
            return tuple(map(at, value))
        return {key: at(part) for key, part in value.items()} if isinstance(value, dict) else value

    return {
        node: at(value)
        for node, value in result.values.items()
        if node.op == "placeholder" or not inputs_only
    }


def _force(
    result: GraphRun, demands: list[Term], values: Mapping[str, int], solver: Solver
) -> None:
    """Replace each symbol by its number if z3 proves that it has only one."""
    sizes = result.sizes
    open_symbols = {s for d in demands for s in sizes.facts.resolve(d).free_symbols}
    for symbol in sorted(open_symbols, key=lambda s: s.uid):
        value = values.get(symbol.name)
        if value is None or symbol in sizes.facts.replacements:
            continue
        if solver.follows(demands, symbol.eq(value)):
            sizes.facts.replace(symbol, sizes.table.const(value))


def _type_of(sizes: Any, value: Any) -> Any:
    if isinstance(value, Shape):
        return TensorType(tuple(_dimension(sizes, size) for size in value))
    if type(value) in (tuple, list):
        return tuple(_type_of(sizes, part) for part in value)
    if isinstance(value, dict):
        return {key: _type_of(sizes, part) for key, part in value.items()}
    return Dyn


def _dimension(sizes: Any, size: Dim) -> Any:
    if not isinstance(size, Size):
        return size
    from symfx.algebra.languages.sympy import to_sympy

    term = sizes.term(size)
    if any(
        symbol.name.startswith("u") and symbol.name[1:].isdigit() for symbol in term.free_symbols
    ):
        return Dyn
    value = term.value
    return to_sympy(term) if value is None else value


def _common(graph: Graph, outcomes: list[Migration]) -> Migration:
    """One migration of several, one for each rank of the inputs: ``Dyn`` where they differ.

    A name of a size that no input shows says nothing, and is ``Dyn`` too.
    """
    first = outcomes[0]
    made = replace(first, shapes={}, inputs={})
    shown: set[str] = set()
    for node in graph.nodes:  # the inputs come first
        shape = first.shapes[node]
        if any(outcome.shapes[node] != shape for outcome in outcomes):
            shape = "Dyn"
        elif node.op == "placeholder":
            shown |= _names_of(shape)
        elif not _names_of(shape) <= shown:
            shape = _without(shape, shown)
        made.shapes[node] = shape
        if node.op == "placeholder":
            made.inputs[input_name(node)] = shape
    made.make_types = lambda: {
        node: Dyn if shape == "Dyn" else _types_without(first.types[node], shown)
        for node, shape in made.shapes.items()
    }
    made.conditions = [
        condition
        for condition in first.conditions
        if _names_of(condition) <= shown and all(condition in o.conditions for o in outcomes)
    ]
    return made


def _names_of(text: str) -> set[str]:
    return {*re.findall(r"[A-Za-z_]\w*", text)} - _WORDS


def _without(shape: str, shown: set[str]) -> str:
    """A shape as text with ``Dyn`` for the sizes that use other names."""
    if not shape.startswith("["):
        return "Dyn"
    parts = re.split(r", (?![^(]*\))", shape[1:-1])  # no commas within parentheses
    return f"[{', '.join(part if _names_of(part) <= shown else 'Dyn' for part in parts)}]"


def _types_without(type_: Any, shown: set[str]) -> Any:
    """The type of such a shape."""
    if not isinstance(type_, TensorType):
        return Dyn
    return TensorType(tuple(dim if _names_of(str(dim)) <= shown else Dyn for dim in type_.dims))
