"""Variables in place of ``Dyn``, and the equalities between them."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Callable
from typing import Any

import sympy
import torch
from torch.fx import GraphModule, Node
from torch.fx.node import map_arg
from torch.fx.tensor_type import Dyn, TensorType

from symfx.graph_gradual_typechecker.registry import (
    ALGEBRAIC,
    REFINEMENT,
    register_algebraic_expressions_inference_rule,
    register_refinement_rule,
)
from symfx.graph_gradual_typechecker.rules import first_argument
from symfx.graph_gradual_typechecker.types import broadcast_types, calculate_out_dimension
from symfx.refinement_types import Equality
from symfx.shape_rules.arguments import arguments_of
from symfx.shape_rules.graphs import graph_of
from symfx.shape_rules.opaque_sizes import OpaqueSizes
from symfx.shape_rules.sizes import UNKNOWN, Dim, Shape, Size
from symfx.shape_rules.table import lookup
from symfx.unification import Var

__all__ = [
    "Refine",
    "all_eq",
    "conv_refinement_rule",
    "conv_rule",
    "element_wise_eq",
    "first_two_eq",
    "flatten_refinement_rule",
    "linear_refinement_rule",
]


def _dims_of_both(n: Node) -> tuple[Any, Any] | None:
    given = first_argument(n).type
    if isinstance(given, TensorType) and isinstance(n.type, TensorType):
        return given.dims, n.type.dims
    return None


def _leading(n: Node, count: int | None) -> list[Equality]:
    both = _dims_of_both(n)
    return (
        [Equality(*pair) for pair in zip(*(d[:count] for d in both), strict=False)] if both else []
    )


@register_refinement_rule(torch.nn.Conv2d)
def conv_refinement_rule(n: Node) -> list[Equality]:
    """The equality of the batch, if the tensor has a batch."""
    both = _dims_of_both(n)
    return _leading(n, len(both[0]) - 3) if both else []


@register_refinement_rule(torch.nn.Linear)
def linear_refinement_rule(n: Node) -> list[Equality]:
    """The equalities of all dimensions but the last."""
    both = _dims_of_both(n)
    return _leading(n, len(both[0]) - 1) if both else []


@register_refinement_rule(torch.nn.BatchNorm2d)
@register_refinement_rule(torch.nn.ReLU)
def all_eq(n: Node) -> list[Equality]:
    """The equalities of all dimensions of input and output."""
    return _leading(n, None)


@register_refinement_rule(torch.nn.AdaptiveAvgPool2d)
@register_refinement_rule(torch.nn.MaxPool2d)
def first_two_eq(n: Node) -> list[Equality]:
    """The equalities of the batch (if there is one) and of the channels."""
    both = _dims_of_both(n)
    return _leading(n, len(both[0]) - 2) if both else []


@register_refinement_rule(torch.add)
@register_refinement_rule(operator.add)
def element_wise_eq(n: Node) -> list[Equality]:
    """The equalities of the result with dimensions that both operands have.

    An unknown dimension beside a known one yields no equality: it may be 1.
    """
    nodes = n.args[:2]
    types = [node.type if isinstance(node, Node) else None for node in nodes]
    if not all(isinstance(t, TensorType) for t in (*types, n.type)):
        return []
    one, other = broadcast_types(*types)
    assert isinstance(n.type, TensorType)
    triples = zip(one.dims, other.dims, n.type.dims, strict=False)
    return [Equality(a, c) for a, b, c in triples if a == b]


@register_refinement_rule(torch.flatten)
def flatten_refinement_rule(n: Node) -> list[Equality]:
    """The equalities of the dimensions before and after those that are flattened."""
    both = _dims_of_both(n)
    if both is None:
        return []
    old, new = both
    names = ("start_dim", "end_dim")
    start, end = (
        n.args[i + 1] if len(n.args) > i + 1 else n.kwargs.get(name, default)
        for i, (name, default) in enumerate(zip(names, (0, -1), strict=True))
    )
    bounds: list[Any] = [start, end]
    first, last = (i % len(old) for i in bounds)
    behind = len(old) - last - 1
    pairs = [*zip(new[:first], old[:first], strict=True)]
    if behind:
        pairs += zip(new[-behind:], old[-behind:], strict=True)
    return [Equality(*pair) for pair in pairs]


@register_algebraic_expressions_inference_rule(torch.nn.Conv2d)
def conv_rule(n: Node, module_instance: Any) -> TensorType | None:
    """Write height and width as expressions of the input's dimensions."""
    both = _dims_of_both(n)
    if both is None:
        return None
    given, result = both
    moved = (calculate_out_dimension(given[i - 2], module_instance, i) for i in (0, 1))
    n.type = TensorType((*result[:-2], *moved))
    return n.type


