"""Programs as graph modules: one trace, and the modules that the program made while it ran."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import fx, nn

from symfx.meta_tracer.program import check_names, checked_meta_args
from symfx.meta_tracer.tracer import MetaTracer

__all__ = ["symbolic_trace"]


def symbolic_trace(
    root: nn.Module | Callable[..., Any],
    meta_args: dict[str, Any] | None = None,
    concrete_args: dict[str, Any] | None = None,
) -> fx.GraphModule:
    """Trace a program with torch.fx; its control flow may depend on shapes, dtypes and devices.

    Args:
        root: a module or function.
        meta_args: for each parameter with a known shape a tensor of that shape on the meta
            device, or a structure (list, tuple, dictionary) of them; see `MetaTracer.trace`.
        concrete_args: for each fixed parameter its value.

    Returns:
        A module that computes the results of `root` for inputs of these shapes.

    Raises:
        MetaArgumentsError: a meta argument is no tensor, or names no parameter of `root`.
        ControlFlowError: control flow depends on data, or on an input without meta value.
        NotRecordableError: the program returns a value that a graph cannot hold.
        TracingError: the program cannot be recorded for another reason.

    Example:
        >>> def f(x):
        ...     a, b = x.chunk(2)
        ...     return a * b if len(x) > 2 else x
        >>> gm = symbolic_trace(f, {"x": torch.empty(4, device="meta")})
        >>> gm(torch.arange(4.0))
        tensor([0., 3.])
    """
    check_names(root, checked_meta_args(meta_args))
    tracer = MetaTracer()
    try:
        graph = tracer.trace(root, meta_args, concrete_args)
        name = None if isinstance(root, nn.Module) else getattr(root, "__name__", None)
        return fx.GraphModule(tracer.root, graph, name or type(root).__name__)
    finally:
        # The graph module has these modules now; the user's module must not keep them.
        for path in tracer.inserted_modules:
            delattr(tracer.root, path)
