"""The digest of programs: classes, functions, and the variables that they name."""

from __future__ import annotations

import importlib.util
import inspect
import os
import re
import sys
import types
from collections.abc import Iterable
from types import CellType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

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
from symfx.cache.digest_writer import DigestWriter
from symfx.cache.foreign import refuse_builtin, refuse_impure
from symfx.cache.refusal import NotCacheableError

__all__ = ["ProgramDigest", "is_library_class"]

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
_NUMBERS_AND_TEXTS = (bool, int, float, complex, str, type(None))
#: How code looks up names that its text does not show.
_DYNAMIC = frozenset(("getattr", "vars", "__dict__"))
#: Modules whose functions read more than their arguments.
_OPEN = frozenset(("os", "sys", "random", "time", "numpy.random", "torch.random"))


class ProgramDigest(DigestWriter):
    """Writes classes and functions; see `symfx.cache.description`."""

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

    def _class(self, kind: type) -> None:
        if self._again(kind):
            return
        self._write("class", f"{kind.__module__}.{kind.__qualname__}")
        self._outside += 1
        if type(kind) is not type and not is_library_class(type(kind)):
            self._class(type(kind))
        for base in kind.__mro__:
            self._write("base", f"{base.__module__}.{base.__qualname__}")
            if base is not kind and self._again(base):
                continue
            if is_library_class(base):
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
            return is_library_class(value) and not issubclass(value, torch.nn.Module)
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


def is_library_class(kind: type) -> bool:
    """Whether a class is Python's, torch's, numpy's or sympy's own."""
    return str(kind.__module__).partition(".")[0] in _LIBRARIES or kind.__module__ == "builtins"


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
