"""Values of expressions for decisions: strict ones to guard on, and estimates for speed."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import sympy
from torch.utils._sympy.numbers import int_oo

from symfx.errors import SymfxError

if TYPE_CHECKING:
    from symfx.symbolic_shapes import ShapeEnv

__all__ = [
    "_guarding_hint_or_throw_base",
    "_maybe_realize_expr",
    "_optimization_hint_base",
    "_sympy_subs",
]


def _sympy_subs(expr: Any, replacements: Mapping[sympy.Expr, Any]) -> Any:
    """An expression with parts replaced.

    Args:
        expr: a number or an expression.
        replacements: the value of each part: an expression, or the name of a new symbol, which is
            an integer, or not negative, where the part is.

    Example:
        >>> import sympy
        >>> s0 = sympy.Symbol("s0", integer=True)
        >>> _sympy_subs(s0 + 1, {s0: "n"})
        n + 1
    """
    told = {
        part: sympy.Symbol(value, integer=part.is_integer, nonnegative=part.is_nonnegative)
        if isinstance(value, str)
        else value
        for part, value in replacements.items()
    }
    return sympy.sympify(expr).xreplace(told)


def _maybe_realize_expr(expr: Any, nan_fallback: int | None) -> int | bool | None:
    """The value of an expression without symbols; None where it has symbols.

    Args:
        expr: a number or an expression; infinity counts as ``sys.maxsize``.
        nan_fallback: the value of an expression that is not a number.

    Raises:
        SymfxError: the expression is complex.
    """
    expr = sympy.sympify(expr)
    if expr in (sympy.true, sympy.false):
        return bool(expr)
    if expr.has(sympy.I):
        raise SymfxError(f"{expr} is complex; sizes are integers")
    if expr.has(sympy.nan):
        return nan_fallback
    for infinity in (int_oo, sympy.oo):
        if expr in (infinity, -infinity):
            return sys.maxsize if expr == infinity else -sys.maxsize
    return int(expr) if expr.is_number else None


def _guarding_hint_or_throw_base(
    shape_env: ShapeEnv, expr: Any, precomputed_replacements: Mapping[sympy.Expr, Any]
) -> int | bool:
    """The value of an expression at tracing, to guard on.

    Args:
        shape_env: the environment of its symbols.
        expr: a number or an expression.
        precomputed_replacements: the expression of each precomputed size.

    Raises:
        GuardOnDataDependentSymNode: it depends on data.
    """
    return shape_env.guarding_hint_or_throw(_sympy_subs(expr, precomputed_replacements))


def _optimization_hint_base(
    shape_env: ShapeEnv,
    expr: Any,
    precomputed_replacements: Mapping[sympy.Expr, Any],
    fallback: int | None = None,
) -> int:
    """A value of an expression that is good enough for decisions about speed.

    Args:
        shape_env: the environment of its symbols.
        expr: a number or an expression.
        precomputed_replacements: the expression of each precomputed size.
        fallback: the value to assume of an unbacked symbol; see `ShapeEnv.optimization_hint`.
    """
    expr = _sympy_subs(expr, precomputed_replacements)
    return shape_env.optimization_hint(expr, fallback=fallback)
