"""Questions of a program about shapes (``x.size()``, ``len(x)``), and arithmetic on the answers."""

from __future__ import annotations

import builtins
import math
import operator
from typing import Any

import torch

from symfx.shape_rules.attributes import SETTINGS, place_of
from symfx.shape_rules.errors import IllTypedError
from symfx.shape_rules.fractions_of_sizes import Fraction, rounded_up, truncated
from symfx.shape_rules.rules.layout import adjoint
from symfx.shape_rules.sizes import NO_TENSOR, UNKNOWN, Dim, NoTensor, Pieces, Shape, Size, Sizes
from symfx.shape_rules.table import axis, is_size, rule

__all__: list[str] = []


@rule("size", torch.ops.aten.sym_size)
def size(d: Sizes, input: Shape, dim: Any = None) -> Any:
    """The shape, or one of its dimensions."""
    if dim is None:
        return tuple(input)
    return input[axis(dim, len(input), "size")]


@rule("dim", "ndimension", torch.ops.aten.dim)
def rank(d: Sizes, input: Shape) -> int:
    """The number of dimensions."""
    return len(input)


@rule(torch.numel, "numel", "nelement", torch.ops.aten.sym_numel)
def numel(d: Sizes, input: Shape) -> Dim:
    """The number of elements."""
    return d.product(input)


@rule(builtins.len, "__len__")
def length(d: Sizes, value: Any) -> Any:
    """The first dimension of a tensor; the number of items of a tuple."""
    if isinstance(value, Shape):
        return value[0] if value else UNKNOWN
    if isinstance(value, Pieces):
        return value.number
    return len(value) if isinstance(value, (tuple, list)) else UNKNOWN


@rule(getattr, takes_unknown=True)
def attribute(d: Sizes, input: Any, name: str, *default: Any) -> Any:
    """``x.shape`` and other attributes of tensors; one of several results by its name."""
    if name in SETTINGS or isinstance(input, NoTensor):
        return NO_TENSOR
    if type(input) is tuple:
        place = place_of(name, len(input))
        return UNKNOWN if place is None else input[place]
    if not isinstance(input, Shape):
        return UNKNOWN
    if name == "shape":
        return tuple(input)
    if name == "ndim":
        return len(input)
    if name in ("T", "H"):
        if name == "H" and len(input) not in (0, 2):
            raise IllTypedError(f"H takes a matrix, not {input}")
        return Shape(reversed(input))
    if name in ("mT", "mH"):
        return adjoint(d, input)
    if name in ("data", "grad", "real", "imag"):
        return input
    return UNKNOWN


@rule(builtins.int, torch.sym_int, "item", "__int__", takes_unknown=True)
def as_int(d: Sizes, value: Any) -> Any:
    """A size unchanged; any other number is not a size that is known."""
    if is_size(value):
        return value
    if isinstance(value, Fraction):
        return truncated(d, value)
    return int(value) if isinstance(value, float) else NO_TENSOR


@rule(builtins.float, torch.sym_float, takes_unknown=True)
def as_float(d: Sizes, value: Any) -> Any:
    """A float, which is not a size."""
    if isinstance(value, Size):
        return Fraction(value, 1)
    return float(value) if isinstance(value, (int, float)) else NO_TENSOR


@rule(builtins.max, torch.sym_max, takes_unknown=True)
def largest(d: Sizes, *values: Any) -> Any:
    """The largest of several sizes."""
    return _extremum(d, "max", values)


@rule(builtins.min, torch.sym_min, takes_unknown=True)
def smallest(d: Sizes, *values: Any) -> Any:
    """The smallest of several sizes."""
    return _extremum(d, "min", values)


def _extremum(d: Sizes, op: str, values: tuple[Any, ...]) -> Any:
    if len(values) == 1 and isinstance(values[0], (tuple, list)):
        values = tuple(values[0])
    if not values or not all(is_size(value) for value in values):
        return UNKNOWN
    result: Dim = values[0]
    for value in values[1:]:
        result = d.compute(op, result, value)
    return result


@rule(operator.not_)
def negation(d: Sizes, value: Any) -> Any:
    """The negation of a truth value."""
    return not value if isinstance(value, bool) else d.negation(value)


@rule(math.prod, takes_unknown=True)
def product(d: Sizes, values: Any) -> Any:
    """The product of sizes."""
    if not isinstance(values, (tuple, list)) or not all(is_size(value) for value in values):
        return UNKNOWN
    return d.product(values)


@rule(
    *(getattr(math, name) for name in ("sqrt", "log", "log2", "log10", "exp", "pow")),
    torch.sym_sqrt,
    takes_unknown=True,
)
def number(d: Sizes, *values: Any) -> Any:
    """A number that is not a size."""
    return NO_TENSOR


@rule(math.floor, takes_unknown=True)
def floor(d: Sizes, value: Any) -> Any:
    """The largest size that is not above a number."""
    if isinstance(value, Fraction):
        return d.compute("//", value.numerator, value.denominator)
    return math.floor(value) if isinstance(value, float) else as_int(d, value)


@rule(math.ceil, takes_unknown=True)
def ceiling(d: Sizes, value: Any) -> Any:
    """The smallest size that is not below a number."""
    if isinstance(value, Fraction):
        return rounded_up(d, value)
    return math.ceil(value) if isinstance(value, float) else as_int(d, value)


@rule(builtins.round, takes_unknown=True)
def rounded(d: Sizes, value: Any, *digits: Any) -> Any:
    """The size next to a number; which one is not known for a fraction of a size."""
    if isinstance(value, Fraction):
        return value.numerator if value.denominator == 1 and not digits else NO_TENSOR
    if isinstance(value, float) and not digits:
        return round(value)
    return as_int(d, value)


@rule(math.trunc, operator.index, takes_unknown=True)
def whole(d: Sizes, value: Any) -> Any:
    """As `int`."""
    return as_int(d, value)


@rule(torch.Size, builtins.tuple, builtins.list, takes_unknown=True)
def as_tuple(d: Sizes, values: Any = ()) -> Any:
    """A tuple of the same items."""
    if isinstance(values, (Shape, Pieces)):
        return UNKNOWN
    return tuple(values) if isinstance(values, (tuple, list)) else UNKNOWN


@rule(
    torch.fx._symbolic_trace._assert_is_none,
    torch._assert,
    torch.ops.aten._assert_async,
    torch.ops.aten._assert_tensor_metadata,
    torch.ops.aten._assert_scalar,
    torch._check,
    takes_unknown=True,
)
def nothing(d: Sizes, *given: Any, **options: Any) -> None:
    """A check returns nothing."""
