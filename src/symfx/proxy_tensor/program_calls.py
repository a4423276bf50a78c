"""The calls of the user's program that led to a node: found cheaply, put into words when read."""

from __future__ import annotations

import itertools
import linecache
import os
import sys
from types import CodeType, FrameType
from typing import Any

from symfx.user_code import BOUNDARY, CODE_KINDS, kind_of_code

__all__ = ["CallsOfProgram", "calls_of_program"]

#: The files of torch in which modules call each other, and functions.
_CALLING = (
    os.path.join("torch", "nn", "modules", "module.py"),
    os.path.join("torch", "nn", "functional.py"),
)


class CallsOfProgram:
    """The calls of a program at one moment, found without reading a line.

    Args:
        found: each code followed by the offset in it, the innermost first.
        around: the calls around these.
        frame: a frame that is running.
        like: the same calls inside of others, with which these share their text.

    Attributes:
        frame: a frame that is running, at which a later search may stop; None when it has ended.
    """

    __slots__ = ("_around", "_found", "_inner", "_like", "_text", "frame")

    def __init__(
        self,
        found: list[Any],
        around: CallsOfProgram | None,
        frame: FrameType | None = None,
        like: CallsOfProgram | None = None,
    ) -> None:
        self._found = found
        self._around = around
        self._text: str | None = None
        self._inner: str | None = None
        self._like = like
        self.frame = frame

    @property
    def around(self) -> CallsOfProgram | None:
        """The calls around these."""
        return self._around

    def inside_of(self, around: CallsOfProgram | None) -> CallsOfProgram:
        """The same calls inside of others."""
        return CallsOfProgram(self._found, around, like=self)

    @property
    def text(self) -> str:
        """The calls as a formatted traceback, the innermost last.

        The calls by which torch's modules and functions call each other are left out.
        """
        if self._text is None:
            outer = "" if self._around is None else self._around.text
            self._text = outer + self._inner_text()
        return self._text

    def _inner_text(self) -> str:
        if self._inner is None:
            if self._like is not None:
                self._inner = self._like._inner_text()
            else:
                calls = self._found
                inner = [_call_in_words(calls[i], calls[i + 1]) for i in range(0, len(calls), 2)]
                self._inner = "".join(reversed(inner))
        return self._inner


def calls_of_program(
    around: CallsOfProgram | None = None,
    frame: FrameType | None = None,
    skipped: int = 1,
    last: CallsOfProgram | None = None,
) -> CallsOfProgram:
    """The calls of the user's program and of torch's layers that are running.

    Args:
        around: the calls up to a frame, which are not looked for again.
        frame: the frame up to which the result can be used so; None for one that is not.
        skipped: how many of the innermost frames are not the program's. Python makes a frame
            object for each frame that is looked at, which is most of the work here.
        last: calls that are returned if the calls are the same.
    """
    found: list[Any] = []
    at: FrameType | None = sys._getframe(skipped + 1)
    stop = None if around is None else around.frame
    kinds = CODE_KINDS
    while at is not None and at is not stop:
        code = at.f_code
        kind = kinds.get(id(code))
        if kind is None:
            kind = kind_of_code(code)
        if kind:  # most frames are of a library
            if kind == BOUNDARY:
                around = None
                break
            found += (code, at.f_lasti)
        at = at.f_back
    if last is not None and last._around is around and last._found == found:
        return last
    return CallsOfProgram(found, around, frame)


#: The text of each call that was put into words, by the identity of its code and by its offset.
_words: dict[tuple[int, int], str] = {}


def _call_in_words(code: CodeType, offset: int) -> str:
    """One call of a traceback; empty for one by which modules call each other."""
    known = _words.get((id(code), offset))
    if known is None:
        known = _words[id(code), offset] = _formatted_call(code, offset)
    return known


def _formatted_call(code: CodeType, offset: int) -> str:
    if code.co_filename.endswith(_CALLING):
        return ""
    at = next(itertools.islice(code.co_positions(), offset // 2, None), (code.co_firstlineno,))
    line = at[0] or code.co_firstlineno
    text = linecache.getline(code.co_filename, line).strip()
    return f'  File "{code.co_filename}", line {line}, in {code.co_name}\n    {text}\n'
