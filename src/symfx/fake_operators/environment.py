"""The environment of a fake mode, as far as the operation cache uses it."""

from __future__ import annotations

from typing import Any, Protocol

from symfx.algebra import Term
from symfx.sym_node import SymNode
from symfx.sym_node.environment import Environment as NodeEnvironment

__all__ = ["Environment"]


class Environment(NodeEnvironment[SymNode], Protocol):
    """The part of `symfx.symbolic_shapes.ShapeEnv` that the cache calls.

    Attributes:
        current_operator: the operator whose kernel runs, or None.
    """

    current_operator: Any

    @property
    def epoch(self) -> int:
        """A number that grows when an equality changes the normal form of terms."""

    @property
    def symbols(self) -> Any:
        """The symbols, with a record of each in ``records``."""

    @property
    def ledger(self) -> Any:
        """The guards and the runtime assertions; ``suppression`` says whether guards are off."""

    @property
    def inputs(self) -> Any:
        """The inputs; ``offsets_asked`` says whether the program asked for an offset."""

    @property
    def should_record_events(self) -> bool:
        """Whether each question is recorded."""

    @property
    def validator(self) -> Any:
        """The validator that notes each answer, or None."""

    def wrap(self, term: Term) -> Any:
        """The torch.SymInt of a term, or its value if it is a constant."""
