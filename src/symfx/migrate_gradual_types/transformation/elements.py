"""Transformation rules of flattening and reshaping, which compare numbers of elements."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import sympy
from torch.fx.tensor_type import Dyn

from symfx.migrate_gradual_types.constraint import (
    BinConstraintD,
    CalcProduct,
    CanReshape,
    Conj,
    Constraint,
    Disj,
    DVar,
    F,
    Prod,
    T,
)
from symfx.migrate_gradual_types.constraint_builders import is_, known, type_is, unknown
from symfx.migrate_gradual_types.operation import op_add, op_leq, op_mod, op_neq
from symfx.migrate_gradual_types.possible_ranks import DYN, ranks_of
from symfx.migrate_gradual_types.transformation.registry import (
    Reduced,
    register_transformation_rule,
)
from symfx.migrate_gradual_types.util import gen_dvar, gen_nat_constraints, gen_tensor_dims

__all__ = [
    "gen_all_reshape_possibilities",
    "generate_all_int_dyn_dim_possibilities",
    "generate_calc_product",
    "generate_reshape",
    "is_dim_div_by_target",
    "is_target_div_by_dim",
]


def generate_all_int_dyn_dim_possibilities(
    my_list: Sequence[DVar],
) -> list[tuple[BinConstraintD, ...]]:
    """All combinations of unknown and known dimensions, each as a tuple of constraints."""
    return [*itertools.product(*([unknown(dim), known(dim)] for dim in my_list))]


@register_transformation_rule(CalcProduct)
def generate_calc_product(constraint: CalcProduct, counter: int) -> Reduced:
    """Replace a run of dimensions by their product, which is ``Dyn`` if one of them is."""
    start, end, dims = constraint.start, constraint.end, constraint.dims_to_flatten
    if not 0 <= start < end <= len(dims):
        return F(), counter
    before, run, after = dims[:start], dims[start:end], dims[end:]
    merged, counter = gen_dvar(counter)
    some_unknown = Conj(
        [Disj([*map(unknown, run)]), type_is(constraint.flattened, [*before, Dyn, *after])]
    )
    all_known = Conj(
        [
            type_is(constraint.flattened, [*before, merged, *after]),
            Conj([is_(merged, Prod(run)), known(merged)]),
            *map(known, run),
        ]
    )
    return Disj([some_unknown, all_known]), counter


def is_target_div_by_dim(target: Sequence[Any], dim: Any) -> BinConstraintD:
    """The product of the target's dimensions is a multiple of `dim`."""
    return is_(BinConstraintD(Prod(target), dim, op_mod), 0)


def is_dim_div_by_target(target: Sequence[Any], dim: Any) -> BinConstraintD:
    """`dim` is a multiple of the product of the target's dimensions."""
    return is_(BinConstraintD(dim, Prod(target), op_mod), 0)


def gen_all_reshape_possibilities(list_of_dims: Sequence[DVar], target: Sequence[Any]) -> Disj:
    """The cases in which a tensor can be reshaped to a target shape.

    Args:
        list_of_dims: the dimensions of the tensor; each may be unknown.
        target: the shape, with all dimensions known.

    Returns:
        One alternative for each choice of unknown dimensions: the product of the known ones must
        divide the number of elements, and must equal it if all are known.
    """
    alternatives: list[Constraint] = []
    for choice in generate_all_int_dyn_dim_possibilities(list_of_dims):
        known = [part.lhs for part in choice if part.op == op_neq]
        demands: list[Constraint] = []
        if len(known) == len(list_of_dims):
            demands.append(is_(Prod(known), Prod(target)))
        elif known:
            demands.append(is_target_div_by_dim(target, Prod(known)))
        alternatives.append(Conj([*choice, *demands]))
    return Disj(alternatives)


@register_transformation_rule(CanReshape)
def generate_reshape(constraint: CanReshape, counter: int) -> Reduced:
    """Rewrite a reshape: the numbers of elements are equal as far as they are known."""
    ranks = ranks_of(constraint.src)
    target = [*constraint.target.dims]
    rest = [dim for dim in target if dim != Dyn]
    numbers = [dim for dim in rest if isinstance(dim, int)]
    static = math.prod(numbers) if len(numbers) == len(rest) else None
    # One list of dimensions serves all ranks of the tensor.
    dims, counter = gen_tensor_dims(max(ranks), counter) if max(ranks) > 0 else ([], counter)
    fitting = _Elements(dims, counter)
    cases: list[Constraint] = [type_is(constraint.src, Dyn)] if DYN in ranks else []
    for rank in sorted(ranks - {DYN}):
        own = dims[:rank]
        if len(rest) == len(target):
            fits = fitting.make(own, static, rest)
        else:
            fits = fitting.divide_by(own, static, rest)
        cases.append(Conj([type_is(constraint.src, own), fits]))
    shared = fitting.shared
    return Conj([Disj(cases), *shared, *gen_nat_constraints(dims)]), fitting.counter


