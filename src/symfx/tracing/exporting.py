"""`symfx.export`: a model traced and handed to `torch.export` in one call."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from symfx.tracing.tracer import trace

if TYPE_CHECKING:
    from torch.export import ExportedProgram

__all__ = ["export"]


def export(
    model: Callable[..., Any],
    args: Sequence[Any] | torch.Tensor = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    dynamic: Any = None,
    strict: bool = True,
) -> ExportedProgram:
    """Trace a model, and return a `torch.export.ExportedProgram`.

    The program has the names and ranges of dimensions, and checks the guards, as
    `Trace.to_exported_program` describes. The operators are those above autograd and autocast
    (``pre_dispatch=True``), which the passes of torch decompose further.

    Args:
        model: the model; see `symfx.trace`.
        args: the positional arguments of an example call.
        kwargs: its keyword arguments.
        dynamic: the dimensions that may change.
        strict: whether a pinned dimension is an error.

    Raises:
        SymfxError: the model cannot be traced, or torch.export has no form for a part of it.

    Example:
        >>> import symfx, torch
        >>> linear, x = torch.nn.Linear(8, 4), torch.randn(3, 8)
        >>> program = symfx.export(linear, x, dynamic={"input": ("n", None)})
        >>> program.module()(torch.randn(17, 8)).shape
        torch.Size([17, 4])
    """
    traced = trace(model, args, kwargs, dynamic=dynamic, strict=strict, pre_dispatch=True)
    return traced.to_exported_program()
