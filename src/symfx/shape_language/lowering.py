"""Syntax trees as terms of the algebra, and the values of names that sizes determine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Never

from symfx.algebra import Table, Term, evaluate
from symfx.algebra.terms.linear import determined_symbols
from symfx.errors import SpecError
from symfx.shape_language.syntax import (
    OPERATIONS,
    Both,
    Call,
    Comparison,
    Condition,
    Either,
    Expression,
    Member,
    Name,
    Negative,
    Not,
    Number,
    Operation,
    names_in,
)
from symfx.shape_language.texts import Text

__all__ = ["Measured", "condition_term", "determined", "size_term"]


class _Lowering:
    """Makes the terms of one text.

    Args:
        table: the terms.
        names: the term of each name.
        text: the text, to which errors point.
    """

    def __init__(self, table: Table, names: Mapping[str, Term], text: Text) -> None:
        self._table = table
        self._names = names
        self._text = text

    def _refuse(self, what: str, at: int, fix: str) -> Never:
        raise self._text.error(what, at, fix)

    def size(self, tree: Expression) -> Term:
        """The term of an expression."""
        match tree:
            case Number(value=value):
                return self._table.const(value)
            case Name(name=name, at=at):
                if name not in self._names:
                    known = ", ".join(sorted(self._names)) or "none"
                    self._refuse(
                        f"no input has a dimension named {name}", at, f"the names are: {known}"
                    )
                return self._names[name]
            case Negative(operand=part):
                return -self.size(part)
            case Call(function=function, arguments=parts):
                terms = [self.size(part) for part in parts]
                result = terms[0]
                for term in terms[1:]:
                    result = getattr(self._table, function)(result, term)
                return result
            case Operation(sign=sign, left=left, right=right):
                one, other = self.size(left), self.size(right)
                if other.value == 0 and sign in ("//", "%"):
                    self._refuse(f"{tree} divides by zero", right.at, "divide by another number")
                computed: Term = OPERATIONS[sign](one, other)
                return computed

    def condition(self, tree: Condition) -> Term:
        """The term of a condition."""
        table = self._table
        match tree:
            case Both(parts=parts):
                return table.and_(*map(self.condition, parts))
            case Either(parts=parts):
                return table.or_(*map(self.condition, parts))
            case Not(part=part):
                return table.not_(self.condition(part))
            case Member(of=of, values=values, negated=negated):
                size = self.size(of)
                found = table.or_(*(size.eq(value) for value in values))
                return table.not_(found) if negated else found
            case Comparison(first=first, rest=rest):
                sides = [self.size(first), *(self.size(side) for _, side in rest)]
                return table.and_(
                    *(
                        _compared(sign, left, right)
                        for (sign, _), left, right in zip(rest, sides, sides[1:], strict=False)
                    )
                )


def _compared(sign: str, left: Term, right: Term) -> Term:
    match sign:
        case "==":
            return left.eq(right)
        case "!=":
            return left.ne(right)
        case "<":
            return left < right
        case "<=":
            return left <= right
        case ">":
            return left > right
        case _:
            return left >= right


def size_term(
    table: Table, tree: Expression, names: Mapping[str, Term], text: Text | None = None
) -> Term:
    """The term of an expression.

    Args:
        table: the table that the term is made in.
        tree: the expression.
        names: the term of each name that it may have.
        text: the text that it was read from, to which errors point.

    Raises:
        SpecError: a name is unknown, or a divisor is 0.

    Example:
        >>> table = Table()
        >>> print(size_term(table, Operation("*", Number(8), Name("b")), {"b": table.symbol("b")}))
        8*b
    """
    return _Lowering(table, names, text or Text(str(tree), "dynamic")).size(tree)


def condition_term(
    table: Table, tree: Condition, names: Mapping[str, Term], text: Text | None = None
) -> Term:
    """The term of a condition; see `size_term`.

    Raises:
        SpecError: a name is unknown, or a divisor is 0.
    """
    return _Lowering(table, names, text or Text(str(tree), "where")).condition(tree)


# -- what sizes say about names --------------------------------------------------------------------


@dataclass(frozen=True)
class Measured:
    """A dimension that an expression describes, with its size in the example.

    Attributes:
        place: the dimension in words: ``dimension 1 of x``.
        tree: the expression.
        size: the size.
    """

    place: str
    tree: Expression
    size: int


def determined(dims: Sequence[Measured], where: str = "dynamic") -> dict[str, int]:
    """The value of each name, from the sizes of the dimensions that have it.

    A dimension that is the name alone gives its value. So does a dimension that is a multiple of
    the name, up to a sum with numbers and names whose values are known.

    Args:
        dims: the dimensions.
        where: the argument or the option that describes them, for errors.

    Raises:
        SpecError: no dimension gives a name its value, or a size is not that of its expression.

    Example:
        >>> determined([Measured("dimension 0 of x", Operation("*", Number(8), Name("b")), 32)])
        {'b': 4}
    """
    table = Table()
    symbols = {name: table.symbol(name) for dim in dims for name in names_in(dim.tree)}
    values: dict[Term, int] = {}
    for dim in dims:
        if isinstance(dim.tree, Name):
            values.setdefault(symbols[dim.tree.name], dim.size)
    open_ = [(dim, size_term(table, dim.tree, symbols)) for dim in dims]
    by_term = {term: dim for dim, term in reversed(open_)}
    for symbol, term, factor, rest in determined_symbols(by_term, values):
        values[symbol] = _value(by_term[term], factor, int(evaluate(rest, values)), where)
    for dim, term in open_:
        # A name that cancels out, as in b - b, is a name too.
        unknown = [name for name in names_in(dim.tree) if symbols[name] not in values]
        if unknown:
            name = min(unknown)
            raise SpecError(
                f"{dim.place} is {dim.tree}, and no dimension determines {name}",
                where=where,
                fix=f"give one dimension the name alone, {name}, or a multiple of it such as "
                f"2*{name} + 1",
            )
        try:
            expected = int(evaluate(term, values))
        except ZeroDivisionError:
            raise SpecError(
                f"{dim.place} is {dim.tree}, which divides by 0 in the example", where=where
            ) from None
        if expected != dim.size:
            raise SpecError(
                f"{dim.place} is {dim.size} in the example, and {dim.tree} is {expected} "
                f"for {_in_words(term, values)}",
                where=where,
                fix=f"give an example of the size {expected}, or another expression",
            )
    return {name: values[symbol] for name, symbol in symbols.items()}


def _value(dim: Measured, factor: int, rest: int, where: str) -> int:
    """The value of the name n, from a size that is factor*n + rest."""
    value, left = divmod(dim.size - rest, factor)
    if left:
        near = [factor * (value + i) + rest for i in (0, 1)]
        raise SpecError(
            f"{dim.place} is {dim.size} in the example, which {dim.tree} never is",
            where=where,
            fix=f"give an example of the size {min(near)} or {max(near)}, or another expression",
        )
    return value


def _in_words(term: Term, values: Mapping[Term, int]) -> str:
    return ", ".join(f"{s.name} = {values[s]}" for s in sorted(term.free_symbols, key=str))
