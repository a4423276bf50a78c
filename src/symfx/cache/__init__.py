"""The cache of traces: a model that was traced before is read from a file instead.

Example:
    >>> import symfx, tempfile, torch
    >>> linear, x = torch.nn.Linear(8, 4), torch.randn(3, 8)
    >>> folder = tempfile.mkdtemp()
    >>> first = symfx.trace(linear, x, dynamic=[("n", None)], cache=folder)
    >>> again = symfx.trace(linear, x, dynamic=[("n", None)], cache=folder)
    >>> first.cache_use.hit, again.cache_use.hit
    (False, True)
"""

from __future__ import annotations

from symfx.cache.front import CacheInfo, CacheUse, clear, info
from symfx.cache.store import default_directory

__all__ = ["CacheInfo", "CacheUse", "clear", "default_directory", "info"]
