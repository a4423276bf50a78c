"""Sizes of dimensions, as the rules compute with them, and the domains that say what sizes are.

A rule is ordinary Python on sizes: ``(h + 2 * padding - kernel) // stride + 1``. What a size is,
and what becomes of a condition such as "these two are equal", is up to the `Sizes` that the rule
is run in: the type checker's (a number or ``Dyn``), the constraint generator's (a variable), or
the symbolic one (a term of `symfx.algebra`). An ``int`` is a size in every domain.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

from symfx.shape_rules.errors import IllTypedError

__all__ = ["NO_TENSOR", "UNKNOWN", "Dim", "Shape", "Size", "Sizes", "Unknown", "size_text"]


class Size:
    """A size that is no plain number: a value of some domain, with the operators of an int.

    Args:
        domain: whose value it is.
        value: what the domain knows it by.
    """

    __slots__ = ("kind", "value")

    def __init__(self, kind: Sizes, value: Any) -> None:
        self.kind = kind
        self.value = value

    def __repr__(self) -> str:
        return f"Size({self.value})"

    def __add__(self, other: Dim) -> Dim:
        return self.kind.compute("+", self, other)

    def __radd__(self, other: int) -> Dim:
        return self.kind.compute("+", other, self)

    def __sub__(self, other: Dim) -> Dim:
        return self.kind.compute("-", self, other)

    def __rsub__(self, other: int) -> Dim:
        return self.kind.compute("-", other, self)

    def __mul__(self, other: Dim) -> Dim:
        return self.kind.compute("*", self, other)

    def __rmul__(self, other: int) -> Dim:
        return self.kind.compute("*", other, self)

    def __floordiv__(self, other: Dim) -> Dim:
        return self.kind.compute("//", self, other)

    def __rfloordiv__(self, other: int) -> Dim:
        return self.kind.compute("//", other, self)

    def __mod__(self, other: Dim) -> Dim:
        return self.kind.compute("%", self, other)

    def __rmod__(self, other: int) -> Dim:
        return self.kind.compute("%", other, self)

    def __neg__(self) -> Dim:
        return self.kind.compute("-", 0, self)


Dim: TypeAlias = int | Size


def size_text(size: object) -> str:
    """A size for people to read."""
    return str(size.value) if isinstance(size, Size) else str(size)


class Shape(tuple[Dim, ...]):
    """The shape of a tensor; a bare tuple of sizes is a value of the program, as `x.size()`."""

    __slots__ = ()

    def __str__(self) -> str:
        return f"[{', '.join(map(size_text, self))}]"

    def __repr__(self) -> str:
        return f"Shape({', '.join(map(size_text, self))})"


class Unknown:
    """What nothing is known of: of a tensor not even the rank. There is one, `UNKNOWN`."""

    _only: Unknown | None = None

    def __new__(cls) -> Unknown:
        """The one there is."""
        if cls._only is None:
            cls._only = super().__new__(cls)
        return cls._only

    def __repr__(self) -> str:
        return "UNKNOWN"


UNKNOWN = Unknown()


class NoTensor:
    """What is neither tensor nor size, and does not matter to either: a dtype, a device."""

    def __repr__(self) -> str:
        return "NO_TENSOR"


NO_TENSOR = NoTensor()

#: What Python computes where both operands are numbers.
_ON_NUMBERS: dict[str, Callable[[int, int], int]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "//": lambda a, b: a // b,
    "%": lambda a, b: a % b,
    "min": min,
    "max": max,
}
_COMPARE: dict[str, Callable[[int, int], bool]] = {
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    "<=": lambda a, b: a <= b,
    "<": lambda a, b: a < b,
    ">=": lambda a, b: a >= b,
    ">": lambda a, b: a > b,
}


class Sizes(abc.ABC):
    """Where a rule is run: what it means to compute with sizes and to demand things of them.

    The public methods deal with plain numbers themselves; a domain says what happens where a
    size of its own takes part, in the methods with an underscore.
    """

    def compute(self, op: str, a: Dim, b: Dim) -> Dim:
        """``a op b``, for ``+ - * // %`` and ``min``, ``max``."""
        if op in ("//", "%") and isinstance(b, int) and b == 0:
            raise IllTypedError(f"a size is divided by zero ({size_text(a)} {op} 0)")
        if isinstance(a, int) and isinstance(b, int):
            return _ON_NUMBERS[op](a, b)
        return self._compute(op, a, b)

    def require(self, op: str, a: Dim, b: Dim, what: str) -> None:
        """Demand ``a op b`` for one of ``== != <= < >= >``.

        Args:
            op: the comparison.
            a: a size.
            b: another.
            what: the demand in words, for whoever violates it.

        Raises:
            IllTypedError: where it is known not to hold.
        """
        if isinstance(a, int) and isinstance(b, int):
            if not _COMPARE[op](a, b):
                raise IllTypedError(f"{what}: {a} {op} {b} does not hold")
            return
        self._require(op, a, b, what)

    def compare(self, op: str, a: Dim, b: Dim) -> Any:
        """The truth of ``a op b``, for the program to see; `UNKNOWN` if it is not known."""
        if isinstance(a, int) and isinstance(b, int):
            return _COMPARE[op](a, b)
        return UNKNOWN

    def equal(self, a: Dim, b: Dim, what: str) -> Dim:
        """Demand that two sizes are one, and return what is known of it."""
        if isinstance(a, int) and isinstance(b, int):
            self.require("==", a, b, what)
            return a
        if a is b:
            return a
        return self._equal(a, b, what)

    def broadcast(self, a: Dim, b: Dim, what: str) -> Dim:
        """The size that two sizes broadcast to: they are equal, or one of them is 1."""
        if isinstance(a, int) and a == 1:
            return b
        if (isinstance(b, int) and b == 1) or a is b:
            return a
        if isinstance(a, int) and isinstance(b, int):
            return self.equal(a, b, what)
        return self._broadcast(a, b, what)

    def product(self, sizes: Iterable[Dim]) -> Dim:
        """The product of sizes, 1 of none."""
        numbers: list[int] = []
        rest: list[Size] = []
        for size in sizes:
            if isinstance(size, Size):
                rest.append(size)
            else:
                numbers.append(size)
        result: Dim = math.prod(numbers)
        for size in rest:
            result = size if isinstance(result, int) and result == 1 else size * result
        return result

    def fits(self, whole: Dim, *parts: Dim, what: str) -> Dim:
        """``whole`` divided by ``parts``, which must leave nothing over."""
        part = self.product(parts)
        if isinstance(part, int) and part == 0:
            raise IllTypedError(f"{what}: how often 0 goes into {size_text(whole)}")
        if isinstance(whole, int) and isinstance(part, int):
            if whole % part:
                raise IllTypedError(f"{what}: {whole} is no multiple of {part}")
            return whole // part
        if isinstance(part, int) and part == 1:
            return whole
        return self._fits(whole, part, what)

    @abc.abstractmethod
    def fresh(self, hint: str) -> Dim:
        """A size that only running the program can tell."""
        raise NotImplementedError

    @abc.abstractmethod
    def _compute(self, op: str, a: Dim, b: Dim) -> Dim: ...

    @abc.abstractmethod
    def _require(self, op: str, a: Dim, b: Dim, what: str) -> None: ...

    @abc.abstractmethod
    def _equal(self, a: Dim, b: Dim, what: str) -> Dim: ...

    @abc.abstractmethod
    def _broadcast(self, a: Dim, b: Dim, what: str) -> Dim: ...

    def _fits(self, whole: Dim, part: Dim, what: str) -> Dim:
        self._require("==", self.compute("%", whole, part), 0, what)
        return self.compute("//", whole, part)
