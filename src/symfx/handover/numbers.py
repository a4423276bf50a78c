"""Numbers in the file of a trace: plain ones as JSON has them, symbolic ones by their terms.

A file has one list of terms, in which they share their parts. The rest of the file names a term by
its place in the list, ``{"term": 3}``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from symfx.algebra import Table, Term
from symfx.algebra.terms.portable import Packing, unpack_all
from symfx.errors import ExpressionError, TraceFileError
from symfx.recording.term_limits import TermLimits
from symfx.sym_node import SymNode
from symfx.untrusted import Item, shown

__all__ = ["NumberReader", "NumberWriter"]


class NumberWriter:
    """Writes numbers, and collects the terms in them.

    Attributes:
        terms: the list of terms, for the file.
        conditions: the terms among the numbers that are true or false.
    """

    def __init__(self) -> None:
        self.conditions: dict[Term, None] = {}
        self._packing = Packing()
        self.terms = self._packing.parts

    def term(self, term: Term) -> int:
        """The place of a term in the list."""
        return self._packing.number_of(term)

    def number(self, value: Any) -> Any:
        """A number or None as JSON.

        Raises:
            TraceFileError: a symbolic number is not of symfx.
        """
        if value is None or type(value) in (bool, int):
            return value
        if isinstance(value, float):
            return {"float": value.hex()}
        if isinstance(value, Term):
            if value.sort == "bool":
                self.conditions[value] = None
            return {"term": self.term(value)}
        node = getattr(value, "node", None)
        if isinstance(node, SymNode):
            return self.of_term(node.term)
        raise TraceFileError(f"{type(value).__name__} {shown(value)} is no number of this trace")

    def of_term(self, term: Term) -> Any:
        """A term as JSON; a constant as a plain number."""
        value = term.value
        return self.number(term if value is None else value)


class NumberReader:
    """Reads the numbers of a file.

    Args:
        terms: the list of terms.
        table: the table to make the terms in.
        symbols: the symbols that the terms may have, by name.

    Raises:
        TraceFileError: a term is malformed, too large, or has a symbol that the file does not list.
    """

    def __init__(self, terms: Item, table: Table, symbols: Mapping[str, Term]) -> None:
        def symbol(name: str, sort: Any) -> Term:
            known = symbols.get(name)
            if known is None or known.sort != sort:
                raise ExpressionError(f"the file lists no symbol {shown(name)} of sort {sort}")
            return known

        parts: list[Sequence[Any]] = [[*part.items()] for part in terms.items()]
        plain = [[item.value for item in part] for part in parts]
        with terms.source.guarding("a term cannot be read", terms.path):
            self._terms = unpack_all(plain, table, symbol, TermLimits())
        self._table = table

    def term(self, item: Item) -> Term:
        """The term at a place of the list."""
        return self._terms[item.whole(0, len(self._terms) - 1)]

    def condition(self, item: Item) -> Term:
        """A term that is true or false."""
        term = self.term(item)
        if term.sort != "bool":
            raise item.refusal(f"{term} is no condition")
        return term

    def number(self, item: Item) -> Term | float | None:
        """A plain number, the term of a symbolic one, or None."""
        value = item.value
        if value is None or isinstance(value, bool):
            return value
        if type(value) is int:
            return item.whole(-(1 << 63), (1 << 64) - 1)
        kind, inner = item.single()
        if kind == "float":
            with item.source.guarding("this is no number", item.path):
                return float.fromhex(inner.text(50))
        if kind == "term":
            return self.term(inner)
        raise item.refusal(f"{shown(value)} is no number")

    def as_term(self, item: Item) -> Term:
        """A number as a term."""
        value = self.number(item)
        if value is None:
            raise item.refusal("a number is needed here")
        return value if isinstance(value, Term) else self._table.const(value)

    def size(self, item: Item, env: Any) -> int | torch.SymInt:
        """A size, a stride or an offset: an int, or the symbolic integer of an environment."""
        value = self.number(item)
        if isinstance(value, Term) and value.sort == "int":
            size: int | torch.SymInt = env.wrap(value)
            return size
        if type(value) is int and value >= 0:
            return value
        raise item.refusal(f"{shown(item.value)} is no size")
