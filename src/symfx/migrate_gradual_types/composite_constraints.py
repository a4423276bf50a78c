"""Constraints that stand for an operator: a convolution, a broadcast, an index."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

from torch.fx.tensor_type import Dyn, TensorType

from symfx.migrate_gradual_types.simple_constraints import (
    Constraint,
    Dimension,
    DVar,
    TVar,
    is_dim,
)
from symfx.shape_rules.errors import InvalidConstraintError

__all__ = [
    "ApplyBroadcasting",
    "CalcConv",
    "CalcMaxPool",
    "CalcProduct",
    "CanReshape",
    "DGreatestUpperBound",
    "GetItem",
    "GetItemTensor",
    "IndexSelect",
    "TGreatestUpperBound",
    "Transpose",
]

#: An int for all dimensions of a window, or one for each.
PerDimension: TypeAlias = int | tuple[int, ...]


@dataclass(repr=False)
class TGreatestUpperBound(Constraint):
    """The result is the most precise type that two consistent types give together.

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
    """The result is the known one of two consistent dimensions.

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
    """A tensor can be reshaped: the new shape has as many elements.

    Args:
        src: the tensor.
        target: the shape; ``Dyn`` in it is the remaining size.
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
        index: the place of the new dimension.
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
        index: the index of the dimension.
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
    """The result of a window that moves over the last two dimensions of an image."""

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
        c_out: the number of output channels.
        kernel: the size of the window.
        padding: the padding at both ends.
        stride: the step of the window.
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
        padding: the padding at both ends.
        stride: the step of the window.
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
    """Two tensors are expanded to one shape, as far as their dimensions are known.

    Args:
        res1: the first tensor, expanded.
        res2: the second tensor, expanded.
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
        end: the dimension after the run.
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
