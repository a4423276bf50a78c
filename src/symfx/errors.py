"""The exceptions that symfx raises for a user's mistake, and values in words for their messages.

The message of an exception has three parts: *what* went wrong, *where* in the user's code or
input it happened, and *what to do* about it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

__all__ = [
    "ExpressionError",
    "InputMismatchError",
    "MissingPackageError",
    "OptimizationError",
    "SpecError",
    "SymfxError",
    "TargetError",
    "TraceFileError",
    "TracingError",
    "describe",
]

#: The attributes of errors that are left out of their pickles.
_NOT_PICKLED = ("refused", "question")


class SymfxError(Exception):
    """A mistake that the user of symfx can correct.

    Args:
        what: one sentence that says what went wrong, with the values in question.
        where: the place in the user's code or input (``file.py:12``, ``--input``), if known.
        fix: what to do about it, if known.

    Attributes:
        refused: the trace that was refused, and what in it is the reason: names of dimensions, or
            guards; or the trace that refused inputs, and the inputs; None for any other mistake.
            `symfx.explain` explains these.
    """

    refused: tuple[Any, Sequence[Any]] | None = None

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
        self.args = (self.message,)  # a constructor of torch among the bases may put others there

    def __reduce__(self) -> Any:
        # A trace and its environment stay in the process that has them.
        kept = {name: value for name, value in vars(self).items() if name not in _NOT_PICKLED}
        return type(self), self.args, kept

    def __str__(self) -> str:
        # torch.export edits the text of an exception by way of ``args``: it appends "Suggested
        # fixes", and calls inputs by the names of the user's function.
        text = self.args[0] if len(self.args) == 1 else None
        return text if isinstance(text, str) else self.message


class ExpressionError(SymfxError, ValueError):
    """An expression that the target language cannot express."""


class SpecError(SymfxError, ValueError):
    """A description of an input or of a dynamic dimension that is wrong."""


class TargetError(SymfxError, ValueError):
    """A model that the command line names and that cannot be found or built."""


class TracingError(SymfxError, RuntimeError):
    """A program that cannot be traced."""


class InputMismatchError(SymfxError, ValueError):
    """Inputs that do not fit the traced program."""


class MissingPackageError(SymfxError, ImportError):
    """A package that a part of symfx needs, and that is not installed."""


class OptimizationError(SymfxError, RuntimeError):
    """A model that cannot be optimized, or whose optimized form gives other results."""


class TraceFileError(SymfxError, ValueError):
    """A trace that cannot be saved, or a file that is no saved trace."""


def describe(value: object) -> str:
    """A value in a few words, for messages.

    A tensor is described by its dtype and shape, a value with a long text by its type.

    Example:
        >>> import torch
        >>> describe(torch.ones(2, 3)), describe(3), describe([0] * 99)
        ('a float32 tensor of shape (2, 3)', '3', 'a list')
    """
    torch = sys.modules.get("torch")  # a tensor exists only once torch is loaded
    if torch is not None and isinstance(value, torch.Tensor):
        return f"a {str(value.dtype).removeprefix('torch.')} tensor of shape {tuple(value.shape)}"
    text = repr(value)
    return text if len(text) <= 60 else f"a {type(value).__name__}"
