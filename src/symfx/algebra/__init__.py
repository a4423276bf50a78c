"""Symbolic integers, booleans and reals: terms, what is known of them, what follows.

This floor knows no torch and, but for `symfx.algebra.sympy_view`, no sympy.
"""

from symfx.algebra.expr import Scalar, Sort, Table, Term
from symfx.algebra.facts import Facts
from symfx.algebra.interpret import as_operation, evaluate, interpret, relation, substitute
from symfx.algebra.printing import to_python
from symfx.algebra.prove import Prover

__all__ = [
    "Facts",
    "Prover",
    "Scalar",
    "Sort",
    "Table",
    "Term",
    "as_operation",
    "evaluate",
    "interpret",
    "relation",
    "substitute",
    "to_python",
]
