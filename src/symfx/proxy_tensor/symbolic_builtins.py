"""Python's functions of numbers, for symbolic numbers: ``max(n, 16)``, ``int(n * 0.75)``.

Python's own forms ask for the value of a symbolic number: ``max`` has to know which argument is
the greater one, and ``int`` has to return an int. The forms here return symbolic numbers. For all
other arguments they call Python's own, so that a program cannot tell them apart.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import wraps
from types import SimpleNamespace
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor

__all__ = ["CALLED_ONLY", "FORMS", "MATH", "MATH_MODULE"]

_INTS = (int, torch.SymInt)
_FLOATS = (float, torch.SymFloat)
_sym_float: Any = torch.sym_float  # torch gives it no types
_SYMBOLS = (torch.SymInt, torch.SymFloat)


def _extreme(own: Callable[..., Any], symbolic: Any) -> Callable[..., Any]:
    @wraps(own)
    def form(*args: Any, **options: Any) -> Any:
        if options or not args:
            return own(*args, **options)
        if len(args) > 1:
            numbers = list(args)
        else:
            # An iterator can be read once only.
            numbers = list(args[0])
            args = (numbers,)
        if not any(isinstance(n, _SYMBOLS) for n in numbers):
            return own(*args)
        for kinds in (_INTS, _FLOATS):
            # The result of an int and a float is one of them, and has its type.
            if all(isinstance(n, kinds) and not isinstance(n, bool) for n in numbers):
                result = numbers[0]
                for n in numbers[1:]:
                    result = symbolic(result, n)
                return result
        return own(*args)

    return form


@wraps(divmod)
def _divmod(a: Any, b: Any, /) -> Any:
    if isinstance(a, torch.SymInt) or isinstance(b, torch.SymInt):
        return a // b, a % b
    return divmod(a, b)


def _value(x: Any) -> Any:
    """The symbolic number in a traced tensor of one element; other things as they are."""
    if (
        isinstance(x, FakeTensor)
        and x.dtype is not torch.bool
        and not x.dtype.is_complex
        and all(type(size) is int and size == 1 for size in x.shape)
    ):
        return x.item()
    return x


# A class is wrapped in a function, so it is replaced only where a program calls it.
def _int(*args: Any, **options: Any) -> Any:
    if len(args) == 1 and not options:
        x = _value(args[0])
        if isinstance(x, torch.SymInt):
            return x
        if isinstance(x, torch.SymFloat):
            return math.trunc(x)
        return int(x)
    return int(*args, **options)


def _float(*args: Any) -> Any:
    if len(args) == 1:
        x = _value(args[0])
        return _sym_float(x) if isinstance(x, _SYMBOLS) else float(x)
    return float(*args)


@wraps(len)
def _len(x: Any, /) -> Any:
    if isinstance(x, FakeTensor) and x.dim() > 0:
        return x.shape[0]
    return len(x)


def _unary(own: Callable[..., Any], symbolic: Any) -> Callable[..., Any]:
    @wraps(own)
    def form(x: Any, /) -> Any:
        x = _value(x)
        return symbolic(_sym_float(x)) if isinstance(x, _SYMBOLS) else own(x)

    return form


@wraps(math.pow)
def _math_pow(x: Any, y: Any, /) -> Any:
    if isinstance(x, _SYMBOLS) or isinstance(y, _SYMBOLS):
        return _sym_float(x) ** _sym_float(y)
    return math.pow(x, y)


_UNARY = ("sqrt", "cos", "cosh", "sin", "sinh", "tan", "tanh", "asin", "acos", "atan", "log2")

CALLED_ONLY: dict[Any, Callable[..., Any]] = {int: _int, float: _float, len: _len}
"""The forms of functions that are replaced only where a program calls them by name."""

FORMS: dict[Any, Callable[..., Any]] = {
    max: _extreme(max, torch.sym_max),
    min: _extreme(min, torch.sym_min),
    divmod: _divmod,
    math.pow: _math_pow,
    **{
        getattr(math, name): _unary(getattr(math, name), getattr(torch, f"_sym_{name}"))
        for name in _UNARY
        if hasattr(torch, f"_sym_{name}")
    },
}
"""For a function of Python, its form for symbolic numbers."""

MATH: Any = SimpleNamespace(
    **{name: FORMS.get(value, value) if callable(value) else value
       for name, value in vars(math).items()}
)  # fmt: skip
"""The module `math` with these forms."""

MATH_MODULE = math
"""The module itself."""
