"""Static migration: the most precise types of a program, or why it has none.

The three tasks of Migeed, Reed, Ansel and Palsberg, "Generalizing Shape Analysis with Gradual
Types" (ECOOP 2024): the most precise annotations of a program (`migrate`), the same under
conditions that the user gives (its `where`), and the elimination of branches for whole classes of
inputs (`eliminate_branches`).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch.fx import Graph, Node
from torch.fx.tensor_type import Dyn, TensorType

from symfx.algebra import Term, evaluate
from symfx.shape_rules.errors import GradualError, IllTypedError
from symfx.shape_rules.graphs import annotation_of, graph_of, where_of
from symfx.shape_rules.ranks import get_max_rank
from symfx.shape_rules.sizes import UNKNOWN, Dim, Shape, Size
from symfx.static_migration.analysis import Run, explain, run
from symfx.static_migration.conditions import (
    InputType,
    names_in,
    parse_condition,
    read_annotation,
)
from symfx.static_migration.printing import describe, input_name, text_of
from symfx.static_migration.solver import Solver, smallest_conflict
from symfx.static_migration.term_sizes import TermDomain

__all__ = ["Conflict", "Migration", "migrate"]

#: Inputs of unknown rank are tried at each rank, in no more than so many combinations.
_MOST_COMBINATIONS = 700
#: Of more conditions than this none is left out for following from the others.
_MOST_CONDITIONS = 40


@dataclass(frozen=True)
class Conflict:
    """Why a program is ill-typed.

    Args:
        message: what contradicts what, in words.
        nodes: the smallest set of nodes that contradict each other, in the order of the graph.
        lines: for each of them its source line, and the shape of its value as far as it is known.
        conditions: what the user said that takes part.
        example: shapes of the inputs that would work, if z3 finds some; as near as can be to what
            the user said.
        hopeless: no sizes of inputs of these ranks would work: the program has to change.
    """

    message: str
    nodes: tuple[Node, ...]
    lines: tuple[str, ...]
    conditions: tuple[str, ...] = ()
    example: Mapping[str, tuple[int, ...]] | None = None
    hopeless: bool = False

    def __str__(self) -> str:
        parts = [self.message]
        parts += [f"  {line}" for line in self.lines]
        parts += [f"  {condition}" for condition in self.conditions]
        if self.example is not None:
            shapes = ", ".join(f"{name}: {list(shape)}" for name, shape in self.example.items())
            parts.append(f"  this would work: {shapes}")
        elif self.hopeless:
            parts.append("  no sizes of the inputs would work: the program has to change")
        return "\n".join(parts)


@dataclass
class Migration:
    """What `migrate` found.

    Attributes:
        verdict: ``"well-typed"``, ``"ill-typed"``, or ``"unknown"`` if z3 ran out of time.
        graph: the graph.
        shapes: the shape of each node's value, as text: ``"[batch, 64, h // 2]"``, ``"Dyn"``.
        types: the same as `TensorType`, with numbers, sympy expressions and ``Dyn``.
        inputs: the types of the inputs, as far as they are forced.
        conditions: what must hold of the named sizes beside, as text.
        conflict: for an ill-typed program, why.
        unknown_operators: nodes whose operator the table lacks, with its name; their type is Dyn.
        example: sizes by name for which all holds.
        timeout: the time budget of each question to z3, in seconds.
    """

    verdict: str
    graph: Graph
    shapes: dict[Node, str] = field(default_factory=dict)
    types: dict[Node, Any] = field(default_factory=dict)
    inputs: dict[str, str] = field(default_factory=dict)
    conditions: list[str] = field(default_factory=list)
    conflict: Conflict | None = None
    unknown_operators: dict[Node, str] = field(default_factory=dict)
    example: Mapping[str, int] = field(default_factory=dict)
    timeout: float = 0.0

    def __bool__(self) -> bool:
        return self.verdict == "well-typed"

    def annotate(self) -> None:
        """Write the types into ``node.type``."""
        for node, type_ in self.types.items():
            node.type = type_

    def raise_if_ill_typed(self) -> Migration:
        """This migration.

        Raises:
            IllTypedError: the program is ill-typed; the message is the conflict.
        """
        if self.conflict is not None:
            raise IllTypedError(str(self.conflict))
        return self

    def __str__(self) -> str:
        return "\n".join(describe(self))


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
        inputs: what is known of the inputs, by name: text as on the command line
            (``"[batch, 3, h, w]"``), a sequence of numbers, names and ``Dyn``, a `TensorType`, or
            ``int``. Where an input is not mentioned its annotation counts. All sizes of inputs
            are taken to be 1 or more.
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
    looked = graph_of(module, graph)
    types = _input_types(looked, inputs or {})
    solver = Solver(timeout)
    found: list[tuple[Run, Migration]] = []
    best: tuple[int, dict[str, InputType], Run] | None = None
    undecided: Migration | None = None
    for choice in _rank_choices(module, looked, types):
        result = run(looked, module, choice, where)
        if result.failed is None:
            outcome = _conclude(looked, result, choice, solver)
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
    failed.conflict = _conflict(looked, module, choice, where, result, solver)
    return failed


def _input_types(graph: Graph, given: Mapping[str, Any]) -> dict[str, InputType]:
    placeholders = {input_name(n): n for n in graph.nodes if n.op == "placeholder"}
    for name in given:
        if name not in placeholders:
            raise GradualError(
                f"the program has no input {name}",
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
    """The inputs' types with a rank for each that has none, as far as ranks are possible."""
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
    """The ranks of one input at which the program does not fail, the others being as they are."""
    every = [*range(get_max_rank() + 1)]
    fitting = []
    for rank in every:
        ranked = {**types, name: InputType("tensor", (None,) * rank)}
        if run(graph, module, ranked).failed is None:
            fitting.append(rank)
    return fitting or every


