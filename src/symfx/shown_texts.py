"""Whether a text that a line of Python makes is only shown: printed, logged, or that of an error.

The text of a symbolic size is the name of its symbol. For a person this is right, and a program
that computes with it (a key such as ``f"block_{n}"``) would compute something else than it does for
numbers. The line's syntax tree tells where the text goes: through formatting, local variables and
``return`` to a call that shows it, or elsewhere. Where no source is at hand, the instructions tell,
for the plainest lines. Any other text counts as computed with.

This module imports no torch.
"""

from __future__ import annotations

import ast
import builtins
import dis
import inspect
import itertools
import logging
import sys
import warnings
from collections.abc import Iterator
from enum import Enum
from types import CodeType, FrameType, ModuleType
from typing import Any

from symfx.user_code import is_boundary, is_user_file, running_node

__all__ = ["only_shown"]

#: Modules whose functions and objects show the texts that they are given, or make.
_SHOWING_MODULES = frozenset(
    (
        "logging",
        "traceback",
        "warnings",
        "pdb",
        "bdb",
        "asyncio",
        "loguru",
        "structlog",
        "rich",
        "tqdm",
    )
)
_LOGGING_METHODS = frozenset(("debug", "info", "warning", "warn", "error", "critical", "exception"))
#: Functions and methods of texts and lists that give a text, or a list of texts, on.
_MAKE_TEXTS = frozenset(("str", "repr", "format", "list", "tuple", "map", "ascii"))
_TEXT_METHODS = frozenset(
    ("format", "join", "strip", "lstrip", "rstrip", "ljust", "rjust", "center", "upper", "lower")
)
_ADDING = frozenset(("append", "extend", "insert"))
_GENERATORS = inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR
#: Modules whose functions call what they are given: the text is for those that call them.
_CALL_FOR_OTHERS = frozenset(
    (
        "functools",
        "contextlib",
        "reprlib",
        "torch.utils._pytree",
        "torch.utils._cxx_pytree",
        "symfx.proxy_tensor.rewritten_functions",
        "symfx.proxy_tensor.symbolic_builtins",
    )
)
#: So many frames a text is followed through.
_MOST_FRAMES = 100
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)


class _Use(Enum):
    SHOWN = "shown"
    RETURNED = "returned"
    COMPUTED = "computed"


def only_shown(frame: FrameType | None) -> bool:
    """Whether the text that a frame makes at this moment is only shown.

    Texts that torch, symfx or a module for logging asks for are.

    Args:
        frame: the frame that asks for the text of an object.
    """
    returned = False
    for _ in range(_MOST_FRAMES):
        if frame is None or is_boundary(frame.f_code):
            return False
        module = str(frame.f_globals.get("__name__", ""))
        if module.partition(".")[0] in _SHOWING_MODULES:
            return True
        if module in _CALL_FOR_OTHERS:
            pass
        elif is_user_file(frame.f_code.co_filename):
            use = _use_in(frame)
            if use is not _Use.RETURNED:
                return use is _Use.SHOWN
            if frame.f_code.co_flags & _GENERATORS:
                return False
            returned = True
        elif _fails(frame) or not returned:
            return True
        frame = frame.f_back
    return False


def _fails(frame: FrameType) -> bool:
    """Whether a frame of torch makes the message of a check that has failed."""
    return frame.f_code.co_name.startswith("_check")


def _use_in(frame: FrameType) -> _Use:
    tree, node = running_node(frame)
    if tree is None or node is None:
        return _use_by_instructions(frame)
    return _Uses(tree, frame).of(node)


