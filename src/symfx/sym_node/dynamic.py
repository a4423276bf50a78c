"""Integers that ask to stay symbolic when a program is traced."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from symfx.torch_bridge.identity import TorchDynamicInt, TorchDynamicScalar
from symfx.torch_bridge.twins import Twin

__all__ = ["DynamicInt", "_DynamicScalar"]


class _DynamicScalar(metaclass=Twin, of=TorchDynamicScalar):
    """The base class of all numbers that ask to stay symbolic."""

    def __new__(cls, *args: Any) -> Any:
        if cls is _DynamicScalar:
            raise TypeError("_DynamicScalar has no instances of its own; make a DynamicInt")
        return super().__new__(cls, *args)


class DynamicInt(_DynamicScalar, int, of=TorchDynamicInt):
    """An int that a tracer makes symbolic; outside of traces it is an int.

    Arithmetic with integers gives a DynamicInt, a comparison gives a bool.

    Args:
        val: the value.

    Raises:
        TypeError: the value is no int.

    Example:
        >>> DynamicInt(4) * 2 + 1, DynamicInt(4) > 3, DynamicInt(4) / 8
        (DynamicInt(9), True, 0.5)
    """

    def __new__(cls, val: int) -> DynamicInt:
        """An int like `val`."""
        if not isinstance(val, int):
            raise TypeError(f"DynamicInt takes an int, not {val!r}")
        made: DynamicInt = super().__new__(cls, int(val))
        return made

    def __repr__(self) -> str:
        return f"DynamicInt({int(self)})"

    def __reduce__(self) -> Any:
        # By default pickle compares `__class__`, which answers torch's class.
        return DynamicInt, (int(self),)

    def __pow__(self, exponent: Any, modulo: int | None = None) -> Any:
        return _as_dynamic(pow(int(self), _as_int(exponent), modulo))

    def __rpow__(self, base: Any, modulo: int | None = None) -> Any:
        return _as_dynamic(pow(_as_int(base), int(self), modulo))


def _as_int(value: Any) -> Any:
    return int(value) if isinstance(value, DynamicInt) else value


def _as_dynamic(value: Any) -> Any:
    """A result; an int becomes a DynamicInt."""
    return DynamicInt(value) if type(value) is int else value


def _binary(compute: Callable[[Any, Any], Any], reflected: bool) -> Callable[[Any, Any], Any]:
    def method(self: Any, other: Any) -> Any:
        if not isinstance(other, (int, float)):
            return NotImplemented
        mine, theirs = int(self), _as_int(other)
        return _as_dynamic(compute(theirs, mine) if reflected else compute(mine, theirs))

    return method


def _unary(compute: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda self: _as_dynamic(compute(int(self)))


for _name in ("add", "sub", "mul", "floordiv", "mod", "truediv", "and", "or", "xor", "lshift",
              "rshift"):  # fmt: skip
    _compute = getattr(operator, f"{_name}_" if _name in ("and", "or") else _name)
    setattr(DynamicInt, f"__{_name}__", _binary(_compute, reflected=False))
    setattr(DynamicInt, f"__r{_name}__", _binary(_compute, reflected=True))
for _name in ("neg", "pos", "abs"):
    setattr(DynamicInt, f"__{_name}__", _unary(getattr(operator, _name)))
for _name in ("floor", "ceil", "trunc"):
    setattr(DynamicInt, f"__{_name}__", _unary(int))
