"""Composite constraints reduced to comparisons of types and of dimensions.

Each class of composite constraints has one rule, from a constraint and the number of the variable
last given away to simpler constraints and the new number. `transform_constraint` applies the rules
once; what it returns may hold composite constraints again, until it changes nothing.

A constraint has a case for each rank that its tensors can have: up to the bound that the user
sets (`symfx.shape_rules.ranks`), less what `kinds` rules out.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias, TypeVar

import sympy
from torch.fx.tensor_type import Dyn, TensorType

from symfx.migrate_gradual_types.constraint import (
    ApplyBroadcasting,
    BinConstraintD,
    BinConstraintT,
    CalcConv,
    CalcMaxPool,
    CalcProduct,
    CanReshape,
    Conj,
    Constraint,
    DGreatestUpperBound,
    Disj,
    DVar,
    F,
    GetItem,
    GetItemTensor,
    IndexSelect,
    Prod,
    T,
    TGreatestUpperBound,
    Transpose,
    TVar,
)
from symfx.migrate_gradual_types.kinds import DYN, possible, ranks
from symfx.migrate_gradual_types.operation import (
    op_add,
    op_consistency,
    op_eq,
    op_leq,
    op_matching,
    op_mod,
    op_neq,
    op_precision,
)
from symfx.migrate_gradual_types.util import gen_dvar, gen_nat_constraints, gen_tensor_dims
from symfx.shape_rules.dims import Size
from symfx.shape_rules.errors import GradualError, IllTypedError, InvalidConstraintError
from symfx.shape_rules.ranks import get_max_rank

__all__ = [
    "apply_padding",
    "broadcast_dim",
    "calc_last_two_dims",
    "create_equality_constraints_for_broadcasting",
    "gen_all_reshape_possibilities",
    "gen_broadcasting_constraints",
    "gen_consistency_constraints",
    "gen_greatest_upper_bound",
    "gen_lists_of_dims",
    "generate_all_broadcasting_possibilities_no_padding",
    "generate_all_int_dyn_dim_possibilities",
    "generate_binconstraint_d",
    "generate_binconstraint_t",
    "generate_broadcasting",
    "generate_calc_conv",
    "generate_calc_maxpool",
    "generate_calc_product",
    "generate_conj",
    "generate_d_gub",
    "generate_disj",
    "generate_gub",
    "generate_reshape",
    "is_dim_div_by_target",
    "is_target_div_by_dim",
    "no_broadcast_dim_with_index",
    "register_transformation_rule",
    "transform_constraint",
    "transform_get_item",
    "transform_get_item_tensor",
    "transform_index_select",
    "transform_transpose",
    "valid_index",
    "valid_index_tensor",
]

_Result: TypeAlias = tuple[Constraint, int]
Dims: TypeAlias = list[DVar]
_R = TypeVar("_R", bound=Callable[[Any, int], tuple[Constraint, int]])
_RULES: dict[type[Constraint], Callable[[Any, int], _Result]] = {}


def register_transformation_rule(call_target: type[Constraint]) -> Callable[[_R], _R]:
    """Make a function the rule of a class of constraints.

    Args:
        call_target: the class.

    Raises:
        GradualError: the class has a rule.
    """

    def register(function: _R) -> _R:
        if call_target in _RULES:
            raise GradualError(
                f"{call_target.__name__} has a transformation rule already",
                where=f"the rule {getattr(function, '__name__', function)}",
                fix="give the new rule a class of its own",
            )
        _RULES[call_target] = function
        return function

    return register


def transform_constraint(constraint: Constraint, counter: int) -> _Result:
    """Take a constraint apart by one step.

    Args:
        constraint: any constraint; one that has no rule is simple, and comes back as it is.
        counter: the number last given to a variable.

    Example:
        >>> from symfx.migrate_gradual_types.operation import op_precision
        >>> transform_constraint(BinConstraintD(8, DVar(1), op_precision), 1)
        ((8 = DV(1)), 1)
    """
    reduce = _RULES.get(type(constraint))
    return (constraint, counter) if reduce is None else reduce(constraint, counter)


# -- words for what follows ----------------------------------------------------------------------


def _type_is(tensor: Any, is_: Any) -> BinConstraintT:
    return BinConstraintT(tensor, TensorType(is_) if isinstance(is_, list) else is_, op_eq)


def _is(one: Any, other: Any) -> BinConstraintD:
    return BinConstraintD(one, other, op_eq)


def _unknown(dim: Any) -> BinConstraintD:
    return BinConstraintD(dim, Dyn, op_eq)


def _known(dim: Any) -> BinConstraintD:
    return BinConstraintD(dim, Dyn, op_neq)


def _cases_by_rank(make: Callable[[int], Constraint], allowed: Iterable[int]) -> list[Constraint]:
    """The cases of ranks up to 1, 2, 3, and 4 and more: the form of four that PyTorch's have."""
    groups: list[list[Constraint]] = [[], [], [], []]
    for rank in sorted(allowed):
        groups[min(max(rank, 1), 4) - 1].append(make(rank))
    return [group[0] if len(group) == 1 else Disj(group) if group else F() for group in groups]


