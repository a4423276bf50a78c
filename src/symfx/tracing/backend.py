"""The backend ``symfx`` of torch.compile: it traces what Dynamo hands on, and prints the trace.

torch finds it by the entry point ``torch_dynamo_backends`` of the package.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch._guards import tracing
from torch._subclasses.fake_tensor import FakeTensor

from symfx.errors import SpecError
from symfx.shape_language import parse_dimension
from symfx.shape_language.syntax import Name, Size
from symfx.symbolic_shapes import Dim
from symfx.torch_bridge.fx_graphs import compile_now
from symfx.tracing.tracer import trace
from symfx.tracing.traces import Trace

__all__ = ["dynamo_backend"]


def dynamo_backend(
    graph_module: torch.fx.GraphModule,
    example_inputs: Sequence[Any],
    *,
    options: Mapping[str, Any] | None = None,
) -> Callable[..., Any]:
    """Trace a graph of Dynamo with its dynamic sizes, and run the trace.

    The operators are those above autograd, so that gradients and ``no_grad`` are as in eager. A
    call for whose sizes the trace does not hold runs Dynamo's graph.

    Args:
        graph_module: Dynamo's graph.
        example_inputs: its inputs.
        options: ``{"on_trace": function}`` has the function called with each `Trace`, which is
            printed otherwise.

    Returns:
        The function that torch runs in the place of the graph.

    Raises:
        SpecError: an option is unknown.
        TracingError: the graph cannot be traced.

    Example:
        >>> traces = []
        >>> options = {"on_trace": traces.append}
        >>> f = torch.compile(torch.relu, backend=dynamo_backend, dynamic=True, options=options)
        >>> f(torch.ones(3, 4)).shape
        torch.Size([3, 4])
        >>> len(traces), len(traces[0].symbols)
        (1, 2)
    """
    given = dict(options or {})
    on_trace = given.pop("on_trace", print)
    if given:
        raise SpecError(
            f"the backend symfx has no option {min(given)}",
            where="torch.compile(options=...)",
            fix="its option is on_trace: a function of each symfx.Trace",
        )
    compile_now(graph_module)  # its code, and with it its signature, is made when first needed
    placeholders = graph_module.graph.find_nodes(op="placeholder")
    described = [node.meta.get("example_value") for node in placeholders]
    # Dynamo's own mode for fake tensors is active; its numbers are of another environment.
    with tracing(None):
        examples = [_example(value) for value in example_inputs]
        entries = [_entry(value) for value in described]
        traced = trace(
            graph_module, tuple(examples), dynamic=entries, strict=False, pre_dispatch=True
        )
    on_trace(traced)
    return _checked(traced, graph_module)


def _checked(traced: Trace, graph_module: torch.fx.GraphModule) -> Callable[..., Any]:
    def run(*args: Any) -> Any:
        if traced.admission.check_leaves(args):
            return traced.run(args)
        return graph_module(*args)

    return run


def _example(value: Any) -> Any:
    """An input with values: Dynamo may hand on fake tensors and symbolic numbers."""
    if isinstance(value, torch.SymInt):
        return _hint(value)
    if isinstance(value, FakeTensor):
        sizes, strides = [_hint(n) for n in value.shape], [_hint(n) for n in value.stride()]
        made = torch.empty_strided(sizes, strides, dtype=value.dtype, device=value.fake_device)
        return made.zero_().requires_grad_(value.requires_grad)
    return value


def _hint(number: Any) -> int:
    return int(number.node.hint) if isinstance(number, torch.SymInt) else int(number)


def _entry(value: Any) -> Any:
    """The dynamic dimensions of an input, from the fake value that Dynamo has of it."""
    if isinstance(value, torch.SymInt):
        return _extent(value)
    if isinstance(value, torch.Tensor):
        return tuple(_extent(n) for n in value.shape)
    return None


def _extent(number: Any) -> Any:
    """A size as a dimension of the name that torch gave it."""
    if not isinstance(number, torch.SymInt):
        return None
    text = str(number.node.expr)
    read = parse_dimension(text, "a size of Dynamo's")
    if isinstance(read, Size) and isinstance(read.value, Name):
        bounds = number.node.shape_env.var_to_range[number.node.expr]
        return Dim(text, min=_bound(bounds.lower), max=_bound(bounds.upper))
    return text


def _bound(value: Any) -> int | None:
    return int(value) if value.is_Integer else None
