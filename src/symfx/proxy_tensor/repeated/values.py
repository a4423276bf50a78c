"""Python values as flat lists of tokens: equal lists mean that a program reads the same from both.

Values of a type that is not known to be plain data are compared by identity. An object whose class
is written in Python is compared by identity and by its attributes. A value that may change without
a trace of it (an iterator, a lock, an object of C) has no tokens.
"""

from __future__ import annotations

import enum
import functools
import inspect
import logging
import re
import sys
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Collection, Iterable, Mapping
from types import (
    BuiltinFunctionType,
    FunctionType,
    GenericAlias,
    GetSetDescriptorType,
    MemberDescriptorType,
    MethodDescriptorType,
    MethodType,
    ModuleType,
    UnionType,
    WrapperDescriptorType,
)
from typing import Any

import torch
from torch._ops import HigherOrderOperator, OpOverload, OpOverloadPacket

from symfx.sym_node import SymNode

__all__ = ["Tokens", "UnknownStateError", "is_steady_module"]

_SYMBOLIC = (torch.SymInt, torch.SymFloat, torch.SymBool)
_BY_VALUE = frozenset(
    {bool, int, str, bytes, type(None), slice, range, type(Ellipsis), type(NotImplemented)}
)
_SEQUENCES = (list, tuple, set, frozenset, deque, torch.Size)
_MAPPINGS = (dict, OrderedDict, defaultdict, Counter)
#: Objects of these types never change, or only in ways that no result depends on.
_BY_IDENTITY: tuple[type, ...] = (
    FunctionType, type, MethodDescriptorType, WrapperDescriptorType, GetSetDescriptorType,
    MemberDescriptorType, functools._lru_cache_wrapper, staticmethod, classmethod, property,
    torch.dtype, torch.device, torch.layout, torch.memory_format, OpOverload, OpOverloadPacket,
    HigherOrderOperator, enum.Enum, re.Pattern, logging.Logger, GenericAlias, UnionType,
)  # fmt: skip
#: The modules of Python whose functions give the same results in each call.
_STEADY = frozenset(
    {
        "abc", "builtins", "cmath", "collections", "contextlib", "copy", "copyreg",
        "dataclasses", "enum",
        "functools", "inspect", "itertools", "logging", "math", "numbers", "operator", "re",
        "string", "types", "typing", "typing_extensions", "warnings", "_operator", "_collections",
        "_functools", "torch", "symfx",
    }
)  # fmt: skip
#: Classes of Python and C below those of users, whose instances hold no state beside attributes.
_PLAIN_BASES = frozenset({object, dict, list, tuple, set, frozenset, OrderedDict, defaultdict})
_HEAP_TYPE = 1 << 9
_OF_EVERY_CLASS = frozenset(
    {
        "__dict__", "__weakref__", "__doc__", "__module__", "__annotations__", "_abc_impl",
        "__dataclass_fields__", "__dataclass_params__", "__match_args__", "__parameters__",
        "__orig_bases__", "__abstractmethods__", "__getattribute__",
    }
)  # fmt: skip
#: Larger values hold data rather than settings.
_MOST = 5000


class UnknownStateError(Exception):
    """A program depends on a value that cannot be shown to be the same in each call."""


def is_steady_module(name: str) -> bool:
    """Whether the functions of a module give the same results in each call."""
    return name.partition(".")[0] in _STEADY


