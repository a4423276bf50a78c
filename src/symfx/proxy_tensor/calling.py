"""Wrappers that bring functions and their arguments into a form that can be traced."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from torch import fx
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode, _get_current_dispatch_mode_stack

from symfx.proxy_tensor.mode import Table
from symfx.proxy_tensor.tracing import TracingMode, make_fx
from symfx.torch_bridge.modes import without_proxy_mode

__all__ = [
    "fake_signature",
    "get_isolated_graphmodule",
    "get_torch_dispatch_modes",
    "wrapper_and_args_for_make_fx",
]


def fake_signature(fn: Callable[..., Any], nargs: int) -> Callable[..., Any]:
    """A function with a fixed number of positional parameters that calls another function.

    torch.fx reads the number of arguments from a function's signature, where ``*args`` does
    not tell it.

    Args:
        fn: the function.
        nargs: the number of parameters.

    Returns:
        A function of ``arg0``, ``arg1`` and so on.

    Example:
        >>> import inspect
        >>> f = fake_signature(lambda *xs: sum(xs), 3)
        >>> f(1, 2, 3), list(inspect.signature(f).parameters)
        (6, ['arg0', 'arg1', 'arg2'])
    """
    names = [f"arg{i}" for i in range(nargs)]

    def call(*args: Any) -> Any:
        return fn(*args)

    # torch.fx reads the code object too, so the function is compiled with real parameters.
    scope: dict[str, Any] = {"call": call}
    exec(f"def called({', '.join(names)}): return call({', '.join(names)})", scope)
    called: Callable[..., Any] = scope["called"]
    called.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [inspect.Parameter(n, inspect.Parameter.POSITIONAL_OR_KEYWORD) for n in names]
    )
    return called


def wrapper_and_args_for_make_fx(
    func: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[Callable[[list[Any]], Any], list[Any]]:
    """A function of one list that calls a function of arguments and keyword arguments.

    Args:
        func: the function.
        args, kwargs: the arguments to trace it with.

    Returns:
        The function of the list of leaves, and that list for these arguments.

    Example:
        >>> wrapped, leaves = wrapper_and_args_for_make_fx(
        ...     lambda x, *, y: x + y["k"], (torch.ones(3),), {"y": {"k": torch.ones(3)}})
        >>> make_fx(wrapped)(leaves)(leaves)
        tensor([2., 2., 2.])
    """
    leaves, spec = pytree.tree_flatten((tuple(args), dict(kwargs)))

    def wrapped(flat_args: list[Any]) -> Any:
        positional, named = pytree.tree_unflatten(flat_args, spec)
        return func(*positional, **named)

    return wrapped, leaves


def get_isolated_graphmodule(
    func: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    tracing_mode: TracingMode = "real",
    decomposition_table: Table | None = None,
) -> fx.GraphModule:
    """Trace a function while another trace is running, without a node in that other trace.

    Args:
        func: the function.
        args, kwargs: the arguments to trace it on. The graph takes a list of their leaves.
        tracing_mode: see `make_fx`.
        decomposition_table: see `make_fx`.

    Example:
        >>> g = get_isolated_graphmodule(torch.add, (torch.ones(2), torch.ones(2)), {"alpha": 2})
        >>> [n.name for n in g.graph.nodes if n.op == "call_function"]
        ['add']
    """
    wrapped, leaves = wrapper_and_args_for_make_fx(func, args, kwargs)
    with without_proxy_mode():
        return make_fx(wrapped, decomposition_table, tracing_mode)(leaves)


def get_torch_dispatch_modes() -> list[TorchDispatchMode]:
    """The dispatch modes that are active, outermost first."""
    modes: list[TorchDispatchMode] = _get_current_dispatch_mode_stack()
    return modes
