"""The functions that run while a model is traced."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from types import CodeType, FrameType
from typing import Any

from symfx.cache.code import Identity, identity_of, is_library
from symfx.cache.refusal import NotCacheableError

__all__ = ["recorded_calls"]

_IMPORTS = "<frozen importlib"


@contextlib.contextmanager
def recorded_calls() -> Iterator[set[Identity]]:
    """The functions outside of libraries that this thread calls inside; filled in at the end.

    The body of a module that is imported meanwhile, or of a class, counts as no function.

    Raises:
        NotCacheableError: a debugger and a profiler use both ways to see the calls.
    """
    seen: dict[int, tuple[CodeType, Any]] = {}
    finders: dict[int, CodeType] = {}

    def note(frame: FrameType, event: str, argument: Any) -> None:
        code = frame.f_code
        if id(code) in seen:
            return
        caller = frame.f_back
        if caller is not None and (
            id(caller.f_code) in finders or caller.f_code.co_filename.startswith(_IMPORTS)
        ):
            finders[id(code)] = code  # it looks for a module that is being imported
            return
        seen[id(code)] = code, frame.f_globals.get("__name__", "")

    follow: Callable[[Any], None]
    if sys.gettrace() is None:
        follow = sys.settrace
    elif sys.getprofile() is None:
        follow = sys.setprofile
    else:
        raise NotCacheableError("a debugger and a profiler are running")
    calls: set[Identity] = set()
    follow(note)
    try:
        yield calls
    finally:
        follow(None)
        calls.update(
            identity_of(code, module)
            for code, module in seen.values()
            if code.co_flags & 2  # CO_NEWLOCALS: functions have it, modules and classes do not
            and not is_library(code.co_filename, str(module))
        )
