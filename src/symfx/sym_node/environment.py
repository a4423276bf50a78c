"""The environment that owns symbolic numbers, as far as a `SymNode` uses it."""

from __future__ import annotations

from typing import Any, Protocol, TypeVar

import sympy

from symfx.algebra import Facts, Prover, Scalar, Table, Term

__all__ = ["Environment"]

_Node_co = TypeVar("_Node_co", covariant=True)


class Environment(Protocol[_Node_co]):
    """The part of `symfx.symbolic_shapes.ShapeEnv` that its nodes call; Node is `SymNode`.

    Attributes:
        table: makes the terms.
        facts: the facts about the terms.
        prover: decides conditions from the facts.
        nodes: the node of each term that has one.
        asked: how the program wrote a comparison: the method and both sides.
        speaks_torch: whether torch's own export or compile made the environment.
        shown_as: the symbols that print under a user's name, with that name.
    """

    table: Table
    facts: Facts
    prover: Prover
    nodes: dict[Term, Any]
    asked: dict[Term, tuple[str, Term, Term]]
    speaks_torch: bool
    shown_as: dict[sympy.Symbol, sympy.Symbol]

    # -- terms and nodes -----------------------------------------------------------------------

    def node_for(self, term: Term, hint: Scalar | None = None) -> _Node_co:
        """The node of a term."""

    def adopt(self, node: Any) -> _Node_co:
        """The node of this environment for a foreign one."""

    def read(self, expr: Any) -> Term:
        """The term of a sympy expression."""

    def term_from_outside(self, expr: Any, pytype: type, hint: Any) -> tuple[Term, Any]:
        """The term of a sympy expression whose symbols may be new, and its hint."""

    # -- values --------------------------------------------------------------------------------

    def hint_of(self, term: Term) -> Scalar | None:
        """The value of a term at tracing; None where it depends on unbacked symbols."""

    def guarding_hint_or_throw(self, expr: Any) -> int | bool:
        """The value of an expression at tracing, or an error where it depends on data."""

    def evaluate_term(
        self, term: Term, *, size_oblivious: bool = False, fallback: Scalar | None = None
    ) -> Scalar:
        """The value of a term, guarded."""

    def decide(self, condition: Term) -> bool | None:
        """Whether the facts imply a condition; None where they decide nothing. Never guards."""

    def settle_extremum(self, term: Term) -> Term:
        """A minimum or maximum without the operands that the facts rule out."""

    def is_backed(self, term: Term) -> bool:
        """Whether a term has no unbacked symbols, as it is written."""

    def is_of_data(self, symbol: Term) -> bool:
        """Whether an operator made a symbol from data, rather than an input."""

    def first_name(self, symbol: Term) -> Term:
        """What torch has to see of a replaced symbol that data gave."""

    def settled(self, term: Term) -> Term:
        """A term as simple as the facts allow."""

    def expect(self, condition: Term, message: str = "") -> bool:
        """Rely on a condition, by a guard or an assertion at run time."""
