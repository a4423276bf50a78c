"""The graph of a program, got in the way that suits it.

A layer that the table of shape rules knows is one call. Any other program is traced by torch.fx,
with its branches decided; one that torch.fx cannot trace (it computes on masks, or has keyword
arguments that depend on each other) is traced by symfx's own tracer, operator by operator.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.fx import Graph, GraphModule
from torch.fx.proxy import TraceError

from symfx.errors import SymfxError, TracingError
from symfx.shape_rules.table import known_rules
from symfx.static_migration.branches import BranchTracer
from symfx.static_migration.conditions import InputType

__all__ = ["program_graph"]


def program_graph(
    module: torch.nn.Module,
    inputs: Mapping[str, InputType],
    where: Sequence[str] = (),
    timeout: float = 10.0,
) -> GraphModule:
    """The graph of a program for these inputs.

    Args:
        module: the program.
        inputs: the types of its inputs, by name.
        where: conditions on the named sizes.
        timeout: seconds that z3 may take for each branch.

    Raises:
        SymfxError: it cannot be traced, and why.
    """
    if isinstance(module, GraphModule):
        return module
    if type(module) in known_rules():
        return _one_call(module, inputs)
    tracer = BranchTracer(inputs, where, timeout)
    left_out = {
        name: parameter.default
        for name, parameter in inspect.signature(module.forward).parameters.items()
        if name not in inputs and parameter.default is not inspect.Parameter.empty
    }
    try:
        graph = tracer.trace(module, left_out or None)
        return GraphModule(tracer.root, graph, type(module).__name__)
    except SymfxError:
        raise
    except (TraceError, TypeError, AttributeError, ValueError, RuntimeError, NameError) as error:
        try:
            return _operator_by_operator(module, inputs)
        except SymfxError:
            raise
        except (RuntimeError, TypeError, ValueError) as second:
            raise TracingError(
                f"{type(module).__name__} cannot be traced: {_first_line(error)}; operator by "
                f"operator: {_first_line(second)}",
                fix="give every input its shape and type, or trace the program yourself and pass "
                "the GraphModule",
            ) from second


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {(str(error).strip() or 'no message').splitlines()[0]}"


def _one_call(module: torch.nn.Module, inputs: Mapping[str, InputType]) -> GraphModule:
    root = torch.nn.Module()
    root.add_module("layer", module)
    graph = Graph()
    given: dict[str, Any] = {}
    for name, parameter in inspect.signature(module.forward).parameters.items():
        if name in inputs or parameter.default is inspect.Parameter.empty:
            given[name] = graph.placeholder(name)
    graph.output(graph.call_module("layer", (), given))
    return GraphModule(root, graph, type(module).__name__)


def _operator_by_operator(module: torch.nn.Module, inputs: Mapping[str, InputType]) -> GraphModule:
    from symfx.proxy_tensor import make_fx

    sizes = _example_sizes(inputs)
    args: dict[str, Any] = {}
    dynamic: dict[str, Any] = {}
    for name, given in inputs.items():
        if given.kind != "tensor" or given.dims is None:
            raise TracingError(
                f"the rank of {name} must be known to trace {type(module).__name__}",
                where="--input",
                fix=f'write "{name}: i64[batch, seq]"',
            )
        shape = [
            dim if isinstance(dim, int) else sizes[_name(name, i, dim)]
            for i, dim in enumerate(given.dims)
        ]
        dtype = getattr(torch, given.dtype)
        floating = dtype.is_floating_point
        args[name] = torch.rand(shape, dtype=dtype) if floating else torch.zeros(shape, dtype=dtype)
        dynamic[name] = tuple(
            None if isinstance(dim, int) else _name(name, i, dim)
            for i, dim in enumerate(given.dims)
        )
    names = [*inputs]

    def program(*values: Any) -> Any:
        result = module(**dict(zip(names, values, strict=True)))
        return tuple(result.to_tuple()) if hasattr(result, "to_tuple") else result

    with torch.no_grad():
        traced = make_fx(
            program,
            tracing_mode="symbolic",
            _allow_non_fake_inputs=True,
            dynamic_shapes=[dynamic[name] for name in names],
        )(*args.values())
    placeholders = [node for node in traced.graph.nodes if node.op == "placeholder"]
    for node, name in zip(placeholders, names, strict=True):
        node.target = name
    return traced


def _name(name: str, i: int, dim: Any) -> str:
    return dim if isinstance(dim, str) else f"{name}_{i}"


def _example_sizes(inputs: Mapping[str, InputType]) -> dict[str, int]:
    """A size for each name: distinct primes, so that no two are taken for one."""
    primes = iter((7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79))
    sizes: dict[str, int] = {}
    for name, given in inputs.items():
        for i, dim in enumerate(given.dims or ()):
            if not isinstance(dim, int):
                text = _name(name, i, dim)
                if not text.isidentifier():
                    raise TracingError(
                        f"a program that torch.fx cannot trace takes names, not {text!r}"
                    )
                if text not in sizes:
                    sizes[text] = next(primes)
    return sizes
