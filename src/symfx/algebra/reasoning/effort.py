"""The work that a question has taken so far."""

from __future__ import annotations

from dataclasses import dataclass

from symfx.algebra.reasoning.limits import LOOKED, STEPS

__all__ = ["Effort"]


@dataclass
class Effort:
    """The work that a question has taken so far, shared by the provers of its suppositions.

    Attributes:
        nested: the number of questions that have led from one to the next.
        steps: the number of questions that the first of them has led to.
        looked: the number of terms that their searches for bounds have looked at.
        again: whether the question has its second try.
        left: the number of second tries that it and its sub-questions may still have.
    """

    nested: int = 0
    steps: int = 0
    looked: int = 0
    again: bool = False
    left: int = 0

    def begin(self) -> None:
        """Start to count for a new question."""
        self.steps = self.looked = 0

    @property
    def spent(self) -> bool:
        """Whether the question has met a limit, so that what it leaves open may yet be found."""
        return self.steps > STEPS or self.looked >= LOOKED
