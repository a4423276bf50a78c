"""Work that is put off until its result is wanted."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any, ParamSpec, TypeVar

from torch.utils._thunk import Thunk

from symfx.proxy_tensor.mode import get_proxy_mode

__all__ = ["maybe_disable_thunkify", "maybe_enable_thunkify", "thunkify"]

_P = ParamSpec("_P")
_R = TypeVar("_R")


def thunkify(tracer: Any, f: Callable[_P, _R], *args: _P.args, **kwargs: _P.kwargs) -> Thunk[_R]:
    """The call of a function, to be made when its result is first asked for.

    Where `maybe_enable_thunkify` is not in force for the tracer, the call is made at once.

    Args:
        tracer: a tracer.
        f: the function.
        args, kwargs: its arguments.

    Returns:
        An object whose ``force()`` gives the result; the call is made once.

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
    """Inside, `thunkify` puts work off; without effect where nothing is being traced.

    Arithmetic on symbolic numbers needs neither: symfx records none of it until an operator
    takes the result.
    """
    return _thunkify(True)


def maybe_disable_thunkify() -> contextlib.AbstractContextManager[None]:
    """Inside, `thunkify` puts nothing off; undoes an outer `maybe_enable_thunkify`."""
    return _thunkify(False)
