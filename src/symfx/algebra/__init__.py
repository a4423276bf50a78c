"""Symbolic integers, booleans and reals: terms, what is known of them, what follows.

This floor knows no torch and, but for `symfx.algebra.sympy_view`, no sympy. What writes terms in
other languages is loaded when first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from symfx.algebra.definedness import definedness
from symfx.algebra.expr import Scalar, Sort, Table, Term
from symfx.algebra.facts import Facts
from symfx.algebra.interpret import as_operation, evaluate, interpret, relation, substitute
from symfx.algebra.printing import to_python
from symfx.algebra.prove import Prover

if TYPE_CHECKING:
    from symfx.algebra.c_code import to_c
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

_LATER = {
    "smtlib_script": "symfx.algebra.smtlib",
    "to_c": "symfx.algebra.c_code",
    "to_smtlib": "symfx.algebra.smtlib",
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = globals()[name] = getattr(import_module(_LATER[name]), name)
    return value
