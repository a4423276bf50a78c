"""The errors that a ShapeEnv raises for a program or inputs that it cannot admit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from symfx.errors import SymfxError
from symfx.torch_bridge.identity import (
    TorchConstraintViolationError,
    TorchGuardOnDataDependentSymNode,
    TorchPendingUnbackedSymbolNotFound,
    TorchShapeEnvGuardError,
)

if TYPE_CHECKING:
    from symfx.algebra import Term
    from symfx.symbolic_shapes.explain.provenance import Provenance
    from symfx.symbolic_shapes.shape_env import ShapeEnv

__all__ = [
    "ConstraintViolationError",
    "GuardOnDataDependentSymNode",
    "PendingUnbackedSymbolNotFound",
    "_ShapeEnvGuardError",
]


class GuardOnDataDependentSymNode(SymfxError, TorchGuardOnDataDependentSymNode):
    """The program needs a value that depends on data, which only a run of the program has.

    Attributes:
        cond: the condition or value that the program needs, as sympy.
        question: the environment that was asked, the condition or value as a term, and the line
            and the operator that asked; None where other code than a ShapeEnv made the error.
    """

    question: tuple[ShapeEnv, Term, Provenance] | None = None

    def __init__(
        self, cond: Any, *args: Any, where: str | None = None, fix: str | None = None
    ) -> None:
        message = args[0] if args else f"the value of {cond} depends on data"
        SymfxError.__init__(self, str(message), where=where, fix=fix)
        self.cond = cond


class ConstraintViolationError(SymfxError, TorchConstraintViolationError, ValueError):
    """Inputs, or the program's guards, break a promise about a dimension."""


class PendingUnbackedSymbolNotFound(SymfxError, TorchPendingUnbackedSymbolNotFound):
    """An operator made an unbacked symbol that does not occur in its outputs."""


class _ShapeEnvGuardError(SymfxError, TorchShapeEnvGuardError):
    """The program needed a guard where no guard may be added."""