# -- tensors of one rank ------------------------------------------------------------------------


def valid_index(index: int, dims: Sequence[Any]) -> Constraint:
    """Whether there is a dimension of this number (negative ones count from the end)."""
    return T() if -len(dims) <= index < len(dims) else F()


def _of_rank(
    tensor: TVar, rank: int, counter: int, *then: Callable[[list[DVar]], Iterable[Constraint]]
) -> _Result:
    """The tensor has this rank, and `then` holds of its dimensions."""
    dims, counter = gen_tensor_dims(rank, counter)
    parts: list[Constraint] = [_type_is(tensor, dims), *gen_nat_constraints(dims)]
    for step in then:
        parts.extend(step(dims))
    return Conj(parts), counter


@register_transformation_rule(Transpose)
def transform_transpose(constraint: Transpose, counter: int) -> _Result:
    """The output has the input's dimensions, two of them exchanged."""
    i, j = constraint.index1, constraint.index2

    def exchange(dims: list[DVar]) -> list[Constraint]:
        valid = [valid_index(i, dims), valid_index(j, dims)]
        if F() in valid:
            return [F()]
        moved = [*dims]
        moved[i], moved[j] = dims[j], dims[i]
        return [*valid, _type_is(constraint.output, moved)]

    return _of_rank(constraint.input_var, constraint.tensor_size, counter, exchange)


@register_transformation_rule(IndexSelect)
def transform_index_select(constraint: IndexSelect, counter: int) -> _Result:
    """The output has the input's dimensions, one of them replaced."""

    def replace(dims: list[DVar]) -> list[Constraint]:
        valid = valid_index(constraint.index, dims)
        new: list[Any] = [*dims]
        if valid == T():
            new[constraint.index] = constraint.dim_replace
        return [valid, _type_is(constraint.output, new)]

    return _of_rank(constraint.input_var, constraint.tensor_size, counter, replace)


@register_transformation_rule(GetItem)
def transform_get_item(constraint: GetItem, counter: int) -> _Result:
    """The result is one of the input's dimensions."""

    def pick(dims: list[DVar]) -> list[Constraint]:
        if valid_index(constraint.index, dims) == F():
            return [F()]
        return [T(), _is(constraint.res, dims[constraint.index])]

    return _of_rank(constraint.input_var, constraint.tensor_size, counter, pick)


def valid_index_tensor(index: Sequence[Any], dims: Sequence[Any]) -> Constraint:
    """Whether an index has no more entries than there are dimensions (``None`` needs none)."""
    taken = sum(1 for entry in index if entry is not None and entry is not Ellipsis)
    return T() if taken <= len(dims) else F()


