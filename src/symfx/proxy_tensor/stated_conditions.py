"""Conditions that are known to hold, as symbolic numbers that keep the stated text."""

from __future__ import annotations

from typing import Any

import sympy
import torch

from symfx.algebra import Term
from symfx.sym_node import SymNode

__all__ = ["stated"]


class _Stated(SymNode):
    """The node of a condition that is known to hold, as it was stated."""

    __slots__ = ("stated",)

    stated: sympy.Basic

    @property
    def expr(self) -> sympy.Basic:
        return self.stated


def stated(env: Any, condition: Term, expr: sympy.Basic) -> torch.SymBool:
    """A condition as the value of a node in a graph.

    torch finds the assertions that a graph has already by the expressions of their conditions.

    Args:
        env: the ShapeEnv.
        condition: the condition.
        expr: the condition as it was stated, as sympy.
    """
    number: Any = _Stated.of(env, condition, None)
    number.stated = expr
    return torch.SymBool(number)  # type: ignore[no-untyped-call]
