"""A list in a file that has each of its values once, and the places of the values."""

from __future__ import annotations

import json
from typing import Any

__all__ = ["Listed"]


class Listed:
    """Collects values of JSON, equal ones once.

    Attributes:
        values: the list, for the file.

    Example:
        >>> listed = Listed()
        >>> listed.place([1]), listed.place([2]), listed.place([1]), listed.values
        (0, 1, 0, [[1], [2]])
    """

    def __init__(self) -> None:
        self.values: list[Any] = []
        self._places: dict[str, int] = {}

    def place(self, value: Any) -> int:
        """The place of a value in the list."""
        place = self._places.setdefault(json.dumps(value), len(self.values))
        if place == len(self.values):
            self.values.append(value)
        return place
