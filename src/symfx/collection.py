"""Python's garbage collection: paused while many objects are made that stay alive, or seen."""

from __future__ import annotations

import contextlib
import gc
import threading
from collections.abc import Iterator
from typing import Any

__all__ = ["Collections", "uncollected"]


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Turn garbage collection off inside: it would search all objects again and again.

    Example:
        >>> with uncollected():
        ...     gc.isenabled()
        False
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


class Collections:
    """Tells whether a call is one that a garbage collection makes: of a finalizer or a callback.

    A collection can begin anywhere, so its calls are no part of the function that runs then.

    Example:
        >>> with Collections() as collections:
        ...     collections.here()
        False
    """

    def __init__(self) -> None:
        self._thread: int | None = None

    def __enter__(self) -> Collections:
        # Around the callbacks of others, such as those of hypothesis, which measure collections.
        # A collection may run between these lines: its begin must not be noted without its end.
        gc.callbacks.append(self._end)
        gc.callbacks.insert(0, self._begin)
        return self

    def __exit__(self, *exception: object) -> None:
        gc.callbacks.remove(self._begin)
        gc.callbacks.remove(self._end)

    def _begin(self, phase: str, info: Any) -> None:
        if phase == "start":
            self._thread = threading.get_ident()

    def _end(self, phase: str, info: Any) -> None:
        if phase == "stop":
            self._thread = None

    def here(self) -> bool:
        """Whether a collection runs in this thread."""
        return self._thread is not None and self._thread == threading.get_ident()
