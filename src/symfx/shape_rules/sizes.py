"""The sizes that shape rules compute with, and `Sizes`, the base of all kinds of sizes.

A rule is ordinary Python on sizes: ``(h + 2 * padding - kernel) // stride + 1``. The kind of sizes
that the rule runs on defines what a size is and what a demand such as "these two are equal" does:
the type checker has numbers and ``Dyn``, the constraint generator has variables, `migrate` has
terms of `symfx.algebra`. An ``int`` is a size of every kind.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch

from symfx.shape_rules.errors import IllTypedError, OpenSizeError

__all__ = [
    "NO_TENSOR",
    "UNKNOWN",
    "Dim",
    "NoTensor",
    "Packed",
    "Pieces",
    "Shape",
    "Size",
    "Sizes",
    "Unknown",
    "number_of_steps",
    "size_text",
]


class Size:
    """A size that is not a plain number, with the operators of an int.

    Args:
        kind: the kind of sizes that computes with it.
        value: the representation of the size in its kind: a term, a variable, ``Dyn``.
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

    def __abs__(self) -> Dim:
        return self.kind.compute("max", self, -self)

    def __lt__(self, other: object) -> bool:
        raise OpenSizeError(f"{size_text(self)} is compared, and is no number")

    __le__ = __gt__ = __ge__ = __lt__

    def __index__(self) -> int:
        raise OpenSizeError(f"{size_text(self)} is taken for a number")


Dim: TypeAlias = int | Size


def number_of_steps(length: Dim, step: Dim) -> Dim:
    """The number of steps that begin within a length, as a slice and ``range`` count them."""
    return length if isinstance(step, int) and step == 1 else (length + (step - 1)) // step


def size_text(size: object) -> str:
    """A size as text."""
    return str(size.value) if isinstance(size, Size) else str(size)


class Shape(tuple[Dim, ...]):
    """The shape of a tensor; a plain tuple of sizes is a value of the program, as `x.size()`.

    Attributes:
        dtype: the dtype of the tensor, among the arguments of a rule; ``None`` if it is unknown.
            The shapes that a rule returns need no dtype.
    """

    dtype: torch.dtype | None = None

    def of(self, dtype: torch.dtype | None) -> Shape:
        """This shape with a dtype."""
        made = type(self)(self)
        made.dtype = dtype
        return made

    def __str__(self) -> str:
        return f"[{', '.join(map(size_text, self))}]"

    def __repr__(self) -> str:
        return f"Shape({', '.join(map(size_text, self))})"


class Pieces(tuple[Shape, ...]):
    """Shapes of unknown number and unknown sizes; each is made when it is read.

    Args:
        number: the number of shapes.
        piece: makes the shape of an index; a negative index counts from the end.
    """

    number: Dim
    _piece: Callable[[int], Shape]

    def __new__(cls, number: Dim, piece: Callable[[int], Shape]) -> Pieces:
        """Make an empty tuple with a number and a function."""
        made = super().__new__(cls)
        made.number, made._piece = number, piece
        return made

    def __getitem__(self, index: Any) -> Any:
        return self._piece(index)

    def __repr__(self) -> str:
        return f"Pieces({size_text(self.number)})"


@dataclass(frozen=True)
class Packed:
    """Sequences of different lengths, packed; as torch's `PackedSequence`.

    Args:
        shape: the shape of the padded sequences.
        batch_first: whether the batch is the first dimension of `shape`.
    """

    shape: Shape
    batch_first: bool


class Unknown:
    """The class of `UNKNOWN`: a value about which nothing is known, not even a rank."""

    _only: Unknown | None = None

    def __new__(cls) -> Unknown:
        """Return the only instance."""
        if cls._only is None:
            cls._only = super().__new__(cls)
        return cls._only

    def __repr__(self) -> str:
        return "UNKNOWN"


UNKNOWN = Unknown()


class NoTensor:
    """A value that is neither a tensor nor a size: a dtype, a device."""

    def __repr__(self) -> str:
        return "NO_TENSOR"


NO_TENSOR = NoTensor()

