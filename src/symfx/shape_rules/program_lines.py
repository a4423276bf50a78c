"""The program's own line, where a line of an installed package is the innermost one."""

from __future__ import annotations

import os
import sysconfig
import traceback
from collections.abc import Sequence
from functools import cache

from symfx.user_code import SavedFrame, UserFrame, frames_of_trace, is_user_file, where

__all__ = ["program_line", "program_line_of_trace"]


def program_line_of_trace(formatted: str) -> str | None:
    """As `user_line_of_trace`, but a line of an installed package follows the program's own line.

    Example:
        >>> program_line_of_trace('File "model.py", line 3, in forward\\n    return x + 1')
        'model.py:3: return x + 1'
    """
    return _with_own_line([f for f in frames_of_trace(formatted) if is_user_file(f.filename)])


def program_line(error: BaseException) -> str | None:
    """As `where`, but a line of an installed package follows the program's own line.

    Example:
        >>> program_line(ValueError("never raised")) is None
        True
    """
    calls = [(f.f_code, line) for f, line in traceback.walk_tb(error.__traceback__)]
    frames = [UserFrame(code, line) for code, line in calls if is_user_file(code.co_filename)]
    return _with_own_line(frames) or where(error)


def _with_own_line(frames: Sequence[UserFrame | SavedFrame]) -> str | None:
    if not frames:
        return None
    last = frames[-1]
    own = [f for f in frames if not f.filename.startswith(_packages())]
    if not own or own[-1] is last:
        return last.with_text
    folder = next(each for each in _packages() if last.filename.startswith(each))
    place = f"{last.filename.removeprefix(folder)}:{last.lineno}"
    return f"{own[-1].with_text}, in {place}: {last.line}"


@cache
def _packages() -> tuple[str, ...]:
    """The folders of installed packages, and that of Python's own."""
    names = ("purelib", "platlib", "stdlib")
    return tuple(dict.fromkeys(sysconfig.get_paths()[name] + os.sep for name in names))
