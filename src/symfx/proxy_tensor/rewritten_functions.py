"""The user's functions during a trace: their ``max``, ``int`` and ``math.sqrt`` take symbols.

A program reaches Python's functions of numbers by their names, where no mode of torch sees the
call. So the functions that a trace may run get other code for the time of the trace. The code
differs in the names of these functions alone, and each name leads to a form that acts as
Python's own for ordinary numbers. So another thread that runs the same function meanwhile
computes the same results. Python's own functions are not replaced, and code of torch and of
Python's library is left as it is.
"""

from __future__ import annotations

import builtins
import contextlib
import dis
import functools
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import torch

from symfx.proxy_tensor.symbolic_builtins import CALLED_ONLY, FORMS, MATH, MATH_MODULE

__all__ = ["in_trace", "symbolic_numbers"]

_LOAD_GLOBAL = dis.opmap["LOAD_GLOBAL"]
# The names that an instruction of one byte can number.
_ONE_BYTE = 128
_NAMED = frozenset(dis.hasname)
_EXTENDED_ARG = dis.opmap["EXTENDED_ARG"]
_FOREIGN = frozenset(sys.stdlib_module_names - {"__main__"}) | {"torch", "symfx", "numpy", "sympy"}
_CACHED: Any = functools._lru_cache_wrapper


def _published() -> dict[int, tuple[str, bool]]:
    """Put each form among Python's builtins under a name of its own.

    Returns:
        For the id of a function: that name, and whether only calls are replaced.
    """
    found = {}
    for forms, called_only in ((FORMS, False), (CALLED_ONLY, True)):
        for own, form in forms.items():
            name = f"__symfx_{own.__module__}_{own.__name__}__"
            setattr(builtins, name, form)
            found[id(own)] = (name, called_only)
    name = "__symfx_math__"
    setattr(builtins, name, MATH)
    found[id(MATH_MODULE)] = (name, False)
    return found


# The names stay for good: a generator may outlive the trace that it was made in.
_NAMES = _published()


@dataclass
class _Swap:
    """A function or a name that traces have changed: by how many of them, and from what."""

    traces: int
    before: Any
    now: Any


_lock = threading.RLock()
_swaps: dict[tuple[int, str], _Swap] = {}
_local = threading.local()


@contextlib.contextmanager
def symbolic_numbers(*programs: Any) -> Iterator[None]:
    """Inside, the functions that programs may call compute with symbolic numbers.

    Args:
        programs: functions, methods and modules.
    """
    found = _Reachable()
    for program in programs:
        found.visit(program)
    changes: list[tuple[Any, str, Any]] = []
    for function in found.functions:
        code = _rewritten(function.__code__, function.__globals__)
        if code is not None:
            changes.append((function, "__code__", code))
    changes += [(owner, name, _uncached(cached)) for owner, name, cached in found.cached]
    _local.traces = getattr(_local, "traces", 0) + 1
    with _lock:
        for change in changes:
            _enter(*change)
    try:
        yield
    finally:
        with _lock:
            for owner, name, _ in reversed(changes):
                _leave(owner, name)
        _local.traces -= 1


def in_trace() -> bool:
    """Whether this thread runs a program inside of `symbolic_numbers`."""
    return getattr(_local, "traces", 0) > 0


def _get(owner: Any, name: str) -> Any:
    if isinstance(owner, dict):
        return owner.get(name)
    return owner.__code__ if isinstance(owner, FunctionType) else vars(owner).get(name)


def _set(owner: Any, name: str, value: Any) -> None:
    if isinstance(owner, dict):
        owner[name] = value
    else:
        setattr(owner, name, value)


def _enter(owner: Any, name: str, value: Any) -> None:
    swap = _swaps.get((id(owner), name))
    if swap is None:
        _swaps[id(owner), name] = _Swap(1, _get(owner, name), value)
        _set(owner, name, value)
    else:
        swap.traces += 1


