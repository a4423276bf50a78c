"""The exceptions of gradual typing."""

from __future__ import annotations

from symfx.errors import SymfxError

__all__ = [
    "DuplicateRuleError",
    "GradualError",
    "IllTypedError",
    "InvalidConstraintError",
    "OpenBranchError",
    "OpenSizeError",
    "OperatorFailsError",
    "PinnedSizeError",
    "RankBoundError",
]


class GradualError(SymfxError, ValueError):
    """A graph, an annotation or an argument that gradual typing cannot work with."""


class IllTypedError(SymfxError, TypeError):
    """Shapes that an operator cannot take."""


class InvalidConstraintError(SymfxError, TypeError, AssertionError, NotImplementedError):
    """A constraint with a part that it cannot have, or that z3 cannot express.

    PyTorch raises an `AssertionError` for the former and a `NotImplementedError` for the latter.
    """


class OpenSizeError(GradualError):
    """A size that is no number, where a shape rule needs one: its result is unknown."""


class PinnedSizeError(GradualError):
    """A named size that the program fixes to one number."""


class OpenBranchError(GradualError):
    """A branch that some of the described inputs take and others do not."""


class OperatorFailsError(IllTypedError, RuntimeError):
    """An operator inside ``try`` that fails. A `RuntimeError` too, for the program to catch."""


class DuplicateRuleError(GradualError, RuntimeError):
    """A second rule for one operator. A `RuntimeError` too, as in PyTorch."""


class RankBoundError(GradualError):
    """A tensor with more dimensions than the bound on ranks allows."""