@register_transformation_rule(GetItemTensor)
def transform_get_item_tensor(constraint: GetItemTensor, counter: int) -> _Result:
    """The result has the dimensions that the index leaves of the input's."""
    from symfx.migrate_gradual_types.domain import ConstraintDomain
    from symfx.shape_rules.operators.indexing import index_tensor

    dims, counter = gen_tensor_dims(constraint.tensor_size, counter)
    counter += 1
    domain = ConstraintDomain(counter)
    fits = valid_index_tensor(constraint.index_tuple, dims)
    try:
        result = index_tensor(domain, domain.shape(dims), constraint.index_tuple)
    except IllTypedError:
        return F(), counter
    if len(result) > get_max_rank():
        return F(), counter
    parts = [
        _type_is(constraint.input_var, dims),
        domain.type_is(constraint.res, result),
        *gen_nat_constraints(dims),
        fits,
        *domain.constraints,
    ]
    return Conj(parts), counter


# -- relations of types and of dimensions -------------------------------------------------------


@register_transformation_rule(BinConstraintT)
def generate_binconstraint_t(constraint: BinConstraintT, counter: int) -> _Result:
    """Precision, matching, consistency and bounds of rank, by ranks and dimensions."""
    left, right, op = constraint.lhs, constraint.rhs, constraint.op
    if op == op_precision:
        return _precise(constraint, counter)
    if op == op_matching:
        _expect(isinstance(right, TensorType), right, "a TensorType to match with")
        dims = [*right.dims]
        if DYN not in possible(left):
            return _type_is(left, dims), counter
        unknown = Conj([_type_is(left, Dyn), *map(_unknown, dims)])
        return Disj([unknown, _type_is(left, dims)]), counter
    if op == op_consistency:
        cases, counter = gen_consistency_constraints(constraint, counter)
        return Disj([Disj([_type_is(left, Dyn), _type_is(right, Dyn)]), *cases]), counter
    if op == op_leq:
        _expect(isinstance(right, int), right, "a rank")
        allowed: list[Constraint] = [_type_is(left, Dyn)]
        for rank in sorted(ranks([left])):
            if rank <= right:
                dims, counter = gen_tensor_dims(rank, counter)
                allowed.append(_type_is(left, dims))
        return Disj(allowed), counter
    return constraint, counter


def _precise(constraint: BinConstraintT, counter: int) -> _Result:
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
    parts.append(_type_is(tensor, dims))
    # An annotation counts the dimensions of real data: none of them is empty.
    parts += [BinConstraintD(1, dim, op_leq) for dim in dims]
    return Conj(parts), counter


@register_transformation_rule(BinConstraintD)
def generate_binconstraint_d(constraint: BinConstraintD, counter: int) -> _Result:
    """Precision and consistency of dimensions."""
    left, right = constraint.lhs, constraint.rhs
    if constraint.op == op_precision:
        if left == Dyn:
            return T(), counter
        if isinstance(left, int):
            return _is(left, right), counter
    elif constraint.op == op_consistency:
        return Disj([_is(left, right), _unknown(right), _unknown(left)]), counter
    return constraint, counter


@register_transformation_rule(Conj)
def generate_conj(constraint: Conj, counter: int) -> _Result:
    """Each part by itself."""
    parts, counter = _each(constraint.conjucts, counter)
    return Conj(parts), counter


@register_transformation_rule(Disj)
def generate_disj(constraint: Disj, counter: int) -> _Result:
    """Each alternative by itself."""
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
    """The cases of a tensor consistency by rank: equal ranks, consistent dimensions."""
    last = counter

    def case(rank: int) -> Constraint:
        nonlocal last
        [one, other], last = gen_lists_of_dims(2, rank, last)
        agree = (BinConstraintD(a, b, op_consistency) for a, b in zip(one, other, strict=True))
        types = [_type_is(constraint.lhs, one), _type_is(constraint.rhs, other)]
        return Conj([*types, *agree, *gen_nat_constraints(one + other)])

    return _cases_by_rank(case, ranks([constraint.lhs, constraint.rhs])), last


