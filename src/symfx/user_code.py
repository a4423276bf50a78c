"""The line of the user's program that a guard or an exception came from, and how it reads.

Lines of torch, of symfx and of Python's own wrappers are not the user's. This module imports no
torch, so that an error can be told before torch is loaded.
"""

from __future__ import annotations

import ast
import dis
import importlib.util
import itertools
import linecache
import os
import re
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from types import CodeType, FrameType
from typing import Any, TypeVar

__all__ = [
    "BOUNDARY",
    "CODE_KINDS",
    "SYMFX_FOLDER",
    "SavedFrame",
    "UserFrame",
    "asked_by_program",
    "asking_expression",
    "boundary",
    "frame_of_trace",
    "frames_of_trace",
    "here",
    "inside_try",
    "is_boundary",
    "is_user_file",
    "kind_of_code",
    "line_in_words",
    "raised_at",
    "running_node",
    "statement_of_trace",
    "user_frame",
    "user_line",
    "user_line_of_calls",
    "user_line_of_trace",
    "where",
]

_F = TypeVar("_F", bound=Callable[..., Any])

_LIBRARY, _USER, _MODULE, BOUNDARY = range(4)  # BOUNDARY: of functions marked by `boundary`
CODE_KINDS: dict[int, int] = {}
"""The kind of each code object that was met, by its identity: 0 for code of a library.

Finding a line looks at no path twice, and computes no hash of a code object, which takes longer
than a look at its frame.
"""
#: These code objects, kept so that no other gets the identity of one.
_met: list[CodeType] = []

SYMFX_FOLDER = os.path.dirname(os.path.abspath(__file__)) + os.sep
#: Files of the standard library whose functions only call on.
_WRAPPERS = ("contextlib.py", "functools.py")
#: The functions of Python that ask for the truth or the number of their argument.
_ASKING = ("bool", "int", "float", "range", "len", "any", "all")
#: One frame of a formatted traceback.
_FORMATTED = re.compile(
    r'File "(?P<path>[^"]+)", line (?P<line>\d+)(?:, in (?P<function>.*))?.*\n\s*(?P<text>.*)'
)


@cache
def _torch() -> str:
    """The folder of torch, which may not be loaded yet, or may not be installed."""
    spec = importlib.util.find_spec("torch")
    if spec is None or not spec.origin:
        return os.devnull + os.sep  # no file lies there
    return os.path.dirname(os.path.abspath(spec.origin)) + os.sep


@cache
def _folders() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """How the paths of torch's layers begin, and those of all code that is not the user's."""
    layers = tuple(os.path.join(_torch(), "nn", part) for part in ("modules", "functional.py"))
    return layers, (_torch(), SYMFX_FOLDER, "<frozen", "<eval_with_key>")


def _kind_of_path(path: str) -> int:
    layers, libraries = _folders()
    if path.startswith(layers):
        return _MODULE
    if path.startswith(libraries) or os.path.basename(path) in _WRAPPERS:
        return _LIBRARY
    return _USER


def kind_of_code(code: CodeType) -> int:
    """The kind of a code object: 0 for one of a library; see `CODE_KINDS`."""
    kind = CODE_KINDS.get(id(code))
    if kind is not None:
        return kind
    kind = _kind_of_path(code.co_filename)
    # Graph modules and rewritten functions come and go; their code must not be kept.
    return kind if code.co_filename.startswith("<") else _note_kind(code, kind)


def _note_kind(code: CodeType, kind: int) -> int:
    _met.append(code)
    CODE_KINDS[id(code)] = kind
    return kind


def is_user_file(path: str) -> bool:
    """Whether the code in a file is the user's.

    Example:
        >>> is_user_file("model.py"), is_user_file(__file__)
        (True, False)
    """
    return _kind_of_path(path) == _USER


def boundary(function: _F) -> _F:
    """Mark the function that calls the user's program: frames further out are not the program.

    A guard that a model of torch's layers alone causes has the layer's line then, not the line
    that started the trace.
    """
    if CODE_KINDS.get(id(function.__code__)) != BOUNDARY:
        _note_kind(function.__code__, BOUNDARY)
    return function


def is_boundary(code: CodeType) -> bool:
    """Whether the code is a function's that `boundary` has marked."""
    return CODE_KINDS.get(id(code)) == BOUNDARY


def asked_by_program(frame: FrameType | None) -> bool:
    """Whether the program that is traced calls from a frame, rather than torch or symfx.

    The layers of torch.nn and the code of graph modules are part of the program.

    Args:
        frame: the frame. The frames of modes for torch functions are passed over.
    """
    while frame is not None and frame.f_code.co_name == "__torch_function__":
        frame = frame.f_back
    if frame is None:
        return False
    code = frame.f_code
    return kind_of_code(code) in (_USER, _MODULE) or code.co_filename.startswith("<eval_with_key>")


# -- a line in words ------------------------------------------------------------------------------


