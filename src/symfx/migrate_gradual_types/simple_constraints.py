"""Variables, comparisons of types and of dimensions, and their combinations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from torch.fx.tensor_type import Dyn, TensorType

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
from symfx.shape_rules.errors import InvalidConstraintError

__all__ = [
    "BVar",
    "BinConstraintD",
    "BinConstraintT",
    "BinaryConstraint",
    "Conj",
    "Constraint",
    "DVar",
    "Dimension",
    "Disj",
    "F",
    "Prod",
    "T",
    "TVar",
    "is_algebraic_expression",
    "is_bool_expr",
    "is_dim",
]

_ARITHMETIC = frozenset({op_add, op_sub, op_mul, op_div, op_mod})
_RELATIONS = frozenset({op_eq, op_neq, op_lt, op_gt, op_leq})

#: ``Dyn`` has no class that may be named; dimensions are variables, numbers or ``Dyn``.
Dimension: TypeAlias = Any


# -- variables ------------------------------------------------------------------------------------


@dataclass(frozen=True, repr=False)
class TVar:
    """The type of a tensor: ``Dyn``, or a rank and its dimensions.

    Args:
        tvar: the variable's number, by which z3 knows it.
    """

    tvar: int | str

    def __repr__(self) -> str:
        return f"TV({self.tvar})"


@dataclass(frozen=True, repr=False)
class DVar:
    """A dimension: ``Dyn``, or a size.

    Args:
        c: the variable's number or name, by which z3 knows it.
    """

    c: int | str

    def __repr__(self) -> str:
        return f"DV({self.c})"


@dataclass(frozen=True, repr=False)
class BVar:
    """The truth of a condition.

    Args:
        c: the variable's number or name, by which z3 knows it.
    """

    c: int | str

    def __repr__(self) -> str:
        return f"BV({self.c})"


# -- constraints ----------------------------------------------------------------------------------


class Constraint:
    """The base of all constraints: a condition on variables."""


@dataclass(repr=False)
class T(Constraint):
    """The constraint that always holds."""

    def __repr__(self) -> str:
        return "True"


@dataclass(repr=False)
class F(Constraint):
    """The constraint that never holds."""

    def __repr__(self) -> str:
        return "False"


@dataclass(repr=False, init=False)
class Conj(Constraint):
    """All of some constraints hold.

    Args:
        conjuncts: the constraints, kept as the list `conjucts` (PyTorch's spelling).
    """

    conjucts: list[Constraint]

    def __init__(self, conjuncts: Sequence[Constraint]) -> None:
        self.conjucts = [*conjuncts]

    def __repr__(self) -> str:
        return f"And({self.conjucts})"


@dataclass(repr=False, init=False)
class Disj(Constraint):
    """At least one of some constraints holds.

    Args:
        disjuncts: the constraints.
    """

    disjuncts: list[Constraint]

    def __init__(self, disjuncts: Sequence[Constraint]) -> None:
        self.disjuncts = [*disjuncts]

    def __repr__(self) -> str:
        return f"Or({self.disjuncts})"


@dataclass(repr=False, init=False)
class Prod(Constraint):
    """The product of dimensions: an expression, for use within a comparison.

    Args:
        products: the factors.
    """

    products: list[Dimension]

    def __init__(self, products: Sequence[Dimension]) -> None:
        self.products = [*products]

    def __repr__(self) -> str:
        return f"Product({self.products})"


@dataclass(repr=False)
class BinaryConstraint(Constraint):
    """Two operands and the sign between them.

    Args:
        lhs: the left operand.
        rhs: the right operand.
        op: a sign of `symfx.migrate_gradual_types.operation`.
    """

    lhs: Any
    rhs: Any
    op: str | None

    def __repr__(self) -> str:
        return f"({self.lhs} {self.op} {self.rhs})"


class BinConstraintT(BinaryConstraint):
    """A relation of tensor types: `TVar`, `TensorType`, ``Dyn``, or an int where it is a rank."""

    def __init__(self, lhs: Any, rhs: Any, op: str | None) -> None:
        for side in (lhs, rhs):
            if not isinstance(side, (TVar, TensorType, int)) and side != Dyn:
                raise InvalidConstraintError(
                    f"{side!r} is not a tensor type, in ({lhs} {op} {rhs})",
                    fix="give a TVar, a TensorType or Dyn",
                )
        super().__init__(lhs, rhs, op)


class BinConstraintD(BinaryConstraint):
    """A relation of dimensions, or an arithmetic expression of dimensions."""

    def __init__(self, lhs: Any, rhs: Any, op: str | None) -> None:
        for side in (lhs, rhs):
            truth = is_bool_expr(side) or isinstance(side, (T, F))
            if not (is_dim(side) or is_algebraic_expression(side) or truth):
                raise InvalidConstraintError(
                    f"{side!r} is neither a dimension nor an expression of dimensions, in "
                    f"({lhs} {op} {rhs})",
                    fix="give a DVar, an int, Dyn, a Prod, or a BinConstraintD",
                )
        super().__init__(lhs, rhs, op)


# -- kinds of constraints -------------------------------------------------------------------------


def is_algebraic_expression(constraint: object) -> bool:
    """Whether an object is a sum, difference, product, quotient or remainder of dimensions."""
    if isinstance(constraint, BinConstraintD):
        return constraint.op in _ARITHMETIC
    return isinstance(constraint, Prod)


def is_bool_expr(constraint: object) -> bool:
    """Whether an object is a comparison of dimensions, or a combination of comparisons."""
    if isinstance(constraint, BinConstraintD):
        return constraint.op in _RELATIONS
    return isinstance(constraint, (BVar, Conj, Disj))


def is_dim(d: object) -> bool:
    """Whether an object is a dimension: a variable, a number or ``Dyn``."""
    return isinstance(d, (DVar, int)) or d == Dyn
