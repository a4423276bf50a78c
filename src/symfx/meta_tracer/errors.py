"""The errors of the meta tracer, and the user's line in words."""

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
    """The meta arguments are not a dictionary of tensors by parameter name."""


class UnknownMetaError(TracingError, AssertionError):
    """A proxy without a meta value was asked for it."""


class ControlFlowError(TracingError, TraceError):
    """Python's control flow depends on a value that is not known while tracing."""


class NotRecordableError(TracingError, NotImplementedError):
    """A graph cannot hold a value."""