# -- results ---------------------------------------------------------------------------------------


def _conclude(
    graph: Graph, result: Run, inputs: Mapping[str, InputType], solver: Solver
) -> Migration:
    """Ask z3 about what is left open, and write types."""
    domain = result.domain
    demands = [demand.condition for demand in domain.demands]
    made = Migration("well-typed", graph, timeout=solver.timeout)
    made.unknown_operators = result.unknown_operators
    answer = solver.ask(demands)
    if answer.verdict != "sat":
        made.verdict = "unknown" if answer.verdict == "unknown" else "ill-typed"
        return made
    made.example = answer.values
    _force(result, demands, answer.values, solver)
    for node in graph.nodes:
        value = result.values.get(node, UNKNOWN)
        made.shapes[node] = text_of(domain, value)
        made.types[node] = _type_of(domain, value)
        if node.op == "placeholder":
            made.inputs[input_name(node)] = made.shapes[node]
    made.conditions = _conditions(result, solver)
    return made


def _force(result: Run, demands: list[Term], values: Mapping[str, int], solver: Solver) -> None:
    """Put in the numbers that z3 proves symbols to be."""
    domain = result.domain
    open_symbols = {s for d in demands for s in domain.facts.resolve(d).free_symbols}
    for symbol in sorted(open_symbols, key=lambda s: s.uid):
        value = values.get(symbol.name)
        if value is None or symbol in domain.facts.replacements:
            continue
        if solver.follows(demands, symbol.eq(value)):
            domain.facts.replace(symbol, domain.table.const(value))


def _conditions(result: Run, solver: Solver) -> list[str]:
    """What must hold beside, without what follows from sizes being what they are."""
    domain = result.domain
    texts: dict[str, Term] = {}
    for demand in domain.demands:
        condition = domain.facts.resolve(demand.condition)
        if condition.op == "const" or _is_trivial(condition):
            continue
        texts[str(condition)] = condition
    return _without_implied(domain, [*texts], [*texts.values()], solver)


def _without_implied(
    domain: Any, texts: list[str], conditions: list[Term], solver: Solver
) -> list[str]:
    """Conditions of which none follows from the others."""
    kept = [*range(len(conditions))]
    if len(kept) > _MOST_CONDITIONS:
        return texts
    sizes = [symbol >= 0 for c in conditions for symbol in c.free_symbols]
    for i in [*kept]:
        others = [conditions[j] for j in kept if j != i]
        if solver.follows([*sizes, *others], conditions[i]):
            kept.remove(i)
    return [texts[i] for i in kept]


def _is_trivial(condition: Term) -> bool:
    """That one named size is 1 or more, or 0 or more."""
    if condition.op != "ge":
        return False
    return (
        str(condition).endswith((">= 1", ">= 0"))
        and len(condition.free_symbols) == 1
        and (str(condition).split(" >= ")[0] == next(iter(condition.free_symbols)).name)
    )


def _type_of(domain: Any, value: Any) -> Any:
    if isinstance(value, Shape):
        return TensorType(tuple(_dimension(domain, size) for size in value))
    if type(value) in (tuple, list):
        return tuple(_type_of(domain, part) for part in value)
    return Dyn


def _dimension(domain: Any, size: Dim) -> Any:
    if not isinstance(size, Size):
        return size
    from symfx.algebra.languages.sympy import to_sympy

    term = domain.term(size)
    if any(
        symbol.name.startswith("u") and symbol.name[1:].isdigit() for symbol in term.free_symbols
    ):
        return Dyn
    value = term.value
    return to_sympy(term) if value is None else value


