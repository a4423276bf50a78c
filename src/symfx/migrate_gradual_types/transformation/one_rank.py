"""Transformation rules of operators on a tensor of a fixed rank: transpose, index_select, items."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from symfx.migrate_gradual_types.constraint import (
    Conj,
    Constraint,
    DVar,
    F,
    GetItem,
    GetItemTensor,
    IndexSelect,
    T,
    Transpose,
    TVar,
)
from symfx.migrate_gradual_types.constraint_builders import is_, type_is
from symfx.migrate_gradual_types.transformation.registry import (
    Reduced,
    register_transformation_rule,
)
from symfx.migrate_gradual_types.util import gen_nat_constraints, gen_tensor_dims
from symfx.shape_rules.errors import IllTypedError
from symfx.shape_rules.ranks import get_max_rank

__all__ = [
    "transform_get_item",
    "transform_get_item_tensor",
    "transform_index_select",
    "transform_transpose",
    "valid_index",
    "valid_index_tensor",
]


def valid_index(index: int, dims: Sequence[Any]) -> Constraint:
    """`T` if the tensor has a dimension of this index (a negative index counts from the end)."""
    return T() if -len(dims) <= index < len(dims) else F()


def _of_rank(
    tensor: TVar, rank: int, counter: int, *then: Callable[[list[DVar]], Iterable[Constraint]]
) -> Reduced:
    """The tensor has this rank, and `then` gives the constraints on its dimensions."""
    dims, counter = gen_tensor_dims(rank, counter)
    parts: list[Constraint] = [type_is(tensor, dims), *gen_nat_constraints(dims)]
    for step in then:
        parts.extend(step(dims))
    return Conj(parts), counter


@register_transformation_rule(Transpose)
def transform_transpose(constraint: Transpose, counter: int) -> Reduced:
    """The output has the input's dimensions with two of them exchanged."""
    i, j = constraint.index1, constraint.index2

    def exchange(dims: list[DVar]) -> list[Constraint]:
        valid = [valid_index(i, dims), valid_index(j, dims)]
        if F() in valid:
            return [F()]
        moved = [*dims]
        moved[i], moved[j] = dims[j], dims[i]
        return [*valid, type_is(constraint.output, moved)]

    return _of_rank(constraint.input_var, constraint.tensor_size, counter, exchange)


@register_transformation_rule(IndexSelect)
def transform_index_select(constraint: IndexSelect, counter: int) -> Reduced:
    """The output has the input's dimensions with one of them replaced."""

    def replace(dims: list[DVar]) -> list[Constraint]:
        valid = valid_index(constraint.index, dims)
        new: list[Any] = [*dims]
        if valid == T():
            new[constraint.index] = constraint.dim_replace
        return [valid, type_is(constraint.output, new)]

    return _of_rank(constraint.input_var, constraint.tensor_size, counter, replace)


@register_transformation_rule(GetItem)
def transform_get_item(constraint: GetItem, counter: int) -> Reduced:
    """The result is one of the input's dimensions."""

    def pick(dims: list[DVar]) -> list[Constraint]:
        if valid_index(constraint.index, dims) == F():
            return [F()]
        return [T(), is_(constraint.res, dims[constraint.index])]

    return _of_rank(constraint.input_var, constraint.tensor_size, counter, pick)


def valid_index_tensor(index: Sequence[Any], dims: Sequence[Any]) -> Constraint:
    """`T` if an index has at most one entry other than ``None`` for each dimension."""
    taken = sum(1 for entry in index if entry is not None and entry is not Ellipsis)
    return T() if taken <= len(dims) else F()


@register_transformation_rule(GetItemTensor)
def transform_get_item_tensor(constraint: GetItemTensor, counter: int) -> Reduced:
    """The result has the shape of the indexed input."""
    from symfx.migrate_gradual_types.constraint_sizes import ConstraintSizes
    from symfx.shape_rules.rules.indexing import index_tensor

    dims, counter = gen_tensor_dims(constraint.tensor_size, counter)
    counter += 1
    sizes = ConstraintSizes(counter)
    fits = valid_index_tensor(constraint.index_tuple, dims)
    try:
        result = index_tensor(sizes, sizes.shape(dims), constraint.index_tuple)
    except IllTypedError:
        return F(), counter
    if len(result) > get_max_rank():
        return F(), counter
    parts = [
        type_is(constraint.input_var, dims),
        sizes.type_is(constraint.res, result),
        *gen_nat_constraints(dims),
        fits,
        *sizes.constraints,
    ]
    return Conj(parts), counter
