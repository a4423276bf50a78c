"""The user's functions during a trace: their ``max``, ``int`` and ``math.sqrt`` take symbols.

A program reaches Python's functions of numbers by their names, where no mode of torch sees the
call. So the functions that a trace may run get other code for the time of the trace. The code
differs in the names of these functions alone, and each name leads to a form that acts as
Python's own for ordinary numbers. So another thread that runs the same function meanwhile
computes the same results, and a generator or a function that outlives the trace does too.

Other ways were weighed. Python's own ``max`` could be replaced for all: then torch's code, which
asks for numbers on purpose, and every thread would use the form, and ``isinstance(x, int)`` would
need a class. The names could be put into the globals of the user's modules: then each module that
imports such a name from there would keep it, and `globals()` would show it. Frames could be
evaluated with other code through torch's hook for Dynamo: this needs a guarded cache on each code
object, which Dynamo shares. Copies of the functions would not be found by other functions, which
look names up. New code in the same function has none of these faults. After the trace each function
has its very own code object again, on which Dynamo keeps what it has compiled.
"""

from __future__ import annotations

import builtins
import contextlib
import functools
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import CodeType, FunctionType
from typing import Any, TypeAlias

import torch

from symfx.proxy_tensor.reachable_functions import Reachable, reachable
from symfx.proxy_tensor.renamed_globals import Replacement, names_in, renamed
from symfx.proxy_tensor.symbolic_builtins import CALLED_ONLY, FORMS
from symfx.proxy_tensor.symbolic_math import MATH, MATH_MODULE

__all__ = ["in_trace", "symbolic_numbers"]

_MATH_NAME = "__symfx_math__"
#: The module that a function gets that imports `math` itself.
_MODULES = {"math": _MATH_NAME}


def _outside_dynamo(own: Any, form: Callable[..., Any]) -> Callable[..., Any]:
    """The form, but Python's own function to Dynamo, which has symbolic numbers of its own.

    Higher-order operators such as `torch.cond` compile their functions within a trace.
    """

    @functools.wraps(own)
    def call(*args: Any, **options: Any) -> Any:
        function = own if torch.compiler.is_dynamo_compiling() else form
        return function(*args, **options)

    return call


def _published() -> dict[int, Replacement]:
    """Put each form among Python's builtins under a name of its own.

    Returns:
        For the id of a function, its replacement.
    """
    found = {}
    for forms, called_only in ((FORMS, False), (CALLED_ONLY, True)):
        for own, form in forms.items():
            name = f"__symfx_{own.__module__}_{own.__name__}__"
            setattr(builtins, name, _outside_dynamo(own, form))
            found[id(own)] = Replacement(name, called_only)
    for name, value in vars(MATH).items():
        if value in FORMS.values():
            setattr(MATH, name, _outside_dynamo(vars(MATH_MODULE)[name], value))
    setattr(builtins, _MATH_NAME, MATH)
    sys.modules[_MATH_NAME] = MATH
    found[id(MATH_MODULE)] = Replacement(_MATH_NAME, False)
    return found


# The names stay for good: a generator may outlive the trace that it was made in.
_REPLACEMENTS = _published()


@dataclass
class _Swap:
    """A function or a name that traces have changed: by how many of them, and from what."""

    traces: int
    before: Any
    now: Any


#: A function, a class or a namespace; the name of what it has; and what it is to have.
_Change: TypeAlias = tuple[Any, str, Any]

_lock = threading.RLock()
_swaps: dict[tuple[int, str], _Swap] = {}
_local = threading.local()


@contextlib.contextmanager
def symbolic_numbers(*programs: Any) -> Iterator[None]:
    """Inside, the functions that programs may call compute with symbolic numbers.

    Args:
        programs: functions, methods and modules.
    """
    changes: list[_Change] = []
    for part in reachable(*programs):
        changes += _changes_of(part)
        changes += [(owner, name, _uncached(cached)) for owner, name, cached in part.cached]
    made: list[tuple[Any, str]] = []
    _local.traces = getattr(_local, "traces", 0) + 1
    try:
        _make(changes, made)
        yield
    finally:
        _unmake(made)
        _local.traces -= 1


def in_trace() -> bool:
    """Whether this thread runs a program inside of `symbolic_numbers`."""
    return getattr(_local, "traces", 0) > 0


def _changes_of(part: Reachable) -> list[_Change]:
    """The functions whose code loads Python's functions of numbers, with the code to have."""
    # What a part keeps is right as long as its names lead to the same objects, which it asked.
    known: dict[FunctionType, tuple[CodeType, CodeType | None]] = part.code or {}
    if part.code is None:
        part.code = known
    changes: list[_Change] = []
    for function in part.functions:
        own = function.__code__
        before, code = known.get(function, (None, None))
        if own is not before and own is not code:
            code = _code_of(function)
            known[function] = own, code
        if code is not None:
            changes.append((function, "__code__", code))
    return changes


def _code_of(function: FunctionType) -> CodeType | None:
    """The code of a function whose names of Python's functions lead to the forms; None for none."""
    code, scope = function.__code__, function.__globals__
    if scope.get("__builtins__") not in (builtins, vars(builtins)):
        return None
    wanted = {}
    own = vars(builtins)
    for name in names_in(code):
        replacement = _REPLACEMENTS.get(id(scope.get(name, own.get(name))))
        if replacement is not None:
            wanted[name] = replacement
    return renamed(code, wanted, _MODULES)


def _make(changes: list[_Change], made: list[tuple[Any, str]]) -> None:
    """Set names of functions, classes and namespaces; the first of several traces does.

    Args:
        changes: what to set.
        made: the list to which each name is added that was set.
    """
    with _lock:
        for owner, name, value in changes:
            swap = _swaps.get((id(owner), name))
            if swap is None:
                swap = _Swap(0, _get(owner, name), value)
                try:
                    _set(owner, name, value)
                except (AttributeError, TypeError):
                    continue  # a class that takes no attributes keeps its cache
                _swaps[id(owner), name] = swap
            swap.traces += 1
            made.append((owner, name))


def _unmake(made: list[tuple[Any, str]]) -> None:
    """Restore the old functions; the last of several traces does so."""
    with _lock:
        for owner, name in reversed(made):
            swap = _swaps[id(owner), name]
            swap.traces -= 1
            if swap.traces == 0:
                del _swaps[id(owner), name]
                # The program may have put something else there.
                if _get(owner, name) is swap.now:
                    _set(owner, name, swap.before)


def _get(owner: Any, name: str) -> Any:
    if isinstance(owner, dict):
        return owner.get(name)
    return owner.__code__ if isinstance(owner, FunctionType) else vars(owner).get(name)


def _set(owner: Any, name: str, value: Any) -> None:
    if isinstance(owner, dict):
        owner[name] = value
    else:
        setattr(owner, name, value)


def _uncached(cached: Any) -> Any:
    """A cached function that computes anew in a trace.

    A cache would ask for the hash of a symbolic number, and it would keep fake tensors.

    Args:
        cached: the cached function, or a staticmethod or a classmethod of one.
    """
    if isinstance(cached, (staticmethod, classmethod)):
        return type(cached)(_uncached(cached.__func__))
    plain: Callable[..., Any] = cached.__wrapped__

    @functools.wraps(cached)
    def form(*args: Any, **kwargs: Any) -> Any:
        function = plain if in_trace() else cached
        return function(*args, **kwargs)

    for name in ("cache_info", "cache_clear", "cache_parameters"):
        setattr(form, name, getattr(cached, name))
    return form
