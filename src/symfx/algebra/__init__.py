"""Symbolic integers, booleans and reals: terms, facts about them, and a prover.

This floor imports no torch and, apart from `symfx.algebra.sympy_view`, no sympy. The writers of
C and SMT-LIB are loaded at their first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from symfx.algebra.languages.python import to_python
from symfx.algebra.reasoning.facts import Facts
from symfx.algebra.reasoning.prover import Prover
from symfx.algebra.terms.definedness import definedness
from symfx.algebra.terms.interpret import as_operation, evaluate, interpret, relation, substitute
from symfx.algebra.terms.table import Scalar, Sort, Table, Term
from symfx.algebra.terms.term import print_terms_by

if TYPE_CHECKING:
    from symfx.algebra.languages.c import to_c
    from symfx.algebra.languages.smtlib import smtlib_script, to_smtlib

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

print_terms_by(to_python)

print_terms_by(to_python)

_LATER = {
    "smtlib_script": "symfx.algebra.languages.smtlib",
    "to_c": "symfx.algebra.languages.c",
    "to_smtlib": "symfx.algebra.languages.smtlib",
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = globals()[name] = getattr(import_module(_LATER[name]), name)
    return value
