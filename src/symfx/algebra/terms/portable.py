"""Terms as plain data that outlives their table: lists of numbers and names, fit for JSON."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from symfx.algebra.terms.interpret import make
from symfx.algebra.terms.table import Sort, Table, Term
from symfx.algebra.terms.term import postorder
from symfx.errors import ExpressionError

__all__ = ["Packing", "carry", "pack", "unpack", "unpack_all"]

_SORTS = ("int", "real", "bool")


def pack(term: Term) -> list[list[Any]]:
    """The term as a list of its parts, operands first; the last part is the term itself.

    A part is a list that starts with its operation: ``["const", value]``,
    ``["symbol", name, sort]``, ``["sum", constant, [coefficient, part], ...]``,
    ``["call", name, sort, part, ...]``, and ``[operation, part, ...]`` for all other operations.
    Within a part, its operands stand as their numbers in the list. Doubles that JSON lacks are
    text: ``"inf"``, ``"nan"``.

    Example:
        >>> t = Table(); s = t.symbol("s")
        >>> pack(2 * s + 1)
        [['symbol', 's', 'int'], ['sum', 1, [2, 0]]]
    """
    packing = Packing()
    packing.number_of(term)
    return packing.parts


class Packing:
    """Many terms as one list of parts, in which the terms share the parts that they have in common.

    Attributes:
        parts: the list, in the form of `pack`. It may grow with each call of `number_of`.

    Example:
        >>> t = Table(); s = t.symbol("s")
        >>> packing = Packing()
        >>> packing.number_of(s), packing.number_of(2 * s + 1), packing.number_of(s)
        (0, 1, 0)
    """

    def __init__(self) -> None:
        self.parts: list[list[Any]] = []
        self._numbers: dict[Term, int] = {}

    def number_of(self, term: Term) -> int:
        """The place of a term in the list, which gets the parts of the term that it lacks."""
        numbers = self._numbers
        if term in numbers:
            return numbers[term]
        # The parts of a condition are written in their order, in which they are read and printed.
        for side in term.args if term.op in ("and", "or") else ():
            self.number_of(side)
        for part in postorder(term, lambda t: t not in numbers):
            packed: list[Any]
            if part.op == "const":
                value = part.args[0]
                plain = not isinstance(value, float) or math.isfinite(value)
                packed = ["const", value if plain else repr(value)]
            elif part.op == "symbol":
                packed = ["symbol", part.name, part.sort]
            elif part.op == "sum":
                packed = ["sum", part.const, *([c, numbers[m]] for m, c in part.coeffs.items())]
            elif part.op == "call":
                packed = ["call", part.name, part.sort, *(numbers[t] for t in part.operands)]
            else:
                packed = [part.op, *(numbers[t] for t in part.args)]
            numbers[part] = len(self.parts)
            self.parts.append(packed)
        return numbers[term]


def unpack(
    parts: Sequence[Sequence[Any]],
    table: Table,
    symbol: Callable[[str, Sort], Term] | None = None,
    check: Callable[[Sequence[Any], Sequence[Term]], None] | None = None,
) -> Term:
    """The term of a table that a list made by `pack` describes; see `unpack_all`.

    Raises:
        ExpressionError: `pack` makes no such list; the message names the wrong part.
    """
    made = unpack_all(parts, table, symbol, check)
    if not made:
        raise ExpressionError("a packed expression has no parts")
    return made[-1]


def unpack_all(
    parts: Sequence[Sequence[Any]],
    table: Table,
    symbol: Callable[[str, Sort], Term] | None = None,
    check: Callable[[Sequence[Any], Sequence[Term]], None] | None = None,
) -> list[Term]:
    """The terms of a table that a list made by `pack` or `Packing` describes, one for each part.

    Args:
        parts: the list, which may come from a source that is not trusted.
        table: the table to make the term in.
        symbol: the function that gives a symbol by name and sort, `table.symbol` by default.
        check: called with each part, and the terms of the parts before it, before the term of
            the part is made. It raises an error where that would take too much time or memory.

    Raises:
        ExpressionError: `pack` makes no such list; the message names the wrong part.
    """
    made: list[Term] = []
    symbol = symbol or table.symbol

    def part(number: Any) -> Term:
        if type(number) is not int or not 0 <= number < len(made):
            raise ValueError
        return made[number]

    for packed in parts:
        try:
            if check is not None:
                check(packed, made)
            match list(packed):
                case ["const", "inf" | "-inf" | "nan" as value]:
                    term = table.const(float(value))
                case ["const", bool() | int() | float() as value]:
                    term = table.const(value)
                case ["symbol", str(name), str(sort)] if sort in _SORTS:
                    term = symbol(name, sort)  # type: ignore[arg-type]
                case ["sum", int(const), *rest]:
                    scaled = [table.mul(_integer(table, c), part(n)) for c, n in rest]
                    term = table.add(table.sum(scaled), _integer(table, const))
                case ["call", str(name), str(sort), *numbers] if sort in _SORTS:
                    term = table.call(name, sort, *map(part, numbers))  # type: ignore[arg-type]
                case [str(op), *numbers] if numbers:
                    term = make(table, op, [part(n) for n in numbers])
                case _:
                    raise ValueError
        except ExpressionError:
            raise
        except (ValueError, KeyError, TypeError, AttributeError, IndexError, ArithmeticError):
            raise ExpressionError(f"{packed!r:.200} is not a part of a packed expression") from None
        made.append(term)
    return made


def _integer(table: Table, value: Any) -> Term:
    if type(value) is not int:
        raise ValueError
    return table.const(value)


def carry(term: Term, table: Table, symbol: Callable[[str, Sort], Term] | None = None) -> Term:
    """The term of `table` that has the form and the names of a term of another table."""
    return term if term.table is table else unpack(pack(term), table, symbol)