@register_transformation_rule(TGreatestUpperBound)
def generate_gub(constraint: TGreatestUpperBound, counter: int) -> _Result:
    """Unknown where one type is; otherwise dimension by dimension."""
    one, other = constraint.rhs1, constraint.rhs2
    either = Disj([_type_is(tensor, Dyn) for tensor in (one, other)])
    cases, counter = gen_greatest_upper_bound(constraint, counter)
    return Disj([Conj([either, _type_is(constraint.res, Dyn)]), *cases]), counter


def gen_greatest_upper_bound(
    constraint: TGreatestUpperBound, counter: int
) -> tuple[list[Constraint], int]:
    """The cases of a greatest upper bound of tensors, by rank."""
    tensors = (constraint.rhs1, constraint.rhs2, constraint.res)
    last = counter

    def case(rank: int) -> Constraint:
        nonlocal last
        lists, last = gen_lists_of_dims(3, rank, last)
        types = [_type_is(*pair) for pair in zip(tensors, lists, strict=True)]
        bounds = [DGreatestUpperBound(c, a, b) for a, b, c in zip(*lists, strict=True)]
        return Conj([*types, *gen_nat_constraints(itertools.chain(*lists)), *bounds])

    return _cases_by_rank(case, ranks(tensors)), last


@register_transformation_rule(DGreatestUpperBound)
def generate_d_gub(constraint: DGreatestUpperBound, counter: int) -> _Result:
    """The one that is known, if one is; the one that they are, if both are."""
    one, other, result = constraint.rhs1, constraint.rhs2, constraint.res
    cases = [(_unknown(one), other), (_unknown(other), one), (_is(other, one), one)]
    return Disj([Conj([when, _is(result, then)]) for when, then in cases]), counter


# -- windows --------------------------------------------------------------------------------------


@register_transformation_rule(CalcConv)
def generate_calc_conv(constraint: CalcConv, counter: int) -> _Result:
    """The batch stays, the channels are the convolution's, the window moves over the rest."""
    d, counter = gen_tensor_dims(4, counter)
    return Conj(
        [
            _type_is(constraint.conv_result, d),
            Conj([_is(d[1], constraint.c_out), _known(d[1])]),
            _is(constraint.matching_constraint[0], d[0]),
            *calc_last_two_dims(constraint, d),
            Conj(gen_nat_constraints(d)),
        ]
    ), counter


@register_transformation_rule(CalcMaxPool)
def generate_calc_maxpool(constraint: CalcMaxPool, counter: int) -> _Result:
    """Batch and channels stay, the window moves over the rest."""
    d, counter = gen_tensor_dims(4, counter)
    same = [_is(constraint.matching_constraint[i], d[i]) for i in (1, 0)]
    return Conj(
        [
            _type_is(constraint.maxpool_result, d),
            *same,
            *calc_last_two_dims(constraint, d),
            Conj(gen_nat_constraints(d)),
        ]
    ), counter


def calc_last_two_dims(
    constraint: CalcConv | CalcMaxPool, d: Sequence[DVar]
) -> tuple[Constraint, Constraint]:
    """Height and width of what a window leaves.

    Args:
        constraint: a convolution or a pooling.
        d: the four dimensions of its result.

    Returns:
        For each of the two: it and the input's are unknown, or known and related by the window.
    """
    from symfx.migrate_gradual_types.domain import ConstraintDomain
    from symfx.shape_rules.operators.windows import per_dimension, window

    if not isinstance(constraint, (CalcConv, CalcMaxPool)):
        raise InvalidConstraintError(f"{constraint!r} is neither a CalcConv nor a CalcMaxPool")
    domain = ConstraintDomain(0)
    stride = constraint.kernel if constraint.stride is None else constraint.stride
    settings = [
        per_dimension(value, 2)
        for value in (constraint.kernel, constraint.padding, stride, constraint.dilation)
    ]

    def moved(i: int) -> Constraint:
        size, result = constraint.matching_constraint[2 + i], d[2 + i]
        left = window(Size(domain, size), *(values[i] for values in settings))
        return Disj(
            [
                Conj([_unknown(result), _unknown(size)]),
                Conj([Conj([_known(result), _known(size)]), _is(result, domain.payload(left))]),
            ]
        )

    return moved(0), moved(1)


