"""Shape bugs of the kinds that people report, each with its mended version, and four checkers."""

from __future__ import annotations
