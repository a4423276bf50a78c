"""The log that ``TORCH_LOGS=dynamic`` shows, in the form of its lines."""

from __future__ import annotations

import logging
import os
import traceback
from collections.abc import Callable

__all__ = ["line_and_place", "log_dynamic"]

_log = logging.getLogger("torch.fx.experimental.symbolic_shapes")
#: How many characters of a path torch shows.
_PATH = 25
_ADVICE = "TORCHDYNAMO_EXTENDED_ADVICE"


def log_dynamic(
    text: Callable[[], str],
    place: Callable[[], str] | None = None,
    more: tuple[str, Callable[[], str]] | None = None,
) -> None:
    """Log a line at INFO where torch logs its own, if the level is on.

    Args:
        text: gives what happened, such as ``create_symbol s77 = 4 for L['x'].size()[0]``.
        place: gives the place in the user's program, which follows.
        more: an environment variable, and a function that gives the value with which the line
            has the Python stack.
    """
    if not _log.isEnabledFor(logging.INFO):
        return
    line = text()
    if place is not None:
        line += f" {place()}"
    with_stack = False
    if more is not None:
        variable, value = more[0], more[1]()
        wanted = os.environ.get(variable, "")
        with_stack = value == wanted or value in wanted.split(",")
        if not with_stack and os.environ.get(_ADVICE, "1") not in ("0", ""):
            line += (
                f', for more info run with {variable}="{value}" or to suppress this message '
                f'run with {_ADVICE}="0"'
            )
    _log.info("%s", line, stack_info=with_stack)


def line_and_place(frame: traceback.FrameSummary) -> str:
    """A line of the user's program with its place, as torch's messages have it.

    Example:
        >>> line_and_place(traceback.FrameSummary("model.py", 3, "f", line="x = y.item()"))
        'x = y.item()  # model.py:3 in f'
    """
    place = f"{frame.filename[-_PATH:]}:{frame.lineno} in {frame.name.rpartition('.')[2]}"
    return f"{frame.line or ''}  # {place}"
