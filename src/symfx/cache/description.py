"""A digest of all that a trace of a model depends on: objects, classes, functions, variables.

Two programs with one digest run the same functions on equal values, step by step. The reason is
that a recorded trace tells the functions that run. For each of them the digest has its code, and
the values of all variables that it can name. A value of a kind that is not listed here makes the
model not cacheable.

What the digest has:

- of an object, its class and all its attributes; of a container, its members in their order;
- of a class, its bases, the code of its methods and the values of its attributes;
- of a function, its code; of one that runs also the globals it names, its defaults and closure;
- of a parameter or buffer, its metadata; of any other tensor, its elements too;
- of Python's, torch's, numpy's and sympy's own functions and classes, their names. Where another
  function stands in their place, it is taken as the user's.

The kinds of values are here; `symfx.cache.tensor_digest` has tensors and modules, and
`symfx.cache.program_digest` classes and functions.
"""

from __future__ import annotations

import collections
import contextvars
import enum
import functools
import logging
import pathlib
import re
import threading
import types
import typing
from collections.abc import Callable
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy
import torch

from symfx.cache.program_digest import is_library_class
from symfx.cache.tensor_digest import TensorDigest

__all__ = ["Description"]

_CACHED: Any = functools._lru_cache_wrapper
_TEXTS = (torch.dtype, torch.device, torch.layout, torch.memory_format, type(Ellipsis),
          type(NotImplemented), numpy.dtype, type(torch.strided))  # fmt: skip
_DESCRIPTORS = (
    types.MemberDescriptorType,
    types.GetSetDescriptorType,
    types.WrapperDescriptorType,
    types.MethodDescriptorType,
    types.ClassMethodDescriptorType,
)
_TYPING: tuple[Any, ...] = (
    types.GenericAlias,
    types.UnionType,
    typing.TypeVar,
    typing.ParamSpec,
    typing.ForwardRef,
    type(typing.Any),
    type(typing.Union[int, None]),  # noqa: UP007 - the class of such types is wanted
    type(typing.List),  # noqa: UP006
    type(typing.Callable),
    type(typing.Literal[1]),
)
_LOCKS = (type(threading.Lock()), type(threading.RLock()))
_UNSET = "no value"
#: Modules whose classes say what a class can do, and hold nothing.
_ABSTRACT = frozenset(("typing", "abc", "collections.abc"))


