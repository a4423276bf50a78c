"""The settings of a ShapeEnv."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from symfx.errors import SymfxError

__all__ = ["ShapeEnvSettings", "UnknownSettingError"]


class UnknownSettingError(SymfxError, TypeError):
    """ShapeEnv got a setting that it does not have."""


@dataclass(frozen=True)
class ShapeEnvSettings:
    """The choices that a caller has when making a `ShapeEnv`.

    Attributes:
        allow_scalar_outputs: ``item()`` gives an unbacked symbol rather than an error.
        allow_dynamic_output_shape_ops: operators whose output size depends on data
            (``nonzero``) give unbacked symbols rather than an error.
        assume_static_by_default: dimensions without a context are static.
        specialize_zero_one: sizes 0 and 1 become constants when an input has them.
        duck_shape: dimensions that have the same size at tracing share a symbol.
        prefer_deferred_runtime_asserts_over_guards: a condition that the program states
            becomes an assertion at run time rather than a guard, where either would do.
        trace_asserts: ``assert`` on a condition that depends on data becomes an assertion at
            run time rather than an error.
        prover: ``"z3"`` asks z3 where symfx's own prover finds no answer; ``"built-in"`` does
            not.
        prover_budget_ms: how many milliseconds z3 may take for one question.
    """

    allow_scalar_outputs: bool = True
    allow_dynamic_output_shape_ops: bool = True
    assume_static_by_default: bool = False
    specialize_zero_one: bool = True
    duck_shape: bool = True
    prefer_deferred_runtime_asserts_over_guards: bool = False
    trace_asserts: bool = False
    prover: Literal["built-in", "z3"] = "built-in"
    prover_budget_ms: int = 100

    def __post_init__(self) -> None:
        if self.prover not in ("built-in", "z3"):
            raise SymfxError(
                f"symfx has no prover {self.prover!r}", fix="use prover='z3' or 'built-in'"
            )
        if type(self.prover_budget_ms) is not int or self.prover_budget_ms <= 0:
            raise SymfxError(
                f"prover_budget_ms={self.prover_budget_ms!r} is not a number of milliseconds",
                fix="use a positive integer, such as 100",
            )
