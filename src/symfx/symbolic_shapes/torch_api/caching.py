"""`lru_cache`: a cache of results whose statistics outlive its clearing."""

from __future__ import annotations

import atexit
import functools
import logging
from collections.abc import Callable
from typing import Any

__all__ = ["log_lru_cache_stats", "lru_cache"]

log = logging.getLogger("symfx.symbolic_shapes")


def lru_cache(maxsize: int | None) -> Callable[[Callable[..., Any]], Any]:
    """``functools.lru_cache`` whose statistics outlive ``cache_clear``.

    The wrapped function has one method more than functools gives it, ``cumulative_cache_info()``:
    the hits and misses since it was wrapped. With logging at DEBUG, the process logs them at its
    end.

    Args:
        maxsize: the number of results to keep; None keeps all.

    Example:
        >>> @lru_cache(16)
        ... def double(n): return 2 * n
        >>> double(1), double(1)
        (2, 2)
        >>> double.cache_clear()
        >>> double.cumulative_cache_info()
        CacheInfo(hits=1, misses=1, maxsize=16, currsize=0)
    """

    def decorate(function: Callable[..., Any]) -> Any:
        cached: Any = functools.lru_cache(maxsize)(function)
        clear = cached.cache_clear
        before = [0, 0]

        def cumulative_cache_info() -> Any:
            now = cached.cache_info()
            return now._replace(hits=now.hits + before[0], misses=now.misses + before[1])

        def cache_clear() -> None:
            before[:] = cumulative_cache_info()[:2]
            clear()

        cached.cache_clear = cache_clear
        cached.cumulative_cache_info = cumulative_cache_info
        if log.isEnabledFor(logging.DEBUG):
            atexit.register(log_lru_cache_stats, cached)
        return cached

    return decorate


def log_lru_cache_stats(wrapped_f: Any) -> None:
    """Log, at DEBUG, the statistics of a function wrapped by `lru_cache`."""
    log.debug("lru_cache %s: %s", wrapped_f.__name__, wrapped_f.cumulative_cache_info())