class Description(TensorDigest):
    """The digest of things, and a record of the objects that it met.

    Args:
        running: the functions that are known to run, by their identities.
        state: the parameters and buffers that a trace takes as inputs, whose elements no program
            reads while it is traced.

    Attributes:
        reached: the identities of all functions that were met, of those inside of others too.
        tensors: the tensors, each once, in the order in which they were met.
        shared: something outside of the model that a run may change without a trace of it: a
            container or an object that a function, a class or a closure holds; None if there is
            none.
    """

    # -- values of any kind -----------------------------------------------------------------------

    def _value(self, value: Any) -> None:
        kind = type(value)
        if kind is str:
            self._texts.add(value)
            self._write("str", value)
        elif value is None or kind is bool or kind is int:
            self._write(kind.__name__, str(value))
        elif kind in (float, complex, bytes, range, slice):
            self._write(kind.__name__, repr(value))
        elif kind in _HANDLERS:
            _HANDLERS[kind](self, value)
        else:
            self._unusual(kind, value)

    def _unusual(self, kind: type, value: Any) -> None:
        """Write a value whose class has no handler of its own."""
        if isinstance(value, torch.Tensor):
            self._tensor(value, elements=id(value) not in self._state)
        elif isinstance(value, torch.nn.Module):
            self._module(value)
        elif isinstance(value, ModuleType):
            self._held_module(value)
        elif isinstance(value, enum.Enum):
            self._write("enum", f"{kind.__module__}.{kind.__qualname__}.{value.name}")
            self._class(kind)
        elif isinstance(value, type):
            self._class(value)
        elif isinstance(value, _TEXTS):
            self._write(kind.__name__, str(value))
        elif isinstance(value, _DESCRIPTORS):
            self._write("descriptor", f"{kind.__name__} {value.__qualname__}")
        elif isinstance(value, _TYPING) or kind.__module__ == "typing":
            self._write("type", repr(value))
        elif isinstance(value, torch._ops.OpOverload):
            self._operator(value.namespace, str(value))
        elif isinstance(value, torch._ops.OpOverloadPacket):
            self._operator(value._qualified_op_name.partition("::")[0], value._qualified_op_name)
        elif isinstance(value, torch._ops.HigherOrderOperator):
            self._write("operator", value._name)
        elif isinstance(value, pathlib.PurePath):
            self._write("path", f"{kind.__name__} {value}")
        elif isinstance(value, numpy.generic):
            self._write("number", f"{value.dtype} {value!r}")
        elif isinstance(value, logging.Logger):
            self._write("logger", f"{value.name} {value.getEffectiveLevel()} {value.disabled}")
        elif isinstance(value, _LOCKS):
            self._write("lock", kind.__name__)
        elif isinstance(value, contextvars.ContextVar):
            self._write("variable of the context", value.name)
            self._part("value", value.get(_UNSET))
        else:
            self._object(kind, value)

    # -- containers --------------------------------------------------------------------------------

    def _sequence(self, value: Any) -> None:
        if not isinstance(value, tuple):
            if self._again(value):
                return
            self._note_shared(value)
        self._write(type(value).__name__, str(len(value)))
        if isinstance(value, collections.deque):
            self._write("maxlen", str(value.maxlen))
        for member in value:
            self._value(member)

    def _set(self, value: Any) -> None:
        """A set in its order, which a program may run through."""
        if isinstance(value, set):
            if self._again(value):
                return
            self._note_shared(value)
        self._write(type(value).__name__, str(len(value)))
        for member in value:
            self._value(member)

    def _dict(self, value: Any) -> None:
        if self._again(value):
            return
        self._note_shared(value)
        self._write(type(value).__name__, str(len(value)))
        if isinstance(value, collections.defaultdict):
            self._part("default_factory", value.default_factory)
        for key, member in value.items():
            self._value(key)
            if type(key) is str:
                self._part(key, member)
            else:
                self._value(member)

    def _proxy(self, value: Any) -> None:
        self._dict(dict(value))

    def _array(self, value: Any) -> None:
        if value.dtype.hasobject:
            raise self._refuse("is an array of objects")
        if not self._again(value):
            self._note_shared(value)
            self._write("array", f"{value.dtype.str} {value.shape}")
            self._write("elements", value.tobytes())

    # -- objects -----------------------------------------------------------------------------------

    def _object(self, kind: type, value: Any) -> None:
        """An object of a class of the user's: its class, its attributes, its members."""
        if is_library_class(kind):
            raise self._refuse(f"is {_kind_in_words(kind)}, which the cache cannot compare")
        if self._again(value):
            return
        self._note_shared(value)
        self._write("object")
        self._class(kind)
        of_libraries = [
            each
            for each in kind.__mro__
            if is_library_class(each) and each.__module__ not in _ABSTRACT
        ]
        base = of_libraries[0]
        if base in (dict, collections.OrderedDict):
            members = list(dict.items(value))
            self._write("dict", str(len(members)))
            for key, member in members:
                self._value(key)
                self._value(member)
        elif base in (list, tuple, set, frozenset):
            self._write(base.__name__, str(len(value)))
            for member in base.__iter__(value):
                self._value(member)
        elif base in (int, float, str):
            self._value(base(value))
        elif base in (property, staticmethod, classmethod, functools.cached_property):
            _HANDLERS[base](self, value)
        elif base is not object:
            raise self._refuse(f"is {_kind_in_words(kind)}, a kind of {base.__name__}")
        try:
            own = object.__getattribute__(value, "__dict__")
        except AttributeError:
            own = {}
        if not isinstance(own, dict):
            raise self._refuse(f"is {_kind_in_words(kind)}, whose attributes are no dict")
        for name, part in own.items():
            self._part(name, part)
        slots = [
            (name, slot)
            for each in kind.__mro__
            for name, slot in vars(each).items()
            if isinstance(slot, types.MemberDescriptorType) and not is_library_class(each)
        ]
        for name, slot in slots:
            try:
                part = slot.__get__(value)
            except AttributeError:
                self._write("empty", name)
            else:
                self._part(name, part)
        if base is object and not hasattr(value, "__dict__") and not slots and _is_compiled(kind):
            raise self._refuse(f"is {_kind_in_words(kind)}, an object of compiled code")


def _kind_in_words(kind: type) -> str:
    return f"a {kind.__module__}.{kind.__qualname__}".replace("builtins.", "")


def _is_compiled(kind: type) -> bool:
    return not kind.__flags__ & (1 << 9)  # Py_TPFLAGS_HEAPTYPE: classes that Python code makes


_HANDLERS: dict[type, Callable[[Description, Any], None]] = {
    list: Description._sequence,
    tuple: Description._sequence,
    torch.Size: Description._sequence,
    collections.deque: Description._sequence,
    set: Description._set,
    frozenset: Description._set,
    dict: Description._dict,
    collections.OrderedDict: Description._dict,
    collections.defaultdict: Description._dict,
    collections.Counter: Description._dict,
    types.MappingProxyType: Description._proxy,
    numpy.ndarray: Description._array,
    FunctionType: Description._function,
    MethodType: Description._method,
    types.BuiltinFunctionType: Description._compiled_function,
    _CACHED: Description._cached,
    functools.partial: Description._partial,
    staticmethod: Description._wrapped,
    classmethod: Description._wrapped,
    functools.cached_property: Description._wrapped,
    functools.partialmethod: Description._wrapped,
    property: Description._property,
    CodeType: Description._code,
    re.Pattern: Description._pattern,
}
