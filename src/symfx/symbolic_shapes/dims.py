"""Dimensions that a user describes: a name with a range, and expressions of such names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from symfx.errors import SpecError, describe
from symfx.shape_language.syntax import (
    LARGEST_POWER,
    Expression,
    Name,
    Negative,
    Number,
    Operation,
)
from symfx.shape_language.words import NAME_FIX, shortened, why_no_name

if TYPE_CHECKING:
    from typing import Never, Self

__all__ = ["Dim", "DimExpression"]

_QUOTIENT = "write // for the quotient of integers"


class _Arithmetic:
    """``+ - * // % **`` of dimensions and integers."""

    def __add__(self, other: Any) -> DimExpression:
        return _joined("+", self, other)

    def __radd__(self, other: Any) -> DimExpression:
        return _joined("+", other, self)

    def __sub__(self, other: Any) -> DimExpression:
        return _joined("-", self, other)

    def __rsub__(self, other: Any) -> DimExpression:
        return _joined("-", other, self)

    def __mul__(self, other: Any) -> DimExpression:
        return _joined("*", self, other)

    def __rmul__(self, other: Any) -> DimExpression:
        return _joined("*", other, self)

    def __floordiv__(self, other: Any) -> DimExpression:
        return _joined("//", self, other)

    def __rfloordiv__(self, other: Any) -> DimExpression:
        return _joined("//", other, self)

    def __mod__(self, other: Any) -> DimExpression:
        return _joined("%", self, other)

    def __rmod__(self, other: Any) -> DimExpression:
        return _joined("%", other, self)

    def __pow__(self, other: Any) -> DimExpression:
        if type(other) is not int or not 0 <= other <= LARGEST_POWER:
            raise SpecError(
                f"{_shown(self)} has the power {describe(other)}",
                fix=f"give an int from 0 to {LARGEST_POWER}",
            )
        return _joined("**", self, other)

    def __truediv__(self, other: Any) -> Never:
        raise SpecError(
            f"{_shown(self)} / {_shown(other)} is no size",
            fix="write // for the quotient of integers",
        )

    def __rtruediv__(self, other: Any) -> Never:
        raise SpecError(
            f"{_shown(other)} / {_shown(self)} is no size",
            fix="write // for the quotient of integers",
        )

    def __neg__(self) -> DimExpression:
        tree, dims = _parts(self)
        return DimExpression(Negative(tree), dims)


@dataclass(frozen=True)
class Dim(_Arithmetic):
    """A named dynamic dimension. Dimensions of one name are equal.

    ``+ - * // % **`` of dimensions and integers are expressions, which describe dimensions too.

    Args:
        name: a Python identifier that is no keyword; guards and graphs show it.
        min: the smallest size to admit; 2 where not given, because sizes 0 and 1 take other
            paths through most operators (broadcasting, emptiness).
        max: the largest size to admit; no bound where not given.

    Raises:
        SpecError: the name is no identifier, or the range is empty or negative.

    Example:
        >>> Dim("batch", max=512)
        Dim(name='batch', min=None, max=512)
        >>> print(8 * Dim("batch") + 1)
        8*batch + 1
    """

    name: str
    min: int | None = None
    max: int | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str):
            raise SpecError(f"a dimension has the name {self.name!r}, which is no text")
        why = why_no_name(self.name)
        if why is not None:
            raise SpecError(f"{shortened(self.name)!r} {why}", fix=NAME_FIX)
        for bound, value in (("min", self.min), ("max", self.max)):
            if value is not None and (isinstance(value, bool) or not hasattr(value, "__index__")):
                raise SpecError(
                    f"dimension {self.name}: {bound} is {describe(value)}",
                    fix="give an int, or leave it out",
                )
        if self.min is not None and self.min < 0:
            raise SpecError(
                f"dimension {self.name}: min={self.min} is negative", fix="give 0 or more"
            )
        if self.max is not None and self.max < self.least:
            raise SpecError(
                f"no size of {self.name} is at least {self.least} and at most {self.max}",
                fix="give a smallest size that is not above the largest",
            )

    @property
    def least(self) -> int:
        """The smallest size to admit."""
        return 2 if self.min is None else self.min


@dataclass(frozen=True)
class DimExpression(_Arithmetic):
    """A dimension whose size is an expression of named dimensions: ``8*batch``.

    Attributes:
        tree: the expression.
        dims: the named dimensions in it, by name.
        sizes: their sizes in the example, where they are known.
    """

    tree: Expression
    dims: Mapping[str, Dim]
    sizes: Mapping[str, int] = field(default_factory=dict)

    def __hash__(self) -> int:
        return hash((self.tree, tuple(self.dims)))

    def __str__(self) -> str:
        return str(self.tree)

    def at(self, dims: Mapping[str, Dim], sizes: Mapping[str, int]) -> Self:
        """The expression of these dimensions, which have these sizes in the example."""
        own = {name: dims[name] for name in self.dims}
        return type(self)(self.tree, own, {name: sizes[name] for name in own})


def _parts(value: Any) -> tuple[Expression, dict[str, Dim]]:
    if isinstance(value, Dim):
        return Name(value.name), {value.name: value}
    if isinstance(value, DimExpression):
        return value.tree, dict(value.dims)
    return Number(value), {}


def _shown(value: Any) -> str:
    """A dimension as the language writes it, and any other operand as Python writes it."""
    return str(_parts(value)[0]) if isinstance(value, (Dim, DimExpression)) else repr(value)


def _joined(sign: str, left: Any, right: Any) -> DimExpression:
    """The expression of two operands.

    Raises:
        SpecError: one is neither a dimension of symfx nor an int, or they describe a name in two
            ways.
    """
    for side in (left, right):
        if not isinstance(side, (Dim, DimExpression)) and type(side) is not int:
            raise SpecError(
                f"{_shown(left)} {sign} {_shown(right)} is computed with {describe(side)}",
                fix="compute with dimensions of symfx and ints",
            )
    (one, dims), (other, others) = _parts(left), _parts(right)
    for name in dims.keys() & others.keys():
        if dims[name] != others[name]:
            raise SpecError(
                f"{name} is described in two ways: {dims[name]} and {others[name]}",
                fix="use one symfx.Dim for the name",
            )
    return DimExpression(Operation(sign, one, other), {**dims, **others})
