"""The functions of Python's `math` for symbolic numbers: ``math.sqrt(n)``, ``math.log(n, 2)``.

Python's own form asks a symbolic number for its value, and a trace would bake the value in. A form
here returns a symbolic number that is exactly the number that Python computes. Where no such
number can be had, it leaves the call to Python's own form.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from types import ModuleType
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor

from symfx.algebra.terms.table import MATH_FUNCTIONS
from symfx.sym_node import SymNode, wrap_node
from symfx.symbolic_shapes import statically_known_true

__all__ = ["MATH", "MATH_FORMS", "MATH_MODULE", "SYMBOLIC", "choose", "value_of"]

SYMBOLIC = (torch.SymInt, torch.SymFloat)
"""The types of symbolic numbers."""

_sym_float: Any = torch.sym_float  # torch gives these two no types
_sym_max: Any = torch.sym_max
#: The largest constant whose divisors `math.gcd` tries, and the most factors of `math.comb`.
_LARGEST, _MOST_FACTORS = 1 << 16, 8

MATH_FORMS: dict[Any, Callable[..., Any]] = {}
"""For a function of `math`, its form for symbolic numbers."""


def value_of(x: Any) -> Any:
    """The symbolic number in a traced tensor of one element; other things as they are."""
    if (
        isinstance(x, FakeTensor)
        and x.dtype is not torch.bool
        and not x.dtype.is_complex
        and all(type(size) is int and size == 1 for size in x.shape)
    ):
        return x.item()
    return x


def choose(condition: Any, a: Any, b: Any) -> Any:
    """``a if condition else b`` of numbers of one type, without a guard on the condition.

    Args:
        condition: a bool, or a symbolic one.
        a: a number, symbolic or not.
        b: the other number.
    """
    if not isinstance(condition, torch.SymBool):
        return a if condition else b
    node: Any = condition.node

    def node_of(number: Any) -> Any:
        if isinstance(number, SYMBOLIC):
            return number.node
        return node.wrap_float(number) if isinstance(number, float) else node.wrap_int(number)

    return wrap_node(node.sym_ite(node_of(a), node_of(b)))


def _form_of(own: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a form, which returns NotImplemented for what it leaves to Python's own."""

    def register(symbolic: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(own)
        def form(*args: Any, **options: Any) -> Any:
            args = tuple(map(value_of, args))
            if _has_symbol(args):
                found = symbolic(*args, **options)
                if found is not NotImplemented:
                    return found
            return own(*args, **options)

        MATH_FORMS[own] = form
        return form

    return register


def _has_symbol(args: Any) -> bool:
    return any(
        _has_symbol(a) if isinstance(a, (list, tuple)) else isinstance(a, SYMBOLIC) for a in args
    )


def _are_ints(numbers: Any) -> bool:
    return all(isinstance(n, (int, torch.SymInt)) and not isinstance(n, bool) for n in numbers)


def _unary(name: str) -> Callable[[Any], Any]:
    method, of_torch = f"sym_{name}", getattr(torch, f"_sym_{name}", None)

    def form(x: Any, /) -> Any:
        node = _sym_float(x).node
        if type(node) is SymNode:
            return wrap_node(getattr(node, method)())
        return NotImplemented if of_torch is None else of_torch(_sym_float(x))

    return form


for _name in MATH_FUNCTIONS:
    _form_of(getattr(math, _name))(_unary(_name))


@_form_of(math.log)
def _log(x: Any, *base: Any) -> Any:
    if not isinstance(x, SYMBOLIC):
        return math.log(x) / MATH_FORMS[math.log](*base)
    above = _unary("log")(x)
    # Python divides the two logarithms as well.
    return above / MATH_FORMS[math.log](*base) if base and above is not NotImplemented else above


@_form_of(math.pow)
def _pow(x: Any, y: Any, /) -> Any:
    return _sym_float(x) ** _sym_float(y)


@_form_of(math.fabs)
def _fabs(x: Any, /) -> Any:
    return abs(_sym_float(x))


@_form_of(math.radians)
def _radians(x: Any, /) -> Any:
    return _sym_float(x) * (math.pi / 180.0)


@_form_of(math.degrees)
def _degrees(x: Any, /) -> Any:
    return _sym_float(x) * (180.0 / math.pi)


@_form_of(math.copysign)
def _copysign(x: Any, y: Any, /) -> Any:
    magnitude = abs(_sym_float(x))
    if not isinstance(y, SYMBOLIC):
        return magnitude * math.copysign(1.0, y)
    # A float may be -0.0, whose sign no comparison tells.
    return choose(y >= 0, magnitude, -magnitude) if isinstance(y, torch.SymInt) else NotImplemented


@_form_of(math.isqrt)
def _isqrt(n: Any, /) -> Any:
    # Below 2**52 the root of a double rounds to no integer that is too large.
    if not isinstance(n, torch.SymInt) or not statically_known_true(n >= 0):
        return NotImplemented
    root = _unary("sqrt")(n)
    return math.trunc(root) if root is not NotImplemented else root


@_form_of(math.hypot)
def _hypot(*numbers: Any) -> Any:
    # The sum of the squares of sizes is exact, and its root is rounded once, as Python's is.
    if not _are_ints(numbers):
        return NotImplemented
    return _unary("sqrt")(sum(n * n for n in numbers))


@_form_of(math.dist)
def _dist(p: Any, q: Any, /) -> Any:
    p, q = list(p), list(q)
    if len(p) != len(q):
        return NotImplemented
    return _hypot(*(a - b for a, b in zip(p, q, strict=True)))


@_form_of(math.fsum)
def _fsum(numbers: Any, /) -> Any:
    return _sym_float(sum(numbers)) if _are_ints(numbers) else NotImplemented


@_form_of(math.gcd)
def _gcd(*numbers: Any) -> Any:
    symbols: list[Any] = [n for n in numbers if isinstance(n, torch.SymInt)]
    if len(symbols) != 1:
        return NotImplemented
    rest = math.gcd(*(n for n in numbers if not isinstance(n, torch.SymInt)))
    if not 0 < rest <= _LARGEST:
        return NotImplemented if rest else abs(symbols[0])
    # The greatest of the constant's divisors that divides the symbolic number.
    result: Any = 1
    for divisor in range(2, rest + 1):
        if rest % divisor == 0:
            result = choose(symbols[0] % divisor == 0, divisor, result)
    return result


@_form_of(math.lcm)
def _lcm(*numbers: Any) -> Any:
    rest = math.lcm(*(n for n in numbers if not isinstance(n, torch.SymInt)))
    symbols: list[Any] = [n for n in numbers if isinstance(n, torch.SymInt)]
    if len(symbols) != 1 or rest == 0:
        return NotImplemented
    common = _gcd(symbols[0], rest)
    return NotImplemented if common is NotImplemented else abs(symbols[0]) * (rest // common)


@_form_of(math.perm)
def _perm(n: Any, k: Any = None, /) -> Any:
    if type(k) is not int or not 0 <= k <= _MOST_FACTORS or not statically_known_true(n >= 0):
        return NotImplemented
    return math.prod(n - i for i in range(k))


@_form_of(math.comb)
def _comb(n: Any, k: Any, /) -> Any:
    ordered = _perm(n, k)
    return NotImplemented if ordered is NotImplemented else ordered // math.factorial(k)


@_form_of(math.fmod)
def _fmod(x: Any, y: Any, /) -> Any:
    # For positive integers the remainder is Python's own.
    positive = _are_ints((x, y)) and statically_known_true(x >= 0) and statically_known_true(y > 0)
    return _sym_float(x % y) if positive else NotImplemented


@_form_of(math.modf)
def _modf(x: Any, /) -> Any:
    if not statically_known_true(x >= 0):
        return NotImplemented
    whole = _sym_float(math.trunc(x))
    return _sym_float(x) - whole, whole


@_form_of(math.isnan)
def _isnan(x: Any, /) -> Any:
    return False if isinstance(x, torch.SymInt) else x != x  # noqa: PLR0124 - NaN alone differs


@_form_of(math.isfinite)
def _isfinite(x: Any, /) -> Any:
    return True if isinstance(x, torch.SymInt) else abs(x) < math.inf


@_form_of(math.isinf)
def _isinf(x: Any, /) -> Any:
    return False if isinstance(x, torch.SymInt) else abs(x) == math.inf


@_form_of(math.isclose)
def _isclose(a: Any, b: Any, *, rel_tol: float = 1e-9, abs_tol: float = 0.0) -> Any:
    if not (math.isfinite(rel_tol) and rel_tol >= 0 and math.isfinite(abs_tol) and abs_tol >= 0):
        return NotImplemented
    a, b = _sym_float(a), _sym_float(b)
    most = rel_tol * _sym_max(abs(a), abs(b))
    return abs(a - b) <= _sym_max(most, abs_tol)


MATH_MODULE = math
"""The module `math` itself."""


class _Module(ModuleType):
    # Dynamo takes no module for a builtin, but it takes what can be called.
    def __call__(self) -> None:
        raise TypeError("'module' object is not callable")


def _with_forms() -> ModuleType:
    module = _Module("math", math.__doc__)
    for name, value in vars(math).items():
        setattr(module, name, MATH_FORMS.get(value, value) if callable(value) else value)
    return module


MATH = _with_forms()
"""The module `math` with these forms."""
