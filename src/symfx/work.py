"""How much of a long work is done: the engine tells it, and the command line shows it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from typing import IO, Protocol, TypeVar

__all__ = ["counted", "share_of_work", "tell_work", "telling_work", "write_counted"]

Part = TypeVar("Part")
Part_co = TypeVar("Part_co", covariant=True)
#: Bytes are written in pieces of this size.
_PIECE = 1 << 24


class _Sized(Protocol[Part_co]):
    """Parts whose number is known, such as a list, or the nodes of a graph."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Part_co]: ...


@dataclass(frozen=True)
class _Span:
    """The share of the whole work that the running code does.

    Attributes:
        tell: is called with the share that is done, from 0 to 1.
        start: the share that was done before the running code began.
        width: the share that the running code does.
    """

    tell: Callable[[float], object]
    start: float
    width: float


_running: ContextVar[_Span | None] = ContextVar("symfx_work", default=None)


@contextlib.contextmanager
def telling_work(tell: Callable[[float], object]) -> Iterator[None]:
    """Call a function with the share of the work inside that is done, from 0 to 1.

    Example:
        >>> with telling_work(print):
        ...     with share_of_work(0, 0.5):
        ...         letters = [letter for letter in counted("ab")]
        0.25
        0.5
        0.5
    """
    token = _running.set(_Span(tell, 0.0, 1.0))
    try:
        yield
    finally:
        _running.reset(token)


@contextlib.contextmanager
def share_of_work(start: float, end: float) -> Iterator[None]:
    """Say that the body does this share of the surrounding work.

    Args:
        start: the share of the surrounding work that is done before the body, from 0 to 1.
        end: the share that is done after it.
    """
    span = _running.get()
    if span is None:
        yield
        return
    inner = _Span(span.tell, span.start + span.width * start, span.width * (end - start))
    token = _running.set(inner)
    try:
        yield
    finally:
        _running.reset(token)
    tell_work(end)


def tell_work(share: float) -> None:
    """Say that this share of the surrounding work is done, from 0 to 1."""
    span = _running.get()
    if span is not None:
        span.tell(span.start + span.width * share)


def counted(parts: _Sized[Part]) -> Iterator[Part]:
    """The parts of the surrounding work, in turn; each is an equal share of it."""
    if _running.get() is None:  # no work is told
        yield from parts
        return
    for place, part in enumerate(parts):
        with share_of_work(place / len(parts), (place + 1) / len(parts)):
            yield part


def write_counted(file: IO[bytes], content: bytes) -> None:
    """Write bytes, and tell the share that is written."""
    view = memoryview(content)
    for start in counted(range(0, len(view), _PIECE)):
        file.write(view[start : start + _PIECE])
