"""Goals: the most that symfx may take for a piece of algebra, and the figures beside them."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Finding", "Goal"]


@dataclass(frozen=True)
class Finding:
    """One measured figure beside its goal.

    Attributes:
        work: the work's name.
        figure: the name of the figure, such as ``symfx / stock at n = 200``.
        most: the largest value that meets the goal.
        measured: the measured value, or None if it was not measured.
    """

    work: str
    figure: str
    most: float
    measured: float | None

    @property
    def met(self) -> bool | None:
        """Whether the goal is reached; None if the figure was not measured."""
        return None if self.measured is None else self.measured <= self.most


@dataclass(frozen=True)
class Goal:
    """The most that symfx may take.

    Attributes:
        at: the size at which symfx is compared with the peers.
        stock: the largest part of stock's time.
        jax: the largest part of JAX's time.
        growth: the largest ``k`` with a time that grows as ``n**k``.
    """

    at: int | None = None
    stock: float | None = None
    jax: float | None = None
    growth: float | None = None
