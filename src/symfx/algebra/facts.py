"""Stores of facts: the public path of `reasoning.facts`."""

from symfx.algebra.reasoning.condition_forms import is_order
from symfx.algebra.reasoning.facts import UNDEFINED, Facts

__all__ = ["UNDEFINED", "Facts", "is_order"]
