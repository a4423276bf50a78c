"""Models that torch.compile has wrapped: a trace takes what they wrap."""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Callable
from typing import Any

import torch

__all__ = ["running_eagerly", "uncompiled"]


def uncompiled(model: Callable[..., Any]) -> Callable[..., Any]:
    """The model that torch.compile wraps; any other model itself.

    Example:
        >>> linear = torch.nn.Linear(3, 4)
        >>> uncompiled(torch.compile(linear)) is linear
        True
    """
    if isinstance(model, torch.nn.Module):
        wrapped = getattr(model, "_orig_mod", None)
        return wrapped if isinstance(wrapped, torch.nn.Module) else model
    wrapped = getattr(model, "_torchdynamo_orig_callable", None)
    return wrapped if callable(wrapped) else model


def running_eagerly() -> contextlib.AbstractContextManager[Any]:
    """A context in which the compiled parts of a model that is traced run as plain Python."""
    if "torch._dynamo" not in sys.modules:  # no part is compiled: that would have loaded it
        return contextlib.nullcontext()
    return _patch()


@functools.cache  # each patch of torch's settings leaves a variable in the context for good
def _patch() -> contextlib.AbstractContextManager[Any]:
    patch: contextlib.AbstractContextManager[Any] = torch._dynamo.config.patch(
        error_on_nested_fx_trace=False
    )
    return patch
