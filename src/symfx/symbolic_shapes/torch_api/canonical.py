"""One form for sympy conditions that mean the same: no ``>``, common factor or negative term."""

from __future__ import annotations

import math
from functools import reduce
from typing import Any, TypeVar

import sympy

__all__ = ["canonicalize_bool_expr"]

_T = TypeVar("_T")

_FLIPPED: dict[type, Any] = {sympy.Gt: sympy.Lt, sympy.Ge: sympy.Le}


def canonicalize_bool_expr(expr: _T) -> _T:
    """A condition as ``<``, ``<=``, ``==`` or ``!=`` of sums without negative terms.

    Terms with a minus sign stand on the other side, integer factors that all terms share are
    divided out; conjunctions, disjunctions and negations become a conjunction of disjunctions.

    Args:
        expr: a sympy condition; any other value is returned unchanged.

    Example:
        >>> a, b = sympy.symbols("a b", integer=True)
        >>> canonicalize_bool_expr(2 * a - 4 * b >= 6)
        2*b + 3 <= a
    """
    if isinstance(expr, (sympy.And, sympy.Or, sympy.Not)):
        flat = sympy.to_cnf(expr)
        if isinstance(flat, (sympy.And, sympy.Or)):
            return flat.func(*(canonicalize_bool_expr(part) for part in flat.args))  # type: ignore[no-any-return]
        expr = flat
    if not isinstance(expr, (sympy.Lt, sympy.Le, sympy.Gt, sympy.Ge, sympy.Eq, sympy.Ne)):
        return expr
    left, right = expr.args
    if not (isinstance(left, sympy.Expr) and isinstance(right, sympy.Expr)):
        # An equation of conditions, as Eq(a > 1, True), has no difference of its sides.
        sides = canonicalize_bool_expr(left), canonicalize_bool_expr(right)
        return type(expr)(*sides, evaluate=False)  # type: ignore[no-any-return]
    flipped = _FLIPPED.get(type(expr))
    difference = left - right if flipped else right - left
    plus, minus = _sides(difference)
    return (flipped or type(expr))(minus, plus, evaluate=False)  # type: ignore[no-any-return]


def _sides(difference: sympy.Expr) -> tuple[sympy.Expr, sympy.Expr]:
    """The sum of the positive terms and that of the negative ones, over their common factor."""
    terms = sympy.Add.make_args(difference)
    factor = reduce(math.gcd, (_integer_factor(term) for term in terms), 0)
    if factor > 1:
        terms = tuple(term / factor for term in terms)
    minus = [-term for term in terms if term.could_extract_minus_sign() and _is_minus(term)]
    plus = [term for term in terms if not _is_minus(term)]
    return sympy.Add(*plus), sympy.Add(*minus)


def _integer_factor(term: sympy.Expr) -> int:
    coefficient = term.as_coeff_Mul()[0]
    return abs(int(coefficient)) if coefficient.is_Integer else 1


def _is_minus(term: sympy.Expr) -> bool:
    return bool(term.as_coeff_Mul()[0].is_negative)
