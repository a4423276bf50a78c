"""Metadata of a node, with values that are made when a program first reads them.

A graph that was read from a file has thousands of fake tensors, and few programs look at them.
"""

from __future__ import annotations

from collections.abc import Callable, ItemsView, Iterator, Mapping, ValuesView
from typing import Any

__all__ = ["LateMetadata"]


class LateMetadata(dict[str, Any]):
    """A dict that keeps functions for some of its values until the values are asked for.

    Args:
        values: the contents; of a late value the key, with None.
        late: for the keys of late values the functions.

    Example:
        >>> meta = LateMetadata()
        >>> meta.put_later("val", lambda: 3)
        >>> "val" in meta, meta["val"], dict(meta)
        (True, 3, {'val': 3})
    """

    __slots__ = ("_late",)

    def __init__(
        self,
        values: Mapping[str, Any] | None = None,
        late: Mapping[str, Callable[[], Any]] | None = None,
    ) -> None:
        super().__init__(values or {})
        self._late: dict[str, Callable[[], Any]] = dict(late) if late else {}

    def put_later(self, key: str, make: Callable[[], Any]) -> None:
        """Set a key to what a function returns when the value is first asked for."""
        super().__setitem__(key, None)
        self._late[key] = make

    def _make(self) -> None:
        while self._late:
            key, make = self._late.popitem()
            super().__setitem__(key, make())

    def __getitem__(self, key: str) -> Any:
        if key in self._late:
            self._make()
        return super().__getitem__(key)

    def get(self, key: str, default: Any = None) -> Any:
        """As for a dict."""
        return self[key] if key in self else default  # noqa: SIM401 - this is `get` itself

    def __setitem__(self, key: str, value: Any) -> None:
        self._late.pop(key, None)
        super().__setitem__(key, value)

    def __delitem__(self, key: str) -> None:
        self._late.pop(key, None)
        super().__delitem__(key)

    def __iter__(self) -> Iterator[str]:
        # With a method of its own, `dict(meta)` and `other.update(meta)` ask for each value.
        return super().__iter__()

    def items(self) -> ItemsView[str, Any]:  # type: ignore[override]
        """As for a dict."""
        self._make()
        return super().items()

    def values(self) -> ValuesView[Any]:  # type: ignore[override]
        """As for a dict."""
        self._make()
        return super().values()

    def pop(self, key: str, *default: Any) -> Any:
        """As for a dict."""
        self._make()
        return super().pop(key, *default)

    def popitem(self) -> tuple[str, Any]:
        """As for a dict."""
        self._make()
        return super().popitem()

    def setdefault(self, key: str, default: Any = None) -> Any:
        """As for a dict."""
        return self[key] if key in self else super().setdefault(key, default)

    def update(self, *others: Any, **values: Any) -> None:
        """As for a dict."""
        for key, value in dict(*others, **values).items():
            self[key] = value

    def clear(self) -> None:
        """As for a dict."""
        self._late.clear()
        super().clear()

    def copy(self) -> dict[str, Any]:
        """As for a dict."""
        return dict(self)

    __copy__ = copy

    def __or__(self, other: Any) -> Any:
        return dict(self) | other

    def __ror__(self, other: Any) -> Any:
        return other | dict(self)

    def __eq__(self, other: object) -> bool:
        self._make()
        return super().__eq__(other)

    __hash__ = None

    def __repr__(self) -> str:
        self._make()
        return super().__repr__()

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, (dict(self),)
