"""Transformation rules of broadcasting, in PyTorch's form."""

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
from symfx.migrate_gradual_types.possible_ranks import DYN, ranks_of
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
    """Expand two tensors to one shape; if one is ``Dyn``, both are unchanged."""
    e1, e2, e11, e12 = constraint.input1, constraint.input2, constraint.res1, constraint.res2
    ranks1, ranks2 = ranks_of(e1), ranks_of(e2)
    unchanged = [type_is(e1, e11), type_is(e2, e12)]
    cases: list[Constraint] = [
        Conj([type_is(tensor, Dyn), *unchanged])
        for tensor, ranks in ((e1, ranks1), (e2, ranks2))
        if DYN in ranks
    ]
    naturals: list[Constraint] = []
    for rank in sorted((ranks1 | ranks2) - {DYN}):
        if rank == 0:
            if 0 in ranks1 & ranks2:
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
    """Name the dimensions of two tensors, and of the same tensors expanded.

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
        e1: the first tensor.
        e2: the second tensor.
        e11: the first tensor, expanded.
        e12: the second tensor, expanded.
        i: the rank of the result.
        counter: the number last given to a variable.

    Returns:
        The case that both have this rank, the case that the first has fewer dimensions, the case
        that the second has; then the bounds of all dimensions in them, and the new number.
    """
    lists, counter = gen_lists_of_dims(4, i, counter)
    d1, d2, d11, d12 = lists
    named = create_equality_constraints_for_broadcasting(e1, e2, e11, e12, d1, d2, d11, d12)
    is_e1, is_e11, is_e2, is_e12 = named
    ranks1, ranks2 = ranks_of(e1), ranks_of(e2)
    both: Constraint = F()
    first: Constraint = F()
    second: Constraint = F()
    if i in ranks1 & ranks2:
        stretched = generate_all_broadcasting_possibilities_no_padding(d1, d2, d11, d12)
        both = Conj([*named, stretched])
    if i in ranks2 and any(0 <= fewer < i for fewer in ranks1):
        first, counter = apply_padding(e1, is_e11, is_e2, is_e12, d2, d11, d12, counter)
    if i in ranks1 and any(0 <= fewer < i for fewer in ranks2):
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
    """A tensor has fewer dimensions than another, from which it takes the missing ones.

    Args:
        e1_var: the tensor with fewer dimensions.
        e11: the type of this tensor, expanded.
        e2: the type of the other tensor.
        e12: the type of the other tensor, expanded.
        d2: the dimensions of the other tensor.
        d11: the dimensions of the first tensor, expanded.
        d12: the dimensions of the other tensor, expanded.
        counter: the number last given to a variable.

    Returns:
        One alternative for each possible rank of the tensor, and the new number.
    """
    rank = len(d2)
    cases: list[Constraint] = []
    for fewer in sorted(own for own in ranks_of(e1_var) if 0 <= own < rank):
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
    """One dimension of the first tensor is 1, or missing, and expanded to the second tensor's.

    Args:
        tensor_input1: the first tensor's dimensions, with ``None`` for missing ones.
        tensor_input2: the second tensor's dimensions.
        res1: the first tensor's dimensions, expanded.
        res2: the second tensor's dimensions, expanded.
        index: the index of the dimension.
        padding: the first tensor has no such dimension.
    """
    own = tensor_input1[index]
    expect(padding or own is not None, own, "a dimension, where there is no padding")
    stretched = [is_(res1[index], res2[index]), is_(res2[index], tensor_input2[index])]
    return Conj(stretched if padding else [is_(own, 1), *stretched])


def no_broadcast_dim_with_index(
    d1: Sequence[DVar], d2: Sequence[DVar], d3: Sequence[DVar], d4: Sequence[DVar], i: int
) -> Constraint:
    """Dimension `i` of two tensors is unchanged: both are 1, or neither is.

    Args:
        d1: the first tensor's dimensions.
        d2: the second tensor's dimensions.
        d3: the first tensor's dimensions, expanded.
        d4: the second tensor's dimensions, expanded.
        i: the index of the dimension.
    """
    pair = (d1[i], d2[i])
    alike = [Conj([BinConstraintD(dim, 1, op) for dim in pair]) for op in (op_eq, op_neq)]
    return Conj([Disj(alike), is_(d1[i], d3[i]), is_(d2[i], d4[i])])


def generate_all_broadcasting_possibilities_no_padding(
    d1: Dims, d2: Dims, d11: Dims, d12: Dims
) -> Constraint:
    """Broadcasting of two tensors of one rank: one of each two dimensions, or none, is expanded."""
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
