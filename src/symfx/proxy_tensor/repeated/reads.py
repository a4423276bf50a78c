"""What a call of a module reads: attributes of its submodules, and the functions that run in it.

Both are found while the call runs. Attributes are seen by the classes of the submodules, functions
by a profiler that pauses inside of torch's own functions.
"""

from __future__ import annotations

import builtins
import contextlib
import dis
import functools
import logging
import os
import sys
import sysconfig
import threading
from collections.abc import Iterator, Mapping, Sequence
from types import CodeType, FunctionType, ModuleType
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from symfx.collection import Collections
from symfx.proxy_tensor.repeated.values import (
    STDLIB,
    Tokens,
    UnknownStateError,
    is_steady_module,
    static_attribute,
)
from symfx.user_code import CODE_KINDS, is_user_file, kind_of_code

__all__ = ["NOT_READ", "ReadState", "Reads", "watching"]

#: Reads of these attributes may lead to all others.
_WHOLE = frozenset({"__dict__", "__getstate__", "__reduce__", "__reduce_ex__", "__dir__"})
#: Functions of Python whose results do not follow from their arguments.
_UNSTEADY = frozenset(
    {"open", "input", "eval", "exec", "globals", "__import__", "id", "breakpoint"}
)
_CHANGES_OUTSIDE = frozenset({"STORE_GLOBAL", "DELETE_GLOBAL", "DELETE_DEREF"})
#: Here people put other functions in torch's place, for a while.
_PATCHED = (torch.nn.functional, torch.Tensor)
#: The attributes of a module that are no part of what its program reads, or are compared always.
NOT_READ = frozenset(
    {
        "_parameters", "_buffers", "_modules", "training", "_non_persistent_buffers_set",
        "_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks",
        "_forward_hooks_with_kwargs", "_forward_pre_hooks_with_kwargs",
        "_forward_hooks_always_called", "_is_full_backward_hook",
    }
)  # fmt: skip
_OF_MODULE = torch.nn.modules.module.__file__
_LIBRARY_PATH = sysconfig.get_path("stdlib") + os.sep
_LOGGING = logging.__file__
_PACKAGES = ("site-packages", "dist-packages")
#: The types of torch's functions that are written in C.
_OF_C = (type(torch.add), type(torch.Tensor.add), type(torch.Tensor.data))
_get: Any = object.__getattribute__


class Reads:
    """What one call read.

    Attributes:
        position: for the id of each submodule its position.
        attributes: for the position of each submodule, the names that were read of it.
        functions: for the code of each function of the user's that ran, its globals.
        complete: whether the call was watched to its end.
    """

    def __init__(self, modules: Sequence[torch.nn.Module]) -> None:
        self.position = {id(module): i for i, module in enumerate(modules)}
        self.attributes: list[set[str]] = [set() for _ in modules]
        self.functions: dict[CodeType, dict[str, Any]] = {}
        self.complete = True

    @functools.cached_property
    def names(self) -> list[list[str] | None]:
        """The names in order, once the call has ended; None for a module read as a whole."""
        return [None if names & _WHOLE else sorted(names - NOT_READ) for names in self.attributes]

    def covers(self, other: Reads) -> bool:
        """Whether the other call, of an equal module, read nothing more."""
        return other.functions.keys() <= self.functions.keys() and all(
            theirs <= mine for mine, theirs in zip(self.attributes, other.attributes, strict=True)
        )


class _Watch(threading.local):
    """The watched calls that run in this thread, the outermost first, and how much they called."""

    def __init__(self) -> None:
        self.running: list[Reads] = []
        self.calls = 0
        self.collections = Collections()


_watch = _Watch()
_lock = threading.RLock()
#: A call that runs more functions is not watched to its end: it asks the prover much, so most of
#: its time is not that of a trace, and watching the prover takes longer than a trace saves.
_MOST_CALLS = 60_000
#: How many watches each class has.
_watched: dict[type, int] = {}


def _getattribute(self: Any, name: str) -> Any:
    # Each call in here is an event for the profiler, so the work stands here, and not in a method.
    for reads in _watch.running:
        position = reads.position.get(id(self))
        if position is not None and not (
            name == "__dict__" and sys._getframe(1).f_code.co_filename == _OF_MODULE
        ):  # there it is the lookup of a parameter, whose name is noted
            reads.attributes[position].add(name)
    return _get(self, name)


def can_be_watched(kind: type) -> bool:
    """Whether reads of a class's attributes can be seen: it has no way of its own to read them."""
    found: Any = kind.__getattribute__
    return found is _get or found is _getattribute


