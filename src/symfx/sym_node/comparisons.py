"""Comparisons as the program wrote them, and the sympy class of each method that compares."""

from __future__ import annotations

import sympy

from symfx.algebra import Term
from symfx.algebra.languages.sympy import to_sympy

__all__ = ["RELATIONS", "as_asked"]

RELATIONS = {
    "eq": sympy.Eq,
    "ne": sympy.Ne,
    "lt": sympy.Lt,
    "le": sympy.Le,
    "gt": sympy.Gt,
    "ge": sympy.Ge,
}
"""The sympy class of each method that compares."""


def as_asked(term: Term, asked: tuple[str, Term, Term] | None) -> sympy.Basic:
    """A term as sympy; a comparison has the sides that the program wrote.

    Args:
        term: the term.
        asked: for a comparison, the method that compared, and both sides, where they are known.
    """
    if asked is not None:
        name, left, right = asked
        written: sympy.Basic = RELATIONS[name](to_sympy(left), to_sympy(right))
        if not written.is_Atom:  # sympy did not evaluate the comparison
            return written
    result: sympy.Basic = to_sympy(term)
    return result