def line_in_words(path: str, lineno: int, text: str | None = None) -> str:
    """A line for people to read, such as ``model.py:12: y = x.view(-1)``.

    Args:
        path: the file.
        lineno: the number of the line, from 1.
        text: the text of the line; read from the file by default, left out where it is empty.
    """
    if text is None:
        text = linecache.getline(path, lineno).strip()
    return f"{_short(path)}:{lineno}" + (f": {text}" if text else "")


def _short(path: str) -> str:
    """A path from the current directory or from torch's folder where it lies in one of them."""
    if path.startswith(_torch()):
        return os.path.join("torch", path[len(_torch()) :])
    try:
        near = os.path.relpath(path)
    except ValueError:  # another drive of Windows
        return path
    return path if near.startswith(os.pardir) else near


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
        """The text of the line without its indentation; empty where the source is not at hand."""
        return linecache.getline(self.filename, self.lineno).strip()

    @property
    def with_text(self) -> str:
        """The place and its text: ``model.py:12: y = x.view(-1)``."""
        return line_in_words(self.filename, self.lineno, self.line)

    def __str__(self) -> str:
        return line_in_words(self.filename, self.lineno, "")


@dataclass(frozen=True)
class SavedFrame:
    """A place in a user's program that a file tells of: its source need not be at hand.

    Attributes:
        filename: the file's path, where the program ran.
        lineno: the line, from 1.
        function: the function's qualified name.
        line: the text of the line; empty where it was not at hand.
    """

    filename: str
    lineno: int
    function: str
    line: str

    @property
    def with_text(self) -> str:
        """The place and its text; see `UserFrame.with_text`."""
        return line_in_words(self.filename, self.lineno, self.line)

    def __str__(self) -> str:
        return line_in_words(self.filename, self.lineno, "")


# -- finding the line -----------------------------------------------------------------------------


def user_line(start: FrameType | None = None) -> UserFrame | None:
    """The innermost line of the user's program that is running.

    A line of torch's layers stands in where no line of the user's is found.

    Args:
        start: the frame to begin at; the caller's by default.
    """
    layer: UserFrame | None = None
    at = sys._getframe(1) if start is None else start
    known = CODE_KINDS.get
    while at is not None:
        kind = known(id(at.f_code), -1)
        if kind:  # most frames are of a library, and every guard passes a dozen of them
            code = at.f_code
            if kind < 0:
                kind = kind_of_code(code)
            if kind == _USER:
                return UserFrame(code, at.f_lineno)
            if kind == BOUNDARY:
                break
            if kind and layer is None:
                layer = UserFrame(code, at.f_lineno)
        at = at.f_back  # type: ignore[assignment]
    return layer


def user_line_of_calls(calls: Sequence[tuple[str, int, str]]) -> SavedFrame | None:
    """The innermost line of the user's program among calls, as `user_line` chooses it.

    Args:
        calls: file, line and function of each call, the innermost last.
    """
    layer: SavedFrame | None = None
    for path, lineno, function in reversed(calls):
        kind = _kind_of_path(path)
        if kind == _USER or (kind == _MODULE and layer is None):
            text = linecache.getline(path, lineno).strip()
            frame = SavedFrame(path, lineno, function, text)
            if kind == _USER:
                return frame
            layer = frame
    return layer


def user_frame() -> FrameType | None:
    """The innermost frame of the user's program; None where only library code is running."""
    at: FrameType | None = sys._getframe(1)
    while at is not None and kind_of_code(at.f_code) != BOUNDARY:
        if kind_of_code(at.f_code) == _USER:
            return at
        at = at.f_back
    return None


def asking_expression(frame: FrameType) -> str | None:
    """The expression whose truth or number a frame asks for at this moment.

    None where the frame runs anything else, such as a call of a function that asks, and where no
    source is at hand.

    Example:
        >>> class Asked:
        ...     def __int__(self):
        ...         print(asking_expression(sys._getframe(1)))
        ...         return 1
        >>> int(Asked())
        int(Asked())
        1
    """
    code = frame.f_code
    operation = dis.opname[code.co_code[frame.f_lasti]]
    branches = "JUMP" in operation or operation in ("TO_BOOL", "UNARY_NOT")
    if not branches and not operation.startswith(("CALL", "PRECALL")):
        return None
    _, found = running_node(frame)
    # Python attributes the test of a branch to the whole branch.
    if isinstance(found, (ast.If, ast.While, ast.Assert, ast.IfExp)):
        found = found.test
    if not branches and not (
        isinstance(found, ast.Call)
        and isinstance(found.func, ast.Name)
        and found.func.id in _ASKING
    ):
        return None
    return ast.unparse(found) if isinstance(found, ast.expr) else None


