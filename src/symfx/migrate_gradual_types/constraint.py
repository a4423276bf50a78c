"""The language of constraints on gradual tensor types.

Variables stand for the types of tensors (`TVar`), for dimensions (`DVar`) and for truth values
(`BVar`). A program becomes a conjunction of constraints; `constraint_transformation` reduces the
composite ones (a convolution, a broadcast) to comparisons, and `transform_to_z3` turns those into
formulas.

Constraints are equal when they are written alike; they can be changed in place, and have no hash.
"""

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
    "ApplyBroadcasting",
    "BVar",
    "BinConstraintD",
    "BinConstraintT",
    "BinaryConstraint",
    "CalcConv",
    "CalcMaxPool",
    "CalcProduct",
    "CanReshape",
    "Conj",
    "Constraint",
    "DGreatestUpperBound",
    "DVar",
    "Disj",
    "F",
    "GetItem",
    "GetItemTensor",
    "IndexSelect",
    "Prod",
    "T",
    "TGreatestUpperBound",
    "TVar",
    "Transpose",
    "is_algebraic_expression",
    "is_bool_expr",
    "is_dim",
]

_ARITHMETIC = frozenset({op_add, op_sub, op_mul, op_div, op_mod})
_RELATIONS = frozenset({op_eq, op_neq, op_lt, op_gt, op_leq})

#: ``Dyn`` has no class that may be named; dimensions are variables, numbers or ``Dyn``.
Dimension: TypeAlias = Any
#: An int for all dimensions of a window, or one for each.
PerDimension: TypeAlias = int | tuple[int, ...]


# -- variables -----------------------------------------------------------------------------------


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


# -- what is built of them -----------------------------------------------------------------------


class Constraint:
    """What must hold between variables."""


@dataclass(repr=False)
class T(Constraint):
    """Holds always."""

    def __repr__(self) -> str:
        return "True"


@dataclass(repr=False)
class F(Constraint):
    """Holds never."""

    def __repr__(self) -> str:
        return "False"


@dataclass(repr=False, init=False)
class Conj(Constraint):
    """All of some constraints hold.

    Args:
        conjuncts: the constraints, kept as the list `conjucts` (spelt as PyTorch spells it).
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
        lhs: the left one.
        rhs: the right one.
        op: one of `symfx.migrate_gradual_types.operation`.
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
                    f"{side!r} is no tensor type, in ({lhs} {op} {rhs})",
                    fix="give a TVar, a TensorType or Dyn",
                )
        super().__init__(lhs, rhs, op)


class BinConstraintD(BinaryConstraint):
    """A relation of dimensions, or arithmetic on them: then it is an expression."""

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


@dataclass(repr=False)
class TGreatestUpperBound(Constraint):
    """A type is the most precise one that two consistent types together give.

    Args:
        res: the result.
        rhs1: one type.
        rhs2: the other.
    """

    res: TVar
    rhs1: TVar
    rhs2: TVar

    def __repr__(self) -> str:
        return f"{self.res} = {self.rhs1}⊔*{self.rhs2}"


@dataclass(repr=False)
class DGreatestUpperBound(Constraint):
    """A dimension is what two consistent dimensions together give.

    Args:
        res: the result.
        rhs1: one dimension.
        rhs2: the other.
    """

    res: Dimension
    rhs1: Dimension
    rhs2: Dimension

    def __post_init__(self) -> None:
        for side in (self.res, self.rhs1, self.rhs2):
            _expect(is_dim(side), side, "a dimension", self)

    def __repr__(self) -> str:
        return f"{self.res} = {self.rhs1}⊔{self.rhs2}"


@dataclass(repr=False)
class CanReshape(Constraint):
    """A tensor may be given a shape: it has as many elements.

    Args:
        src: the tensor.
        target: the shape; ``Dyn`` in it is whatever remains.
    """

    src: TVar
    target: TensorType

    def __repr__(self) -> str:
        return f"can-reshape({self.src}, {self.target})"


@dataclass(repr=False)
class IndexSelect(Constraint):
    """A tensor of a rank with one of its dimensions replaced.

    Args:
        tensor_size: the rank.
        input_var: the tensor.
        dim_replace: the new dimension.
        index: where it goes.
        output: the result.
    """

    tensor_size: int
    input_var: TVar
    dim_replace: Dimension
    index: int
    output: TVar

    def __post_init__(self) -> None:
        _expect(isinstance(self.input_var, TVar), self.input_var, "a TVar", self)
        _expect(isinstance(self.output, TVar), self.output, "a TVar", self)
        replaces = isinstance(self.dim_replace, DVar) or self.dim_replace == Dyn
        _expect(replaces, self.dim_replace, "a DVar or Dyn", self)
        _expect(isinstance(self.index, int), self.index, "the number of a dimension", self)

    def __repr__(self) -> str:
        return (
            f" {self.output} = IndexSelect({self.input_var}, tensor_size: {self.tensor_size}, "
            f"{self.dim_replace}, {self.index})"
        )


@dataclass(repr=False)
class Transpose(Constraint):
    """A tensor of a rank with two of its dimensions exchanged.

    Args:
        tensor_size: the rank.
        input_var: the tensor.
        index1: one dimension.
        index2: the other.
        output: the result.
    """

    tensor_size: int
    input_var: TVar
    index1: int
    index2: int
    output: TVar

    def __post_init__(self) -> None:
        _expect(isinstance(self.input_var, TVar), self.input_var, "a TVar", self)
        _expect(isinstance(self.output, TVar), self.output, "a TVar", self)
        for index in (self.index1, self.index2):
            _expect(isinstance(index, int), index, "the number of a dimension", self)

    def __repr__(self) -> str:
        return (
            f" {self.output} = Transpose({self.input_var}, tensor_size: {self.tensor_size}, "
            f"{self.index1}, {self.index2})"
        )


@dataclass(repr=False)
class GetItem(Constraint):
    """One dimension of a tensor of a rank.

    Args:
        tensor_size: the rank.
        index: which dimension.
        res: the dimension.
        input_var: the tensor.
    """

    tensor_size: int
    index: int
    res: DVar
    input_var: TVar

    def __post_init__(self) -> None:
        _expect(isinstance(self.res, DVar), self.res, "a DVar", self)

    def __repr__(self) -> str:
        return (
            f" {self.res} = GetItem({self.input_var}, tensor_size: {self.tensor_size}, "
            f"{self.index})"
        )


@dataclass(repr=False)
class GetItemTensor(Constraint):
    """A tensor of a rank, indexed by a tuple of ints, slices, ``None`` and ``...``.

    Args:
        tensor_size: the rank.
        index_tuple: the index.
        res: the result.
        input_var: the tensor.
    """

    tensor_size: int
    index_tuple: tuple[Any, ...]
    res: TVar
    input_var: TVar

    def __post_init__(self) -> None:
        _expect(isinstance(self.res, TVar), self.res, "a TVar", self)

    def __repr__(self) -> str:
        return (
            f" {self.res} = GetItemT({self.input_var}, tensor_size: {self.tensor_size}, "
            f"{self.index_tuple})"
        )


class _Windowed(Constraint):
    """What a window leaves that moves over the last two dimensions of an image."""

    kernel: PerDimension
    padding: PerDimension
    stride: PerDimension
    dilation: PerDimension
    matching_constraint_vars: list[DVar]

    @property
    def matching_constraint(self) -> list[DVar]:
        """The input's four dimensions."""
        return self.matching_constraint_vars

    @property
    def _window(self) -> str:
        return f"{self.kernel}, {self.padding}, {self.stride}, {self.dilation}"


