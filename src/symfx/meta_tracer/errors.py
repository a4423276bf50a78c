"""What the tracer says when a program or its arguments are not what it can follow."""

from __future__ import annotations

from torch.fx.proxy import TraceError

from symfx.errors import SymfxError, TracingError
from symfx.symbolic_shapes.explain.provenance import UserFrame, capture, raised_at

__all__ = [
    "ControlFlowError",
    "MetaArgumentsError",
    "NotRecordableError",
    "UnknownMetaError",
    "here",
]


class MetaArgumentsError(SymfxError, TypeError, AssertionError):
    """Meta arguments that are not a dictionary of tensors by parameter name."""


class UnknownMetaError(TracingError, AssertionError):
    """The meta value of a proxy was asked for that has none."""


class ControlFlowError(TracingError, TraceError):
    """Python's control flow depends on what is not known while tracing."""


class NotRecordableError(TracingError, NotImplementedError):
    """A value that a graph cannot hold."""


def here() -> str | None:
    """The line of the user's program that runs now, with its text."""
    return _line(capture().frame)


def line_of(error: BaseException) -> str | None:
    """The line of the user's program that an exception came from, with its text."""
    return _line(raised_at(error))


def _line(frame: UserFrame | None) -> str | None:
    if frame is None:
        return None
    return f"{frame}: {frame.line}" if frame.line else str(frame)
