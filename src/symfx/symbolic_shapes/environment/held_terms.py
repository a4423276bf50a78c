"""Expressions in the arguments of events, which have to outlive their environment."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from symfx.algebra import Sort, Term
from symfx.algebra.languages.sympy import to_sympy
from symfx.algebra.terms.portable import carry
from symfx.errors import SymfxError

if TYPE_CHECKING:
    from symfx.symbolic_shapes import ShapeEnv

__all__ = ["HeldTerm", "TermView", "term_for"]

TermView: TypeAlias = Literal["term", "sympy", "number", "node"]


@dataclass(frozen=True)
class HeldTerm:
    """An expression in the arguments of an event, as it was when the event happened.

    A torch number will not do: what is learned later shows in it.

    Attributes:
        term: the expression, in the table of an environment or of a log.
        view: what the argument was: the term itself, its sympy view, a torch number, or the
            node of one.
    """

    term: Term
    view: TermView

    def placed(self, env: ShapeEnv) -> Any:
        """The argument in an environment.

        Raises:
            SymfxError: the environment lacks a symbol that is in it.
        """
        term = carry(self.term, env.table, functools.partial(term_for, env))
        if self.view == "term":
            return term
        if self.view == "sympy":
            return to_sympy(term)
        return env.wrap(term) if self.view == "number" else env.node_for(term)

    def __str__(self) -> str:
        return str(self.term)


def term_for(env: ShapeEnv, name: str, sort: Sort) -> Term:
    """The environment's symbol of a name.

    Raises:
        SymfxError: it has none.
    """
    term = env.table.symbols.get(name)
    if term is None or term not in env._symbols or term.sort != sort:
        raise SymfxError(
            f"no event before this one made a symbol {name} ({sort})",
            fix="keep the event that makes it",
        )
    return term
