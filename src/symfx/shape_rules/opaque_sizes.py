"""Sizes without values: only their identity is known.

Run on them, a rule yields the ranks of its results, and which dimensions come from an argument.
"""

from __future__ import annotations

from collections.abc import Callable

from symfx.shape_rules.sizes import Dim, Shape, Size, Sizes

__all__ = ["OpaqueSizes"]


class OpaqueSizes(Sizes):
    """Sizes without values: each computation makes a new size, and each demand is accepted.

    Args:
        on_equal: called with each two sizes that a rule demands to be equal.
    """

    def __init__(self, on_equal: Callable[[Dim, Dim], None] | None = None) -> None:
        self._on_equal = on_equal

    def shape(self, rank: int) -> Shape:
        """A shape of this rank, with new sizes."""
        return Shape(self.fresh("") for _ in range(rank))

    def fresh(self, hint: str) -> Dim:
        """A new size."""
        return Size(self, None)

    def _compute(self, op: str, a: Dim, b: Dim) -> Dim:
        # Adding 0, or multiplying or dividing by 1, keeps the size.
        if isinstance(b, int) and ((op in "+-" and b == 0) or (op in ("*", "//") and b == 1)):
            return a
        if isinstance(a, int) and ((op == "+" and a == 0) or (op == "*" and a == 1)):
            return b
        return self.fresh("")

    def _require(self, op: str, a: Dim, b: Dim, what: str) -> None:
        pass

    def _equal(self, a: Dim, b: Dim, what: str) -> Dim:
        if self._on_equal is not None:
            self._on_equal(a, b)
        return a if isinstance(a, int) else b

    def _broadcast(self, a: Dim, b: Dim, what: str) -> Dim:
        # A number other than 1 is the result, whatever the other size is.
        if isinstance(a, int) or isinstance(b, int):
            return a if isinstance(a, int) else b
        return self.fresh("")

    def _fits(self, whole: Dim, part: Dim, what: str) -> Dim:
        return self.fresh("")
