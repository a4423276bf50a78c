"""What a ShapeEnv raises for a program or inputs that it cannot admit."""

from __future__ import annotations

from typing import Any

from symfx.errors import SymfxError
from symfx.torch_bridge.identity import (
    TorchConstraintViolationError,
    TorchGuardOnDataDependentSymNode,
    TorchPendingUnbackedSymbolNotFound,
    TorchShapeEnvGuardError,
)

__all__ = [
    "ConstraintViolationError",
    "GuardOnDataDependentSymNode",
    "PendingUnbackedSymbolNotFound",
    "_ShapeEnvGuardError",
]


class GuardOnDataDependentSymNode(SymfxError, TorchGuardOnDataDependentSymNode):
    """The program's course depends on a value that only running it would tell.

    Attributes:
        cond: the condition or value that was asked for, as sympy.
    """

    def __init__(
        self, cond: Any, *args: Any, where: str | None = None, fix: str | None = None
    ) -> None:
        what = args[0] if args else f"the value of {cond} depends on data"
        SymfxError.__init__(self, str(what), where=where, fix=fix)
        self.cond = cond
        self.args = (self.message,)  # torch's own constructor keeps none


class ConstraintViolationError(SymfxError, TorchConstraintViolationError, ValueError):
    """Inputs, or the program's guards, break what was promised about a dimension."""


class PendingUnbackedSymbolNotFound(SymfxError, TorchPendingUnbackedSymbolNotFound):
    """An operator made an unbacked symbol that none of its outputs has."""


class _ShapeEnvGuardError(SymfxError, TorchShapeEnvGuardError):
    """A guard was needed where none may be added."""