def _leave(owner: Any, name: str) -> None:
    swap = _swaps[id(owner), name]
    swap.traces -= 1
    if swap.traces == 0:
        del _swaps[id(owner), name]
        # The program may have put something else there.
        if _get(owner, name) is swap.now:
            _set(owner, name, swap.before)


def _uncached(cached: Any) -> Callable[..., Any]:
    """A cached function that computes anew in a trace.

    A cache would ask for the hash of a symbolic number, and it would keep fake tensors.
    """
    plain = cached.__wrapped__

    @functools.wraps(cached)
    def form(*args: Any, **kwargs: Any) -> Any:
        function = plain if in_trace() else cached
        return function(*args, **kwargs)

    for name in ("cache_info", "cache_clear", "cache_parameters"):
        setattr(form, name, getattr(cached, name))
    return form


class _Reachable:
    """The functions that a program may call, as far as names, closures and modules tell.

    A method counts where some function looks up its name, whatever the object.

    Attributes:
        functions: the functions of the user's code.
        cached: cached functions, each with the namespace and the name that it stands under.
    """

    def __init__(self) -> None:
        self.functions: list[FunctionType] = []
        self.cached: list[tuple[Any, str, Any]] = []
        self._seen: set[int] = set()
        # The names that functions look up, and for each other name the classes that have it.
        self._names: set[str] = {"forward", "backward", "setup_context"}
        self._waiting: dict[str, list[type]] = {}
        self._pending: list[Any] = []

    def visit(self, program: Any) -> None:
        """Add the functions that can be reached from an object."""
        self._pending.append(program)
        while self._pending:
            thing = self._pending.pop()
            if id(thing) in self._seen:
                continue
            self._seen.add(id(thing))
            if isinstance(thing, torch.nn.Module):
                for module in thing.modules():
                    self._pending.append(type(module))
                    own = vars(module)
                    self._pending.extend(self._named(own, n) for n in list(own) if callable(own[n]))
            elif isinstance(thing, FunctionType):
                self._pending.extend(self._of_function(thing))
            elif isinstance(thing, MethodType):
                self._pending += [thing.__func__, thing.__self__]
            elif isinstance(thing, functools.partial):
                self._pending += [thing.func, *thing.args, *thing.keywords.values()]
            elif isinstance(thing, _CACHED):
                self._pending.append(thing.__wrapped__)
            elif isinstance(thing, type):
                self._add_class(thing)
            elif _is_users(type(thing)) and callable(thing):
                self._pending.append(type(thing))

    def _of_function(self, function: FunctionType) -> Iterator[Any]:
        for cell in function.__closure__ or ():
            with contextlib.suppress(ValueError):  # a cell may be empty
                yield cell.cell_contents
        # A function made by exec() may have no module of its own.
        if function.__module__ not in (None, "builtins") and not _is_users(function):
            return
        self.functions.append(function)
        names = _names(function.__code__)
        for name in names - self._names:
            self._names.add(name)
            for kind in self._waiting.pop(name, ()):
                self._add_method(kind, name)
        for name in names:
            value = function.__globals__.get(name)
            if isinstance(value, ModuleType):
                if _is_users(value):
                    for attribute in names & vars(value).keys():
                        yield self._named(vars(value), attribute)
            elif callable(value):
                yield self._named(function.__globals__, name)

    def _add_class(self, kind: type) -> None:
        for base in kind.__mro__:
            if not _is_users(base) or (base is not kind and id(base) in self._seen):
                continue
            self._seen.add(id(base))
            # Python calls special methods without their name; a module has been made already.
            made = issubclass(base, torch.nn.Module)
            for name in list(vars(base)):
                special = name.startswith("__") and not (made and name == "__init__")
                if special or name in self._names:
                    self._add_method(base, name)
                else:
                    self._waiting.setdefault(name, []).append(base)

    def _add_method(self, kind: type, name: str) -> None:
        value = self._named(kind, name)
        if isinstance(value, (staticmethod, classmethod)):
            self._pending.append(value.__func__)
        elif isinstance(value, property):
            self._pending.append(value.fget)
        elif isinstance(value, (FunctionType, _CACHED)):
            self._pending.append(value)

    def _named(self, owner: Any, name: str) -> Any:
        value = owner[name] if isinstance(owner, dict) else vars(owner)[name]
        if isinstance(value, _CACHED) and _is_users(value):
            self.cached.append((owner, name, value))
        return value


