"""Symbolic integers, booleans and reals: terms, what is known of them, what follows.

This floor knows no torch and, but for `symfx.algebra.sympy_view`, no sympy.
"""

from symfx.algebra.c_code import to_c
from symfx.algebra.definedness import definedness
from symfx.algebra.expr import Scalar, Sort, Table, Term
from symfx.algebra.facts import Facts
from symfx.algebra.interpret import as_operation, evaluate, interpret, relation, substitute
from symfx.algebra.printing import to_python
from symfx.algebra.prove import Prover
from symfx.algebra.smtlib import smtlib_script, to_smtlib

__all__ = [
    "Facts",
    "Prover",
    "Scalar",
    "Sort",
    "Table",
    "Term",
    "as_operation",
    "definedness",
    "evaluate",
    "interpret",
    "relation",
    "smtlib_script",
    "substitute",
    "to_c",
    "to_python",
    "to_smtlib",
]