class Refine:
    """Symbolic inference: puts variables in place of ``Dyn`` and collects their equalities.

    Args:
        traced: a GraphModule that was type-checked.

    Attributes:
        constraints: the equalities, in the order of the graph.
    """

    def __init__(self, traced: GraphModule) -> None:
        self.constraints: list[Equality] = []
        self.traced = traced
        self.symbol_iter = itertools.count()

    def refine(self) -> bool:
        """Collect the equalities of all nodes; returns True."""
        for node in graph_of(self.traced).nodes:
            self.refine_node(node)
        return True

    def symbolic_relations(self) -> bool:
        """Write sizes as expressions of sympy symbols where they are computed; returns True."""
        for node in graph_of(self.traced).nodes:
            self.infer_symbolic_relations(node)
        return True

    def replace_dyn_with_fresh_var(self, typ: Any) -> Any:
        """A type with a new variable in place of each ``Dyn``."""
        return _mapped(typ, lambda t: Var(next(self.symbol_iter)) if t == Dyn else t)

    def convert_to_sympy_symbols(self, typ: Any) -> Any:
        """A type with a sympy symbol in place of each variable."""
        return _mapped(typ, lambda t: sympy.Symbol(str(t)) if isinstance(t, Var) else t)

    def refine_node(self, n: Node) -> Any:
        """Put variables into one node's type, and collect its equalities."""
        if n.type is None:
            n.type = Dyn
        n.type = self.replace_dyn_with_fresh_var(n.type)
        if n.op in ("call_function", "call_method", "call_module"):
            module = self.traced.get_submodule(str(n.target)) if n.op == "call_module" else None
            own = REFINEMENT.get(n.target if module is None else type(module))
            self.constraints += own(n) if own is not None else self._from_table(n)
        elif n.op == "output":
            n.type = map_arg(n.args[0], lambda node: node.type)
        return n.type

    def _from_table(self, n: Node) -> list[Equality]:
        """The equalities that the table's rule demands, found by running it on opaque sizes."""
        rule, module = lookup(n, self.traced)
        if rule is None or not isinstance(n.type, TensorType):
            return []
        written: dict[int, Any] = {}
        found: list[Equality] = []

        def dimension(size: Dim) -> Any:
            return written.get(id(size)) if isinstance(size, Size) else size

        def demanded(a: Dim, b: Dim) -> None:
            one, other = dimension(a), dimension(b)
            if one is not None and other is not None:
                found.append(Equality(one, other))

        sizes = OpaqueSizes(demanded)
        kept: list[Size] = []  # keeps the sizes alive, so that their ids stay unique

        def value(node: Node) -> Any:
            if not isinstance(node.type, TensorType):
                return UNKNOWN
            dims: list[Dim] = []
            for dim in node.type.dims:
                size: Dim = dim if isinstance(dim, int) else Size(sizes, None)
                if isinstance(size, Size):
                    written[id(size)] = dim
                    kept.append(size)
                dims.append(size)
            return Shape(dims)

        result = rule(sizes, *arguments_of(n, value), module)
        if isinstance(result, Shape) and len(result) == len(n.type.dims):
            for size, dim in zip(result, n.type.dims, strict=True):
                given = dimension(size)
                if given is not None and (given != dim or isinstance(given, Var)):
                    found.append(Equality(given, dim))
        return found

    def infer_symbolic_relations(self, n: Node) -> Any:
        """Write one node's type with sympy symbols, and with expressions for computed sizes."""
        n.type = self.convert_to_sympy_symbols(n.type)
        if n.op == "output":
            n.type = map_arg(n.args[0], lambda node: node.type)
        elif n.op == "call_module":
            module = self.traced.get_submodule(str(n.target))
            if type(module) in ALGEBRAIC:
                return ALGEBRAIC[type(module)](n, module)
        elif n.op == "call_function" and n.target in ALGEBRAIC:
            return ALGEBRAIC[n.target](n)
        return n.type


def _mapped(typ: Any, leaf: Callable[[Any], Any]) -> Any:
    if isinstance(typ, TensorType):
        return TensorType(tuple(_mapped(dim, leaf) for dim in typ.dims))
    if isinstance(typ, (tuple, list)):
        return type(typ)(_mapped(part, leaf) for part in typ)
    return leaf(typ)