@dataclass(repr=False)
class CalcConv(_Windowed):
    """The result of a two-dimensional convolution.

    Args:
        conv_result: the result.
        input_var: the input.
        c_out: how many channels come out.
        kernel: the size of the window.
        padding: what is added on both sides.
        stride: the window's step.
        dilation: the step within the window.
        matching_constraint_vars: the input's four dimensions.
    """

    conv_result: TVar
    input_var: TVar
    c_out: int
    kernel: PerDimension
    padding: PerDimension
    stride: PerDimension
    dilation: PerDimension
    matching_constraint_vars: list[DVar]

    def __repr__(self) -> str:
        return f"{self.conv_result} = calc-conv({self.input_var}, {self.c_out}, {self._window})"


@dataclass(repr=False)
class CalcMaxPool(_Windowed):
    """The result of two-dimensional pooling.

    Args:
        maxpool_result: the result.
        input_var: the input.
        kernel: the size of the window.
        padding: what is added on both sides.
        stride: the window's step.
        dilation: the step within the window.
        matching_constraint_vars: the input's four dimensions.
    """

    maxpool_result: TVar
    input_var: TVar
    kernel: PerDimension
    padding: PerDimension
    stride: PerDimension
    dilation: PerDimension
    matching_constraint_vars: list[DVar]

    def __repr__(self) -> str:
        return f"{self.maxpool_result} = calc-maxpool({self.input_var},  {self._window})"


@dataclass(repr=False)
class ApplyBroadcasting(Constraint):
    """Two tensors, stretched to one shape as far as their dimensions are known.

    Args:
        res1: the first one stretched.
        res2: the second one stretched.
        input1: the first.
        input2: the second.
    """

    res1: TVar
    res2: TVar
    input1: TVar
    input2: TVar

    def __repr__(self) -> str:
        return f"{self.res1}, {self.res2} = apply-broadcasting({self.input1}, {self.input2})"


@dataclass(repr=False)
class CalcProduct(Constraint):
    """A tensor with a run of its dimensions multiplied into one.

    Args:
        start: the first dimension of the run.
        end: the one after its last.
        flattened: the result.
        dims_to_flatten: all dimensions of the tensor.
    """

    start: int
    end: int
    flattened: TVar
    dims_to_flatten: list[Any]

    def __post_init__(self) -> None:
        dims = self.dims_to_flatten
        _expect(isinstance(dims, list), dims, "a list of dimensions", self)
        _expect(isinstance(self.flattened, TVar), self.flattened, "a TVar", self)
        for bound in (self.start, self.end):
            _expect(isinstance(bound, int), bound, "the number of a dimension", self)

    def __repr__(self) -> str:
        return f"{self.flattened} = CalcProduct({self.start}, {self.end}, {self.dims_to_flatten})"


def _expect(holds: bool, value: Any, what: str, constraint: Constraint) -> None:
    if not holds:
        raise InvalidConstraintError(
            f"{value!r} is not {what}, in the constraint {type(constraint).__name__}",
            fix=f"give {what}",
        )


# -- what is what --------------------------------------------------------------------------------


def is_algebraic_expression(constraint: object) -> bool:
    """Whether this is a sum, difference, product, quotient or remainder of dimensions."""
    if isinstance(constraint, BinConstraintD):
        return constraint.op in _ARITHMETIC
    return isinstance(constraint, Prod)


def is_bool_expr(constraint: object) -> bool:
    """Whether this is true or false: a comparison of dimensions, or a combination of such."""
    if isinstance(constraint, BinConstraintD):
        return constraint.op in _RELATIONS
    return isinstance(constraint, (BVar, Conj, Disj))


def is_dim(d: object) -> bool:
    """Whether this is a dimension: a variable, a number or ``Dyn``."""
    return isinstance(d, (DVar, int)) or d == Dyn
