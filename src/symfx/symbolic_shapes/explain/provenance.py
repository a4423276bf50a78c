"""Where a guard came from: the user's line, found cheaply and put into words when read."""

from __future__ import annotations

import dis
import linecache
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from types import CodeType, FrameType
from typing import Any, TypeVar

import torch
from torch.utils import _pytree as pytree

from symfx.sym_node import SymTypes

__all__ = [
    "Provenance",
    "UserFrame",
    "boundary",
    "capture",
    "in_assert_statement",
    "symbolic_locals",
    "user_frame",
]  # fmt: skip

_F = TypeVar("_F", bound=Callable[..., Any])

_TORCH = os.path.dirname(os.path.abspath(torch.__file__)) + os.sep
_NN = tuple(os.path.join(_TORCH, "nn", part) for part in ("modules", "functional.py"))
_SYMFX = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))) + os.sep

_USER, _MODULE, _LIBRARY, _BOUNDARY = range(4)
_kinds: dict[CodeType, int] = {}


def boundary(function: _F) -> _F:
    """Mark the function that calls the user's program: frames further out are not the program.

    So a guard that a model made of library modules alone causes is put down to the library's
    line, not to the line that started the trace.
    """
    _kinds[function.__code__] = _BOUNDARY
    return function


def _kind(code: CodeType) -> int:
    kind = _kinds.get(code)
    if kind is None:
        path = code.co_filename
        if path.startswith(_NN):
            kind = _MODULE
        elif path.startswith((_TORCH, _SYMFX, "<frozen", "<eval_with_key>")) or (
            os.path.basename(path) in ("contextlib.py", "functools.py")
        ):
            kind = _LIBRARY
        else:
            kind = _USER
        _kinds[code] = kind
    return kind


@dataclass(frozen=True)
class UserFrame:
    """A place in the user's program.

    Attributes:
        code: the code object.
        lineno: the line, from 1.
    """

    code: CodeType
    lineno: int

    @property
    def filename(self) -> str:
        """The file's path."""
        return self.code.co_filename

    @property
    def function(self) -> str:
        """The function's qualified name."""
        return self.code.co_qualname

    @cached_property
    def line(self) -> str:
        """The source line without its indentation, empty where the source is not at hand."""
        return linecache.getline(self.filename, self.lineno).strip()

    def __str__(self) -> str:
        path = self.filename
        try:
            short = os.path.relpath(path)
        except ValueError:
            short = path
        if short.startswith(".."):
            short = path[len(_TORCH) - len("torch/") :] if path.startswith(_TORCH) else path
        return f"{short}:{self.lineno}"


@dataclass(frozen=True)
class Provenance:
    """What caused a guard, a specialisation or an assertion.

    Attributes:
        frame: the line of the user's program; None where no frame of a program was found.
        operator: the torch operator that asked, if one did.
    """

    frame: UserFrame | None = None
    operator: str | None = None

    def __str__(self) -> str:
        parts = []
        if self.operator:
            parts.append(self.operator)
        if self.frame is not None:
            parts.append(f"at {self.frame}")
            if self.frame.line:
                parts.append(f"`{self.frame.line}`")
        return " ".join(parts) or "no user code"

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
        """Called by torch to drop frames that it holds; none are held here."""


def capture(operator: object = None) -> Provenance:
    """The place in the user's program from which this is called."""
    frame = sys._getframe(1)
    inside_module: UserFrame | None = None
    found: UserFrame | None = None
    at: Any = frame
    kinds = _kinds
    while at is not None:
        code = at.f_code
        kind = kinds.get(code)
        if kind is None:
            kind = _kind(code)
        if kind == _USER:
            found = UserFrame(code, at.f_lineno)
            break
        if kind == _BOUNDARY:
            break
        if kind == _MODULE and inside_module is None:
            inside_module = UserFrame(code, at.f_lineno)
        at = at.f_back
    return Provenance(found or inside_module, None if operator is None else str(operator))


def user_frame() -> FrameType | None:
    """The innermost frame of the user's program, if there is one."""
    at: FrameType | None = sys._getframe(1)
    while at is not None and _kind(at.f_code) != _BOUNDARY:
        if _kind(at.f_code) == _USER:
            return at
        at = at.f_back
    return None


def raised_at(error: BaseException) -> UserFrame | None:
    """The innermost line of the user's program that an exception came through."""
    found: UserFrame | None = None
    step = error.__traceback__
    while step is not None:
        code = step.tb_frame.f_code
        if _kind(code) == _BOUNDARY:
            # Frames further out are not the program.
            found = None
        elif _kind(code) == _USER:
            found = UserFrame(code, step.tb_lineno)
        step = step.tb_next
    return found


def symbolic_locals(frame: FrameType) -> Iterator[tuple[str, Any]]:
    """The symbolic numbers that a frame's local variables hold, each with Python that reads it.

    Numbers stand for themselves and tensors for their sizes, also inside of containers.
    """
    for variable, value in frame.f_locals.items():
        for path, leaf in pytree.tree_leaves_with_path(value):
            name = variable + pytree.keystr(path)
            if isinstance(leaf, SymTypes):
                yield name, leaf
            elif isinstance(leaf, torch.Tensor):
                for i, size in enumerate(leaf.shape):
                    if isinstance(size, SymTypes):
                        yield f"{name}.shape[{i}]", size


def in_assert_statement() -> bool:
    """Whether the user's program is testing the condition of an ``assert`` at this moment."""
    frame = user_frame()
    if frame is None:
        return False
    ahead = [i for i in dis.get_instructions(frame.f_code) if i.offset >= frame.f_lasti]
    names = [i.opname for i in ahead if i.opname not in ("TO_BOOL", "COMPARE_OP", "CACHE")]
    if len(names) < 2 or not (names[0].startswith("POP_JUMP") and names[0].endswith("TRUE")):
        return False
    # Python 3.14 loads AssertionError as a constant like others.
    raises = next(i for i in ahead if i.opname == names[1])
    return names[1] == "LOAD_ASSERTION_ERROR" or "AssertionError" in str(raises.argrepr)