@contextlib.contextmanager
def watching(modules: Sequence[torch.nn.Module]) -> Iterator[Reads]:
    """Note what the call that runs inside reads.

    Args:
        modules: the module that is called, and its submodules.
    """
    reads = Reads(modules)
    kinds = {type(module) for module in modules}
    before = sys.getprofile()
    with _lock:
        for kind in kinds:
            _watched[kind] = _watched.get(kind, 0) + 1
            if _watched[kind] == 1:
                kind.__getattribute__ = _getattribute  # type: ignore[method-assign]
    _watch.running.append(reads)
    if len(_watch.running) == 1:
        _watch.calls = 0
    try:
        with _watch.collections:
            sys.setprofile(_profile)
            try:
                with _Pausing():
                    yield reads
            finally:
                _profile_again(before)
    finally:
        _watch.running.pop()
        with _lock:
            for kind in kinds:
                _watched[kind] -= 1
                if not _watched[kind]:
                    del _watched[kind]
                    del kind.__getattribute__


def _profile_again(profiler: Any) -> None:
    """Go on with the profiler that ran before; that of cProfile is no function."""
    if hasattr(profiler, "enable"):
        sys.setprofile(None)
        profiler.enable()
    else:
        sys.setprofile(profiler)


class _Pausing(TorchFunctionMode):
    """Notes no functions inside of a function of torch that is written in C.

    Such a function calls none of the user's.
    """

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if type(func) not in _OF_C or sys.getprofile() is not _profile:
            return func(*args, **(kwargs or {}))
        sys.setprofile(None)
        try:
            return func(*args, **(kwargs or {}))
        finally:
            sys.setprofile(_profile)


def _profile(frame: Any, event: str, argument: Any) -> None:
    if event != "call":
        return
    _watch.calls += 1
    if _watch.calls > _MOST_CALLS:
        sys.setprofile(None)
        for reads in _watch.running:
            reads.complete = False
        return
    code = frame.f_code
    kind = CODE_KINDS.get(id(code))
    if kind is None:
        kind = kind_of_code(code)
    if kind and is_user_file(code.co_filename) and not _watch.collections.here():
        if code.co_filename == _LOGGING and not kind_of_code(frame.f_back.f_code):
            sys.setprofile(functools.partial(_pausing, frame))
            return
        # A method that dataclasses made has a file of no library.
        name = frame.f_globals.get("__name__")
        if isinstance(name, str) and name.partition(".")[0] in ("torch", "symfx"):
            return
        for reads in _watch.running:
            reads.functions.setdefault(code, frame.f_globals)


def _pausing(logging_frame: Any, frame: Any, event: str, argument: Any) -> None:
    """Note nothing until a call of `logging` returns: a library sent a message.

    What the handlers of a log do with the messages of libraries is no part of the program.
    """
    if event == "return" and frame is logging_frame:
        sys.setprofile(_profile)


# -- the state that the functions of a call can read ----------------------------------------------


