"""A graph run on terms: the shape of every value, and what must hold for it.

`run` does it once, with the ranks of all inputs given (or unknown, and left so). `explain` does it
again for a program that failed, with a name for every size of every value, so that z3 can tell
which operators contradict each other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.fx import Graph, Node
from torch.fx.node import map_arg

from symfx.algebra import Table, Term
from symfx.graph_gradual_typechecker.checker_sizes import released
from symfx.shape_rules.errors import IllTypedError
from symfx.shape_rules.graphs import parameter_of
from symfx.shape_rules.sizes import UNKNOWN, Dim, Shape, Size
from symfx.shape_rules.table import lookup, operator_name
from symfx.static_migration.conditions import InputType, names_in, parse_condition, parse_size
from symfx.static_migration.term_sizes import Demand, TermDomain, Truth

__all__ = ["Names", "Run", "explain", "run"]


@dataclass
class Run:
    """What running a graph found.

    Attributes:
        domain: the domain, with all demands.
        values: the value of each node.
        unknown_operators: nodes that the table has no rule for, with the operator's name.
        failed: the node whose operator does not take its arguments, and why.
    """

    domain: TermDomain
    values: dict[Node, Any] = field(default_factory=dict)
    unknown_operators: dict[Node, str] = field(default_factory=dict)
    failed: tuple[Node | None, str] | None = None


class Names:
    """The sizes that the user named, as terms.

    Args:
        domain: where they live.
        inputs: the types of the inputs, which name them.
    """

    def __init__(self, domain: TermDomain, inputs: Mapping[str, InputType]) -> None:
        self._domain = domain
        self.terms: dict[str, Term] = {}
        for name, given in inputs.items():
            if given.kind == "int":
                self._name(name, None)
            for dim in given.dims or ():
                if isinstance(dim, str):
                    for part in names_in(dim):
                        self._name(part, 1)

    def _name(self, name: str, least: int | None) -> None:
        if name not in self.terms:
            self.terms[name] = self._domain.symbol(name, least)

    def shape(self, name: str, given: InputType) -> Shape:
        """The shape of an input; an unnamed dimension is named after the input."""
        sizes: list[Dim] = []
        for i, dim in enumerate(given.dims or ()):
            if isinstance(dim, int):
                sizes.append(dim)
                continue
            text = f"{name}_{i}" if dim is None else dim
            if dim is None:
                self._name(text, 1)
            term = parse_size(self._domain.table, text, self.terms)
            sizes.append(self._domain.size(term))
        return Shape(sizes)


class Interpreter:
    """Gives the nodes of a graph their values, one after the other.

    Args:
        root: the module that the graph's modules and parameters belong to.
        inputs: the types of the placeholders, by name.
        where: conditions that the user gave.
    """

    def __init__(
        self,
        root: torch.nn.Module,
        inputs: Mapping[str, InputType],
        where: Sequence[str] = (),
        domain: TermDomain | None = None,
    ) -> None:
        self.root = root
        self.inputs = inputs
        self.result = Run(TermDomain(Table()) if domain is None else domain)
        self.names = Names(self.domain, inputs)
        shapes = {n: self.names.shape(n, t) for n, t in inputs.items() if t.dims is not None}
        self._shapes = shapes
        for text in where:
            condition = parse_condition(self.domain.table, text, self.names.terms)
            try:
                self.domain.demand(condition, f"you said {text}")
            except IllTypedError as error:
                self.result.failed = (None, error.what)
                return

    @property
    def domain(self) -> TermDomain:
        """The domain of all values."""
        return self.result.domain

    def step(self, node: Node) -> Any:
        """Give one node its value."""
        self.domain.node = node
        value = self.result.values[node] = self._value(node)
        return value

    def _value(self, node: Node) -> Any:
        if node.op == "placeholder":
            return self.placeholder(str(node.target).lstrip("*"))
        if node.op == "get_attr":
            attribute = parameter_of(self.root, str(node.target))
            return Shape(attribute.shape) if isinstance(attribute, torch.Tensor) else UNKNOWN
        args, kwargs = self._arguments(node)
        if node.op == "output":
            return args[0]
        if node.target is torch._assert and isinstance(args[0], Truth):
            message = (
                args[1] if len(args) > 1 and args[1] else f"the program asserts {node.args[0]}"
            )
            self.domain.demand(args[0].condition, str(message))
            return None
        rule, module = lookup(node, self.root)
        if rule is None:
            self.result.unknown_operators[node] = operator_name(node, module)
            return UNKNOWN
        return rule(self.domain, args, kwargs, module)

    def placeholder(self, name: str) -> Any:
        """The value of an input."""
        given = self.inputs.get(name)
        if given is None or (given.kind == "tensor" and given.dims is None):
            return UNKNOWN
        if given.kind == "int":
            return self.domain.size(self.names.terms[name])
        return self.names.shape(name, given)

    def _arguments(self, node: Node) -> tuple[Any, Any]:
        def hold(used: Node) -> Any:
            from symfx.graph_gradual_typechecker.checker_sizes import Held

            return Held(self._current(self.result.values.get(used, UNKNOWN)))

        held: Any = map_arg((node.args, node.kwargs), hold)
        return released(held[0]), released(held[1])

    def _current(self, value: Any) -> Any:
        """A value with what became known since."""
        if isinstance(value, Size):
            return self.domain.size(value.value)
        if isinstance(value, Shape):
            return Shape(map(self._current, value))
        if type(value) in (tuple, list):
            return tuple(map(self._current, value))
        return value


def run(
    graph: Graph,
    root: torch.nn.Module,
    inputs: Mapping[str, InputType],
    where: Sequence[str] = (),
) -> Run:
    """Run a graph on terms, as far as it goes.

    Args:
        graph: the graph.
        root: the module that its modules and parameters belong to.
        inputs: the types of the placeholders, by name.
        where: conditions that the user gave.
    """
    interpreter = Interpreter(root, inputs, where)
    result = interpreter.result
    if result.failed is not None:
        return result
    for node in graph.nodes:
        try:
            interpreter.step(node)
        except IllTypedError as error:
            result.failed = (node, error.what)
            return result
    # What was learned late holds of what came early.
    result.values = {node: interpreter._current(value) for node, value in result.values.items()}
    return result


# -- why it failed -------------------------------------------------------------------------------


class _Explaining(TermDomain):
    """Learns nothing: each demand stands by itself, for z3 to find those that contradict."""

    def demand(self, condition: Term, what: str) -> None:
        if condition.op == "const" and condition.value:
            return
        self.demands.append(Demand(condition, what, self.node))

    def name_sizes(self, value: Any, name: str) -> Any:
        """A value with a name for each of its sizes, which is demanded to be what it was."""
        if isinstance(value, Shape):
            return Shape(self._named(size, f"{name}.{i}") for i, size in enumerate(value))
        if type(value) is tuple:
            return tuple(self.name_sizes(part, f"{name}.{i}") for i, part in enumerate(value))
        return value

    def _named(self, size: Dim, name: str) -> Dim:
        term = self.term(size)
        symbol = self.table.symbol(name)
        self.demand(symbol.eq(term), f"{name} is {term}")
        return Size(self, symbol)


def explain(
    graph: Graph,
    root: torch.nn.Module,
    inputs: Mapping[str, InputType],
    where: Sequence[str],
    until: Node | None,
) -> list[Demand]:
    """The demands of all nodes up to one that failed, each in terms of its arguments' own sizes."""
    domain = _Explaining(Table())
    interpreter = Interpreter(root, inputs, where, domain)
    for node in graph.nodes:
        try:
            value = interpreter.step(node)
        except IllTypedError:
            # Numbers that contradict each other were demanded as numbers.
            break
        if node.op != "output":
            interpreter.result.values[node] = domain.name_sizes(value, node.name)
        if node is until:
            break
    for node, value in interpreter.result.values.items():
        if node.op == "placeholder" and isinstance(value, Shape):
            domain.node = None
            for size in value:
                domain.demand(domain.term(size) >= 1, f"the sizes of {node.name} are 1 or more")
    return domain.demands
