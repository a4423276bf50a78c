"""A graph run on terms: the shape of each value, and the conditions that its operators demand.

`run_graph` runs a graph on inputs of known rank; an input of unknown rank stays unknown.
`explain_failure` runs a program that failed once more, with a name for each size of each value, so
that z3 can find the operators that contradict each other.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.fx import Graph, Node

from symfx.algebra import Table, Term
from symfx.errors import SpecError
from symfx.shape_rules.arguments import arguments_of
from symfx.shape_rules.dtype_demands import demand_dtypes
from symfx.shape_rules.element_types import AUTOCAST, ElementTypes, typed
from symfx.shape_rules.errors import IllTypedError
from symfx.shape_rules.graphs import parameter_of
from symfx.shape_rules.sizes import UNKNOWN, Dim, Packed, Shape, Size
from symfx.shape_rules.table import Rule, any_unknown, lookup, operator_name
from symfx.static_migration.conditions import (
    InputType,
    declared_names,
    dimension_names,
    names_in,
    parse_condition,
    parse_size,
)
from symfx.static_migration.decisions import branch_taken
from symfx.static_migration.operator_trace import OperatorTrace
from symfx.static_migration.printing import layer_of
from symfx.static_migration.strides import Strides, demand_viewable, strides_of
from symfx.static_migration.term_sizes import Demand, OpenCondition, TermSizes

__all__ = ["GraphRun", "NamedSizes", "explain_failure", "run_graph"]


@dataclass
class GraphRun:
    """The result of running a graph.

    Attributes:
        sizes: the terms, facts and demands.
        values: the value of each node.
        unknown_operators: the nodes without a rule in the table, with the operator's name.
        failed: the node whose operator does not take its arguments, and the reason.
    """

    sizes: TermSizes
    values: dict[Node, Any] = field(default_factory=dict)
    unknown_operators: dict[Node, str] = field(default_factory=dict)
    failed: tuple[Node | None, str] | None = None


class NamedSizes:
    """The sizes that the user named, as terms.

    Args:
        sizes: the kind of sizes that makes the terms.
        inputs: the types of the inputs, which name the sizes.
    """

    def __init__(self, sizes: TermSizes, inputs: Mapping[str, InputType]) -> None:
        self._sizes = sizes
        self._declared = frozenset(declared_names(inputs))
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
            self.terms[name] = self._sizes.symbol(name, least)

    def shape(self, name: str, given: InputType) -> Shape:
        """The shape of an input; an unnamed dimension is named after the input."""
        sizes: list[Dim] = []
        texts = dimension_names(name, given, self._declared)
        for dim, text in zip(given.dims or (), texts, strict=True):
            if isinstance(dim, int):
                sizes.append(dim)
                continue
            if dim is None:
                self._name(text, 1)
            term = parse_size(self._sizes.table, text, self.terms)
            sizes.append(self._sizes.size(term))
        return Shape(sizes)


class Interpreter:
    """Computes the values of the nodes of a graph, one after the other.

    Args:
        root: the module that the graph's modules and parameters belong to.
        inputs: the types of the placeholders, by name.
        where: the user's conditions.
        sizes: the kind of sizes to run on; new terms if it is ``None``.
    """

    def __init__(
        self,
        root: torch.nn.Module,
        inputs: Mapping[str, InputType],
        where: Sequence[str] = (),
        sizes: TermSizes | None = None,
    ) -> None:
        self.root = root
        self.inputs = inputs
        self._trace = OperatorTrace.of(root)
        self._strides: dict[Node, Strides] = {}
        if sizes is None:
            sizes = TermSizes(Table() if self._trace is None else self._trace.table)
        self.result = GraphRun(sizes)
        dtypes = {n: getattr(torch, given.dtype) for n, given in inputs.items() if given.has_dtype}
        self._dtypes = ElementTypes(root, dtypes, self._rank_of)
        self.names = NamedSizes(self.sizes, inputs)
        shapes = {n: self.names.shape(n, t) for n, t in inputs.items() if t.dims is not None}
        self._shapes = shapes
        for text in where:
            condition = parse_condition(self.sizes.table, text, self.names.terms)
            try:
                self.sizes.demand(condition, f"you said {text}", text=text)
            except IllTypedError as error:
                self.result.failed = (None, error.what)
                return
        if self._trace is not None:
            self._learn_guards(self._trace)

    def _learn_guards(self, trace: OperatorTrace) -> None:
        """Demand the conditions that a trace of operators relies on."""
        for name, text in trace.dimensions.items():
            size = parse_size(trace.table, text, self.names.terms)
            self.sizes.demand(trace.table.symbol(name).eq(size), f"{name} is {text}")
        for condition, origin in trace.guards():
            self.sizes.demand(condition, f"the trace holds for {condition}", origin)

    @property
    def sizes(self) -> TermSizes:
        """The kind of sizes that all values are made of."""
        return self.result.sizes

    def step(self, node: Node) -> Any:
        """Compute the value of one node."""
        self.sizes.node = node
        value = self.result.values[node] = self._value(node)
        if self._trace is None:
            self._follow_strides(node, value)
        return value

    def _follow_strides(self, node: Node, value: Any) -> None:
        """Learn the strides of a node's value, and check them if the node is a view."""
        values = self.result.values
        module = self.root.get_submodule(str(node.target)) if node.op == "call_module" else None
        self._strides[node] = strides_of(self.sizes, node, value, self._strides, values, module)
        if node.op == "call_method" and node.target == "view" and isinstance(value, Shape):
            viewed = node.args[0]
            strides = self._strides.get(viewed) if isinstance(viewed, Node) else None
            shape = values.get(viewed) if isinstance(viewed, Node) else None
            of_bytes = isinstance(node.args[1], torch.dtype)
            if strides is not None and isinstance(shape, Shape) and not of_bytes:
                demand_viewable(self.sizes, self._current(shape), strides, value)

    def _value(self, node: Node) -> Any:
        if node.op == "placeholder":
            return self.placeholder(str(node.target).lstrip("*"))
        if node.op == "get_attr":
            attribute = parameter_of(self.root, str(node.target))
            return Shape(attribute.shape) if isinstance(attribute, torch.Tensor) else UNKNOWN
        args, kwargs = self._arguments(node)
        if node.op == "output":
            return args[0] if self._trace is None else self._trace.result_of(args[0])
        if node.target is torch._assert and args[0] is not UNKNOWN:
            message = (
                args[1] if len(args) > 1 and args[1] else f"the program asserts {node.args[0]}"
            )
            if isinstance(args[0], OpenCondition):
                self.sizes.demand(args[0].condition, str(message))
            elif args[0] is False:
                raise IllTypedError(str(message))
            return None
        if isinstance(node.target, type) and dataclasses.is_dataclass(node.target):
            fields = dataclasses.fields(node.target)
            return dict(zip((field.name for field in fields), args, strict=False)) | kwargs
        if node.target is branch_taken:
            self._take(*args)
            return None
        rule, module = lookup(node, self.root)
        if self._trace is not None:
            return self._traced_value(self._trace, rule, node, module)
        if rule is None:
            self.result.unknown_operators[node] = operator_name(node, module)
            return UNKNOWN
        if not rule.takes(self.sizes, args, kwargs, module):
            name = operator_name(node, module)
            self.result.unknown_operators[node] = f"{name} with these arguments"
        self._dtypes.of(node)
        if AUTOCAST not in node.meta:
            demand_dtypes(self._dtypes.call(node), module)
        result = rule(self.sizes, args, kwargs, module)
        if result is UNKNOWN and not any_unknown((args, tuple(kwargs.values()))):
            name = operator_name(node, module)
            self.result.unknown_operators[node] = f"{name} with these arguments"
        for shape in result if isinstance(result, (tuple, list)) else ():
            self._demand_sizes(shape)
        self._demand_sizes(result)
        return result

    def _demand_sizes(self, shape: Any) -> None:
        """Demand that no size of a result is negative, as a difference of sizes can be."""
        for size in shape if isinstance(shape, Shape) else ():
            if isinstance(size, Size):
                term = self.sizes.term(size)
                if term.const < 0 or any(coeff < 0 for coeff in term.coeffs.values()):
                    self.sizes.demand(term >= 0, "the size of a result is not negative")

    def _take(self, condition: Any, truth: bool, text: str) -> None:
        """Demand the condition of a branch that the program takes, if it is one on sizes."""
        sizes = self.sizes
        if isinstance(condition, str):
            try:
                term = parse_condition(sizes.table, condition, self.names.terms)
            except SpecError:
                return  # a condition on sizes that depend on data, or on a minimum of sizes
        elif isinstance(condition, OpenCondition):
            term = condition.condition
        elif isinstance(condition, Size):
            term = sizes.term(condition).ne(0)
        else:
            return
        sizes.demand(term if truth else sizes.table.not_(term), text)

    def _traced_value(
        self, trace: OperatorTrace, rule: Rule | None, node: Node, module: torch.nn.Module | None
    ) -> Any:
        """The value of a node in the trace; as its rule writes it, if the rule fits the example."""
        traced = trace.value_of(node, self.sizes)
        if rule is None or trace.depends_on_data(traced):
            return traced
        if not trace.fits_example(rule, node, module, self.sizes):
            return traced
        made = self.sizes.fresh_count
        args, kwargs = self._arguments(node)
        try:
            result = rule(self.sizes, args, kwargs, module)
        except IllTypedError:
            return traced  # the trace has shown that the operator takes its arguments
        return traced if result is UNKNOWN or self.sizes.fresh_count > made else result

    def placeholder(self, name: str) -> Any:
        """The value of an input."""
        given = self.inputs.get(name)
        if given is None or (given.kind == "tensor" and given.dims is None):
            return UNKNOWN
        if given.kind == "int":
            return self.sizes.size(self.names.terms[name])
        return self.names.shape(name, given)

    def _arguments(self, node: Node) -> tuple[Any, Any]:
        def value(used: Node) -> Any:
            found = self._current(self.result.values.get(used, UNKNOWN))
            return typed(found, self._dtypes.of(used))

        return arguments_of(node, value)

    def _rank_of(self, node: Node) -> int | None:
        value = self.result.values.get(node)
        return len(value) if isinstance(value, Shape) else None

    def _current(self, value: Any) -> Any:
        """A value with the equalities that were learned since."""
        if isinstance(value, Size):
            return self.sizes.size(value.value)
        if isinstance(value, Shape):
            return Shape(map(self._current, value))
        if isinstance(value, Packed):
            return dataclasses.replace(value, shape=self._current(value.shape))
        if type(value) in (tuple, list):
            return tuple(map(self._current, value))
        if isinstance(value, dict):
            return {key: self._current(part) for key, part in value.items()}
        return value


