"""The functions that run while a model is traced."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Callable, Iterator
from types import CodeType, FrameType
from typing import Any

from symfx.cache.code import Identity, identity_of, is_library
from symfx.cache.refusal import NotCacheableError
from symfx.collection import Collections

__all__ = ["recorded_calls"]

_IMPORTS = "<frozen importlib"
#: Hands a message to the handlers of logs, which the user chooses: the code of a handler is no part
#: of the model, even where the model sends the message.
_HANDS_ON = logging.Logger.callHandlers.__code__


def _is_aside(frame: FrameType | None, outermost: FrameType) -> bool:
    """Whether a frame is within an import, or a handler of logs, that began in `outermost`."""
    while frame is not None and frame is not outermost:
        code = frame.f_code
        if code is _HANDS_ON or code.co_filename.startswith(_IMPORTS):
            return True
        frame = frame.f_back
    return False


@contextlib.contextmanager
def recorded_calls() -> Iterator[set[Identity]]:
    """The functions outside of libraries that this thread calls inside; filled in at the end.

    The body of a module that is imported meanwhile, or of a class, counts as no function. Functions
    that an import or a handler of logs calls are left out.

    Raises:
        NotCacheableError: a debugger and a profiler use both ways to see the calls.
    """
    seen: dict[int, tuple[CodeType, Any]] = {}
    outermost = sys._getframe(2)  # calls this function, through contextlib

    def note(frame: FrameType, event: str, argument: Any) -> None:
        code = frame.f_code
        if id(code) in seen or collections.here() or _is_aside(frame.f_back, outermost):
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
    collections = Collections()
    try:
        with collections:
            follow(note)
            try:
                yield calls
            finally:
                follow(None)
    finally:
        calls.update(
            identity_of(code, module)
            for code, module in seen.values()
            if code.co_flags & 2  # CO_NEWLOCALS: functions have it, modules and classes do not
            and not is_library(code.co_filename, str(module))
        )
