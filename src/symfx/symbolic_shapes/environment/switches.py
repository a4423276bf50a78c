"""Switches of one thread: guards suppressed, and fresh unbacked symbols left out of account."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

__all__ = [
    "Suppression",
    "_ignore_fresh_unbacked_symbols_tls_context",
    "_suppress_guards",
    "ignoring_fresh_symbols",
    "set_ignoring_fresh_symbols",
]


class Suppression(threading.local):
    """The number of blocks of `ShapeEnv.suppress_guards` that this thread is inside of."""

    depth = 0


class _Fresh(threading.local):
    ignored = False


_fresh = _Fresh()


def ignoring_fresh_symbols() -> bool:
    """Whether unbacked symbols made now need not show up in an operator's output."""
    return _fresh.ignored


def set_ignoring_fresh_symbols(ignored: bool) -> bool:
    """Switch `ignoring_fresh_symbols` on or off, and return what it was before."""
    before = _fresh.ignored
    _fresh.ignored = ignored
    return before


@contextlib.contextmanager
def _ignore_fresh_unbacked_symbols_tls_context() -> Iterator[None]:
    """Unbacked symbols of any environment made inside need not show up in an operator's output."""
    before = set_ignoring_fresh_symbols(True)
    try:
        yield
    finally:
        set_ignoring_fresh_symbols(before)


@contextlib.contextmanager
def _suppress_guards(shape_env: Any) -> Iterator[None]:
    """`ShapeEnv.suppress_guards` as a function."""
    shape_env._suppress_guards_enter()
    try:
        yield
    finally:
        shape_env._suppress_guards_exit()
