"""The sizes in which nothing of a size is known but whether two are the same one.

Run in it, a rule tells the ranks of its results, and which of their dimensions are an argument's.
"""

from __future__ import annotations

from collections.abc import Callable

from symfx.shape_rules.sizes import Dim, Shape, Size, Sizes

__all__ = ["OpaqueSizes"]


class OpaqueSizes(Sizes):
    """Sizes without values: each computation makes a new one, every demand may hold.

    Args:
        on_equal: told of every two sizes that a rule demands to be equal.
    """

    def __init__(self, on_equal: Callable[[Dim, Dim], None] | None = None) -> None:
        self._on_equal = on_equal

    def shape(self, rank: int) -> Shape:
        """A shape of so many sizes."""
        return Shape(self.fresh("") for _ in range(rank))

    def fresh(self, hint: str) -> Dim:
        """A size that nothing is known of."""
        return Size(self, None)

    def _compute(self, op: str, a: Dim, b: Dim) -> Dim:
        # What leaves a size as it is, is the same size.
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
        # A number other than 1 decides, whatever the other one is.
        if isinstance(a, int) or isinstance(b, int):
            return a if isinstance(a, int) else b
        return self.fresh("")

    def _fits(self, whole: Dim, part: Dim, what: str) -> Dim:
        return self.fresh("")
