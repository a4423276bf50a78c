"""Arithmetic on sizes and strides that are ints or terms, and questions that never guard."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from symfx.algebra import Term

if TYPE_CHECKING:
    from symfx.algebra.reasoning.prover import Prover

__all__ = ["Number", "Numbers"]

Number: TypeAlias = int | Term
"""A size, stride or offset: an int, or a term that is not a constant."""


class Numbers:
    """Arithmetic and questions within one environment.

    Args:
        prover: answers questions about terms; None where no size is symbolic.
        guard: guards on a condition, and returns whether the condition holds from now on. Its
            second argument is the comparison as the rule writes it: the method and both sides.
    """

    def __init__(
        self,
        prover: Prover | None,
        guard: Callable[[Term, tuple[str, Number, Number]], bool] | None = None,
    ) -> None:
        self._prover = prover
        self._guard = guard
        # Facts only grow, so a positive term stays positive.
        self._positive: set[Term] = set()

    def mul(self, a: Number, b: Number) -> Number:
        """a * b"""
        return _plain(a * b)

    def add(self, a: Number, b: Number) -> Number:
        """a + b"""
        return _plain(a + b)

    def sub(self, a: Number, b: Number) -> Number:
        """a - b"""
        return _plain(a - b)

    def floordiv(self, a: Number, b: Number) -> Number:
        """a // b"""
        return _plain(a // b)

    def mod(self, a: Number, b: Number) -> Number:
        """a % b"""
        return _plain(a % b)

    def min(self, a: Number, b: Number) -> Number:
        """The smaller of both, as simple as the facts allow."""
        return self._chosen("min", a, b)

    def max(self, a: Number, b: Number) -> Number:
        """The larger of both, as simple as the facts allow."""
        return self._chosen("max", a, b)

    def _chosen(self, op: str, a: Number, b: Number) -> Number:
        if isinstance(a, int) and isinstance(b, int):
            return min(a, b) if op == "min" else max(a, b)
        if self.at_most(a, b):
            return a if op == "min" else b
        if self.at_most(b, a):
            return b if op == "min" else a
        table = a.table if isinstance(a, Term) else b.table  # type: ignore[union-attr]
        terms = [table.const(n) if isinstance(n, int) else n for n in (a, b)]
        return _plain(getattr(table, op)(*terms))

    def is_backed(self, a: Number) -> bool:
        """Whether a number depends on the inputs' sizes alone, and not on data."""
        return self.value_at_tracing(a) is not None

    def value_at_tracing(self, a: Number) -> int | None:
        """The value of a number at tracing; None where it depends on data."""
        if isinstance(a, int):
            return a
        value = None if self._prover is None else self._prover.witness(a)
        return None if value is None else int(value)

    def product(self, numbers: Iterable[Number]) -> Number:
        """The product of all."""
        result: Number = 1
        for n in numbers:
            result = self.mul(result, n)
        return result

    def same(self, a: Number, b: Number) -> bool:
        """Whether two numbers are surely equal."""
        # Equal terms are one object, and no term stands for a constant.
        return a is b or a == b

    def all_same(self, a: Sequence[Number], b: Sequence[Number]) -> bool:
        """Whether two sequences are surely equal."""
        return len(a) == len(b) and all(x is y or x == y for x, y in zip(a, b, strict=True))

    def positive(self, a: Number) -> bool:
        """Whether a number is surely at least 1."""
        if isinstance(a, int):
            return a >= 1
        if a in self._positive:
            return True
        low = self._prover.range(a)[0] if self._prover is not None else None
        if low is not None and low >= 1:
            self._positive.add(a)
            return True
        return False

    def all_positive(self, numbers: Iterable[Number]) -> bool:
        """Whether every number is surely at least 1."""
        return all(self.positive(n) for n in numbers)

    def several(self, a: Number) -> bool:
        """Whether a number is surely at least 2."""
        return a >= 2 if isinstance(a, int) else self.at_most(2, a)

    def at_most(self, a: Number, b: Number) -> bool:
        """Whether a is surely at most b."""
        if isinstance(a, int) and isinstance(b, int):
            return a <= b
        if a is b:
            return True
        if self._prover is None:
            return False
        condition: Any = a <= b if isinstance(a, Term) else b >= a
        # The prover would try to refute it, which is of no use here.
        if self._prover.witness(condition) is False:
            return False
        return self._prover.decide(condition) is True

    def require_at_most(self, a: Number, b: Number) -> bool:
        """Whether a is at most b; a guard makes it so where that is open.

        For conditions without which the operator is an error: torch guards on them as well.
        """
        if self.at_most(a, b):
            return True
        if self._guard is None or (isinstance(a, int) and isinstance(b, int)):
            return False
        condition: Any = a <= b if isinstance(a, Term) else b >= a
        return self._guard(condition, ("le", a, b))

    def require_same(self, a: Number, b: Number) -> bool:
        """Whether two numbers are equal; a guard makes them so, as in `require_at_most`."""
        if self.same(a, b):
            return True
        if self._guard is None:
            return False
        if isinstance(a, Term):
            return self._guard(a.eq(b), ("eq", a, b))
        return isinstance(b, Term) and self._guard(b.eq(a), ("eq", a, b))

    def require_multiple(self, a: Number, b: Number) -> bool:
        """Whether a is a multiple of a positive b; a guard makes it so, as in `require_at_most`."""
        return self.require_same(self.mod(a, b), 0)

    def learn_positive(self, a: Number) -> None:
        """Remember that a number is at least 1; the caller knows that it is."""
        if isinstance(a, Term):
            self._positive.add(a)

    def contiguous(self, sizes: Sequence[Number]) -> tuple[Number, ...]:
        """The strides of a row-major tensor whose symbolic sizes are positive.

        Where one may be 0 these are strides too: those of a tensor without elements mean nothing.
        """
        strides: list[Number] = []
        step: Number = 1
        for size in reversed(sizes):
            strides.append(step)
            step = self.mul(step, 1 if size == 0 else size)
        return tuple(reversed(strides))


def _plain(n: Any) -> Number:
    """An int in place of a constant term."""
    if isinstance(n, Term) and n.op == "const":
        value: int = n.args[0]
        return value
    result: Number = n
    return result
