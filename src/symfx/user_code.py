"""Which line of the user's program an exception is to be put down to."""

from __future__ import annotations

import importlib.util
import linecache
import os
import traceback
from functools import cache

__all__ = ["blame", "where", "write_place"]

_SELF = os.path.dirname(os.path.abspath(__file__)) + os.sep


@cache
def _torch() -> str:
    spec = importlib.util.find_spec("torch")
    return os.path.dirname(spec.origin) + os.sep if spec and spec.origin else os.devnull


def blame(error: BaseException) -> tuple[str, int] | None:
    """The innermost line of the user's own code that an exception passed through.

    Code of torch and symfx is not the user's; where nothing else took part (a model made of
    torch's modules alone), the innermost line of ``torch.nn`` stands in.

    Example:
        >>> try:
        ...     import json
        ...     _ = json.loads("{")
        ... except ValueError as error:
        ...     blame(error)[0].endswith("decoder.py")
        True
    """
    if isinstance(error, SyntaxError) and error.filename and error.lineno:
        return error.filename, error.lineno
    torch_nn = os.path.join(_torch(), "nn") + os.sep
    user = module = None
    for frame, lineno in traceback.walk_tb(error.__traceback__):
        path = frame.f_code.co_filename
        if path.startswith(torch_nn):
            module = path, lineno
        elif path.startswith((_torch(), _SELF, "<")):  # generated code has no line to show
            continue
        elif os.path.basename(path) not in ("contextlib.py", "functools.py"):
            user = path, lineno
    return user or module


def write_place(path: str, lineno: int) -> str:
    """A line for people to read: its file, as short as can be, its number, and its text."""
    if path.startswith(_torch()):
        short = os.path.join("torch", path[len(_torch()) :])
    else:
        near = os.path.relpath(path)
        short = path if near.startswith(os.pardir) else near
    text = linecache.getline(path, lineno).strip()
    return f"{short}:{lineno}" + (f": {text}" if text else "")


def where(error: BaseException) -> str | None:
    """`blame` put into words; None where no line can be named."""
    found = blame(error)
    return write_place(*found) if found else None
