"""Delayed calls, made when their result is first needed."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any, ParamSpec, TypeVar

from torch.utils._thunk import Thunk

from symfx.proxy_tensor.active_mode import get_proxy_mode

__all__ = ["maybe_disable_thunkify", "maybe_enable_thunkify", "thunkify"]

_P = ParamSpec("_P")
_R = TypeVar("_R")


def thunkify(tracer: Any, f: Callable[_P, _R], *args: _P.args, **kwargs: _P.kwargs) -> Thunk[_R]:
    """A delayed call of a function.

    Without `maybe_enable_thunkify` in force for the tracer, the call is made at once.

    Args:
        tracer: a tracer.
        f: the function.
        args, kwargs: its arguments.

    Returns:
        An object whose ``force()`` returns the result; the call is made once.

    Example:
        >>> thunkify(PythonKeyTracer(), max, 2, 3).force()
        3
    """
    thunk = Thunk(functools.partial(f, *args, **kwargs))
    if not tracer.enable_thunkify:
        thunk.force()
    return thunk


@contextlib.contextmanager
def _thunkify(enable: bool) -> Iterator[None]:
    mode = get_proxy_mode()
    if mode is None:
        yield
        return
    tracer = mode.tracer
    before = tracer.enable_thunkify
    tracer.enable_thunkify = enable
    try:
        yield
    finally:
        tracer.enable_thunkify = before


def maybe_enable_thunkify() -> contextlib.AbstractContextManager[None]:
    """A context manager: `thunkify` delays calls inside, where a trace is running.

    Arithmetic on symbolic numbers needs no delay: symfx records it only once an operator takes
    the result.
    """
    return _thunkify(True)


def maybe_disable_thunkify() -> contextlib.AbstractContextManager[None]:
    """A context manager: `thunkify` makes calls at once inside."""
    return _thunkify(False)
