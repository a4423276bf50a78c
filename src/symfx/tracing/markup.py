"""HTML for notebooks: elements and tables whose texts are escaped."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

__all__ = ["Html", "element", "table"]

#: A page of a notebook has its own colors, light or dark: only lines and spaces are set here.
_CELL = "text-align:left;vertical-align:top;white-space:pre-wrap"


class Html(str):
    """Markup; any other text is escaped where it becomes a part of markup."""

    __slots__ = ()


def element(tag: str, *children: str, **attributes: str) -> Html:
    """An element.

    Args:
        tag: its name.
        children: texts, which are escaped, and markup, which is not.
        attributes: its attributes; a name of Python gets an underscore at its end: ``class_``.

    Example:
        >>> element("td", "<b>", element("code", "a & b"), class_="size")
        '<td class="size">&lt;b&gt;<code>a &amp; b</code></td>'
    """
    given = "".join(
        f' {name.rstrip("_")}="{html.escape(value)}"' for name, value in attributes.items()
    )
    return Html(f"<{tag}{given}>{''.join(map(_escaped, children))}</{tag}>")


def table(title: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> Html:
    """A table with a caption; a sentence in its place where there are no rows.

    Args:
        title: the caption.
        header: the titles of the columns.
        rows: the cells.

    Example:
        >>> table("guards", ["guard"], [])
        '<p>no guards</p>'
    """
    written = [element("tr", *(element("td", cell, style=_CELL) for cell in row)) for row in rows]
    if not written:
        return element("p", f"no {title}")
    titles = element("tr", *(element("th", name, scope="col", style=_CELL) for name in header))
    caption = element("caption", title, style="text-align:left;font-weight:bold")
    return element("table", caption, element("thead", titles), element("tbody", *written))


def _escaped(text: str) -> str:
    return text if isinstance(text, Html) else html.escape(text)
