"""Dicts and lists that show a ShapeEnv's state under torch's names, and pass on what is written.

torch's own code writes into the state of its ShapeEnv. What is written here becomes a call of the
environment's method that says the same, so that the environment learns it. What it knows it
never forgets: a wider range than the known one changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NoReturn

from symfx.errors import SymfxError

__all__ = ["ViewDict", "ViewList"]


class ViewDict(dict[Any, Any]):
    """A dict of what is known now.

    Args:
        name: what it is called in messages.
        known: what is known.
        write: tells the environment of a new entry; what it makes of it is what is read back.
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
        """The entry of a key, which is written where there is none."""
        if key not in self:
            self[key] = default
        return self[key]

    def update(self, *others: Any, **by_name: Any) -> None:
        """Write entries."""
        for key, value in dict(*others, **by_name).items():
            self[key] = value

    def _refuse(self, *_: Any) -> NoReturn:
        raise SymfxError(
            f"{self._name} cannot be changed in this way: a ShapeEnv never forgets what it knows",
            fix="make a new ShapeEnv",
        )

    __delitem__ = pop = popitem = clear = _refuse

    def __reduce__(self) -> Any:
        return dict, (dict(self),)

    def copy(self) -> dict[Any, Any]:
        """A dict of its own, which passes nothing on."""
        return dict(self)


class ViewList(list[Any]):
    """A list of what is known now.

    Args:
        known: what is known.
        add: tells the environment of a new element.
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
