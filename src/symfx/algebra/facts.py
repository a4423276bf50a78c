"""Stores of facts: the public path of `reasoning.facts`."""

from symfx.algebra.reasoning.facts import UNDEFINED, Facts, is_order

__all__ = ["UNDEFINED", "Facts", "is_order"]
