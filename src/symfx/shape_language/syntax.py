"""The syntax tree of the language of shapes: expressions, conditions, dimensions, inputs.

Trees compare by structure: where in a text a part stood does not count. ``str`` of a tree is text
that reads as an equal tree.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias

__all__ = [
    "LARGEST_POWER",
    "OPERATIONS",
    "AnyTensor",
    "Both",
    "Call",
    "Comparison",
    "Condition",
    "Constant",
    "Dimension",
    "Either",
    "Expression",
    "InputSyntax",
    "IntInput",
    "Leading",
    "Member",
    "Name",
    "Negative",
    "Not",
    "Number",
    "Operation",
    "Parts",
    "Size",
    "TensorSyntax",
    "TypeSyntax",
    "Unknown",
    "depth",
    "names_in",
    "subtracts",
]


def _place() -> int:
    """A field for the column in the text at which a part begins."""
    at: int = field(default=0, compare=False, repr=False)
    return at


# -- expressions -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Number:
    """A number that is written out."""

    value: int
    at: int = _place()

    def __str__(self) -> str:
        return str(self.value)


@dataclass(frozen=True)
class Name:
    """A dimension's name."""

    name: str
    at: int = _place()

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Negative:
    """The negative of a part: ``-n``."""

    operand: Expression
    at: int = _place()

    def __str__(self) -> str:
        return f"-{_grouped(self.operand, 3)}"


@dataclass(frozen=True)
class Operation:
    """Two operands of ``+ - * // % **``."""

    sign: str
    left: Expression
    right: Expression
    at: int = _place()

    def __str__(self) -> str:
        strength = _STRENGTHS[self.sign]
        between = self.sign if self.sign in _CLOSE else f" {self.sign} "
        left = strength + 1 if self.sign == "**" else strength
        return f"{_grouped(self.left, left)}{between}{_grouped(self.right, strength + 1)}"


