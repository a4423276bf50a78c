"""sympy functions for operations that torch has no class for, and for uninterpreted functions."""

from __future__ import annotations

from typing import Any

import sympy
from sympy.core.function import UndefinedFunction
from sympy.logic.boolalg import Boolean
from torch.utils._sympy import functions as torch_fn

from symfx.algebra.terms.table import MATH_FUNCTIONS, Sort

__all__ = [
    "CALL_OF_CLASS",
    "MATH_CLASSES",
    "FloatFloorDiv",
    "FloatMod",
    "IntRound",
    "function_class",
    "register_function",
]


def _as_float(value: sympy.Basic) -> float:
    return float(value)


class FloatFloorDiv(sympy.Function):  # type: ignore[misc]
    """``a // b`` of doubles: a double, which is not always ``floor(a / b)``."""

    nargs = (2,)
    is_real = True

    @classmethod
    def eval(cls, a: sympy.Expr, b: sympy.Expr) -> sympy.Expr | None:
        """The quotient of two numbers."""
        if a.is_Number and b.is_Number:
            return sympy.Float(_as_float(a) // _as_float(b))
        return None


class FloatMod(sympy.Function):  # type: ignore[misc]
    """``a % b`` of doubles, with the sign of b."""

    nargs = (2,)
    is_real = True

    @classmethod
    def eval(cls, a: sympy.Expr, b: sympy.Expr) -> sympy.Expr | None:
        """The remainder of two numbers."""
        if a.is_Number and b.is_Number:
            return sympy.Float(_as_float(a) % _as_float(b))
        return None


class IntRound(sympy.Function):  # type: ignore[misc]
    """``round(a, n)`` of an integer, for a negative number of digits n."""

    nargs = (2,)
    is_integer = True

    @classmethod
    def eval(cls, a: sympy.Expr, digits: sympy.Expr) -> sympy.Expr | None:
        """The rounded value of a number."""
        if a.is_Integer and digits.is_Integer:
            return sympy.Integer(round(int(a), int(digits)))
        return None


_opaque: Any = torch_fn.make_opaque_unary_fn  # torch gives it no types

MATH_CLASSES: dict[str, Any] = {
    name: getattr(torch_fn, f"OpaqueUnaryFn_{name}", None) or _opaque(name)
    for name in MATH_FUNCTIONS
}
"""The class of each function of `math`: torch's own where torch has one."""

# -- uninterpreted functions -----------------------------------------------------------------

_CLASS_OF_CALL: dict[tuple[str, Sort], Any] = {}
CALL_OF_CLASS: dict[Any, tuple[str, Sort]] = {}


def register_function(name: str, sort: Sort, function: Any) -> None:
    """Let `function`, a class of sympy functions, stand for calls of `name`.

    The calls of a name that was not registered get a class at the first conversion of one of them.

    Args:
        name: the name of the function, as `Table.call` takes it.
        sort: the sort of its result.
        function: the class whose instances show such calls.

    Raises:
        ValueError: the name is registered with another class, or the class with another name.
    """
    key = (name, sort)
    if _CLASS_OF_CALL.get(key, function) != function or CALL_OF_CLASS.get(function, key) != key:
        raise ValueError(
            f"cannot register {function!r} for {name!r} of sort {sort}: one of both is registered "
            "with another partner already"
        )
    _CLASS_OF_CALL[key] = function
    CALL_OF_CLASS[function] = key


def function_class(name: str, sort: Sort) -> Any:
    """The class whose instances show calls of `name`."""
    found = _CLASS_OF_CALL.get((name, sort))
    if found is None:
        if sort == "bool":
            found = type(name, (sympy.Function, Boolean), {"__doc__": f"The condition {name}."})
        elif sort == "int":
            found = UndefinedFunction(name, integer=True)
        else:
            found = UndefinedFunction(name, real=True)
        register_function(name, sort, found)
    return found


register_function(
    "is_non_overlapping_and_dense_indicator", "int", torch_fn.IsNonOverlappingAndDenseIndicator
)
