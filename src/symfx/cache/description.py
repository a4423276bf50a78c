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

The file is long because each kind of value has a method here, and all of them recurse.
"""

from __future__ import annotations

import collections
import contextvars
import enum
import functools
import importlib.util
import inspect
import logging
import os
import pathlib
import re
import sys
import threading
import types
import typing
from collections.abc import Callable, Collection, Iterable
from hashlib import blake2b
from types import CellType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy
import torch

from symfx.cache.code import (
    Identity,
    digest_of_code,
    identity_of,
    is_installed,
    is_layer,
    is_library,
    names_of,
)
from symfx.cache.foreign import refuse_builtin, refuse_impure
from symfx.cache.refusal import NotCacheableError

__all__ = ["Description"]

_CACHED: Any = functools._lru_cache_wrapper
_LIBRARIES = frozenset(sys.stdlib_module_names - {"__main__"}) | {
    "torch", "numpy", "sympy", "typing_extensions",
}  # fmt: skip
#: What Python, abc and dataclasses put into a class, and no program computes with.
_OF_CLASSES = frozenset(
    (
        "__abstractmethods__", "__annotate__", "__annotate_func__", "__annotations__",
        "__annotations_cache__", "__dataclass_fields__", "__dataclass_params__", "__dict__",
        "__doc__", "__firstlineno__", "__match_args__", "__module__", "__orig_bases__",
        "__parameters__", "__qualname__", "__static_attributes__", "__type_params__",
        "__weakref__", "_abc_impl", "__slots__", "__protocol_attrs__",
    )
)  # fmt: skip
#: The dicts of a module by the numbers of hooks, which count up over the whole process.
_HOOKS = frozenset(name for name in vars(torch.nn.Module()) if "hook" in name)
#: Of these, the ones that a call of the module runs.
_HOOKS_OF_CALLS = frozenset(name for name in _HOOKS if "state_dict" not in name)
_REGISTRIES = ("_parameters", "_buffers", "_modules")
_PLAIN_MODULE = vars(torch.nn.Module())
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
_NUMBERS_AND_TEXTS = (bool, int, float, complex, str, type(None))
_LOCKS = (type(threading.Lock()), type(threading.RLock()))
_UNSET = "no value"
#: Shorter texts are parts of too many names of variables.
_PART_OF_NAME = 3
_CHUNK = 1 << 24
#: Modules whose classes say what a class can do, and hold nothing.
_ABSTRACT = frozenset(("typing", "abc", "collections.abc"))
#: How code looks up names that its text does not show.
_DYNAMIC = frozenset(("getattr", "vars", "__dict__"))
#: Modules whose functions read more than their arguments.
_OPEN = frozenset(("os", "sys", "random", "time", "numpy.random", "torch.random"))


class Description:
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

    def __init__(
        self, running: Collection[Identity] = (), state: Iterable[torch.Tensor] = ()
    ) -> None:
        self.reached: set[Identity] = set()
        self.tensors: list[torch.Tensor] = []
        self.shared: str | None = None
        self._running = running
        self._state = {id(tensor) for tensor in state}
        self._hash = blake2b(digest_size=24)
        self._seen: dict[int, int] = {}
        #: Objects that are made on the way stay alive, so that their ids are not given again.
        self._alive: list[Any] = []
        self._with_elements: set[int] = set()
        self._storages: dict[int, int] = {}
        self._where: list[str] = []
        #: How many functions, classes and closures are around; how many whose calls are cached.
        self._outside = self._all_run = 0
        self._texts: set[str] = set()
        #: Which variables of the environment count: None; "names", those that texts name; "parts",
        #: those with a text in their name; "all".
        self._environment: str | None = None
        self._composes = "names"
        #: Whether what is met is looked up by torch's own layers, which may read what they like.
        self._of_layer = False
        self._namespaces: set[tuple[int, tuple[str, ...]]] = set()

    # -- the interface -----------------------------------------------------------------------------

    def add(self, name: str, value: Any) -> None:
        """Add a value to the digest.

        Args:
            name: what the value is called in a reason.
            value: the value.

        Raises:
            NotCacheableError: a part of it cannot be compared.
        """
        try:
            self._part(name, value)
        except RecursionError:
            raise NotCacheableError(f"{name} is nested too deep") from None

    def add_tensors(self) -> None:
        """Add the methods of tensors, which a program calls without a name that leads to them."""
        for kind in (torch.Tensor, torch.nn.Parameter):
            self._where.append(kind.__name__)
            self._patched(kind)
            self._where.pop()

    def add_roots(self, identities: Iterable[Identity]) -> None:
        """Add functions by their names: those that run, and that nothing else leads to.

        Raises:
            NotCacheableError: there is no such function, or it cannot be compared.
        """
        for module, name, _ in sorted(identities):
            found: Any = sys.modules.get(module)
            for step in name.split("."):
                found = vars(found).get(step) if isinstance(found, (ModuleType, type)) else None
            function = getattr(found, "__func__", found)
            if isinstance(function, property):
                function = function.fget
            if found is None:
                raise NotCacheableError(f"{module}.{name} runs, and cannot be found by its name")
            self.add(f"{module}.{name}", function)

    def missing(self) -> set[Identity]:
        """The functions that run, and that were not met so far."""
        return {one for one in self._running if one not in self.reached}

    def digest(self) -> str:
        """The digest of all that was added, as hexadecimal digits."""
        if self._environment is not None:
            values = {name: os.environ[name] for name in sorted(os.environ) if self._may_read(name)}
            self._write("environment", repr(values))
            self._environment = None
        return self._hash.hexdigest()

    def _may_read(self, name: str) -> bool:
        """Whether the functions that run may read this variable of the environment."""
        if self._environment == "all" or name in self._texts:
            return True
        return self._environment == "parts" and any(
            text in name for text in self._texts if len(text) >= _PART_OF_NAME
        )

    # -- writing -----------------------------------------------------------------------------------

    def _write(self, kind: str, text: str | bytes = b"") -> None:
        data = text.encode(errors="surrogatepass") if isinstance(text, str) else text
        self._hash.update(b"%s %d:" % (kind.encode(), len(data)))
        self._hash.update(data)

    def _refuse(self, what: str) -> NotCacheableError:
        place = ".".join(part for part in self._where if part)
        return NotCacheableError(f"{place} {what}" if place else f"the model {what}")

    def _again(self, value: Any) -> bool:
        """Whether a value was met before, which is written then."""
        number = self._seen.get(id(value))
        if number is not None:
            self._write("again", str(number))
            return True
        self._seen[id(value)] = len(self._seen)
        self._alive.append(value)
        return False

    def _part(self, name: str, value: Any) -> None:
        """Write a part of a thing under its name."""
        self._where.append(name)
        self._write("name", name)
        self._value(value)
        self._where.pop()

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

    def _note_shared(self, value: Any) -> None:
        if self._outside and self.shared is None:
            self.shared = ".".join(part for part in self._where if part)

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

    # -- tensors and modules -----------------------------------------------------------------------

    def _tensor(self, tensor: torch.Tensor, *, elements: bool) -> None:
        kind = type(tensor)
        if kind not in (torch.Tensor, torch.nn.Parameter, torch.nn.Buffer):
            raise self._refuse(f"is a tensor of the class {kind.__name__}")
        if not self._again(tensor):
            self.tensors.append(tensor)
            if tensor.layout is not torch.strided or tensor.is_quantized:
                raise self._refuse("is a tensor that is sparse, nested or quantized")
            storage = tensor.untyped_storage()._cdata
            self._write(
                "tensor",
                repr(
                    (
                        kind.__name__,
                        tuple(tensor.shape),
                        tensor.stride(),
                        tensor.storage_offset(),
                        str(tensor.dtype),
                        str(tensor.device),
                        tensor.requires_grad,
                        tensor.is_leaf,
                        tensor.is_conj(),
                        tensor.is_neg(),
                        tensor.is_inference(),
                        tensor.is_leaf and tensor.grad is not None,
                        self._storages.setdefault(storage, len(self._storages)),
                    )
                ),
            )
            if getattr(tensor, "_backward_hooks", None):
                raise self._refuse("is a tensor with hooks")
            own = {k: v for k, v in vars(tensor).items() if not k.startswith("_dynamo_")}
            if own:
                self._part("attributes", own)
        if elements and id(tensor) not in self._with_elements:
            self._with_elements.add(id(tensor))
            self._write("elements", self._elements(tensor))

    def _elements(self, tensor: torch.Tensor) -> bytes:
        """A digest of the elements."""
        if tensor.device.type == "meta" or torch._C._functorch.is_functorch_wrapped_tensor(tensor):
            raise self._refuse("is a tensor without elements")
        hashed = blake2b(digest_size=20)
        with torch.no_grad():
            plain = tensor.detach().resolve_conj().resolve_neg().cpu().contiguous()
            flat = plain.reshape(-1).view(torch.uint8) if plain.numel() else plain.reshape(-1)
        for start in range(0, flat.numel(), _CHUNK):
            hashed.update(flat[start : start + _CHUNK].numpy().tobytes())
        return hashed.digest()

    def _module(self, module: torch.nn.Module) -> None:
        if self._again(module):
            return
        self._note_shared(module)
        self._write("module")
        self._class(type(module))
        own = vars(module)
        if any(own.get(name) for name in _HOOKS_OF_CALLS if isinstance(own.get(name), dict)):
            self._hooks(own)
        for name, value in own.items():
            if name in _HOOKS and isinstance(value, dict):
                continue
            if name in _REGISTRIES:
                if value:
                    self._registry(name, value)
            elif not _as_every_module(name, value):
                self._part(name, value)

    def _registry(self, name: str, members: dict[str, Any]) -> None:
        self._write("registry", name)
        if type(members) not in (dict, collections.OrderedDict):
            raise self._refuse(f"keeps its parts in a {type(members).__name__}")
        for key, part in members.items():
            self._part(key, part)

    def _hooks(self, own: dict[str, Any]) -> None:
        """The hooks of a module, by their order instead of by their numbers."""
        tables = {
            name: own[name] for name in sorted(_HOOKS_OF_CALLS) if isinstance(own.get(name), dict)
        }
        order = {
            n: i for i, n in enumerate(sorted({n for table in tables.values() for n in table}))
        }
        for name, table in tables.items():
            self._part(name, [(order[number], hook) for number, hook in table.items()])

    def _object(self, kind: type, value: Any) -> None:
        """An object of a class of the user's: its class, its attributes, its members."""
        if self._is_library_class(kind):
            raise self._refuse(f"is {_kind_in_words(kind)}, which the cache cannot compare")
        if self._again(value):
            return
        self._note_shared(value)
        self._write("object")
        self._class(kind)
        of_libraries = [
            each
            for each in kind.__mro__
            if self._is_library_class(each) and each.__module__ not in _ABSTRACT
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
            if isinstance(slot, types.MemberDescriptorType) and not self._is_library_class(each)
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

    # -- classes and functions ---------------------------------------------------------------------

    def _is_library_class(self, kind: type) -> bool:
        return str(kind.__module__).partition(".")[0] in _LIBRARIES or kind.__module__ == "builtins"

    def _class(self, kind: type) -> None:
        if self._again(kind):
            return
        self._write("class", f"{kind.__module__}.{kind.__qualname__}")
        self._outside += 1
        if type(kind) is not type and not self._is_library_class(type(kind)):
            self._class(type(kind))
        for base in kind.__mro__:
            self._write("base", f"{base.__module__}.{base.__qualname__}")
            if base is not kind and self._again(base):
                continue
            if self._is_library_class(base):
                self._patched(base)
                continue
            for name in sorted(vars(base)):
                if name not in _OF_CLASSES:
                    self._part(name, vars(base)[name])
        self._outside -= 1

    def _patched(self, kind: type) -> None:
        """What a library's class has under its names: people put other functions there."""
        for name in sorted(vars(kind)):
            value = vars(kind)[name]
            function = getattr(value, "__func__", value)
            if isinstance(function, property):
                function = function.fget
            if isinstance(function, FunctionType):
                code, module = function.__code__, str(function.__globals__.get("__name__", ""))
                if is_library(code.co_filename, module):
                    self._write("own", f"{name} {module} {code.co_qualname} {code.co_firstlineno}")
                else:
                    self._part(name, function)
            elif callable(function):
                self._write("own", f"{name} {type(function).__name__} {_name_in_full(function)}")

    def _function(self, function: FunctionType) -> None:
        if self._again(function):
            return
        code = function.__code__
        module = str(function.__globals__.get("__name__", ""))
        identity = identity_of(code, module)
        self.reached.add(identity)
        self._write("function", f"{module} {code.co_qualname} {code.co_firstlineno}")
        if is_library(code.co_filename, module):
            if not self._of_layer:
                refuse_impure(module, code.co_qualname, self._refuse)
            return
        self._write("code", digest_of_code(code))
        if identity in self._running or self._all_run:
            # What is made inside of a function that runs is known by its code.
            self.reached.update(identity_of(part, module) for part in _functions_inside(code))
            self._outside += 1
            self._running_function(function, layer=is_layer(code))
            self._outside -= 1

    def _running_function(self, function: FunctionType, *, layer: bool) -> None:
        names, scope = names_of(function.__code__), function.__globals__
        self._texts |= names.texts
        self._composes = names.composes
        if names.writes and not layer:
            self.shared = self.shared or f"{function.__qualname__}, which assigns attributes"
        if not layer:
            self._part("defaults", function.__defaults__)
            self._part("keyword defaults", dict(function.__kwdefaults__ or {}))
        for name, cell in zip(
            function.__code__.co_freevars, function.__closure__ or (), strict=True
        ):
            self._part(name, _content(cell))
        if vars(function):
            self._part("attributes", dict(vars(function)))
        attributes = names.attributes
        if _DYNAMIC & {*names.globals, *attributes}:
            attributes = (*attributes, "getattr")
        for name in sorted(names.globals):
            self._composes = names.composes
            if name in scope:
                value = scope[name]
                # Of what torch's layers look up, the functions matter: people replace them.
                if layer and not _may_be_replaced(value):
                    continue
                self._of_layer = layer
                self._global(name, value, attributes)
                self._of_layer = False
            else:
                self._builtin(function, name)
        if not layer:
            for level, imported in names.imports:
                self._imported(scope, level, imported, attributes)

    def _builtin(self, function: FunctionType, name: str) -> None:
        own = getattr(function, "__builtins__", None)
        value = own.get(name) if isinstance(own, dict) else None
        if value is None:
            self._write("no global", name)
        elif isinstance(value, (types.BuiltinFunctionType, type)):
            if not is_layer(function.__code__):
                refuse_builtin(name, self._refuse)
            self._part(name, value)
        elif not name.startswith("__symfx_"):
            self._part(name, value)

    def _global(self, name: str, value: Any, attributes: tuple[str, ...]) -> None:
        self._where.append(name)
        self._write("global", name)
        if isinstance(value, ModuleType):
            self._namespace(value, attributes)
        else:
            self._value(value)
        self._where.pop()

    def _imported(
        self, scope: dict[str, Any], level: int, name: str, attributes: tuple[str, ...]
    ) -> None:
        full = name
        if level:
            try:
                package = str(scope.get("__package__") or scope.get("__name__"))
                full = importlib.util.resolve_name("." * level + name, package)
            except ImportError:
                raise self._refuse(f"imports {name}, which cannot be found") from None
        module = sys.modules.get(full)
        self._write("import", full)
        if module is not None:
            self._global(full, module, attributes)
            top = sys.modules.get(full.partition(".")[0])
            if top is not None and top is not module:
                self._global(full.partition(".")[0], top, attributes)

    def _held_module(self, module: ModuleType) -> None:
        """A module that an object holds: which names are looked up in it is not known."""
        if module.__name__.partition(".")[0] not in _LIBRARIES or module.__name__ in _OPEN:
            raise self._refuse(f"is the module {module.__name__}, held by an object")
        self._write("module", module.__name__)
        for name, value in sorted(vars(module).items()):
            if isinstance(value, FunctionType) and not is_library(
                value.__code__.co_filename, str(value.__module__)
            ):
                self._part(name, value)

    def _namespace(self, module: ModuleType, attributes: tuple[str, ...]) -> None:
        """A module: what these names lead to in it, and in the modules that it has."""
        self._write("namespace", module.__name__)
        if (id(module), attributes) in self._namespaces:
            return
        self._namespaces.add((id(module), attributes))
        asked = set(attributes)
        if module is os:
            asked = self._of_os(asked)
        inside = vars(module)
        library = module.__name__.partition(".")[0] in _LIBRARIES
        if asked & _DYNAMIC and not library:
            asked = {name for name in inside if not name.startswith("__")}
        for name in sorted(asked & inside.keys()):
            value = inside[name]
            if isinstance(value, ModuleType):
                self._global(name, value, attributes)
                continue
            if not self._of_layer:
                refuse_impure(module.__name__, name, self._refuse)
            if self._belongs(value):
                self._write("own", f"{module.__name__}.{name} {_name_in_full(value)}")
            elif library and not callable(value) and type(value) not in _NUMBERS_AND_TEXTS:
                self._write("of library", f"{module.__name__}.{name}")
            else:
                self._part(name, value)

    def _of_os(self, asked: set[str]) -> set[str]:
        """The names that code looks up in `os`, without those that read the environment."""
        reads = asked & {"environ", "getenv"}
        if reads:
            self._environment = max(
                self._environment or "names", self._composes, key=("names", "parts", "all").index
            )
        return asked - reads

    def _belongs(self, value: Any) -> bool:
        """Whether a value is a class or a compiled function of a library, known by its name."""
        if isinstance(value, type):
            return self._is_library_class(value) and not issubclass(value, torch.nn.Module)
        return (
            isinstance(value, types.BuiltinFunctionType)
            and not inspect.isclass(getattr(value, "__self__", None))
            and isinstance(getattr(value, "__self__", None), (ModuleType, type(None)))
        )

    def _compiled_function(self, value: Any) -> None:
        owner = getattr(value, "__self__", None)
        module = str(getattr(value, "__module__", None) or "")
        if owner is None or isinstance(owner, ModuleType):
            module = module or getattr(owner, "__name__", "")
            top = module.partition(".")[0]
            if top not in _LIBRARIES and top not in ("builtins", "_operator", "_functools"):
                raise self._refuse(f"calls {value.__name__}, compiled code that cannot be compared")
            if not self._of_layer:
                refuse_impure(module, value.__name__, self._refuse)
                if top == "builtins":
                    refuse_builtin(value.__name__, self._refuse)
            self._write("compiled", f"{module}.{value.__qualname__}")
        else:
            self._write("compiled method", value.__name__)
            self._part("of", owner)

    def _method(self, value: MethodType) -> None:
        self._write("method")
        self._part("", value.__func__)
        self._part("", value.__self__)

    def _cached(self, value: Any) -> None:
        """A function whose results Python keeps: they may be of the time before the trace."""
        if self._again(value):
            return
        self._write("cached")
        code = getattr(value.__wrapped__, "__code__", None)
        everything = code is None or not is_installed(code)
        self._all_run += everything
        self._part("", value.__wrapped__)
        self._all_run -= everything

    def _partial(self, value: Any) -> None:
        if not self._again(value):
            self._write("partial")
            self._part("", value.func)
            self._part("", value.args)
            self._part("", dict(value.keywords))

    def _wrapped(self, value: Any) -> None:
        self._write(type(value).__name__)
        self._part("", getattr(value, "__func__", None) or getattr(value, "func", None))

    def _property(self, value: property) -> None:
        self._write("property")
        for name in ("fget", "fset", "fdel"):
            self._part(name, getattr(value, name))

    def _code(self, value: CodeType) -> None:
        self._write("code", digest_of_code(value))

    def _pattern(self, value: re.Pattern[Any]) -> None:
        self._write("pattern", f"{value.flags} {value.pattern!r}")

    def _operator(self, library: str, name: str) -> None:
        if library not in ("aten", "prim", "prims"):
            raise self._refuse(f"is the operator {name}, whose kernels cannot be compared")
        self._write("operator", name)


def _as_every_module(name: str, value: Any) -> bool:
    """Whether an attribute is one that every module has, with the value that it has at first."""
    usual = _PLAIN_MODULE.get(name)
    if name not in _PLAIN_MODULE or type(value) is not type(usual):
        return False
    return value is usual or (isinstance(value, (bool, dict, set)) and value == usual)


def _may_be_replaced(value: Any) -> bool:
    """Whether a variable of torch's layers has something in whose place people put others."""
    if isinstance(value, ModuleType):
        return value.__name__.partition(".")[0] == "torch"
    return callable(value)


def _content(cell: CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return "an empty cell"


def _functions_inside(code: CodeType) -> Iterable[CodeType]:
    for value in code.co_consts:
        if isinstance(value, CodeType):
            yield value
            yield from _functions_inside(value)


def _name_in_full(value: Any) -> str:
    return f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', '')}"


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
