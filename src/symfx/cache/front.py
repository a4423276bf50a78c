"""What users ask of the cache: how large it is, to clear it, and what it did for a trace."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from symfx.cache.store import Store, default_directory, default_limit

__all__ = ["CacheInfo", "CacheUse", "clear", "info", "store_at"]


@dataclass(frozen=True)
class CacheUse:
    """What the cache did for a trace.

    Attributes:
        hit: whether the trace was read from the cache.
        stored: whether it was written to the cache.
        reason: why it was not stored; None if it was, or if it was read.
    """

    hit: bool
    stored: bool = False
    reason: str | None = None

    def __str__(self) -> str:
        if self.hit:
            return "read from the cache"
        return "stored in the cache" if self.stored else f"not cached: {self.reason}"


@dataclass(frozen=True)
class CacheInfo:
    """The size of a cache.

    Attributes:
        directory: where it is.
        entries: the number of traces in it.
        size: their bytes.
        limit: the most bytes that it keeps.
    """

    directory: Path
    entries: int
    size: int
    limit: int


def store_at(directory: str | Path | None = None) -> Store:
    """The files of a cache.

    Args:
        directory: the directory; by default that of `default_directory`.
    """
    where = default_directory() if directory is None else Path(directory).expanduser()
    return Store(where, default_limit())


def info(directory: str | Path | None = None) -> CacheInfo:
    """How large a cache is.

    Args:
        directory: the directory; by default SYMFX_CACHE_DIR, or ``~/.cache/symfx``.

    Example:
        >>> import tempfile
        >>> info(tempfile.mkdtemp()).entries
        0
    """
    store = store_at(directory)
    entries, size = store.size()
    return CacheInfo(store.directory, entries, size, store.limit)


def clear(directory: str | Path | None = None) -> CacheInfo:
    """Remove all traces from a cache.

    Args:
        directory: the directory; by default SYMFX_CACHE_DIR, or ``~/.cache/symfx``.

    Returns:
        How large it was.

    Example:
        >>> import tempfile
        >>> clear(tempfile.mkdtemp()).size
        0
    """
    store = store_at(directory)
    entries, size = store.clear()
    return CacheInfo(store.directory, entries, size, store.limit)