# -- numbers of elements -----------------------------------------------------------------------


def generate_all_int_dyn_dim_possibilities(
    my_list: Sequence[DVar],
) -> list[tuple[BinConstraintD, ...]]:
    """Every way in which dimensions can be unknown or known, as one tuple of constraints each."""
    return [*itertools.product(*([_unknown(dim), _known(dim)] for dim in my_list))]


@register_transformation_rule(CalcProduct)
def generate_calc_product(constraint: CalcProduct, counter: int) -> _Result:
    """The run becomes its product; an unknown dimension in it makes that unknown."""
    start, end, dims = constraint.start, constraint.end, constraint.dims_to_flatten
    if not 0 <= start < end <= len(dims):
        return F(), counter
    before, run, after = dims[:start], dims[start:end], dims[end:]
    merged, counter = gen_dvar(counter)
    some_unknown = Conj(
        [Disj([*map(_unknown, run)]), _type_is(constraint.flattened, [*before, Dyn, *after])]
    )
    all_known = Conj(
        [
            _type_is(constraint.flattened, [*before, merged, *after]),
            Conj([_is(merged, Prod(run)), _known(merged)]),
            *map(_known, run),
        ]
    )
    return Disj([some_unknown, all_known]), counter


def is_target_div_by_dim(target: Sequence[Any], dim: Any) -> BinConstraintD:
    """The product of the target's dimensions is a multiple of `dim`."""
    return _is(BinConstraintD(Prod(target), dim, op_mod), 0)


def is_dim_div_by_target(target: Sequence[Any], dim: Any) -> BinConstraintD:
    """`dim` is a multiple of the product of the target's dimensions."""
    return _is(BinConstraintD(dim, Prod(target), op_mod), 0)


def gen_all_reshape_possibilities(list_of_dims: Sequence[DVar], target: Sequence[Any]) -> Disj:
    """The ways in which a tensor of these dimensions can take a target shape.

    Args:
        list_of_dims: its dimensions, each of which may be unknown.
        target: the shape, all of it known.

    Returns:
        One alternative for every choice of dimensions that are unknown: the product of the
        known ones must divide the number of elements, and be that number if all are known.
    """
    alternatives: list[Constraint] = []
    for choice in generate_all_int_dyn_dim_possibilities(list_of_dims):
        known = [part.lhs for part in choice if part.op == op_neq]
        demands: list[Constraint] = []
        if len(known) == len(list_of_dims):
            demands.append(_is(Prod(known), Prod(target)))
        elif known:
            demands.append(is_target_div_by_dim(target, Prod(known)))
        alternatives.append(Conj([*choice, *demands]))
    return Disj(alternatives)


@register_transformation_rule(CanReshape)
def generate_reshape(constraint: CanReshape, counter: int) -> _Result:
    """The numbers of elements agree as far as they are known."""
    kinds = possible(constraint.src)
    target = [*constraint.target.dims]
    rest = [dim for dim in target if dim != Dyn]
    numbers = [dim for dim in rest if isinstance(dim, int)]
    static = math.prod(numbers) if len(numbers) == len(rest) else None
    # One list of dimensions serves all ranks: a tensor has one of them.
    dims, counter = gen_tensor_dims(max(kinds), counter) if max(kinds) > 0 else ([], counter)
    fitting = _Elements(dims, counter)
    cases: list[Constraint] = [_type_is(constraint.src, Dyn)] if DYN in kinds else []
    for rank in sorted(kinds - {DYN}):
        own = dims[:rank]
        if len(rest) == len(target):
            fits = fitting.make(own, static, rest)
        else:
            fits = fitting.divide_by(own, static, rest)
        cases.append(Conj([_type_is(constraint.src, own), fits]))
    shared = fitting.shared
    return Conj([Disj(cases), *shared, *gen_nat_constraints(dims)]), fitting.counter