class ReadState:
    """The values outside of a module that the functions of its call read, as tokens.

    Args:
        reads: what the call read.
        modules: the module that is called, and its submodules.

    Attributes:
        names: the names that these functions look up.

    Raises:
        UnknownStateError: it cannot be shown that the functions read the same in another call.
    """

    def __init__(self, reads: Reads, modules: Sequence[torch.nn.Module]) -> None:
        self._names: list[tuple[dict[str, Any], str, frozenset[str]]] = []
        self._cells: list[Any] = []
        self.names = {name for code in reads.functions for name in code.co_names}
        inner = {part for code in reads.functions for part in _parts(code)}
        known = _functions(reads, modules)
        for code, scope in reads.functions.items():
            if _is_of_python(code):
                continue
            self._add_code(code, scope, code in inner, known.get(code))

    def _add_code(
        self, code: CodeType, scope: dict[str, Any], inner: bool, function: FunctionType | None
    ) -> None:
        loaded, problem = _loads(code)
        if problem:
            raise UnknownStateError(f"{code.co_qualname} {problem}")
        names = frozenset(code.co_names)
        # The method of an object that is compared as a whole may call that of its base.
        if "__getattribute__" in names and code.co_name != "__getattribute__":
            raise UnknownStateError(f"{code.co_qualname} reads attributes unseen")
        free = [name for name in code.co_freevars if name != "__class__"]
        if free and not inner:
            if function is None or function.__closure__ is None:
                raise UnknownStateError(f"{code.co_qualname} has variables of a closure")
            self._cells += function.__closure__
        if function is not None:
            self._cells += [function.__defaults__, function.__kwdefaults__]
        for name in loaded:
            if name in scope:
                self._names.append((scope, name, names))
            elif name in _UNSTEADY and hasattr(builtins, name):
                raise UnknownStateError(f"{code.co_qualname} calls {name}()")

    def add_to(self, tokens: Tokens) -> None:
        """Append the tokens of the values as they are now.

        Raises:
            UnknownStateError: a value has no tokens.
        """
        for place in _PATCHED:
            tokens.add_identities(vars(place).values())
        for scope, name, names in self._names:
            self._add_value(tokens, scope.get(name), names, depth=0)
        for cell in self._cells:
            if cell is None or isinstance(cell, (tuple, dict)):
                tokens.add(cell)
                continue
            try:
                tokens.add(cell.cell_contents)
            except ValueError:
                tokens.found.append("empty")

    def _add_value(self, tokens: Tokens, value: Any, names: frozenset[str], depth: int) -> None:
        """A value, and of a module or class the attributes of these names."""
        if isinstance(value, ModuleType):
            top = value.__name__.partition(".")[0]
            tokens.found.append(id(value))
            if is_steady_module(top):
                tokens.add_identities(
                    vars(value)[name] for name in sorted(names & vars(value).keys())
                )
                return
            if STDLIB(top) and top != "__main__":
                raise UnknownStateError(f"it uses the module {value.__name__}")
            if depth > 3:
                raise UnknownStateError(f"it uses the module {value.__name__} through others")
            for name in sorted(names & vars(value).keys()):
                self._add_value(tokens, vars(value)[name], names, depth + 1)
            return
        if isinstance(value, type):
            tokens.add(value)
            tokens.add_class(value)
            return
        tokens.add(value)


@functools.lru_cache(maxsize=2048)
def _loads(code: CodeType) -> tuple[tuple[str, ...], str]:
    """The global names that code loads; what it does that no comparison sees, or nothing."""
    loaded: dict[str, None] = {}
    for instruction in dis.get_instructions(code):
        name = instruction.opname
        if name in ("LOAD_GLOBAL", "LOAD_NAME"):
            loaded[str(instruction.argval)] = None
        elif name in _CHANGES_OUTSIDE:
            return (), "assigns a variable of another scope"
        elif name == "IMPORT_NAME":
            module = str(instruction.argval)
            if not is_steady_module(module):
                return (), f"imports {module or 'from its package'}"
    return tuple(loaded), ""


def _parts(code: CodeType) -> Iterator[CodeType]:
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield constant
            yield from _parts(constant)


def _functions(reads: Reads, modules: Sequence[torch.nn.Module]) -> dict[CodeType, FunctionType]:
    """The functions of the codes, as far as the classes of the modules and globals lead to them."""
    found: dict[CodeType, FunctionType] = {}
    waiting: list[Any] = []
    for module, names in zip(modules, reads.attributes, strict=True):
        waiting += [static_attribute(type(module), name) for name in ("forward", *names)]
        for hooks in (module._forward_hooks, module._forward_pre_hooks):
            waiting += hooks.values()
        waiting += [v for n, v in vars(module).items() if n in names and n != "forward"]
    for code, scope in reads.functions.items():
        waiting += [scope.get(name) for name in code.co_names]
    seen: set[int] = set()
    while waiting:
        value = waiting.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, (staticmethod, classmethod)):
            waiting.append(value.__func__)
        elif isinstance(value, property):
            waiting += [value.fget, value.fset]
        elif isinstance(value, FunctionType):
            found.setdefault(value.__code__, value)
            for cell in value.__closure__ or ():
                with contextlib.suppress(ValueError):
                    waiting.append(cell.cell_contents)
        elif isinstance(value, type) and not is_steady_module(value.__module__):
            waiting += vars(value).values()
        elif hasattr(type(value), "__func__"):
            waiting.append(value.__func__)
    return found


def _is_of_python(code: CodeType) -> bool:
    """Whether a function is of Python's library.

    Raises:
        UnknownStateError: it is of a part of the library whose results may change.
    """
    path = code.co_filename
    if not path.startswith(_LIBRARY_PATH) or any(part in path for part in _PACKAGES):
        return False
    name = path[len(_LIBRARY_PATH) :].partition(os.sep)[0].removesuffix(".py")
    if not is_steady_module(name):
        raise UnknownStateError(f"it calls {code.co_qualname} of Python's module {name}")
    return True