class _Uses:
    """What a frame does with a text, told by the syntax tree of its file."""

    def __init__(self, tree: ast.Module, frame: FrameType) -> None:
        self._parents = _parents(tree)
        self._frame = frame
        self._names: set[tuple[ast.AST, str]] = set()

    def of(self, node: ast.AST) -> _Use:
        """What becomes of the text that an expression makes while it is evaluated."""
        if isinstance(node, ast.Call) and self._shows(node):
            return _Use.SHOWN
        return self._of_value(node)

    def _of_value(self, node: ast.AST) -> _Use:
        """What becomes of the value of an expression."""
        while True:
            parent = self._parents.get(node)
            if parent is None:
                return _Use.COMPUTED
            if _passes_on(parent, node):
                node = parent
                continue
            if isinstance(parent, ast.keyword):
                node, parent = parent, self._parents[parent]
            if isinstance(parent, ast.Call):
                if node is parent.func:
                    return _Use.COMPUTED
                return self._of_argument(parent)
            if isinstance(parent, (ast.Raise, ast.Assert)):
                return _Use.SHOWN
            if isinstance(parent, (ast.Return, ast.Lambda)):
                return self._of_result(parent)
            if isinstance(parent, ast.Assign) and node is parent.value and len(parent.targets) == 1:
                return self._of_name(parent.targets[0])
            if isinstance(parent, (ast.AugAssign, ast.AnnAssign)) and node is parent.value:
                return self._of_name(parent.target)
            return _Use.COMPUTED

    def _of_argument(self, call: ast.Call) -> _Use:
        grandparent = self._parents.get(call)
        if self._shows(call) or isinstance(grandparent, ast.Raise):
            return _Use.SHOWN
        adds = isinstance(call.func, ast.Attribute) and call.func.attr in _ADDING
        if adds and isinstance(grandparent, ast.Expr):
            assert isinstance(call.func, ast.Attribute)
            return self._of_name(call.func.value)
        return _Use.COMPUTED

    def _of_result(self, at: ast.AST) -> _Use:
        if not isinstance(at, ast.Lambda):
            return _Use.RETURNED
        call = self._parents.get(at)
        # torch calls the function where the check has failed.
        checks = isinstance(call, ast.Call) and _chain(call.func)[-1:] in (
            ["_check"],
            ["_check_is_size"],
        )
        return _Use.SHOWN if checks else _Use.RETURNED

    def _of_name(self, target: ast.AST) -> _Use:
        """What becomes of a text under the name of a local variable."""
        if not isinstance(target, ast.Name):
            return _Use.COMPUTED
        function: ast.AST = target
        while not isinstance(function, _FUNCTIONS):
            above = self._parents.get(function)
            if above is None:
                return _Use.COMPUTED
            function = above
        key = function, target.id
        if key in self._names:
            return _Use.SHOWN  # the text is part of a longer one, whose uses are being looked at
        self._names.add(key)
        found = _Use.SHOWN
        for each in ast.walk(function):
            if isinstance(each, (ast.Global, ast.Nonlocal)) and target.id in each.names:
                return _Use.COMPUTED
            if (
                isinstance(each, ast.Name)
                and each.id == target.id
                and isinstance(each.ctx, ast.Load)
                and not self._is_added_to(each)
            ):
                use = self._of_value(each)
                if use is _Use.COMPUTED:
                    return use
                if use is _Use.RETURNED:
                    found = use
        return found

    def _is_added_to(self, name: ast.Name) -> bool:
        method = self._parents.get(name)
        call = self._parents.get(method) if isinstance(method, ast.Attribute) else None
        return (
            isinstance(method, ast.Attribute)
            and method.attr in _ADDING
            and isinstance(call, ast.Call)
            and isinstance(self._parents.get(call), ast.Expr)
        )

    def _shows(self, call: ast.Call) -> bool:
        return _shows(_chain(call.func), self._frame)


def _passes_on(parent: ast.AST, node: ast.AST) -> bool:
    """Whether the value of an expression is a text made of a part of it."""
    if isinstance(parent, (ast.JoinedStr, ast.FormattedValue, ast.List, ast.Tuple, ast.Starred)):
        return True
    if isinstance(parent, ast.BinOp):
        return isinstance(parent.op, (ast.Add, ast.Mod))
    if isinstance(parent, ast.IfExp):
        return node is not parent.test
    if isinstance(parent, (ast.ListComp, ast.GeneratorExp)):
        return node is parent.elt
    if isinstance(parent, ast.Attribute):
        return parent.attr in _TEXT_METHODS
    if isinstance(parent, ast.Call):
        function = parent.func
        if isinstance(function, ast.Attribute):
            return function.attr in _TEXT_METHODS
        return isinstance(function, ast.Name) and function.id in _MAKE_TEXTS
    return False


def _chain(function: ast.AST) -> list[str]:
    """The names of ``a.b.c``; empty for other expressions."""
    names: list[str] = []
    while isinstance(function, ast.Attribute):
        names.append(function.attr)
        function = function.value
    if not isinstance(function, ast.Name):
        return []
    return [function.id, *reversed(names)]


