"""The language in which shapes are written, in Python and on the command line."""

from __future__ import annotations

from symfx.shape_language.parser import (
    parse_condition,
    parse_dimension,
    parse_input,
    parse_type,
)

__all__ = ["parse_condition", "parse_dimension", "parse_input", "parse_type"]
