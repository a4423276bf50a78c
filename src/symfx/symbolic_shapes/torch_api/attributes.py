"""Attributes of a ShapeEnv that live elsewhere: in one of its parts, or in a function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

__all__ = ["Computed", "KeptIn"]

_T = TypeVar("_T")


class KeptIn(Generic[_T]):
    """An attribute that one of the owner's parts keeps; it may be read and written.

    Args:
        part: the attribute that holds the part.
        name: the name of the attribute in the part; the same as in the owner where not given.

    Example:
        >>> class Engine:
        ...     running = False
        >>> class Car:
        ...     running = KeptIn[bool]("engine")
        ...     def __init__(self):
        ...         self.engine = Engine()
        >>> car = Car()
        >>> car.running = True
        >>> car.engine.running
        True
    """

    def __init__(self, part: str, name: str = "") -> None:
        self._part = part
        self._name = name

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = self._name or name

    def __get__(self, instance: Any, owner: type | None = None) -> _T:
        if instance is None:
            return self  # type: ignore[return-value]
        value: _T = getattr(getattr(instance, self._part), self._name)
        return value

    def __set__(self, instance: Any, value: _T) -> None:
        setattr(getattr(instance, self._part), self._name, value)


class Computed(Generic[_T]):
    """An attribute that a function computes each time it is read; as a property, but typed.

    Args:
        compute: returns the value for the owner.
    """

    def __init__(self, compute: Callable[[Any], _T]) -> None:
        self._compute = compute
        self.__doc__ = compute.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, instance: Any, owner: type | None = None) -> _T:
        if instance is None:
            return self  # type: ignore[return-value]
        return self._compute(instance)

    def __set__(self, instance: Any, value: object) -> None:
        raise AttributeError(f"{self._name} is computed and cannot be set")