def _is_users(thing: Any) -> bool:
    """Whether a function, a class or a module is neither torch's, Python's nor symfx's."""
    home = thing.__name__ if isinstance(thing, ModuleType) else getattr(thing, "__module__", None)
    return isinstance(home, str) and home.partition(".")[0] not in _FOREIGN


def _names(code: CodeType) -> set[str]:
    """The names that a function and the functions inside of it look up."""
    found = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            found |= _names(constant)
    return found


def _rewritten(code: CodeType, scope: dict[str, Any]) -> CodeType | None:
    """Code whose names of Python's functions lead to the forms; None where it has no such name.

    Args:
        code: the code of a function.
        scope: the function's globals.
    """
    if scope.get("__builtins__") not in (builtins, vars(builtins)):
        return None
    constants = [
        (_rewritten(c, scope) or c) if isinstance(c, CodeType) else c for c in code.co_consts
    ]
    changed = any(new is not old for new, old in zip(constants, code.co_consts, strict=True))
    names, text = list(code.co_names), code.co_code
    wanted: dict[int, tuple[str, bool]] = {}
    for i, name in enumerate(code.co_names):
        value = scope.get(name, getattr(builtins, name, None))
        if id(value) in _NAMES:
            wanted[i] = _NAMES[id(value)]
    if wanted:
        names, text = _renamed(code, tuple(wanted.items()))
        changed = True
    if not changed:
        return None
    return code.replace(co_consts=tuple(constants), co_names=tuple(names), co_code=text)


@functools.lru_cache(maxsize=4096)
def _renamed(
    code: CodeType, replaced: tuple[tuple[int, tuple[str, bool]], ...]
) -> tuple[list[str], bytes]:
    """The names and the instructions of code that loads other global names.

    Args:
        code: the code.
        replaced: for the number of a name: the name to load, and whether only calls load it.
    """
    names, changed = list(code.co_names), bytearray(code.co_code)
    wanted = dict(replaced)
    if len(names) + len(wanted) > _ONE_BYTE:
        for number, name in _only_loaded(code, wanted):
            names[number] = name
            del wanted[number]
    numbers: dict[str, int] = {}
    argument, prefixes = 0, 0
    for at in range(0, len(changed), 2):
        operation = changed[at]
        argument = argument << 8 | changed[at + 1]
        if operation == _EXTENDED_ARG:
            prefixes += 1
            continue
        # The lowest bit of the argument says that a call follows.
        number, called = argument >> 1, argument & 1
        if operation == _LOAD_GLOBAL and number in wanted:
            name, called_only = wanted[number]
            if called or not called_only:
                new = numbers.setdefault(name, len(names)) << 1 | called
                if numbers[name] == len(names):
                    names.append(name)
                # An instruction without room for the number stays as it is: its function guards.
                if new < 1 << 8 * (prefixes + 1):
                    for byte in range(prefixes + 1):
                        changed[at - 2 * byte + 1] = new >> 8 * byte & 255
        argument, prefixes = 0, 0
    return names, bytes(changed)


def _only_loaded(code: CodeType, wanted: dict[int, tuple[str, bool]]) -> list[tuple[int, str]]:
    """The names that no instruction uses in another way: these need no number of their own."""
    kept = set()
    for instruction in dis.get_instructions(code):
        if instruction.opcode == _LOAD_GLOBAL:
            argument: Any = instruction.arg
            if not argument & 1:
                kept.add((instruction.argval, True))
        elif instruction.opcode in _NAMED:
            kept |= {(instruction.argval, True), (instruction.argval, False)}
    return [
        (number, name)
        for number, (name, called_only) in wanted.items()
        if (code.co_names[number], called_only) not in kept
    ]
