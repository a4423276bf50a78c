"""Events of torch's structured trace, which tlparse and `torch.export.draft_export` read."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import Any

from torch._logging import structured
from torch._logging._internal import dtrace_structured, trace_log, trace_structured
from torch.utils._traceback import CapturedTraceback

__all__ = ["is_traced", "trace_event"]


def is_traced() -> bool:
    """Whether someone reads torch's structured trace."""
    return bool(trace_log.handlers)


def trace_event(
    name: str,
    user_stack: Callable[[], traceback.StackSummary],
    fields: Callable[[], dict[str, Any]],
    *,
    detailed: bool = False,
) -> None:
    """Write an event into torch's structured trace, if someone reads it.

    Args:
        name: torch's name for the event.
        user_stack: gives the place in the user's program.
        fields: gives the other fields, as plain data.
        detailed: whether only a detailed trace, as that of a draft export, has the event.
    """

    def metadata() -> dict[str, Any]:
        python = CapturedTraceback.extract(skip=2).summary()  # type: ignore[no-untyped-call]
        return {
            **fields(),
            # torch prints the last frame, so there has to be one.
            "user_stack": structured.from_traceback(user_stack() or python),
            "stack": structured.from_traceback(python),
        }

    (dtrace_structured if detailed else trace_structured)(name, metadata_fn=metadata)