#: The operations on two plain numbers.
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
    """A kind of sizes: how shape rules compute with sizes, and what their demands do.

    The public methods handle plain numbers. A subclass handles its own sizes in the methods that
    start with an underscore.
    """

    def compute(self, op: str, a: Dim, b: Dim) -> Dim:
        """The size ``a op b``, for ``+ - * // %`` and ``min``, ``max``."""
        if op in ("//", "%") and isinstance(b, int) and b == 0:
            raise IllTypedError(f"a size cannot be divided by 0: {size_text(a)} {op} 0")
        if isinstance(a, int) and isinstance(b, int):
            return _ON_NUMBERS[op](a, b)
        return self._compute(op, a, b)

    def require(self, op: str, a: Dim, b: Dim, what: str) -> None:
        """Demand ``a op b`` for one of ``== != <= < >= >``.

        Args:
            op: the comparison.
            a: a size.
            b: another.
            what: the demand in words, for the message.

        Raises:
            IllTypedError: the demand is known not to hold.
        """
        if isinstance(a, int) and isinstance(b, int):
            if not _COMPARE[op](a, b):
                raise IllTypedError(f"{what}: {a} {op} {b} does not hold")
            return
        self._require(op, a, b, what)

    def compare(self, op: str, a: Dim, b: Dim) -> Any:
        """The value of the comparison ``a op b`` in the program; `UNKNOWN` if it is not known."""
        if isinstance(a, int) and isinstance(b, int):
            return _COMPARE[op](a, b)
        return UNKNOWN

    def negation(self, condition: Any) -> Any:
        """The negation of a result of `compare`; `UNKNOWN` if it is not known."""
        return UNKNOWN

    def equal(self, a: Dim, b: Dim, what: str) -> Dim:
        """Demand that two sizes are equal, and return the one that is known better."""
        if isinstance(a, int) and isinstance(b, int):
            self.require("==", a, b, what)
            return a
        if a is b:
            return a
        return self._equal(a, b, what)

    def broadcast(self, a: Dim, b: Dim, what: str) -> Dim:
        """The size that two sizes broadcast to; demand that they are equal or one of them is 1."""
        if isinstance(a, int) and a == 1:
            return b
        if (isinstance(b, int) and b == 1) or a is b:
            return a
        if isinstance(a, int) and isinstance(b, int):
            return self.equal(a, b, what)
        return self._broadcast(a, b, what)

    def stretch(self, a: Dim, b: Dim, what: str) -> Dim:
        """Demand that a size is 1 or another size, to which it is expanded; return the other."""
        if isinstance(a, int) and a == 1:
            return b
        if isinstance(a, int) or (isinstance(b, int) and b == 1):
            return self.equal(a, b, what)
        if a is not b:
            self._stretch(a, b, what)
        return b

    def place(self, size: Dim, bound: Dim) -> Dim:
        """The place where a slice of a dimension begins or ends: a negative bound counts from the
        end, and each bound stays within the dimension.
        """
        from_front = self.compare(">=", bound, 0)
        if from_front is True:
            return 0 if isinstance(bound, int) and bound == 0 else self.compute("min", size, bound)
        if from_front is False:
            return self.compute("max", size + bound, 0)
        return self._place(size, bound)

    def product(self, sizes: Iterable[Dim]) -> Dim:
        """The product of sizes; 1 if there are none."""
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
        """``whole`` divided by ``parts``; demand that no remainder is left."""
        part = self.product(parts)
        if isinstance(part, int) and part == 0:
            raise IllTypedError(f"{what}: {size_text(whole)} cannot be divided by 0")
        if isinstance(whole, int) and isinstance(part, int):
            if whole % part:
                raise IllTypedError(f"{what}: {whole} is not a multiple of {part}")
            return whole // part
        if isinstance(part, int) and part == 1:
            return whole
        return self._fits(whole, part, what)

    @abc.abstractmethod
    def fresh(self, hint: str) -> Dim:
        """A new size that depends on data; `hint` describes it."""
        raise NotImplementedError

    @abc.abstractmethod
    def _compute(self, op: str, a: Dim, b: Dim) -> Dim: ...

    @abc.abstractmethod
    def _require(self, op: str, a: Dim, b: Dim, what: str) -> None: ...

    @abc.abstractmethod
    def _equal(self, a: Dim, b: Dim, what: str) -> Dim: ...

    @abc.abstractmethod
    def _broadcast(self, a: Dim, b: Dim, what: str) -> Dim: ...

    def _stretch(self, a: Dim, b: Dim, what: str) -> None:  # noqa: B027 - not all kinds compare
        """Demand that a size is 1 or another size; by default, accept it."""

    def _place(self, size: Dim, bound: Dim) -> Dim:
        """As `place`, for a bound that may be negative or not."""
        return self.fresh("the place of a slice")

    def _fits(self, whole: Dim, part: Dim, what: str) -> Dim:
        self._require("==", self.compute("%", whole, part), 0, what)
        return self.compute("//", whole, part)
