"""What goes wrong with a program's shapes, or with what is asked about them."""

from __future__ import annotations

from symfx.errors import SymfxError

__all__ = [
    "DuplicateRuleError",
    "GradualError",
    "IllTypedError",
    "InvalidConstraintError",
    "RankBoundError",
]


class GradualError(SymfxError, ValueError):
    """A graph, an annotation or an argument that gradual typing cannot work with."""


class IllTypedError(SymfxError, TypeError):
    """Shapes that an operator cannot take."""


class InvalidConstraintError(SymfxError, TypeError, AssertionError, NotImplementedError):
    """A constraint built from what does not belong into it, or that cannot be said in z3.

    PyTorch raises an `AssertionError` for the one and a `NotImplementedError` for the other.
    """


class DuplicateRuleError(GradualError, RuntimeError):
    """A second rule for what has one. A `RuntimeError` too, as in PyTorch."""


class RankBoundError(GradualError):
    """A tensor of more dimensions than the bound allows."""