class Tokens:
    """The tokens of values, appended to one list.

    Args:
        names: the names that the functions of the program look up.
        places: for the id of an object that has a place of its own in the values that are compared
            (a submodule, a tensor among the arguments), the place.

    Attributes:
        found: the tokens.
        shared: the ids of the tensors that were met and have no place.
        kept: the objects whose identities are tokens, kept so that no other gets the identity.
    """

    def __init__(self, places: Mapping[int, Any], names: Collection[str] = ()) -> None:
        self._names = names
        self.found: list[Any] = []
        self.shared: set[int] = set()
        self.kept: list[Any] = []
        self._places = places
        self._seen: dict[int, int] = {}

    def add_identities(self, values: Iterable[Any]) -> None:
        """Append one token for the identities of values."""
        values = tuple(values)
        self.kept.append(values)
        self.found.append(tuple(map(id, values)))

    def add(self, value: Any) -> None:
        """Append the tokens of a value.

        Raises:
            UnknownStateError: the value has none.
        """
        kind = type(value)
        found = self.found
        if kind in _BY_VALUE:
            found.append((kind, value if kind is not slice else str(value)))
            return
        if kind is float:
            found.append((kind, value.hex()))  # 0.0 equals -0.0
            return
        if kind is complex:
            found.append((kind, repr(value)))
            return
        place = self._places.get(id(value))
        if place is not None:
            found.append(place)
            return
        if kind in _SYMBOLIC:
            self._add_number(value)
            return
        if issubclass(kind, _BY_IDENTITY):
            self._add_identity(value)
            return
        known = self._seen.get(id(value))
        if known is not None:
            found.append(("again", known))
            return
        self._seen[id(value)] = len(self._seen)
        self.kept.append(value)
        if len(self._seen) > _MOST:
            raise UnknownStateError("it reads too many values")
        self._add_compound(value, kind)

    def add_all(self, values: Iterable[Any]) -> None:
        """Append the tokens of several values."""
        for value in values:
            self.add(value)

    def add_class(self, kind: type) -> None:
        """Append the tokens of what a class holds, if it is of the user's code.

        What has none counts by its identity, unless the program looks up its name.
        """
        for base in kind.__mro__:
            if id(base) in self._seen or is_of_library(base):
                continue
            self._seen[id(base)] = len(self._seen)
            self.kept.append(base)
            for name, value in list(vars(base).items()):
                if name in _OF_EVERY_CLASS:
                    continue
                if type(value) is FunctionType:  # most are
                    self.kept.append(value)
                    self.found.append(id(value))
                    continue
                length = len(self.found)
                try:
                    self.add(value)
                except UnknownStateError:
                    if name in self._names:
                        raise
                    del self.found[length:]
                    self._add_identity(value)

    def _add_identity(self, value: Any) -> None:
        self.kept.append(value)
        self.found.append(id(value))

    def _add_number(self, value: Any) -> None:
        node = value.node
        if type(node) is not SymNode:
            raise UnknownStateError("it reads a symbolic number of another environment")
        self.kept.append(node.term)
        self.found.append((type(value), id(node.term), id(node._origin)))

    def _add_compound(self, value: Any, kind: type) -> None:
        if issubclass(kind, torch.Tensor):
            if value.is_inference():
                raise UnknownStateError("it reads an inference tensor")
            self.shared.add(id(value))
            self.found.append(("tensor", id(value), value._version))
        elif kind in _SEQUENCES:
            self.found.append((kind, len(value)))
            self.add_all(value)
        elif kind in _MAPPINGS:
            self.found.append((kind, len(value)))
            self._add_items(value)
        elif kind is MethodType:
            self.found.append(kind)
            self.add(value.__func__)
            self.add(value.__self__)
        elif kind is functools.partial:
            self.found.append(kind)
            self.add_all((value.func, value.args, value.keywords))
        elif kind is BuiltinFunctionType:
            self._add_builtin(value)
        elif kind is ModuleType or getattr(kind, "__module__", None) in (
            "typing",
            "typing_extensions",
        ):
            self._add_identity(value)
        elif issubclass(kind, torch.nn.Module):
            raise UnknownStateError(f"it reads a {kind.__name__} that is no submodule of it")
        else:
            self._add_object(value, kind)

    def _add_builtin(self, value: Any) -> None:
        owner = value.__self__
        if not isinstance(owner, (ModuleType, type, type(None))):
            raise UnknownStateError(f"it calls {value.__qualname__}, which may change its object")
        if not is_steady_module(value.__module__ or "torch"):
            raise UnknownStateError(f"it calls {value.__module__}.{value.__qualname__}")
        self._add_identity(value)

    def _add_items(self, value: Mapping[Any, Any]) -> None:
        for key, item in list(value.items()):
            self.add(key)
            self.add(item)

    def _add_object(self, value: Any, kind: type) -> None:
        """An object of a class that is written in Python: its identity and its attributes."""
        for base in kind.__mro__:
            if base in _PLAIN_BASES:
                continue
            in_python = bool(base.__flags__ & _HEAP_TYPE) and (
                "__dict__" in vars(base) or "__slots__" in vars(base) or base.__dictoffset__
            )
            if not in_python or base.__module__.startswith("torch._C"):
                raise UnknownStateError(f"it reads a {kind.__qualname__}")
        self._add_identity(value)
        self.add_class(kind)
        for base in kind.__mro__:
            slots = vars(base).get("__slots__", ())
            for name in (slots,) if isinstance(slots, str) else slots:
                descriptor = vars(base).get(name)
                if isinstance(descriptor, MemberDescriptorType):
                    try:
                        self.add(descriptor.__get__(value, kind))
                    except AttributeError:
                        self.found.append("empty")
        try:
            attributes = object.__getattribute__(value, "__dict__")
        except AttributeError:
            attributes = {}
        self._add_items(attributes)
        if issubclass(kind, dict):
            self._add_items(dict(dict.items(value)))
        elif issubclass(kind, (list, tuple, set, frozenset)):
            self.add_all(list(value))


def static_attribute(kind: type, name: str) -> Any:
    """An attribute of a class as the class holds it; a token that no class holds for none."""
    for base in kind.__mro__:
        if name in vars(base):
            return vars(base)[name]
    return inspect.Parameter.empty


def is_of_library(kind: type) -> bool:
    """Whether a class is Python's, torch's or symfx's."""
    top = kind.__module__.partition(".")[0]
    return top in _STEADY or (STDLIB(top) and top != "__main__")


STDLIB: Callable[[str], bool] = sys.stdlib_module_names.__contains__
"""Whether a name is that of a top module of Python's library."""
