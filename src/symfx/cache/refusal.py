"""The error that a trace cannot be cached."""

from __future__ import annotations

__all__ = ["NotCacheableError"]


class NotCacheableError(Exception):
    """A trace depends on something that the cache cannot compare.

    Args:
        reason: a sentence without a full stop, such as ``"the model reads a file"``.
    """

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)