def running_node(frame: FrameType) -> tuple[ast.Module | None, ast.AST | None]:
    """The syntax tree of a frame's file, and the innermost node that the frame runs at this moment.

    Both are None where no source is at hand.
    """
    code = frame.f_code
    at = next(itertools.islice(code.co_positions(), frame.f_lasti // 2, None), None)
    source = "".join(linecache.getlines(code.co_filename))
    tree = _parsed(source)
    if not source or tree is None or at is None:
        return None, None
    return tree, _by_place(source).get(at)


@lru_cache(maxsize=8)
def _by_place(source: str) -> dict[tuple[int | None, ...], ast.AST]:
    """The innermost node at each place of a file."""
    tree = _parsed(source)
    return {} if tree is None else {_place(node): node for node in ast.walk(tree)}


def _place(node: ast.AST) -> tuple[int | None, ...]:
    names = ("lineno", "end_lineno", "col_offset", "end_col_offset")
    return tuple(getattr(node, name, None) for name in names)


def inside_try(frame: FrameType) -> bool:
    """Whether a frame runs a statement of a ``try`` that has an ``except``.

    Example:
        >>> inside_try(sys._getframe())  # no source is at hand here
        False
    """
    return any(first <= frame.f_lineno <= last for first, last in _tries(frame.f_code.co_filename))


@lru_cache(maxsize=64)
def _tries(path: str) -> tuple[tuple[int, int], ...]:
    """The first and last lines of the bodies of ``try`` in a file."""
    text = "".join(linecache.getlines(path))
    tree = _parsed(text) if "except" in text else None
    if tree is None:
        return ()
    return tuple(
        (each.body[0].lineno, each.body[-1].end_lineno or each.body[-1].lineno)
        for each in ast.walk(tree)
        if isinstance(each, ast.Try) and each.handlers
    )


@lru_cache(maxsize=8)
def _parsed(source: str) -> ast.Module | None:
    """The syntax tree of a file; None where it is not Python."""
    try:
        return ast.parse(source)
    except (SyntaxError, ValueError):
        return None


def raised_at(error: BaseException) -> UserFrame | None:
    """The innermost line of the user's program that an exception came through.

    A line of torch's layers stands in where no line of the user's is found.

    Example:
        >>> try:
        ...     import json
        ...     _ = json.loads("{")
        ... except ValueError as error:
        ...     raised_at(error).filename.endswith("decoder.py")
        True
    """
    user: UserFrame | None = None
    layer: UserFrame | None = None
    inside = False
    for frame, lineno in traceback.walk_tb(error.__traceback__):
        kind = kind_of_code(frame.f_code)
        if kind == BOUNDARY:
            # Further boundaries are those of subgraphs: lines around them are of the program.
            if not inside:
                user = layer = None
            inside = True
        elif kind == _USER:
            user = UserFrame(frame.f_code, lineno)
        elif kind == _MODULE:
            layer = UserFrame(frame.f_code, lineno)
    return user or layer


def where(error: BaseException) -> str | None:
    """The line of `raised_at` in words; None where no line can be named."""
    if isinstance(error, SyntaxError) and error.filename and error.lineno:
        return line_in_words(error.filename, error.lineno)
    found = raised_at(error)
    return None if found is None else found.with_text


def here() -> str | None:
    """The line of `user_line` in words; None where no line can be named."""
    found = user_line(sys._getframe(1))
    return None if found is None else found.with_text


def statement_of_trace(formatted: str) -> ast.stmt | None:
    """The innermost statement of the user's program in a formatted traceback.

    Args:
        formatted: text such as torch.fx keeps in ``Node.stack_trace``.

    Returns:
        The smallest statement around the line; ``None`` where no source is at hand.
    """
    frames = [f for f in _FORMATTED.finditer(formatted) if is_user_file(f["path"])]
    tree = _parsed("".join(linecache.getlines(frames[-1]["path"]))) if frames else None
    if tree is None:
        return None
    line = int(frames[-1]["line"])
    around = [
        each
        for each in ast.walk(tree)
        if isinstance(each, ast.stmt) and each.lineno <= line <= (each.end_lineno or each.lineno)
    ]
    return max(around, key=lambda each: each.lineno, default=None)


def frames_of_trace(formatted: str) -> list[SavedFrame]:
    """The lines of the user's program and of torch's layers in a formatted traceback.

    Args:
        formatted: text such as torch.fx keeps in ``Node.stack_trace``.

    Returns:
        The lines, the innermost last.
    """
    return [
        SavedFrame(f["path"], int(f["line"]), f["function"] or "", f["text"].strip())
        for f in _FORMATTED.finditer(formatted)
        if _kind_of_path(f["path"]) in (_USER, _MODULE)
    ]


def frame_of_trace(formatted: str) -> SavedFrame | None:
    """The line that `user_line` names, from a formatted traceback.

    Example:
        >>> frame_of_trace('File "model.py", line 3, in forward\\n    return x + 1').function
        'forward'
    """
    frames = frames_of_trace(formatted)
    users = [frame for frame in frames if is_user_file(frame.filename)]
    return next(reversed(users or frames), None)


def user_line_of_trace(formatted: str) -> str | None:
    """The innermost line of the user's program in a formatted traceback, in words.

    Args:
        formatted: text such as torch.fx keeps in ``Node.stack_trace``.

    Example:
        >>> user_line_of_trace('File "model.py", line 3, in forward\\n    return x + 1')
        'model.py:3: return x + 1'
    """
    frames = [f for f in frames_of_trace(formatted) if is_user_file(f.filename)]
    return frames[-1].with_text if frames else None
