"""The mode that traces now, and functions that act on it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from symfx.errors import TracingError
from symfx.proxy_tensor.mode import ProxyTorchDispatchMode, Table
from symfx.torch_bridge.modes import active_proxy_mode, without_proxy_mode

__all__ = [
    "decompose",
    "disable_proxy_modes_tracing",
    "get_innermost_proxy_mode",
    "get_proxy_mode",
    "handle_sym_dispatch",
]


def get_proxy_mode() -> ProxyTorchDispatchMode | None:
    """The mode that is tracing now, or None.

    Example:
        >>> get_proxy_mode() is None
        True
    """
    mode = active_proxy_mode()
    return mode if type(mode) is ProxyTorchDispatchMode else None


get_innermost_proxy_mode = get_proxy_mode
"""An older name of `get_proxy_mode`: at most one mode traces at a time."""


def disable_proxy_modes_tracing() -> contextlib.AbstractContextManager[Any]:
    """A context manager: operators inside run without being recorded.

    Returns:
        A context manager that gives the mode that was tracing, or None.

    Example:
        >>> with disable_proxy_modes_tracing() as mode:
        ...     mode is None
        True
    """
    return without_proxy_mode()


@contextlib.contextmanager
def decompose(decomposition_table: Table | None) -> Iterator[Table]:
    """A context manager: the running trace decomposes operators by another table.

    Args:
        decomposition_table: for each operator, the function that computes it by others.

    Raises:
        TracingError: no trace is running.
    """
    mode = get_proxy_mode()
    if mode is None:
        raise TracingError(
            "decompose() was called while no trace is running",
            fix="call it in a function that make_fx traces",
        )
    with mode.enable_decompositions(decomposition_table) as table:
        yield table


def handle_sym_dispatch(
    func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> Any:
    """Run a function on symbolic numbers as part of the running trace.

    The result gets a node once an operator takes it.

    Args:
        func: the function, such as `operator.add`.
        args, kwargs: its arguments.

    Raises:
        TracingError: no trace is running.
    """
    mode = get_proxy_mode()
    if mode is None:
        raise TracingError(
            "handle_sym_dispatch() was called while no trace is running",
            fix="call the function itself",
        )
    with without_proxy_mode():
        return mode.__sym_dispatch__(func, [], args, kwargs)
