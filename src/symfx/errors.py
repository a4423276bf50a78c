"""The exceptions that symfx raises for a user's mistake, all in one family.

Each carries one message made of three parts: *what* went wrong, *where* in the user's
code or input it happened, and *what to do* about it.
"""

from __future__ import annotations

__all__ = [
    "ExpressionError",
    "InputMismatchError",
    "OptimizationError",
    "SpecError",
    "SymfxError",
    "TargetError",
    "TracingError",
]


class SymfxError(Exception):
    """Something that the user of symfx can mend.

    Args:
        what: what went wrong, with the values in it; one sentence.
        where: the place in the user's code or input (``file.py:12``, ``--input``), if known.
        fix: what to do about it, if known.
    """

    def __init__(self, what: str, *, where: str | None = None, fix: str | None = None) -> None:
        self.what = what
        self.where = where
        self.fix = fix
        parts = [what]
        if where:
            parts.append(f"  at: {where}")
        if fix:
            parts.append(f"  to fix: {fix}")
        self.message = "\n".join(parts)
        super().__init__(self.message)

    def __str__(self) -> str:
        # Not from args: a class that also derives from one of torch's has its own idea of those.
        return self.message


class ExpressionError(SymfxError, ValueError):
    """An expression that has no counterpart in the language it is to be written in."""


class SpecError(SymfxError, ValueError):
    """A description of an input or of a dynamic dimension that cannot be read."""


class TargetError(SymfxError, ValueError):
    """A model named on the command line that cannot be found or built."""


class TracingError(SymfxError, RuntimeError):
    """A program that cannot be traced."""


class InputMismatchError(SymfxError, ValueError):
    """Inputs that do not fit the traced program."""


class OptimizationError(SymfxError, RuntimeError):
    """A model that cannot be optimised, or must not be handed over."""