def run_graph(
    graph: Graph,
    root: torch.nn.Module,
    inputs: Mapping[str, InputType],
    where: Sequence[str] = (),
) -> GraphRun:
    """GraphRun a graph on terms, up to the first operator that does not take its arguments.

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
            result.failed = (node, _in_words(error, node, root))
            return result
    # A fact that was learned late holds of earlier values too.
    result.values = {node: interpreter._current(value) for node, value in result.values.items()}
    return result


def _in_words(error: IllTypedError, node: Node, root: torch.nn.Module) -> str:
    """The message of an operator that fails, with the layer if a layer is called."""
    layer = layer_of(node, root)
    return f"{layer}: {error.what}" if layer else error.what


# -- the reason of a failure ---------------------------------------------------------------------


class _UnlearningSizes(TermSizes):
    """Terms that learn no facts: z3 then finds the demands that contradict each other."""

    def demand(self, condition: Term, what: str, origin: str = "", text: str = "") -> None:
        if condition.op == "const" and condition.value:
            return
        self.demands.append(Demand(condition, what, self.node, origin))

    def name_sizes(self, value: Any, name: str) -> Any:
        """A value with a new name for each size, and the demand that both are equal."""
        if isinstance(value, Shape):
            return Shape(self._named(size, f"{name}.{i}") for i, size in enumerate(value))
        if isinstance(value, Packed):
            return dataclasses.replace(value, shape=self.name_sizes(value.shape, name))
        if type(value) is tuple:
            return tuple(self.name_sizes(part, f"{name}.{i}") for i, part in enumerate(value))
        if isinstance(value, dict):
            return {key: self.name_sizes(part, f"{name}.{key}") for key, part in value.items()}
        return value

    def _named(self, size: Dim, name: str) -> Dim:
        term = self.term(size)
        symbol = self.table.symbol(name)
        self.demand(symbol.eq(term), f"{name} is {term}")
        return Size(self, symbol)


def explain_failure(
    graph: Graph,
    root: torch.nn.Module,
    inputs: Mapping[str, InputType],
    where: Sequence[str],
    until: Node | None,
) -> list[Demand]:
    """The demands of all nodes up to the one that failed, each on the named sizes of its inputs."""
    trace = OperatorTrace.of(root)
    sizes = _UnlearningSizes(Table() if trace is None else trace.table)
    interpreter = Interpreter(root, inputs, where, sizes)
    for node in graph.nodes:
        try:
            value = interpreter.step(node)
        except IllTypedError:
            # The rule refuses plain numbers by itself; the demands so far are enough.
            break
        if node.op != "output":
            interpreter.result.values[node] = sizes.name_sizes(value, node.name)
        if node is until:
            break
    for node, value in interpreter.result.values.items():
        if node.op == "placeholder" and isinstance(value, Shape):
            sizes.node = None
            for size in value:
                sizes.demand(sizes.term(size) >= 1, f"the sizes of {node.name} are 1 or more")
    return sizes.demands
