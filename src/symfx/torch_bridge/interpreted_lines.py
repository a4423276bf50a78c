"""The line of the program that Dynamo interprets, which has no frame of its own."""

from __future__ import annotations

from torch._guards import TracingContext

__all__ = ["interpreted_lines"]


def interpreted_lines() -> list[tuple[str, int, str]]:
    """The calls in the program that Dynamo interprets, the innermost last.

    Returns:
        File, line and function of each; an empty list where Dynamo interprets no program.
    """
    context = TracingContext.try_get()
    if context is None or context.loc_in_frame is None:
        return []
    around = [
        (frame.filename, frame.lineno or 0, frame.name) for frame in context.frame_summary_stack
    ]
    return [*around, context.loc_in_frame]
