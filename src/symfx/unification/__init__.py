"""Unification of terms with logic variables, on the library logical-unification.

Example:
    >>> from symfx.unification import Var, reify, unify
    >>> batch = Var("batch")
    >>> unify((batch, 3), (8, 3), {})
    {~batch: 8}
    >>> reify((batch, 3), {batch: 8})
    (8, 3)
"""

from __future__ import annotations

from symfx.extras import importing

with importing("types", "symfx.unification"):
    from unification.variable import Var, isvar, var, variables, vars

    from symfx.unification.core import reify, unify
    from unification import unifiable

__all__ = ["Var", "isvar", "reify", "unifiable", "unify", "var", "variables", "vars"]