class _Elements:
    """Conditions on the number of elements of tensors whose dimensions may be unknown.

    z3 does not decide products of variables. A product that is a constant is therefore said by
    the exponents of its primes, which add up: each dimension is one of the constant's divisors.

    Args:
        dims: the dimensions; a tensor has the first few of them.
        counter: the number last given to a variable.

    Attributes:
        shared: what holds of single dimensions, for all tensors made of them.
    """

    #: A constant with more divisors than this is left to products.
    _MOST_DIVISORS = 200

    def __init__(self, dims: Sequence[DVar], counter: int) -> None:
        self.counter = counter
        self.shared: list[Constraint] = []
        self._dims = dims
        self._exponents: dict[DVar, list[DVar]] = {}
        self._factors: dict[DVar, DVar] = {}

    def make(self, own: Sequence[DVar], static: int | None, target: Sequence[Any]) -> Constraint:
        """There are as many elements as in the target; fewer known ones divide them."""
        fits: Constraint
        divides: Constraint
        if static is None:
            whole = Prod(target)
            known = Prod([*map(self._factor, own)]) if own else 1
            fits = _is(known, whole)
            divides = _is(BinConstraintD(whole, known, op_mod), 0) if own else fits
        elif static == 0:
            fits, divides = Disj([_is(dim, 0) for dim in own]), T()
        else:
            primes = _prime_exponents(static)
            if self._too_many(primes):
                return gen_all_reshape_possibilities(own, target)
            self._choose_divisors(static, primes, exact=True)
            sums = [self._sum(own, i) for i in range(len(primes))]
            wanted = [*primes.values()]
            fits = Conj([_is(total, e) for total, e in zip(sums, wanted, strict=True)])
            divides = Conj(
                [BinConstraintD(total, e, op_leq) for total, e in zip(sums, wanted, strict=True)]
            )
        some_unknown = Conj([Disj([*map(_unknown, own)]), divides])
        return Disj([Conj([*map(_known, own), fits]), some_unknown])

    def divide_by(self, own: Sequence[DVar], static: int | None, rest: Sequence[Any]) -> Constraint:
        """The number of elements, if it is known, is a multiple of what the target knows."""
        if static is None or static == 0:
            fits: Constraint = is_dim_div_by_target(rest, Prod(own)) if rest else T()
        else:
            primes = _prime_exponents(static)
            if self._too_many(primes):
                fits = is_dim_div_by_target(rest, Prod(own))
            else:
                self._choose_divisors(static, primes, exact=False)
                enough = [
                    BinConstraintD(e, self._sum(own, i), op_leq)
                    for i, e in enumerate(primes.values())
                ]
                fits = Conj(enough)
        return Disj([Disj([*map(_unknown, own)]), Conj([*map(_known, own), fits])])

    def _factor(self, dim: DVar) -> DVar:
        """What a dimension contributes to the product: its size, or 1 if that is unknown."""
        if dim not in self._factors:
            factor, self.counter = gen_dvar(self.counter)
            self._factors[dim] = factor
            unknown = Conj([_unknown(dim), _is(factor, 1)])
            self.shared.append(Disj([unknown, Conj([_known(dim), _is(factor, dim)])]))
        return self._factors[dim]

    def _too_many(self, primes: dict[int, int]) -> bool:
        return math.prod(e + 1 for e in primes.values()) > self._MOST_DIVISORS

    def _choose_divisors(self, whole: int, primes: dict[int, int], *, exact: bool) -> None:
        """Each known dimension is, or is a multiple of, the divisor with the exponents it has."""
        if self._exponents:
            return
        for dim in self._dims:
            self._exponents[dim], self.counter = gen_tensor_dims(len(primes), self.counter)
            cases: list[Constraint] = []
            for choice in itertools.product(*(range(e + 1) for e in primes.values())):
                divisor = math.prod(p**e for p, e in zip(primes, choice, strict=True))
                chosen = [
                    _is(variable, e)
                    for variable, e in zip(self._exponents[dim], choice, strict=True)
                ]
                if exact:
                    cases.append(Conj([_is(dim, divisor), *chosen]))
                else:
                    multiple = _is(BinConstraintD(dim, divisor, op_mod), 0)
                    cases.append(Conj([multiple, *chosen]))
            none = [_is(variable, 0) for variable in self._exponents[dim]]
            # A dimension that the tensor does not have is free.
            self.shared.append(Disj([Conj([_unknown(dim), *none]), *cases]))

    def _sum(self, own: Sequence[DVar], i: int) -> Any:
        exponents = [self._exponents[dim][i] for dim in own]
        total: Any = 0
        for exponent in exponents:
            total = exponent if total == 0 else BinConstraintD(total, exponent, op_add)
        return total


