"""The sizes of the type checker: a size is a number, a symbol, or ``Dyn``.

A result computed from ``Dyn`` is ``Dyn``, and a demand on ``Dyn`` is accepted. A product with
``Dyn`` among its factors is still known to be a multiple of the other factors.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable
from typing import Any

import sympy
from torch.fx.tensor_type import Dyn, TensorType

from symfx.shape_rules.errors import IllTypedError
from symfx.shape_rules.sizes import UNKNOWN, Dim, Shape, Size, Sizes

__all__ = ["CheckerSizes", "dimension_of", "shape_of", "type_of", "value_of"]

_ON_SYMBOLS: dict[str, Callable[[Any, Any], Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "//": operator.floordiv,
    "%": operator.mod,
    "min": sympy.Min,
    "max": sympy.Max,
}


class _Multiple(Size):
    """An unknown size that is a multiple of a number."""

    __slots__ = ("of",)

    def __init__(self, sizes: Sizes, of: int) -> None:
        super().__init__(sizes, Dyn)
        self.of = of


class CheckerSizes(Sizes):
    """Numbers, symbols and ``Dyn``; demands on known sizes are checked at once."""

    def size(self, dimension: Any) -> Dim:
        """A dimension of a type as a size."""
        return dimension if isinstance(dimension, int) else Size(self, dimension)

    def fresh(self, hint: str) -> Dim:
        """The size ``Dyn``."""
        return Size(self, Dyn)

    def product(self, sizes: Iterable[Dim]) -> Dim:
        """The product; an unknown product is a multiple of its known factors."""
        factors = [*sizes]
        known = math.prod(size for size in factors if isinstance(size, int))
        if known != 0 and any(isinstance(s, Size) and s.value == Dyn for s in factors):
            return _Multiple(self, known)
        return super().product(factors)

    def _compute(self, op: str, a: Dim, b: Dim) -> Dim:
        one, other = dimension_of(a), dimension_of(b)
        if not all(isinstance(value, (int, sympy.Expr)) for value in (one, other)):
            return Size(self, Dyn)
        return self.size(_plain(_ON_SYMBOLS[op](one, other)))

    def _require(self, op: str, a: Dim, b: Dim, what: str) -> None:
        pass  # a demand on an unknown size may hold

    def _equal(self, a: Dim, b: Dim, what: str) -> Dim:
        for unknown, known in ((a, b), (b, a)):
            if isinstance(unknown, _Multiple) and isinstance(known, int) and known % unknown.of:
                raise IllTypedError(f"{what}: {known} is not a multiple of {unknown.of}")
        return min((a, b), key=_ignorance)

    def _broadcast(self, a: Dim, b: Dim, what: str) -> Dim:
        if isinstance(a, int) or isinstance(b, int):
            return a if isinstance(a, int) else b  # `broadcast` has handled 1
        one, other = dimension_of(a), dimension_of(b)
        return a if one == other and one != Dyn else Size(self, Dyn)

    def _fits(self, whole: Dim, part: Dim, what: str) -> Dim:
        if isinstance(whole, int) and isinstance(part, _Multiple) and whole % part.of:
            raise IllTypedError(f"{what}: {whole} is not a multiple of {part.of}")
        return self._compute("//", whole, part)


def _ignorance(size: Dim) -> int:
    if isinstance(size, int):
        return 0
    return 2 if size.value == Dyn else 1


def _plain(value: Any) -> Any:
    return int(value) if isinstance(value, sympy.Integer) else value


def dimension_of(size: Dim) -> Any:
    """A size as a dimension of a type."""
    return size.value if isinstance(size, Size) else size


def shape_of(sizes: CheckerSizes, tensor_type: Any) -> Shape:
    """A tensor type as a shape.

    Raises:
        IllTypedError: the argument is not a tensor type.
    """
    if not isinstance(tensor_type, TensorType):
        raise IllTypedError(f"{tensor_type} is not a tensor type")
    return Shape(map(sizes.size, tensor_type.dims))


def value_of(sizes: CheckerSizes, annotation: Any) -> Any:
    """The value of a node of this type."""
    if isinstance(annotation, TensorType):
        return shape_of(sizes, annotation)
    if annotation is int:
        return sizes.fresh("an int")
    if isinstance(annotation, (tuple, list)):
        return tuple(value_of(sizes, part) for part in annotation)
    return UNKNOWN


def type_of(value: Any) -> Any:
    """The type of a value: a `TensorType` for a shape, a tuple for several, ``Dyn`` otherwise."""
    if isinstance(value, Shape):
        return TensorType(tuple(map(dimension_of, value)))
    plain = type(value) in (tuple, list)
    if plain and any(isinstance(part, Shape) for part in value):
        return tuple(map(type_of, value))
    return Dyn
