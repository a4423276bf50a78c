"""The decision procedure: the public path of `reasoning.prover`."""

from symfx.algebra.reasoning.prover import Prover

__all__ = ["Prover"]
