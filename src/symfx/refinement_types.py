"""The constraint of symbolic inference: two dimensions or two types are equal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["Equality"]


@dataclass(repr=False, eq=True)
class Equality:
    """``lhs = rhs``.

    Args:
        lhs: a dimension or a type.
        rhs: another dimension or type.

    Example:
        >>> Equality(3, 3) == Equality(3, 3), Equality(3, 4)
        (True, 3 = 4)
    """

    lhs: Any
    rhs: Any

    def __repr__(self) -> str:
        return f"{self.lhs} = {self.rhs}"
