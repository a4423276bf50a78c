"""Python's functions of numbers, for symbolic numbers: ``max(n, 16)``, ``int(n * 0.75)``.

Python's own forms ask for the value of a symbolic number: ``max`` has to know which argument is
the greater one, and ``int`` has to return an int. The forms here return symbolic numbers. For all
other arguments they call Python's own, so that a program cannot tell them apart.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor

from symfx.proxy_tensor.symbolic_math import MATH_FORMS, SYMBOLIC, choose, value_of

__all__ = ["CALLED_ONLY", "FORMS"]

_INTS = (int, torch.SymInt)
_FLOATS = (float, torch.SymFloat)
_sym_float: Any = torch.sym_float  # torch gives these no types
_sym_min: Any = torch.sym_min
_sym_max: Any = torch.sym_max
#: The most numbers that are sorted without a guard.
_MOST_SORTED = 4
#: A number of the Python type that each symbolic type stands for.
_STANDS_FOR: dict[type, Any] = {torch.SymInt: 2, torch.SymFloat: 0.5, torch.SymBool: True}


def _of_one_type(numbers: list[Any]) -> bool:
    """Whether these are ints alone or floats alone, symbolic or not."""
    return any(
        all(isinstance(n, kinds) and not isinstance(n, bool) for n in numbers)
        for kinds in (_INTS, _FLOATS)
    )


def _extreme(own: Callable[..., Any], symbolic: Any, better: Any) -> Callable[..., Any]:
    @wraps(own)
    def form(*args: Any, **options: Any) -> Any:
        if not args or not options.keys() <= {"key", "default"}:
            return own(*args, **options)
        if len(args) > 1:
            if "default" in options:  # Python's own raises the error
                return own(*args, **options)
            numbers = list(args)
        else:
            # An iterator can be read once only.
            numbers = list(args[0])
            args = (numbers,)
        # The result of an int and a float is one of them, and has its type: a guard has to decide.
        if not any(isinstance(n, SYMBOLIC) for n in numbers) or not _of_one_type(numbers):
            return own(*args, **options)
        result = numbers[0]
        key = options.get("key")
        if key is None:
            for n in numbers[1:]:
                result = symbolic(result, n)
            return result
        keys = [key(n) for n in numbers]
        if not _of_one_type(keys):
            return own(*args, **options)
        best = keys[0]
        for n, rank in zip(numbers[1:], keys[1:], strict=True):
            result = choose(better(rank, best), n, result)
            best = symbolic(best, rank)
        return result

    return form


@wraps(sorted)
def _sorted(iterable: Any, /, *, key: Any = None, reverse: Any = False) -> Any:
    numbers = list(iterable)
    if (
        key is not None
        or len(numbers) > _MOST_SORTED
        or not any(isinstance(n, SYMBOLIC) for n in numbers)
        or not _of_one_type(numbers)
    ):
        return sorted(numbers, key=key, reverse=reverse)
    for end in range(len(numbers) - 1, 0, -1):
        for i in range(end):
            a, b = numbers[i], numbers[i + 1]
            numbers[i], numbers[i + 1] = _sym_min(a, b), _sym_max(a, b)
    return numbers[::-1] if reverse else numbers


@wraps(divmod)
def _divmod(a: Any, b: Any, /) -> Any:
    if isinstance(a, torch.SymInt) or isinstance(b, torch.SymInt):
        return a // b, a % b
    return divmod(a, b)


@wraps(pow)
def _pow(base: Any, exp: Any, mod: Any = None) -> Any:
    numbers = (base, exp, mod)
    if mod is not None and any(isinstance(n, torch.SymInt) for n in numbers):
        return base**exp % mod
    return pow(base, exp, mod)


@wraps(isinstance)
def _isinstance(x: Any, kinds: Any, /) -> bool:
    stand_in = _STANDS_FOR.get(type(x))
    return isinstance(x, kinds) or (stand_in is not None and isinstance(stand_in, kinds))


# A class is wrapped in a function, so it is replaced only where a program calls it.
def _int(*args: Any, **options: Any) -> Any:
    if len(args) == 1 and not options:
        x = value_of(args[0])
        if isinstance(x, torch.SymInt):
            return x
        if isinstance(x, torch.SymFloat):
            return math.trunc(x)
        return choose(x, 1, 0) if isinstance(x, torch.SymBool) else int(x)
    return int(*args, **options)


def _float(*args: Any) -> Any:
    if len(args) == 1:
        x = value_of(args[0])
        if isinstance(x, torch.SymBool):
            return choose(x, 1.0, 0.0)
        return _sym_float(x) if isinstance(x, SYMBOLIC) else float(x)
    return float(*args)


def _type(*args: Any, **options: Any) -> Any:
    if len(args) == 1 and not options:
        stand_in = _STANDS_FOR.get(type(args[0]))
        return type(args[0] if stand_in is None else stand_in)
    if len(args) == 3:
        # Python names the module of the code that calls; `rewritten_functions` stands between.
        name, bases, namespace = args
        caller = sys._getframe(2).f_globals.get("__name__")
        args = (name, bases, {"__module__": caller, **namespace} if caller else namespace)
    return type(*args, **options)


@wraps(len)
def _len(x: Any, /) -> Any:
    if isinstance(x, FakeTensor) and x.dim() > 0:
        return x.shape[0]
    return len(x)


def _map(function: Any, *iterables: Any) -> Any:
    for own, form in CALLED_ONLY.items():
        if function is own:
            function = form
    return map(function, *iterables)


CALLED_ONLY: dict[Any, Callable[..., Any]] = {
    int: _int, float: _float, len: _len, type: _type, map: _map,
}  # fmt: skip
"""The forms of functions that are replaced only where a program calls them by name."""

FORMS: dict[Any, Callable[..., Any]] = {
    max: _extreme(max, _sym_max, lambda a, b: a > b),
    min: _extreme(min, _sym_min, lambda a, b: a < b),
    sorted: _sorted,
    divmod: _divmod,
    pow: _pow,
    isinstance: _isinstance,
    **MATH_FORMS,
}
"""For a function of Python, its form for symbolic numbers."""
