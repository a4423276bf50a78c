"""Classes of symfx that stand in for torch's: ``isinstance`` holds in both directions.

torch tests values for its own classes, and passes values of its own classes to symfx. A twin
passes torch's tests (through ``__class__``) and accepts torch's values in symfx's tests. It
inherits nothing.
"""

from __future__ import annotations

from typing import Any

__all__ = ["Twin"]


class Twin(type):
    """The metaclass of a class that stands in for one of torch's.

    Example:
        >>> class TheirPoint: x = 1
        >>> class Point(metaclass=Twin, of=TheirPoint): x = 2
        >>> isinstance(Point(), TheirPoint), isinstance(TheirPoint(), Point), Point().x
        (True, True, 2)
    """

    torch_class: type

    def __new__(
        mcls, name: str, bases: tuple[type, ...], namespace: dict[str, Any], *, of: type
    ) -> Twin:
        """Make a class that stands in for the class `of`."""
        made = super().__new__(mcls, name, bases, {**namespace, "__class__": of})
        made.torch_class = of
        return made

    def __init__(
        cls, name: str, bases: tuple[type, ...], namespace: dict[str, Any], *, of: type
    ) -> None:
        super().__init__(name, bases, namespace)

    def __instancecheck__(cls, value: Any) -> bool:
        return type.__instancecheck__(cls, value) or isinstance(value, cls.torch_class)
