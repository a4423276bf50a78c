"""Transformation rules of relations of types and dimensions, and of upper bounds."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

from torch.fx.tensor_type import Dyn, TensorType

from symfx.migrate_gradual_types.constraint import (
    BinConstraintD,
    BinConstraintT,
    Conj,
    Constraint,
    DGreatestUpperBound,
    Disj,
    T,
    TGreatestUpperBound,
)
from symfx.migrate_gradual_types.constraint_builders import is_, type_is, unknown
from symfx.migrate_gradual_types.operation import (
    op_consistency,
    op_eq,
    op_leq,
    op_matching,
    op_precision,
)
from symfx.migrate_gradual_types.possible_ranks import DYN, ranks_of, shared_ranks
from symfx.migrate_gradual_types.transformation.registry import (
    Dims,
    Reduced,
    cases_by_rank,
    expect,
    register_transformation_rule,
    transform_constraint,
)
from symfx.migrate_gradual_types.util import gen_nat_constraints, gen_tensor_dims

__all__ = [
    "gen_consistency_constraints",
    "gen_greatest_upper_bound",
    "gen_lists_of_dims",
    "generate_binconstraint_d",
    "generate_binconstraint_t",
    "generate_conj",
    "generate_d_gub",
    "generate_disj",
    "generate_gub",
]


@register_transformation_rule(BinConstraintT)
def generate_binconstraint_t(constraint: BinConstraintT, counter: int) -> Reduced:
    """Rewrite precision, matching, consistency and bounds on ranks."""
    left, right, op = constraint.lhs, constraint.rhs, constraint.op
    if op == op_precision:
        return _precise(constraint, counter)
    if op == op_matching:
        expect(isinstance(right, TensorType), right, "a TensorType to match with")
        dims = [*right.dims]
        if DYN not in ranks_of(left):
            return type_is(left, dims), counter
        nothing = Conj([type_is(left, Dyn), *map(unknown, dims)])
        return Disj([nothing, type_is(left, dims)]), counter
    if op == op_consistency:
        cases, counter = gen_consistency_constraints(constraint, counter)
        return Disj([Disj([type_is(left, Dyn), type_is(right, Dyn)]), *cases]), counter
    if op == op_leq:
        expect(isinstance(right, int), right, "a rank")
        allowed: list[Constraint] = [type_is(left, Dyn)]
        for rank in sorted(shared_ranks([left])):
            if rank <= right:
                dims, counter = gen_tensor_dims(rank, counter)
                allowed.append(type_is(left, dims))
        return Disj(allowed), counter
    return constraint, counter


def _precise(constraint: BinConstraintT, counter: int) -> Reduced:
    annotated, tensor = constraint.lhs, constraint.rhs
    if annotated == Dyn:
        return T(), counter
    if not isinstance(annotated, TensorType):
        return constraint, counter
    if Dyn not in annotated.dims:
        return BinConstraintT(annotated, tensor, op_eq), counter
    dims, counter = gen_tensor_dims(len(annotated.dims), counter)
    written = zip(annotated.dims, dims, strict=True)
    parts: list[Constraint] = [BinConstraintD(old, new, op_precision) for old, new in written]
    parts.append(type_is(tensor, dims))
    # The dimensions of an annotated input are 1 or more, as in PyTorch.
    parts += [BinConstraintD(1, dim, op_leq) for dim in dims]
    return Conj(parts), counter


@register_transformation_rule(BinConstraintD)
def generate_binconstraint_d(constraint: BinConstraintD, counter: int) -> Reduced:
    """Rewrite precision and consistency of dimensions."""
    left, right = constraint.lhs, constraint.rhs
    if constraint.op == op_precision:
        if left == Dyn:
            return T(), counter
        if isinstance(left, int):
            return is_(left, right), counter
    elif constraint.op == op_consistency:
        return Disj([is_(left, right), unknown(right), unknown(left)]), counter
    return constraint, counter


@register_transformation_rule(Conj)
def generate_conj(constraint: Conj, counter: int) -> Reduced:
    """Rewrite each part."""
    parts, counter = _each(constraint.conjucts, counter)
    return Conj(parts), counter


@register_transformation_rule(Disj)
def generate_disj(constraint: Disj, counter: int) -> Reduced:
    """Rewrite each alternative."""
    parts, counter = _each(constraint.disjuncts, counter)
    return Disj(parts), counter


def _each(parts: Iterable[Constraint], counter: int) -> tuple[list[Constraint], int]:
    done: list[Constraint] = []
    for part in parts:
        simpler, counter = transform_constraint(part, counter)
        done.append(simpler)
    return done, counter


def gen_consistency_constraints(
    constraint: BinConstraintT, counter: int
) -> tuple[list[Constraint], int]:
    """The cases of two consistent tensors, by rank: their dimensions are consistent."""
    last = counter

    def case(rank: int) -> Constraint:
        nonlocal last
        [one, other], last = gen_lists_of_dims(2, rank, last)
        agree = (BinConstraintD(a, b, op_consistency) for a, b in zip(one, other, strict=True))
        types = [type_is(constraint.lhs, one), type_is(constraint.rhs, other)]
        return Conj([*types, *agree, *gen_nat_constraints(one + other)])

    return cases_by_rank(case, shared_ranks([constraint.lhs, constraint.rhs])), last


@register_transformation_rule(TGreatestUpperBound)
def generate_gub(constraint: TGreatestUpperBound, counter: int) -> Reduced:
    """The result is ``Dyn`` if one type is; otherwise it is combined by dimensions."""
    one, other = constraint.rhs1, constraint.rhs2
    either = Disj([type_is(tensor, Dyn) for tensor in (one, other)])
    cases, counter = gen_greatest_upper_bound(constraint, counter)
    return Disj([Conj([either, type_is(constraint.res, Dyn)]), *cases]), counter


def gen_greatest_upper_bound(
    constraint: TGreatestUpperBound, counter: int
) -> tuple[list[Constraint], int]:
    """The cases of a greatest upper bound of tensors, by rank."""
    tensors = (constraint.rhs1, constraint.rhs2, constraint.res)
    last = counter

    def case(rank: int) -> Constraint:
        nonlocal last
        lists, last = gen_lists_of_dims(3, rank, last)
        types = [type_is(*pair) for pair in zip(tensors, lists, strict=True)]
        bounds = [DGreatestUpperBound(c, a, b) for a, b, c in zip(*lists, strict=True)]
        return Conj([*types, *gen_nat_constraints(itertools.chain(*lists)), *bounds])

    return cases_by_rank(case, shared_ranks(tensors)), last


@register_transformation_rule(DGreatestUpperBound)
def generate_d_gub(constraint: DGreatestUpperBound, counter: int) -> Reduced:
    """The result is the known dimension, or the dimension that both are."""
    one, other, result = constraint.rhs1, constraint.rhs2, constraint.res
    cases = [(unknown(one), other), (unknown(other), one), (is_(other, one), one)]
    return Disj([Conj([when, is_(result, then)]) for when, then in cases]), counter


def gen_lists_of_dims(num_tensors: int, dim_size: int, counter: int) -> tuple[list[Dims], int]:
    """The dimensions of several tensors of one rank."""
    flat, counter = gen_tensor_dims(num_tensors * dim_size, counter)
    return [flat[i * dim_size : (i + 1) * dim_size] for i in range(num_tensors)], counter
