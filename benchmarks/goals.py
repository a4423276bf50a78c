"""What symfx has to reach at a piece of algebra, and whether it does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.algebra import AlgebraResult

__all__ = ["Finding", "Goal"]


@dataclass(frozen=True)
class Finding:
    """One figure beside what it has to be.

    Attributes:
        work: the work's name.
        what: what was measured, in words.
        most: what it may be at most.
        measured: what it is; None where it was not measured.
    """

    work: str
    what: str
    most: float
    measured: float | None

    @property
    def met(self) -> bool | None:
        """Whether the goal is reached; None where nothing was measured."""
        return None if self.measured is None else self.measured <= self.most


@dataclass(frozen=True)
class Goal:
    """What symfx may take at most.

    Attributes:
        at: the size at which it is compared with others.
        stock: of stock's time, at most this part.
        jax: of JAX's time, at most this part.
        growth: its time grows with ``n`` no faster than ``n`` to this power.
    """

    at: int | None = None
    stock: float | None = None
    jax: float | None = None
    growth: float | None = None

    def findings(self, result: AlgebraResult) -> list[Finding]:
        """The goal's figures as they were measured."""
        name = result.work.name
        found = []
        for peer, most in (("stock", self.stock), ("jax", self.jax)):
            if most is not None and self.at is not None:
                timings = result.timings.get(self.at)
                ratio = None if timings is None else timings.ratio("symfx", peer)
                found.append(Finding(name, f"symfx / {peer} at n = {self.at}", most, ratio))
        if self.growth is not None:
            sizes = sorted(result.medians("symfx"))
            span = f", n = {sizes[0]}..{sizes[-1]}" if sizes else ""
            exponent = result.exponent("symfx")
            found.append(Finding(name, f"k of n^k{span}", self.growth, exponent))
        return found
