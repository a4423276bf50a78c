"""Symbolic types: the variables that `Refine` puts into types, solved by unification."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from torch.fx import Graph, GraphModule
from torch.fx.tensor_type import TensorType

from symfx.graph_gradual_typechecker import Refine
from symfx.refinement_types import Equality
from symfx.shape_rules.errors import IllTypedError
from symfx.unification import reify, unify

__all__ = [
    "check_for_type_equality",
    "convert_eq",
    "infer_symbolic_types",
    "infer_symbolic_types_single_pass",
    "substitute_all_types",
    "substitute_solution_one_type",
    "unify_eq",
]


def infer_symbolic_types_single_pass(traced: GraphModule) -> Refine:
    """Put variables into the types of a checked graph, one for each set of equal dimensions.

    Args:
        traced: a GraphModule that `GraphTypeChecker` went through.

    Returns:
        The refinement, with the equalities that were solved.

    Raises:
        IllTypedError: two sizes that must be equal are not.
    """
    refine = Refine(traced)
    refine.refine()
    substitute_all_types(traced.graph, unify_eq(refine.constraints))
    return refine


def infer_symbolic_types(traced: GraphModule) -> None:
    """Give a checked graph symbolic types, with sympy symbols for unknown dimensions.

    There are two passes: the equalities of the first show the second which dimensions broadcast.

    Args:
        traced: a GraphModule that `GraphTypeChecker` went through.

    Raises:
        IllTypedError: two sizes that must be equal are not.
    """
    infer_symbolic_types_single_pass(traced)
    infer_symbolic_types_single_pass(traced).symbolic_relations()


def convert_eq(list_of_eq: Iterable[Equality]) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """The left sides of equalities, and the right sides."""
    pairs = [(equality.lhs, equality.rhs) for equality in list_of_eq]
    return tuple(left for left, _ in pairs), tuple(right for _, right in pairs)


def unify_eq(list_of_eq: Sequence[Equality]) -> dict[Any, Any]:
    """The values of the variables for which all equalities hold.

    Raises:
        IllTypedError: there are no such values.
    """
    solution = unify(*convert_eq(list_of_eq), {})
    if isinstance(solution, dict):
        return solution
    known: Any = {}
    for equality in list_of_eq:
        known = unify(equality.lhs, equality.rhs, known)
        if known is False:
            raise IllTypedError(f"sizes that must be equal are not: {equality}")
    return dict(known)


def substitute_solution_one_type(mapping: dict[Any, Any], t: Any) -> Any:
    """A type with its variables replaced by their values."""
    if isinstance(t, TensorType):
        return TensorType(tuple(reify(dim, mapping) for dim in t.dims))
    if isinstance(t, (list, tuple)):
        return type(t)(substitute_solution_one_type(mapping, part) for part in t)
    return reify(t, mapping)


def substitute_all_types(graph: Graph, mapping: dict[Any, Any]) -> None:
    """Replace the variables in the types of all nodes by their values."""
    for node in graph.nodes:
        node.type = substitute_solution_one_type(mapping, node.type)


def check_for_type_equality(g1: Graph, g2: Graph) -> bool:
    """Whether the nodes of two graphs, in order, have equal types."""
    return all(n.type == m.type for n, m in zip(g1.nodes, g2.nodes, strict=False))
