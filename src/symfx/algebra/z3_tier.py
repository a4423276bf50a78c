"""The prover that asks z3: the public path of `reasoning.z3_prover`."""

from symfx.algebra.reasoning.z3_prover import Z3Prover, Z3Terms, needs_z3

__all__ = ["Z3Prover", "Z3Terms", "needs_z3"]
