"""Conditions that a user states of dimensions, by ``where=``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from symfx.algebra import Table, evaluate
from symfx.errors import SpecError, describe
from symfx.shape_language import parse_condition
from symfx.shape_language.lowering import condition_term
from symfx.shape_language.syntax import Condition
from symfx.shape_language.texts import Text

__all__ = ["Stated", "check_example", "read_where"]


@dataclass(frozen=True)
class Stated:
    """A condition on dimensions.

    Attributes:
        tree: the condition.
        text: the text that it was read from.
    """

    tree: Condition
    text: Text

    def __str__(self) -> str:
        return str(self.tree)


def read_where(where: Any) -> tuple[Stated, ...]:
    """The conditions of an argument ``where``: a text, or a sequence of texts.

    Raises:
        SpecError: it is something else, or a text does not follow the grammar.
    """
    if where is None:
        return ()
    texts = [where] if isinstance(where, str) else where
    if not isinstance(texts, Sequence) or not all(
        isinstance(text, (str, Stated)) for text in texts
    ):
        raise SpecError(
            f"where is {describe(where)}",
            where="where",
            fix='give a condition such as "seq % 8 == 0", or a sequence of them',
        )
    return tuple(
        text if isinstance(text, Stated) else Stated(parse_condition(text), Text(text, "where"))
        for text in texts
    )


def check_example(stated: Sequence[Stated], sizes: Mapping[str, int]) -> None:
    """Check that conditions hold in the example.

    Args:
        stated: the conditions.
        sizes: the size of each name in the example.

    Raises:
        SpecError: a condition does not hold, or has an unknown name.
    """
    table = Table()
    names = {name: table.symbol(name) for name in sizes}
    values = {names[name]: size for name, size in sizes.items()}
    for condition in stated:
        term = condition_term(table, condition.tree, names, condition.text)
        try:
            holds = evaluate(term, values)
        except ZeroDivisionError:
            holds = False
        if not holds:
            own = ", ".join(f"{s.name} is {values[s]}" for s in sorted(term.free_symbols, key=str))
            raise condition.text.error(
                f"{condition} does not hold in the example" + (f", where {own}" if own else ""),
                condition.tree.at,
                "trace with an example for which the condition holds",
            )
