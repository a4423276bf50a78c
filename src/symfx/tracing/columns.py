"""Text in columns, and numbers in words, for reports."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

__all__ = ["count", "number", "section"]


def section(
    title: str, rows: Sequence[tuple[tuple[str, str], ...]], caps: Sequence[int] = ()
) -> list[Text]:
    """A title, and rows of cells in columns.

    Args:
        title: the title.
        rows: the cells of each row: text and style.
        caps: the largest width of each column, 60 by default. The last column has none.

    Returns:
        The lines; none if there are no rows.
    """
    if not rows:
        return []
    widths = [
        min(max(len(row[i][0]) for row in rows), caps[i] if i < len(caps) else 60)
        for i in range(len(rows[0]) - 1)
    ]
    lines = [Text(title, style="bold")]
    for row in rows:
        line = Text("  ")
        start = 2
        for i, (text, style) in enumerate(row):
            line.append(text, style or None)
            if i < len(widths):
                # A cell that is too wide takes space from the next, so that later ones line up.
                start += widths[i] + 2
                line.append(" " * max(2, start - line.cell_len))
        line.rstrip()
        lines.append(line)
    return lines


def count(n: int, noun: str) -> str:
    """``no guards``, ``1 guard``, ``2 guards``."""
    return f"{n or 'no'} {noun}{'' if n == 1 else 's'}"


def number(value: float | None) -> str:
    """A difference: ``-`` if there is none, ``0``, ``1.23e-07``."""
    if value is None:
        return "-"
    return "0" if value == 0 else f"{value:.2e}"
