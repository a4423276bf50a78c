"""What the tracer says when a program or its arguments are not what it can follow."""

from __future__ import annotations

from torch.fx.proxy import TraceError

from symfx.errors import SymfxError, TracingError

__all__ = [
    "ControlFlowError",
    "MetaArgumentsError",
    "NotRecordableError",
    "UnknownMetaError",
]


class MetaArgumentsError(SymfxError, TypeError, AssertionError):
    """Meta arguments that are not a dictionary of tensors by parameter name."""


class UnknownMetaError(TracingError, AssertionError):
    """The meta value of a proxy was asked for that has none."""


class ControlFlowError(TracingError, TraceError):
    """Python's control flow depends on what is not known while tracing."""


class NotRecordableError(TracingError, NotImplementedError):
    """A value that a graph cannot hold."""
