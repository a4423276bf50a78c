"""Dicts and lists that show a ShapeEnv's state under torch's names, and pass writes on to it.

torch's own code writes into the state of its ShapeEnv. A write into one of these becomes a call
of the method that states the same, so that the environment learns it. An environment never
forgets: a wider range than the known one changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NoReturn

from symfx.errors import SymfxError

__all__ = ["ViewDict", "ViewList"]


class ViewDict(dict[Any, Any]):
    """A dict that shows the state of an environment at the time of reading.

    Args:
        name: its name in messages.
        known: its entries.
        write: tells the environment of a new entry, and returns the value to show for it.
    """

    def __init__(
        self, name: str, known: Mapping[Any, Any], write: Callable[[Any, Any], Any] | None = None
    ) -> None:
        super().__init__(known)
        self._name = name
        self._write = write

    def __setitem__(self, key: Any, value: Any) -> None:
        if self._write is None:
            self._refuse()
        super().__setitem__(key, self._write(key, value))

    def setdefault(self, key: Any, default: Any = None) -> Any:
        """The entry of a key; a missing one is written first."""
        if key not in self:
            self[key] = default
        return self[key]

    def update(self, *others: Any, **by_name: Any) -> None:
        """Write each entry."""
        for key, value in dict(*others, **by_name).items():
            self[key] = value

    def _refuse(self, *_: Any) -> NoReturn:
        raise SymfxError(
            f"{self._name} cannot be changed in this way: a ShapeEnv never forgets a fact",
            fix="make a new ShapeEnv",
        )

    __delitem__ = pop = popitem = clear = _refuse

    def __reduce__(self) -> Any:
        return dict, (dict(self),)

    def copy(self) -> dict[Any, Any]:
        """A plain dict, which passes no writes on."""
        return dict(self)


class ViewList(list[Any]):
    """A list that shows the state of an environment at the time of reading.

    Args:
        known: its elements.
        add: tells the environment of a new element, and returns the element to show for it.
    """

    def __init__(self, known: Iterable[Any], add: Callable[[Any], Any]) -> None:
        super().__init__(known)
        self._add = add

    def append(self, value: Any) -> None:
        """Add an element."""
        super().append(self._add(value))

    def extend(self, values: Iterable[Any]) -> None:
        """Add elements."""
        for value in values:
            self.append(value)

    def __reduce__(self) -> Any:
        return list, (list(self),)
