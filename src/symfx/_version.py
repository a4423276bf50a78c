"""The version, which packaging reads without importing torch, and the newest change of a file."""

from __future__ import annotations

import functools
from pathlib import Path

__version__ = "0.1.0"


@functools.cache
def newest_change() -> int:
    """When a file of symfx changed last, in nanoseconds.

    What is kept from one process to the next belongs to it too: who works on symfx itself changes
    it without a release.
    """
    return max(file.stat().st_mtime_ns for file in Path(__file__).parent.rglob("*.py"))
