"""Why a condition holds, and where it does not: the public path of `reasoning.proofs`."""

from symfx.algebra.reasoning.proofs import Proof, example, prove

__all__ = ["Proof", "example", "prove"]