def _prime_exponents(number: int) -> dict[int, int]:
    return {int(p): int(e) for p, e in sympy.factorint(number).items()}


# -- broadcasting --------------------------------------------------------------------------------


@register_transformation_rule(ApplyBroadcasting)
def generate_broadcasting(constraint: ApplyBroadcasting, counter: int) -> _Result:
    """Stretch two tensors to one shape: unknown ones stay, known ones go by their ranks."""
    e1, e2, e11, e12 = constraint.input1, constraint.input2, constraint.res1, constraint.res2
    kinds1, kinds2 = possible(e1), possible(e2)
    unchanged = [_type_is(e1, e11), _type_is(e2, e12)]
    cases: list[Constraint] = [
        Conj([_type_is(tensor, Dyn), *unchanged])
        for tensor, kinds in ((e1, kinds1), (e2, kinds2))
        if DYN in kinds
    ]
    naturals: list[Constraint] = []
    for rank in sorted((kinds1 | kinds2) - {DYN}):
        if rank == 0:
            if 0 in kinds1 & kinds2:
                cases.append(Conj([_type_is(tensor, []) for tensor in (e1, e2, e11, e12)]))
            continue
        *by_padding, bounds, counter = gen_broadcasting_constraints(e1, e2, e11, e12, rank, counter)
        cases += (case for case in by_padding if case != F())
        naturals += bounds
    return Conj([Disj(cases), *naturals]), counter


def gen_lists_of_dims(num_tensors: int, dim_size: int, counter: int) -> tuple[list[Dims], int]:
    """The dimensions of several tensors of one rank."""
    flat, counter = gen_tensor_dims(num_tensors * dim_size, counter)
    return [flat[i * dim_size : (i + 1) * dim_size] for i in range(num_tensors)], counter


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
    return [_type_is(e1, d1), _type_is(e11, d11), _type_is(e2, d2), _type_is(e12, d12)]


def gen_broadcasting_constraints(
    e1: TVar, e2: TVar, e11: TVar, e12: TVar, i: int, counter: int
) -> tuple[Constraint, Constraint, Constraint, list[BinConstraintD], int]:
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
) -> _Result:
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
        cases.append(Conj([_type_is(e1_var, dims), e11, e2, e12, *taken, stretched, *naturals]))
    return Disj(cases), counter


def broadcast_dim(
    tensor_input1: Sequence[DVar | None],
    tensor_input2: Sequence[DVar],
    res1: Sequence[DVar],
    res2: Sequence[DVar],
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
    _expect(padding or own is not None, own, "a dimension, where there is no padding")
    stretched = [_is(res1[index], res2[index]), _is(res2[index], tensor_input2[index])]
    return Conj(stretched if padding else [_is(own, 1), *stretched])


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
    return Conj([Disj(alike), _is(d1[i], d3[i]), _is(d2[i], d4[i])])


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


def _expect(holds: bool, value: Any, what: str) -> None:
    if not holds:
        raise InvalidConstraintError(f"{value!r} is not {what}", fix=f"give {what}")
