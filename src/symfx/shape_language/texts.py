"""The text that a user wrote, and errors that point at a place in it."""

from __future__ import annotations

from dataclasses import dataclass

from symfx.errors import SpecError

__all__ = ["Text"]

#: The most columns of a text that a message shows.
_WIDTH = 100


@dataclass(frozen=True)
class Text:
    """A text of the language.

    Attributes:
        text: the text.
        label: where it was written: ``--input``, ``dynamic, for x``.
    """

    text: str
    label: str

    def error(self, what: str, at: int, fix: str) -> SpecError:
        """The error about one place of the text.

        Args:
            what: what is wrong, in a sentence.
            at: the column of the place.
            fix: what to write instead.

        Example:
            >>> print(Text("x: f33[n]", "--input").error("'f33' is not a dtype", 3, "write f32"))
            'f33' is not a dtype
              at: --input
                  x: f33[n]
                     ^
              to fix: write f32
        """
        return SpecError(what, where=self._pointed(at), fix=fix)

    def _pointed(self, at: int) -> str:
        """The text with a mark below a column; of a long text, the part around the column."""
        start = max(at - _WIDTH // 2, 0) if len(self.text) > _WIDTH else 0
        shown = "".join(c if c.isprintable() else " " for c in self.text[start : start + _WIDTH])
        return f"{self.label}\n      {shown}\n      {' ' * (at - start)}^"
