"""Files of torch's C++ whose questions about sizes need no guard."""

from __future__ import annotations

__all__ = ["BOOKKEEPING_FILES"]

BOOKKEEPING_FILES = ("ATen/EmptyTensor.cpp",)
"""The ends of the paths of those files.

``EmptyTensor.cpp`` asks whether a size is 0, to count the bytes of a new storage. A fake tensor's
storage holds no data, so either answer makes the same graph.
"""
