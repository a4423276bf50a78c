"""Constraints as formulas of z3, for whole programs and for their conditions.

A tensor variable ``TVar(3)`` is the constant ``z3.Const(3, tensor_type)``; a dimension ``DVar(5)``
is the pair of ``z3.Int(n)``, which is 0 for ``Dyn``, and ``z3.Int(5)``, its size.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import torch
from torch.fx import Graph, Node
from torch.fx.tensor_type import Dyn, TensorType

from symfx.extras import importing
from symfx.migrate_gradual_types.aliases import Aliases
from symfx.migrate_gradual_types.constraint import (
    BinaryConstraint,
    BinConstraintD,
    BinConstraintT,
    BVar,
    Conj,
    Constraint,
    Disj,
    DVar,
    F,
    Prod,
    T,
    TVar,
    is_algebraic_expression,
    is_bool_expr,
    is_dim,
)
from symfx.migrate_gradual_types.constraint_generator import ConstraintGenerator
from symfx.migrate_gradual_types.constraint_transformation import transform_constraint
from symfx.migrate_gradual_types.operation import (
    op_add,
    op_div,
    op_eq,
    op_gt,
    op_leq,
    op_lt,
    op_mod,
    op_mul,
    op_neq,
    op_sub,
)
from symfx.migrate_gradual_types.possible_ranks import found_ranks, narrow_ranks
from symfx.migrate_gradual_types.transformation.fused_broadcasts import Stretched, fuse_broadcasts
from symfx.migrate_gradual_types.z3_types import HAS_Z3, D, dyn_type, tensor_sort
from symfx.shape_rules.errors import GradualError, InvalidConstraintError, RankBoundError
from symfx.shape_rules.graphs import where_of
from symfx.shape_rules.ranks import get_max_rank

with importing("types", "the solver of gradual types"):
    import z3

__all__ = [
    "HAS_Z3",
    "evaluate_conditional_with_constraints",
    "iterate_till_fixed_point",
    "transform_algebraic_expression",
    "transform_all_constraints",
    "transform_all_constraints_trace_time",
    "transform_dimension",
    "transform_to_z3",
    "transform_var",
]

#: For each dimension variable, the number of the z3 variable that is 0 for ``Dyn``.
Known = dict[Any, int]

_ARITHMETIC: dict[str | None, Callable[[Any, Any], Any]] = {
    op_add: lambda a, b: a + b,
    op_sub: lambda a, b: a - b,
    op_mul: lambda a, b: a * b,
    op_div: lambda a, b: a / b,  # of integers, rounded down for the positive divisors of shapes
    op_mod: lambda a, b: a % b,
}
_ORDERS: dict[str | None, Callable[[Any, Any], Any]] = {
    op_leq: lambda a, b: a <= b,
    op_lt: lambda a, b: a < b,
    op_gt: lambda a, b: a > b,
}


# -- one constraint ------------------------------------------------------------------------------


def transform_to_z3(constraint: Constraint, counter: int, dimension_dict: Known) -> tuple[Any, int]:
    """Translate a constraint into z3.

    Args:
        constraint: a constraint without composite parts (`transform_constraint` removes them).
        counter: the number last given to a variable.
        dimension_dict: the dimensions translated so far; new ones are added.

    Returns:
        The formula, or a plain bool, and the new number.

    Raises:
        InvalidConstraintError: the constraint has a composite part.
    """
    if isinstance(constraint, (Conj, Disj)):
        conjunction = isinstance(constraint, Conj)
        parts = constraint.conjucts if isinstance(constraint, Conj) else constraint.disjuncts
        formulas = []
        for part in parts:
            formula, counter = transform_to_z3(part, counter, dimension_dict)
            formulas.append(formula)
        return _join(formulas, conjunction), counter
    if isinstance(constraint, (T, F)):
        return isinstance(constraint, T), counter
    if isinstance(constraint, BVar):
        return z3.Bool(constraint.c), counter
    if isinstance(constraint, BinConstraintT) and constraint.op == op_eq:
        left, counter = transform_var(constraint.lhs, counter, dimension_dict)
        right, counter = transform_var(constraint.rhs, counter, dimension_dict)
        return left == right, counter
    if isinstance(constraint, BinConstraintD):
        return _relation(constraint, counter, dimension_dict)
    if isinstance(constraint, Stretched):
        return _stretched(constraint, counter, dimension_dict)
    raise InvalidConstraintError(
        f"the constraint {constraint} is composite and cannot be translated into z3",
        fix="rewrite it first, with iterate_till_fixed_point",
    )


def _join(formulas: list[Any], conjunction: bool) -> Any:
    """Join formulas by And or Or, without plain bools and without needless nesting."""
    absorbing = not conjunction
    kept: list[Any] = []
    for formula in formulas:
        if isinstance(formula, bool):
            if formula is absorbing:
                return absorbing
        elif z3.is_and(formula) if conjunction else z3.is_or(formula):
            kept += formula.children()
        else:
            kept.append(formula)
    if not kept:
        return conjunction
    if len(kept) == 1:
        return kept[0]
    return z3.And(kept) if conjunction else z3.Or(kept)


def _relation(constraint: BinConstraintD, counter: int, known: Known) -> tuple[Any, int]:
    op, one, other = constraint.op, constraint.lhs, constraint.rhs
    if op == op_eq and isinstance(one, BVar) and (is_bool_expr(other) or isinstance(other, (T, F))):
        formula, counter = transform_to_z3(other, counter, known)
        return z3.Bool(one.c) == formula, counter
    if op == op_eq and is_dim(one) and is_dim(other):
        return _same(one, other, counter, known)
    if op == op_neq:
        return _different(one, other, counter, known)
    if op == op_eq or op in _ORDERS:
        left, counter = transform_algebraic_expression(one, counter, known)
        right, counter = transform_algebraic_expression(other, counter, known)
        return (left == right if op == op_eq else _ORDERS[op](left, right)), counter
    raise InvalidConstraintError(
        f"the constraint {constraint} is composite and cannot be translated into z3",
        fix="rewrite it first, with iterate_till_fixed_point",
    )


def _same(one: Any, other: Any, counter: int, known: Known) -> tuple[Any, int]:
    if Dyn in (one, other):
        dims = [dim for dim in (one, other) if dim != Dyn]
        if not dims or isinstance(dims[0], int):
            return not dims, counter
        pair, counter = transform_dimension(dims[0], counter, known)
        return _flag(pair) == 0, counter
    if isinstance(one, int) and isinstance(other, int):
        return one == other, counter
    left, counter = transform_dimension(one, counter, known)
    right, counter = transform_dimension(other, counter, known)
    return left == right, counter


def _different(one: Any, other: Any, counter: int, known: Known) -> tuple[Any, int]:
    for side in (one, other):
        if not is_dim(side):
            raise InvalidConstraintError(
                f"{side} is not a dimension, in ({one} {op_neq} {other})",
                fix="give its value a dimension variable of its own",
            )
    left, counter = transform_dimension(one, counter, known)
    right, counter = transform_dimension(other, counter, known)
    if Dyn in (one, other):
        return _flag(left if other == Dyn else right) == 1, counter
    # Dyn differs from each number, and not from another Dyn.
    if isinstance(one, int) or isinstance(other, int):
        pair = right if isinstance(one, int) else left
        differ = z3.And(_flag(pair) == 1, _value(left) != _value(right))
        return z3.Or(_flag(pair) == 0, differ), counter
    l_known, r_known = _flag(left) != 0, _flag(right) != 0
    return z3.Or(
        l_known != r_known, z3.And(l_known, r_known, _value(left) != _value(right))
    ), counter


def _stretched(constraint: Stretched, counter: int, known: Known) -> tuple[Any, int]:
    one: list[Any] = []
    other: list[Any] = []
    result: list[Any] = []
    agree: list[Any] = []
    for pair in constraint.pairs:
        dims = []
        for dim in pair:
            said, counter = (
                (None, counter) if dim is None else transform_dimension(dim, counter, known)
            )
            dims.append(said)
        a, b = dims
        if a is None or b is None or a.eq(b) or pair[0] == 1 or pair[1] == 1:
            # A missing dimension, or 1, is replaced by that of the other tensor.
            kept = a if b is None or pair[1] == 1 else b
            for types in (one, other, result):
                types.append(kept)
            continue
        x, y = z3.If(a == D(1, 1), b, a), z3.If(b == D(1, 1), a, b)
        one.append(x)
        other.append(y)
        result.append(z3.If(_flag(x) == 0, y, x))
        agree.append(z3.Or(x == y, _flag(x) == 0, _flag(y) == 0))
    sort = tensor_sort()
    tensors = (constraint.one, constraint.other, constraint.result)
    types = [
        z3.Const(tensor.tvar, sort) == sort.constructor(len(dims) + 1)(*dims)
        for tensor, dims in zip(tensors, (one, other, result), strict=True)
    ]
    return _join([*types, *agree], True), counter


def _flag(pair: Any) -> Any:
    """The flag of a dimension: 1 if it is known, 0 if it is Dyn."""
    return pair.arg(0) if pair.decl() == D else pair.sort().accessor(0, 0)(pair)


def _value(pair: Any) -> Any:
    return pair.arg(1)


def transform_var(tensor: Any, counter: int, dimension_dict: Known) -> tuple[Any, int]:
    """Translate a tensor type into z3: a variable, a written type, or ``Dyn``.

    Raises:
        RankBoundError: the type has more dimensions than the bound allows.
        InvalidConstraintError: the argument is not a tensor type.
    """
    sort = tensor_sort()
    if isinstance(tensor, TVar):
        return z3.Const(tensor.tvar, sort), counter
    if isinstance(tensor, TensorType):
        if len(tensor.dims) > get_max_rank():
            raise RankBoundError(
                f"{tensor} has {len(tensor.dims)} dimensions, the bound is {get_max_rank()}",
                fix=f"raise the bound: symfx.shape_rules.set_max_rank({len(tensor.dims)})",
            )
        pairs = []
        for dim in tensor.dims:
            pair, counter = transform_dimension(dim, counter, dimension_dict)
            pairs.append(pair)
        return sort.constructor(len(pairs) + 1)(*pairs), counter
    if tensor == Dyn:
        return sort.Dyn(dyn_type), counter
    raise InvalidConstraintError(
        f"{tensor!r} is not a tensor type", fix="give a TVar, a TensorType or Dyn"
    )


def transform_dimension(dimension: Any, counter: int, dimension_dict: Known) -> tuple[Any, int]:
    """Translate a dimension into z3, as a pair of its flag and its size.

    Raises:
        InvalidConstraintError: the argument is not a dimension.
    """
    if isinstance(dimension, DVar):
        if dimension.c not in dimension_dict:
            counter += 1
            dimension_dict[dimension.c] = counter
        return D(z3.Int(dimension_dict[dimension.c]), z3.Int(dimension.c)), counter
    if isinstance(dimension, int):
        return D(1, dimension), counter
    if dimension == Dyn:
        return D(0, z3.Int(counter + 1)), counter + 1
    raise InvalidConstraintError(
        f"{dimension!r} is not a dimension", fix="give a DVar, an int or Dyn"
    )


def transform_algebraic_expression(
    expr: Any, counter: int, dimension_dict: Known
) -> tuple[Any, int]:
    """Translate the value of an expression of dimensions into z3, without their flags.

    Raises:
        InvalidConstraintError: the argument is neither an expression nor a dimension.
    """
    if is_dim(expr):
        pair, counter = transform_dimension(expr, counter, dimension_dict)
        return _value(pair), counter
    if isinstance(expr, Prod):
        factors = []
        for dim in expr.products:
            factor, counter = transform_algebraic_expression(dim, counter, dimension_dict)
            factors.append(factor)
        return z3.Product(factors) if factors else z3.IntVal(1), counter
    if isinstance(expr, BinaryConstraint) and is_algebraic_expression(expr):
        left, counter = transform_algebraic_expression(expr.lhs, counter, dimension_dict)
        right, counter = transform_algebraic_expression(expr.rhs, counter, dimension_dict)
        return _ARITHMETIC[expr.op](left, right), counter
    raise InvalidConstraintError(
        f"{expr!r} is not an expression of dimensions",
        fix="give a DVar, an int, Dyn, a Prod, or a BinConstraintD with an arithmetic sign",
    )


# -- whole programs ------------------------------------------------------------------------------


def iterate_till_fixed_point(constraints: Constraint, counter: int) -> tuple[Constraint, int]:
    """Rewrite constraints until no composite constraint is left."""
    while True:
        simpler, counter = transform_constraint(constraints, counter)
        if simpler == constraints:
            return simpler, counter
        constraints = simpler


def _reduce(
    constraints: list[Constraint], counter: int, visible: Collection[Any]
) -> tuple[Aliases, int]:
    """Rewrite a program's constraints, without the impossible cases."""
    possible, ranks = narrow_ranks(fuse_broadcasts(constraints))
    token = found_ranks.set(ranks)
    try:
        simple, counter = iterate_till_fixed_point(Conj(possible), counter)
    finally:
        found_ranks.reset(token)
    return Aliases([simple], visible), counter