class _Elements:
    """Conditions on the number of elements of tensors whose dimensions may be unknown.

    z3 does not decide products of variables. A product that is a constant is therefore expressed
    by sums of the exponents of its primes: each dimension is one of the constant's divisors.

    Args:
        dims: the dimensions; a tensor of a lower rank has the first few of them.
        counter: the number last given to a variable.

    Attributes:
        shared: constraints on single dimensions, which serve all ranks.
    """

    #: A constant with more divisors than this is expressed by products.
    _MOST_DIVISORS = 200

    def __init__(self, dims: Sequence[DVar], counter: int) -> None:
        self.counter = counter
        self.shared: list[Constraint] = []
        self._dims = dims
        self._exponents: dict[DVar, list[DVar]] = {}
        self._factors: dict[DVar, DVar] = {}

    def make(self, own: Sequence[DVar], static: int | None, target: Sequence[Any]) -> Constraint:
        """The number of elements equals the target's; if a dimension is unknown, it divides it."""
        fits: Constraint
        divides: Constraint
        if static is None:
            whole = Prod(target)
            product = Prod([*map(self._factor, own)]) if own else 1
            fits = is_(product, whole)
            divides = is_(BinConstraintD(whole, product, op_mod), 0) if own else fits
        elif static == 0:
            fits, divides = Disj([is_(dim, 0) for dim in own]), T()
        else:
            primes = _prime_exponents(static)
            if self._too_many(primes):
                return gen_all_reshape_possibilities(own, target)
            self._choose_divisors(static, primes, exact=True)
            sums = [self._sum(own, i) for i in range(len(primes))]
            wanted = [*primes.values()]
            fits = Conj([is_(total, e) for total, e in zip(sums, wanted, strict=True)])
            divides = Conj(
                [BinConstraintD(total, e, op_leq) for total, e in zip(sums, wanted, strict=True)]
            )
        some_unknown = Conj([Disj([*map(unknown, own)]), divides])
        return Disj([Conj([*map(known, own), fits]), some_unknown])

    def divide_by(self, own: Sequence[DVar], static: int | None, rest: Sequence[Any]) -> Constraint:
        """The number of elements is a multiple of the known part of the target, or unknown."""
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
        return Disj([Disj([*map(unknown, own)]), Conj([*map(known, own), fits])])

    def _factor(self, dim: DVar) -> DVar:
        """The factor of a dimension in the product: its size, or 1 if the size is unknown."""
        if dim not in self._factors:
            factor, self.counter = gen_dvar(self.counter)
            self._factors[dim] = factor
            nothing = Conj([unknown(dim), is_(factor, 1)])
            self.shared.append(Disj([nothing, Conj([known(dim), is_(factor, dim)])]))
        return self._factors[dim]

    def _too_many(self, primes: dict[int, int]) -> bool:
        return math.prod(e + 1 for e in primes.values()) > self._MOST_DIVISORS

    def _choose_divisors(self, whole: int, primes: dict[int, int], *, exact: bool) -> None:
        """Relate the exponents of each known dimension to its divisor of the constant."""
        if self._exponents:
            return
        for dim in self._dims:
            self._exponents[dim], self.counter = gen_tensor_dims(len(primes), self.counter)
            cases: list[Constraint] = []
            for choice in itertools.product(*(range(e + 1) for e in primes.values())):
                divisor = math.prod(p**e for p, e in zip(primes, choice, strict=True))
                chosen = [
                    is_(variable, e)
                    for variable, e in zip(self._exponents[dim], choice, strict=True)
                ]
                if exact:
                    cases.append(Conj([is_(dim, divisor), *chosen]))
                else:
                    multiple = is_(BinConstraintD(dim, divisor, op_mod), 0)
                    cases.append(Conj([multiple, *chosen]))
            none = [is_(variable, 0) for variable in self._exponents[dim]]
            # A tensor of a lower rank leaves the other dimensions unknown.
            self.shared.append(Disj([Conj([unknown(dim), *none]), *cases]))

    def _sum(self, own: Sequence[DVar], i: int) -> Any:
        exponents = [self._exponents[dim][i] for dim in own]
        total: Any = 0
        for exponent in exponents:
            total = exponent if total == 0 else BinConstraintD(total, exponent, op_add)
        return total


def _prime_exponents(number: int) -> dict[int, int]:
    return {int(p): int(e) for p, e in sympy.factorint(number).items()}
