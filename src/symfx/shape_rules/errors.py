"""What goes wrong with a program's shapes, or with what is asked about them."""

from __future__ import annotations

from symfx.errors import SymfxError

__all__ = ["GradualError", "IllTypedError", "InvalidConstraintError", "RankBoundError"]


class GradualError(SymfxError, ValueError):
    """A graph, an annotation or an argument that gradual typing cannot work with."""


class IllTypedError(SymfxError, TypeError):
    """Shapes that an operator cannot take."""


class InvalidConstraintError(SymfxError, TypeError, AssertionError):
    """A constraint built from what does not belong into it.

    An `AssertionError` too: that is what PyTorch raises here.
    """


class RankBoundError(GradualError):
    """A tensor of more dimensions than the bound allows."""
