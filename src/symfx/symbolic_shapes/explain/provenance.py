"""What caused a guard: the user's line, found cheaply and put into words when read."""

from __future__ import annotations

import dis
import sys
import traceback
from dataclasses import dataclass, field
from types import FrameType

from symfx.torch_bridge.dynamic_log import line_and_place
from symfx.torch_bridge.interpreted_lines import asking_place, interpreted_lines
from symfx.user_code import (
    SavedFrame,
    UserFrame,
    inside_try,
    is_boundary,
    is_user_file,
    user_frame,
    user_line,
    user_line_of_calls,
)

__all__ = ["STATED", "Provenance", "current_provenance", "in_assert_statement"]

STATED = "where "
"""The begin of the operator of a condition that no program asked for, but the user states."""


@dataclass(frozen=True, repr=False)
class Provenance:
    """What caused a guard, a specialization or an assertion.

    Attributes:
        frame: the line of the user's program; None where no frame of a program was found.
        operator: the torch operator that asked, if one did.
        asker: the place in torch that asked, where Dynamo interprets the program.
    """

    frame: UserFrame | SavedFrame | None = None
    operator: str | None = None
    asker: str | None = field(default=None, compare=False)

    @property
    def stated(self) -> bool:
        """Whether the user states the condition, by ``where=``."""
        return self.frame is None and (self.operator or "").startswith(STATED)

    def __repr__(self) -> str:
        return f"<Provenance {self}>"

    def __str__(self) -> str:
        parts = [self.operator] if self.operator else []
        if self.frame is not None:
            parts.append(f"at {self.frame.with_text}")
        return " ".join(parts) or "no user code"

    def in_torchs_words(self, reason: str | None = None) -> str:
        """The line with its place as torch's guards have it, and in parentheses the reason.

        Args:
            reason: why the line is the cause; the place in torch that asked, where not given.
        """
        reason = reason or self.asker
        stack = self.summary()
        if not stack:
            return str(self)
        line = line_and_place(stack[0])
        return line if reason is None else f"{line} ({reason})"

    def summary(self) -> traceback.StackSummary:
        """The place as Python's tracebacks have it: one frame, or none."""
        frames = []
        if self.frame is not None:
            frame = self.frame
            frames.append(
                traceback.FrameSummary(
                    frame.filename, frame.lineno, frame.function, line=frame.line
                )
            )
        return traceback.StackSummary.from_list(frames)

    def format(self) -> list[str]:
        """The place as lines of a traceback."""
        return self.summary().format()

    def cleanup(self) -> None:
        """Called by torch to drop the frames that its own object holds; this one holds none."""


def current_provenance(operator: object = None) -> Provenance:
    """The line of the user's program that is running, and the operator that asks.

    Args:
        operator: the torch operator, if one runs.
    """
    calls = interpreted_lines()
    operator = None if operator is None else str(operator)
    if calls:
        return Provenance(user_line_of_calls(calls), operator, asking_place(sys._getframe(1)))
    return Provenance(user_line(sys._getframe(1)), operator)


def _catches(frame: FrameType) -> bool:
    """Whether the traced program may catch an error that a frame of it raises."""
    frames = [frame]
    at = frame.f_back
    while at is not None and not is_boundary(at.f_code):
        frames.append(at)
        at = at.f_back
    # Without a boundary, the frames around the program are not known.
    program = frames if at is not None else frames[:1]
    return any(inside_try(f) for f in program if is_user_file(f.f_code.co_filename))


def in_assert_statement() -> bool:
    """Whether the user's program is testing the condition of an ``assert`` at this moment."""
    frame = None if interpreted_lines() else user_frame()
    # A program that catches the error of its ``assert`` goes on, and a graph cannot.
    if frame is None or _catches(frame):
        return False
    ahead = [i for i in dis.get_instructions(frame.f_code) if i.offset >= frame.f_lasti]
    steps = [i for i in ahead if i.opname not in ("TO_BOOL", "COMPARE_OP", "CACHE", "NOT_TAKEN")]
    if len(steps) < 2 or not steps[0].opname.startswith("POP_JUMP"):
        return False
    raises = steps[1]
    if steps[0].opname.endswith("FALSE"):  # the first of conditions that ``and`` joins
        raises = next(i for i in steps if i.offset >= steps[0].argval)
    elif not steps[0].opname.endswith("TRUE"):
        return False
    # Python 3.14 loads AssertionError as a constant like others.
    return raises.opname == "LOAD_ASSERTION_ERROR" or "AssertionError" in str(raises.argrepr)
