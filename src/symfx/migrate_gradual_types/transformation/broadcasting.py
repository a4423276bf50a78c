"""Transformation rules of broadcasting, in the form that PyTorch gives them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from torch.fx.tensor_type import Dyn

from symfx.migrate_gradual_types.constraint import (
    ApplyBroadcasting,
    BinConstraintD,
    BinConstraintT,
    Conj,
    Constraint,
    Disj,
    DVar,
    F,
    TVar,
)
from symfx.migrate_gradual_types.constraint_builders import is_, type_is
from symfx.migrate_gradual_types.operation import op_eq, op_neq
from symfx.migrate_gradual_types.possible_ranks import DYN, possible
from symfx.migrate_gradual_types.transformation.registry import (
    Dims,
    Reduced,
    expect,
    register_transformation_rule,
)
from symfx.migrate_gradual_types.transformation.relations import gen_lists_of_dims
from symfx.migrate_gradual_types.util import gen_nat_constraints, gen_tensor_dims

__all__ = [
    "apply_padding",
    "broadcast_dim",
    "create_equality_constraints_for_broadcasting",
    "gen_broadcasting_constraints",
    "generate_all_broadcasting_possibilities_no_padding",
    "generate_broadcasting",
    "no_broadcast_dim_with_index",
]


@register_transformation_rule(ApplyBroadcasting)
def generate_broadcasting(constraint: ApplyBroadcasting, counter: int) -> Reduced:
    """Stretch two tensors to one shape: unknown ones stay, known ones go by their ranks."""
    e1, e2, e11, e12 = constraint.input1, constraint.input2, constraint.res1, constraint.res2
    kinds1, kinds2 = possible(e1), possible(e2)
    unchanged = [type_is(e1, e11), type_is(e2, e12)]
    cases: list[Constraint] = [
        Conj([type_is(tensor, Dyn), *unchanged])
        for tensor, kinds in ((e1, kinds1), (e2, kinds2))
        if DYN in kinds
    ]
    naturals: list[Constraint] = []
    for rank in sorted((kinds1 | kinds2) - {DYN}):
        if rank == 0:
            if 0 in kinds1 & kinds2:
                cases.append(Conj([type_is(tensor, []) for tensor in (e1, e2, e11, e12)]))
            continue
        *by_padding, bounds, counter = gen_broadcasting_constraints(e1, e2, e11, e12, rank, counter)
        cases += (case for case in by_padding if case != F())
        naturals += bounds
    return Conj([Disj(cases), *naturals]), counter


def create_equality_constraints_for_broadcasting(
    e1: TVar,
    e2: TVar,
    e11: TVar,
    e12: TVar,
    d1: Dims,
    d2: Dims,
    d11: Dims,
    d12: Dims,
) -> list[BinConstraintT]:
    """Name the dimensions of two tensors and of what they are stretched to.

    Returns:
        The types of `e1`, `e11`, `e2` and `e12`, in this order.
    """
    return [type_is(e1, d1), type_is(e11, d11), type_is(e2, d2), type_is(e12, d12)]


Cases = tuple[Constraint, Constraint, Constraint, list[BinConstraintD], int]


def gen_broadcasting_constraints(
    e1: TVar, e2: TVar, e11: TVar, e12: TVar, i: int, counter: int
) -> Cases:
    """The cases of broadcasting to rank `i`.

    Args:
        e1: one tensor.
        e2: the other.
        e11: the first one stretched.
        e12: the second one stretched.
        i: the rank of the result.
        counter: the number last given to a variable.

    Returns:
        The case that both have this rank, that the first has fewer dimensions, that the second
        has; then what holds of all dimensions in them, and the new number.
    """
    lists, counter = gen_lists_of_dims(4, i, counter)
    d1, d2, d11, d12 = lists
    named = create_equality_constraints_for_broadcasting(e1, e2, e11, e12, d1, d2, d11, d12)
    is_e1, is_e11, is_e2, is_e12 = named
    kinds1, kinds2 = possible(e1), possible(e2)
    both: Constraint = F()
    first: Constraint = F()
    second: Constraint = F()
    if i in kinds1 & kinds2:
        stretched = generate_all_broadcasting_possibilities_no_padding(d1, d2, d11, d12)
        both = Conj([*named, stretched])
    if i in kinds2 and any(0 <= kind < i for kind in kinds1):
        first, counter = apply_padding(e1, is_e11, is_e2, is_e12, d2, d11, d12, counter)
    if i in kinds1 and any(0 <= kind < i for kind in kinds2):
        second, counter = apply_padding(e2, is_e12, is_e1, is_e11, d1, d12, d11, counter)
    if both == first == second == F():
        return both, first, second, [], counter
    return both, first, second, gen_nat_constraints(itertools.chain(*lists)), counter


def apply_padding(
    e1_var: TVar,
    e11: BinConstraintT,
    e2: BinConstraintT,
    e12: BinConstraintT,
    d2: Dims,
    d11: Dims,
    d12: Dims,
    counter: int,
) -> Reduced:
    """A tensor has fewer dimensions than another: those it lacks are taken from the other.

    Args:
        e1_var: the tensor that has fewer.
        e11: the type of what it is stretched to.
        e2: the type of the other tensor.
        e12: the type of what that is stretched to.
        d2: the other's dimensions.
        d11: the dimensions that the first is stretched to.
        d12: the dimensions that the other is stretched to.
        counter: the number last given to a variable.

    Returns:
        One alternative for each rank that the tensor can have, and the new number.
    """
    rank = len(d2)
    cases: list[Constraint] = []
    for fewer in sorted(kind for kind in possible(e1_var) if 0 <= kind < rank):
        dims, counter = gen_tensor_dims(fewer, counter)
        lacking = rank - fewer
        padded = [None] * lacking + dims
        taken = [broadcast_dim(padded, d2, d11, d12, i, padding=True) for i in range(lacking)]
        stretched = generate_all_broadcasting_possibilities_no_padding(
            dims, d2[lacking:], d11[lacking:], d12[lacking:]
        )
        naturals = gen_nat_constraints(dims)
        cases.append(Conj([type_is(e1_var, dims), e11, e2, e12, *taken, stretched, *naturals]))
    return Disj(cases), counter


def broadcast_dim(
    tensor_input1: Sequence[DVar | None],
    tensor_input2: Dims,
    res1: Dims,
    res2: Dims,
    index: int,
    padding: bool = False,
) -> Constraint:
    """One dimension of the first tensor is 1, or lacking, and stretched to the second's.

    Args:
        tensor_input1: the first tensor's dimensions; ``None`` where it has none.
        tensor_input2: the second's.
        res1: what the first is stretched to.
        res2: what the second is stretched to.
        index: which dimension.
        padding: the first tensor has no such dimension.
    """
    own = tensor_input1[index]
    expect(padding or own is not None, own, "a dimension, where there is no padding")
    stretched = [is_(res1[index], res2[index]), is_(res2[index], tensor_input2[index])]
    return Conj(stretched if padding else [is_(own, 1), *stretched])


def no_broadcast_dim_with_index(
    d1: Sequence[DVar], d2: Sequence[DVar], d3: Sequence[DVar], d4: Sequence[DVar], i: int
) -> Constraint:
    """Dimension `i` of two tensors stays as it is: both are 1, or neither is.

    Args:
        d1: the first tensor's dimensions.
        d2: the second's.
        d3: what the first is stretched to.
        d4: what the second is stretched to.
        i: which dimension.
    """
    pair = (d1[i], d2[i])
    alike = [Conj([BinConstraintD(dim, 1, op) for dim in pair]) for op in (op_eq, op_neq)]
    return Conj([Disj(alike), is_(d1[i], d3[i]), is_(d2[i], d4[i])])


def generate_all_broadcasting_possibilities_no_padding(
    d1: Dims, d2: Dims, d11: Dims, d12: Dims
) -> Constraint:
    """Broadcasting of two tensors of one rank: each dimension is stretched here, there or not."""
    return Conj(
        [
            Disj(
                [
                    broadcast_dim(d1, d2, d11, d12, i),
                    broadcast_dim(d2, d1, d12, d11, i),
                    no_broadcast_dim_with_index(d1, d2, d11, d12, i),
                ]
            )
            for i in range(len(d1))
        ]
    )