def _common(graph: Graph, outcomes: list[Migration]) -> Migration:
    """What holds at all ranks that the inputs can have: elsewhere ``Dyn``."""
    first = outcomes[0]
    made = replace(first, shapes={}, types={}, inputs={})
    for node in graph.nodes:
        shapes = {outcome.shapes[node] for outcome in outcomes}
        made.shapes[node] = first.shapes[node] if len(shapes) == 1 else "Dyn"
        made.types[node] = first.types[node] if len(shapes) == 1 else Dyn
        if node.op == "placeholder":
            made.inputs[input_name(node)] = made.shapes[node]
    made.conditions = [c for c in first.conditions if all(c in o.conditions for o in outcomes)]
    return made


# -- conflicts ------------------------------------------------------------------------------------


def _conflict(
    graph: Graph,
    module: torch.nn.Module,
    inputs: Mapping[str, InputType],
    where: Sequence[str],
    result: Run,
    solver: Solver,
) -> Conflict:
    node, message = result.failed or (None, "sizes contradict each other")
    demands = explain(graph, module, inputs, where, node)
    grouped: dict[Any, list[Term]] = {}
    for demand in demands:
        grouped.setdefault(demand.node or demand.what, []).append(demand.condition)
    keys = [*grouped]
    table = result.domain.table if not demands else demands[0].condition.table
    conditions = [table.and_(*parts) for parts in grouped.values()]
    core = {keys[i] for i in smallest_conflict(solver, conditions)}
    nodes = [n for n in graph.nodes if n in core]
    if not core and node is not None:  # a rank that does not fit: no sizes contradict each other
        nodes = [*node.all_input_nodes, node]
    said = tuple(str(key) for key in keys if key in core and isinstance(key, str))
    example, hopeless = _working_example(graph, module, inputs, where, solver)
    return Conflict(
        message,
        tuple(nodes),
        tuple(_line(n, result, inputs) for n in nodes),
        tuple(text for text in said if text.startswith("you said")),
        example,
        hopeless,
    )


def _line(node: Node, result: Run, inputs: Mapping[str, InputType]) -> str:
    if node.op == "placeholder":
        name = input_name(node)
        return f"{name}: {inputs[name]}, as you wrote it"
    shape = text_of(result.domain, result.values[node]) if node in result.values else "?"
    return f"{node.name}: {shape}  at {where_of(node)}"


def _working_example(
    graph: Graph,
    module: torch.nn.Module,
    inputs: Mapping[str, InputType],
    where: Sequence[str],
    solver: Solver,
) -> tuple[dict[str, tuple[int, ...]] | None, bool]:
    """Shapes of these ranks at which the whole program runs, as near as can be to the user's.

    Returns:
        The shapes, if z3 finds some; and whether there are none.
    """
    freed = {
        name: given if given.dims is None else replace(given, dims=(None,) * len(given.dims))
        for name, given in inputs.items()
    }
    result = run(graph, module, freed)
    domain = result.domain
    wishes = _as_written(domain, inputs, result, graph, where)
    answer = solver.ask([d.condition for d in domain.demands], wishes=wishes, small=True)
    if result.failed is not None or answer.verdict != "sat":
        return None, result.failed is not None or answer.verdict == "unsat"
    values = {domain.table.symbol(name): value for name, value in answer.values.items()}
    example: dict[str, tuple[int, ...]] = {}
    for node in graph.nodes:
        shape = result.values[node]
        if node.op == "placeholder" and isinstance(shape, Shape):
            terms = [domain.term(size) for size in shape]
            known = values | {s: 1 for term in terms for s in term.free_symbols - values.keys()}
            example[input_name(node)] = tuple(int(evaluate(term, known)) for term in terms)
    tried = {**inputs, **{n: InputType("tensor", shape) for n, shape in example.items()}}
    works = bool(example) and run(graph, module, tried).failed is None
    return (example if works else None), False


def _as_written(
    domain: TermDomain,
    inputs: Mapping[str, InputType],
    result: Run,
    graph: Graph,
    where: Sequence[str],
) -> list[Term]:
    """What the user said of sizes, as wishes: equal names, then numbers, then conditions."""
    named: dict[str, Term] = {}
    equal: list[Term] = []
    numbers: list[Term] = []
    for node in graph.nodes:
        shape = result.values.get(node)
        if node.op != "placeholder" or not isinstance(shape, Shape):
            continue
        for dim, size in zip(inputs[input_name(node)].dims or (), shape, strict=True):
            if isinstance(dim, int):
                numbers.append(domain.term(size).eq(domain.table.const(dim)))
            elif dim is not None and dim.isidentifier():
                equal.append(named.setdefault(dim, domain.term(size)).eq(domain.term(size)))
    said = [text for text in where if {*names_in(text)} <= named.keys()]
    return [*equal, *numbers, *(parse_condition(domain.table, text, named) for text in said)]