OPERATIONS: dict[str, Callable[[Any, Any], Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "//": operator.floordiv,
    "%": operator.mod,
    "**": operator.pow,
}
"""What each sign computes, of integers and of terms."""

LARGEST_POWER = 8
"""The largest number after ``**``."""


@dataclass(frozen=True)
class Call:
    """``min`` or ``max`` of expressions."""

    function: str
    arguments: tuple[Expression, ...]
    at: int = _place()

    def __str__(self) -> str:
        return f"{self.function}({', '.join(map(str, self.arguments))})"


Expression: TypeAlias = Number | Name | Negative | Operation | Call

_STRENGTHS = {"+": 1, "-": 1, "*": 2, "//": 2, "%": 2, "**": 3}
_CLOSE = ("*", "//", "**")


def _grouped(part: Expression, strength: int) -> str:
    """A part as text, in parentheses if it binds less than is needed."""
    if isinstance(part, Operation) and _STRENGTHS[part.sign] < strength:
        return f"({part})"
    return f"({part})" if isinstance(part, Negative) and strength > 1 else str(part)


# -- conditions ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Comparison:
    """A chain of comparisons: ``2 <= n < m``.

    Attributes:
        first: the first side.
        rest: each relation with its right side.
    """

    first: Expression
    rest: tuple[tuple[str, Expression], ...]
    at: int = _place()

    def __str__(self) -> str:
        return " ".join([str(self.first), *(f"{sign} {side}" for sign, side in self.rest)])


@dataclass(frozen=True)
class Member:
    """``h in {224, 256}``, or ``h not in {0}``."""

    of: Expression
    values: tuple[int, ...]
    negated: bool = False
    at: int = _place()

    def __str__(self) -> str:
        inside = ", ".join(map(str, self.values))
        return f"{self.of} {'not ' * self.negated}in {{{inside}}}"


@dataclass(frozen=True)
class Both:
    """Conditions that all hold."""

    parts: tuple[Condition, ...]
    at: int = _place()

    def __str__(self) -> str:
        return " and ".join(f"({p})" if isinstance(p, Either) else str(p) for p in self.parts)


@dataclass(frozen=True)
class Either:
    """Conditions; at least one holds."""

    parts: tuple[Condition, ...]
    at: int = _place()

    def __str__(self) -> str:
        return " or ".join(map(str, self.parts))


@dataclass(frozen=True)
class Not:
    """A condition that does not hold."""

    part: Condition
    at: int = _place()

    def __str__(self) -> str:
        grouped = isinstance(self.part, (Both, Either))
        return f"not ({self.part})" if grouped else f"not {self.part}"


Condition: TypeAlias = Comparison | Member | Both | Either | Not


# -- dimensions and inputs -------------------------------------------------------------------------


@dataclass(frozen=True)
class Size:
    """A dimension with a size: ``64``, ``batch``, ``8*batch``, ``2 <= seq=7 <= 512``.

    Attributes:
        value: the size.
        low: the least value, if one was given.
        high: the largest value, if one was given.
        example: the value in the example, if one was given.
    """

    value: Expression
    low: int | None = None
    high: int | None = None
    example: int | None = None
    at: int = _place()

    def __str__(self) -> str:
        low = "" if self.low is None else f"{self.low} <= "
        example = "" if self.example is None else f"={self.example}"
        return f"{low}{self.value}{example}" + ("" if self.high is None else f" <= {self.high}")


@dataclass(frozen=True)
class Unknown:
    """``?``: a dimension about which nothing is said."""

    at: int = _place()

    def __str__(self) -> str:
        return "?"


@dataclass(frozen=True)
class Leading:
    """``*dims`` or ``...``: any number of dimensions.

    Attributes:
        name: the name that they have together; None for those without a name.
    """

    name: str | None
    at: int = _place()

    def __str__(self) -> str:
        return "..." if self.name is None else f"*{self.name}"


Dimension: TypeAlias = Size | Unknown | Leading


@dataclass(frozen=True)
class TensorSyntax:
    """The type of a tensor.

    Attributes:
        dtype: torch's name of the dtype; None where none was written.
        dims: the dimensions.
        below: the bound from above of the example's integers, if one was given.
    """

    dtype: str | None
    dims: tuple[Dimension, ...]
    below: int | None = None
    at: int = _place()

    def __str__(self) -> str:
        dims = ", ".join(map(str, self.dims))
        return f"{self.dtype or ''}[{dims}]" + ("" if self.below is None else f" < {self.below}")


@dataclass(frozen=True)
class AnyTensor:
    """``Dyn``: a tensor about which nothing is said."""

    at: int = _place()

    def __str__(self) -> str:
        return "Dyn"


@dataclass(frozen=True)
class IntInput:
    """``int``: a dynamic int, and its value in the example if one was given."""

    value: int | None = None
    at: int = _place()

    def __str__(self) -> str:
        return "int" if self.value is None else f"int={self.value}"


@dataclass(frozen=True)
class Constant:
    """A value that becomes a constant of the graph."""

    value: bool | int | float | str | None
    at: int = _place()

    def __str__(self) -> str:
        kind = type(self.value).__name__
        if self.value is None:
            return "none"
        return f"{kind}={self.value!r}" if kind != "int" else str(self.value)


@dataclass(frozen=True)
class Parts:
    """Several types: of the members of a dict, by key, or of a tuple, by position."""

    members: tuple[tuple[str | int, TypeSyntax], ...]
    by_key: bool
    at: int = _place()

    def __str__(self) -> str:
        if self.by_key:
            return "{" + ", ".join(f"{key!r}: {part}" for key, part in self.members) + "}"
        inner = ", ".join(str(part) for _, part in self.members)
        return f"({inner}{',' if len(self.members) == 1 else ''})"


TypeSyntax: TypeAlias = TensorSyntax | AnyTensor | IntInput | Constant | Parts


@dataclass(frozen=True)
class InputSyntax:
    """One input.

    Attributes:
        name: the parameter that takes it, or of whose argument it is a part.
        path: the keys, names of attributes or positions that lead from the argument to the part.
        type: its description.
    """

    name: str
    path: tuple[str | int, ...]
    type: TypeSyntax

    def __str__(self) -> str:
        steps = "".join(f"[{step!r}]" for step in self.path)
        return f"{self.name}{steps}: {self.type}"


# -- walks -----------------------------------------------------------------------------------------

Tree: TypeAlias = Expression | Condition


def _parts_of(tree: Tree) -> tuple[Tree, ...]:
    match tree:
        case Negative(operand=part) | Not(part=part) | Member(of=part):
            return (part,)
        case Operation(left=left, right=right):
            return (left, right)
        case Call(arguments=parts) | Both(parts=parts) | Either(parts=parts):
            return tuple(parts)
        case Comparison(first=first, rest=rest):
            return (first, *(side for _, side in rest))
        case _:
            return ()


def _walk(tree: Tree) -> Iterator[Tree]:
    """The tree and its parts, in the order in which they are written."""
    waiting = [tree]
    while waiting:
        top = waiting.pop()
        yield top
        waiting.extend(reversed(_parts_of(top)))


def names_in(tree: Tree) -> list[str]:
    """The names in an expression or in a condition, in order, each once.

    Example:
        >>> names_in(Operation("*", Name("b"), Operation("+", Name("a"), Name("b"))))
        ['b', 'a']
    """
    return [*dict.fromkeys(part.name for part in _walk(tree) if isinstance(part, Name))]


def subtracts(tree: Tree) -> bool:
    """Whether there is a minus in an expression, which may be negative then."""
    return any(isinstance(p, Negative) or getattr(p, "sign", "") == "-" for p in _walk(tree))


def depth(tree: Tree, limit: int) -> int:
    """How many levels a tree has; a number above the limit for a tree of more levels."""
    level, found = [tree], 0
    while level and found <= limit:
        found += 1
        level = [part for above in level for part in _parts_of(above)]
    return found
