"""The best lower bound of an integer term: the one question that the prover asks of integers."""

from symfx.algebra.reasoning.lower_bounds.search import LowerBounds

__all__ = ["LowerBounds"]