def transform_all_constraints(traced: torch.nn.Module, counter: int = 0) -> Any:
    """The formula of a traced program, whose solutions are the typings of the program.

    Args:
        traced: a GraphModule whose placeholders carry annotations (``node.type``).
        counter: the number last given to a variable.

    Returns:
        A formula in which the n-th node's type is ``z3.Const(number, tensor_type)``.

    Raises:
        GradualError: the module has no graph, or the graph is empty or cyclic.

    Example:
        >>> import torch, z3
        >>> from torch.fx.tensor_type import TensorType
        >>> class Program(torch.nn.Module):
        ...     def forward(self, x: TensorType([2, 3]), y: TensorType([4, 3])):
        ...         return torch.add(x, y)
        >>> z3.Solver().check(transform_all_constraints(torch.fx.symbolic_trace(Program())))
        unsat
    """
    generator = ConstraintGenerator(traced)
    constraints, counter = generator.generate_constraints(counter)
    visible = generator.symbol_dict.values()
    aliases, counter = _reduce(constraints.conjucts, counter, visible)
    return _formula(transform_to_z3(Conj(aliases.apply()), counter, {})[0])


def _formula(result: Any) -> Any:
    return z3.BoolVal(result) if isinstance(result, bool) else result


def transform_all_constraints_trace_time(
    tracer_root: torch.nn.Module, graph: Graph, node: Node, counter: int = 0
) -> tuple[Any, Any]:
    """Two formulas of a program up to a condition: with the condition, and with its negation.

    Args:
        tracer_root: the module that the graph's modules and parameters belong to.
        graph: the graph, as far as it is traced.
        node: a comparison of sizes in it.
        counter: the number last given to a variable.

    Raises:
        GradualError: the node compares no sizes.
    """
    generator = ConstraintGenerator(tracer_root, graph)
    whole, counter = generator.generate_constraints(counter)
    condition = _condition_of(node, generator, whole.conjucts)
    rest = [part for part in whole.conjucts if part is not condition]
    aliases, counter = _reduce(rest, counter, generator.symbol_dict.values())
    truth, counter = iterate_till_fixed_point(condition.rhs, counter)
    known: Known = {}
    program, counter = transform_to_z3(Conj(aliases.apply()), counter, known)
    holds, counter = transform_to_z3(aliases.rewrite(truth), counter, known)
    program, holds = _formula(program), _formula(holds)
    return z3.And(program, holds), z3.And(program, z3.Not(holds))