def _shows(names: list[str], frame: FrameType) -> bool:
    """Whether a function shows the texts that it is given.

    Args:
        names: ``["logger", "info"]`` of ``logger.info``.
        frame: the frame that calls the function.
    """
    if not names:
        return False
    first = names[0]
    found: Any = None
    for scope in (frame.f_locals, frame.f_globals, vars(builtins)):
        if first in scope:
            found = scope[first]
            break
    owner: Any = None
    for name in names[1:]:
        owner, found = found, inspect.getattr_static(found, name, None)
    if found is print or found is warnings.warn:
        return True
    if len(names) == 1:
        module = getattr(found, "__module__", None)
        return isinstance(module, str) and module.partition(".")[0] in _SHOWING_MODULES
    if isinstance(owner, (logging.Logger, logging.LoggerAdapter)):
        # Libraries add methods of their own, such as `warning_once`.
        return names[-1].removesuffix("_once") in _LOGGING_METHODS or names[-1] == "log"
    if owner is not None and (owner is sys.stdout or owner is sys.stderr):
        return names[-1] == "write"
    home = owner.__name__ if isinstance(owner, ModuleType) else type(owner).__module__
    return str(home).partition(".")[0] in _SHOWING_MODULES


def _parents(tree: ast.Module) -> dict[ast.AST, ast.AST]:
    found: dict[ast.AST, ast.AST] | None = getattr(tree, "_symfx_parents", None)
    if found is None:
        found = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
        tree._symfx_parents = found  # type: ignore[attr-defined]
    return found


# -- where no source is at hand -------------------------------------------------------------------

#: How many values an instruction takes from the stack; of the others, those that load take none.
_TAKES = {
    "LOAD_ATTR": 1, "LOAD_METHOD": 1, "FORMAT_SIMPLE": 1, "CONVERT_VALUE": 1,
    "FORMAT_WITH_SPEC": 2, "BINARY_SUBSCR": 2, "BINARY_OP": 2,
}  # fmt: skip
#: The instructions that make a text of one; BINARY_OP adds it to another.
_FORMATS = (
    *("FORMAT_VALUE", "FORMAT_SIMPLE", "CONVERT_VALUE", "FORMAT_WITH_SPEC"),
    *("BUILD_STRING", "BINARY_OP"),
)
_NOTHING = ("PRECALL", "KW_NAMES", "NOP", "EXTENDED_ARG", "CACHE")


def _use_by_instructions(frame: FrameType) -> _Use:
    """What a frame does with a text, for calls whose result is dropped, and for exceptions."""
    code = frame.f_code
    every = [each for each in dis.get_instructions(code) if each.opname not in _NOTHING]
    # A frame that waits for a call stands at the last cache behind the call.
    start = max(i for i, each in enumerate(every) if each.offset <= frame.f_lasti)
    if every[start].opname.startswith("CALL") and _shows(_called(code, every, start), frame):
        return _use_of_result(every, start)
    depth = 0  # how many values lie above the text on the stack
    for number, at in enumerate(every[start + 1 :], start + 1):
        if at.opname == "RETURN_VALUE":
            return _Use.RETURNED if depth == 0 else _Use.COMPUTED
        if at.opname.startswith("CALL"):
            if depth > (at.arg or 0) or not (
                every[number + 1].opname == "RAISE_VARARGS"
                or _shows(_called(code, every, number), frame)
            ):
                break
            return _use_of_result(every, number)
        takes = _takes(at.opname, at.arg or 0)
        if takes is None or (takes > depth and at.opname not in _FORMATS):
            break
        net = dis.stack_effect(at.opcode, at.arg if at.opcode >= dis.HAVE_ARGUMENT else None)
        depth = 0 if takes > depth else depth + net
    return _Use.COMPUTED


def _use_of_result(every: list[dis.Instruction], number: int) -> _Use:
    """What becomes of a text that is shown: nothing, where the call's result is dropped."""
    dropped = every[number + 1].opname in ("POP_TOP", "RETURN_VALUE", "RAISE_VARARGS")
    return _Use.SHOWN if dropped else _Use.COMPUTED


def _takes(name: str, argument: int) -> int | None:
    if name == "BUILD_STRING":
        return argument
    if name == "FORMAT_VALUE":
        return 2 if argument & 4 else 1
    known = _TAKES.get(name)
    return known if known is not None or not name.startswith("LOAD_") else 0


def _called(code: CodeType, every: list[dis.Instruction], number: int) -> list[str]:
    """The names of the function that an instruction calls: they begin where the call begins."""
    places: Iterator[Any] = iter(code.co_positions())
    begins = [(place[0], place[2]) for place in places]
    start = begins[every[number].offset // 2]
    return [
        str(each.argval).removeprefix("NULL + ")
        for each in itertools.islice(every, number)
        if begins[each.offset // 2] == start
        and each.opname.startswith("LOAD_")
        and each.opcode not in dis.hasconst
        and isinstance(each.argval, str)
    ]
