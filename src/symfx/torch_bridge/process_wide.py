"""Globals of torch that are set while a trace runs in any thread."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

__all__ = ["ProcessWide"]


class ProcessWide:
    """A global of torch that holds one value while a trace runs in any thread.

    The first trace to begin sets the value and the last to end restores the former one, so that
    traces in several threads do not leave the value set.

    Args:
        module: the module of the global.
        name: the global's name.
    """

    def __init__(self, module: Any, name: str) -> None:
        self._module = module
        self._name = name
        self._lock = threading.Lock()
        self._users = 0
        self._before: Any = None

    @contextlib.contextmanager
    def set_to(self, value: Any) -> Iterator[None]:
        """A context manager: the global holds a value inside."""
        with self._lock:
            if self._users == 0:
                self._before = getattr(self._module, self._name)
                setattr(self._module, self._name, value)
            self._users += 1
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                if self._users == 0:
                    setattr(self._module, self._name, self._before)