def _condition_of(
    node: Node, generator: ConstraintGenerator, constraints: list[Constraint]
) -> BinConstraintD:
    variable = generator.symbol_dict.get(node)
    for constraint in reversed(constraints):
        if (
            isinstance(constraint, BinConstraintD)
            and isinstance(constraint.lhs, BVar)
            and constraint.lhs == variable
        ):
            return constraint
    raise GradualError(
        f"node {node.name} is not a condition on sizes",
        where=where_of(node),
        fix="give a node that compares sizes, such as x.size(0) > 1",
    )


def evaluate_conditional_with_constraints(
    tracer_root: torch.nn.Module,
    graph: Graph,
    node: Node,
    counter: int = 0,
    user_constraints: Any = None,
    *,
    timeout: float | None = None,
) -> tuple[Any, Any]:
    """Decide whether a condition can be true, and whether it can be false.

    Args:
        tracer_root: the module that the graph's modules and parameters belong to.
        graph: the graph, as far as it is traced.
        node: a comparison of sizes in it.
        counter: the number last given to a variable.
        user_constraints: another formula of z3 that holds.
        timeout: seconds for each of the two questions, whose answer is then ``z3.unknown``.

    Returns:
        Two answers of z3: ``(sat, unsat)`` is a condition that always holds.

    Raises:
        GradualError: the node compares no sizes.
    """

    def ask(formula: Any) -> Any:
        solver = z3.Solver()
        if timeout is not None:
            solver.set("timeout", max(1, int(timeout * 1000)))
        solver.add(formula)
        if user_constraints is not None:
            solver.add(user_constraints)
        return solver.check()

    holds, fails = transform_all_constraints_trace_time(tracer_root, graph, node, counter)
    return ask(holds), ask(fails)
