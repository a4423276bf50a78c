"""The functions of the user's code that a program may call, found before it runs.

They are found as far as names, closures, classes and modules tell. Some that the program never
calls are among them, and one that it makes up at run time may be missing. A missing function makes
no graph wrong: it asks symbolic numbers for their values, and the trace guards.

A model of a large library reaches thousands of functions. So what the classes and functions of
modules reach is remembered, and a later trace only asks whether their names still lead to the same
objects.
"""

from __future__ import annotations

import builtins
import contextlib
import functools
import sys
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Set
from types import FunctionType, MethodType, ModuleType
from typing import Any

import torch

from symfx.proxy_tensor.renamed_globals import names_in
from symfx.torch_bridge.modules import modules_of

__all__ = ["CACHED", "Reachable", "reachable"]

CACHED: Any = functools._lru_cache_wrapper
"""The type of functions that `functools.lru_cache` and `functools.cache` make."""

_FOREIGN = frozenset(sys.stdlib_module_names - {"__main__"}) | {"torch", "symfx", "numpy", "sympy"}
_CONTAINERS = frozenset((list, tuple, dict, set, OrderedDict))
#: The attributes of a module whose members are tensors, or modules that are visited anyway.
_REGISTRIES = frozenset(("_parameters", "_buffers", "_modules"))
#: Containers of more members hold data. So many objects that are no functions are looked into.
_MOST_MEMBERS, _MOST_OBJECTS = 1000, 20_000
_PLAIN = frozenset((int, float, str, bool, bytes, type(None), torch.Tensor, torch.nn.Parameter))
#: The most programs whose classes and functions are remembered.
_MOST_REMEMBERED = 16


def reachable(*programs: Any) -> list[Reachable]:
    """The functions that programs may call.

    Args:
        programs: functions, methods and modules.

    Returns:
        Two parts, or one: what belongs to the programs alone, and what the classes and functions of
        modules reach. The second part is the same object in later calls, unless names have changed.
    """
    own = Reachable(stops=True)
    own.visit(*programs)
    shared = None
    while own.seeds:
        seeds, names = len(own.seeds), frozenset(own.names)
        shared = _reached_by(own.seeds, names)
        # A class of the program alone may have a method that these functions call.
        own.look_up(shared.names)
        own.visit()
        if len(own.seeds) == seeds and own.names <= shared.names:
            break
    return [own] if shared is None else [own, shared]


_lock = threading.Lock()
_remembered: OrderedDict[tuple[frozenset[int], frozenset[str]], Reachable] = OrderedDict()


def _reached_by(seeds: Mapping[int, Any], names: frozenset[str]) -> Reachable:
    """What classes and functions of modules reach.

    Args:
        seeds: the classes and functions by their ids.
        names: names that other functions look up.
    """
    key = frozenset(seeds), names
    with _lock:
        found = _remembered.get(key)
        if found is None or not found.holds():
            found = Reachable(names)
            found.seeds.update(seeds)
            found.visit(*seeds.values())
        _remembered[key] = found
        _remembered.move_to_end(key)
        if len(_remembered) > _MOST_REMEMBERED:
            _remembered.popitem(last=False)
    return found


class Reachable:
    """Functions that can be reached, found by `visit`.

    A method counts where some function looks up its name, on any object.

    Args:
        names: names that other functions look up.
        stops: whether the classes and functions of modules become seeds, and are not looked into.

    Attributes:
        functions: the functions of the user's code.
        cached: cached functions, each with the namespace and the name that it stands under.
        names: the names that functions look up.
        seeds: classes and functions of modules, by their ids.
        code: for users of the functions, which may keep here what they make of their code.
    """

    def __init__(self, names: Iterable[str] = (), *, stops: bool = False) -> None:
        self.functions: list[FunctionType] = []
        self.cached: list[tuple[Any, str, Any]] = []
        self.names: set[str] = {"forward", "backward", "setup_context", *names}
        self.seeds: dict[int, Any] = {}
        self.code: Any = None
        self._stops = stops
        self._seen: set[int] = set()
        #: The classes that have a method, for each name that no function looks up.
        self._waiting: dict[str, list[type]] = {}
        self._pending: list[Any] = []
        self._objects = 0
        #: The namespaces of functions, the names that were looked up there, and the ids of the
        #: objects; and the namespaces of classes with their sizes.
        self._looked: list[tuple[dict[str, Any], tuple[str, ...], list[int]]] = []
        self._classes: list[tuple[type, int]] = []

    def visit(self, *things: Any) -> None:
        """Add the functions that can be reached from objects."""
        self._pending.extend(things)
        while self._pending:
            thing = self._pending.pop()
            if id(thing) in self._seen:
                continue
            self._seen.add(id(thing))
            if self._stops and _is_of_module(thing):
                self.seeds[id(thing)] = thing
            else:
                self._pending.extend(self._parts(thing))

    def look_up(self, names: Set[str]) -> None:
        """Count methods of these names from now on; `visit` adds them."""
        for name in self._waiting.keys() & names:
            for kind in self._waiting.pop(name):
                self._add_method(kind, name)
        self.names |= names

    def holds(self) -> bool:
        """Whether the names that functions look up still lead to the same objects."""
        return all(
            list(map(id, map(scope.get, names))) == ids for scope, names, ids in self._looked
        ) and all(len(vars(kind)) == size for kind, size in self._classes)

    def _parts(self, thing: Any) -> Iterable[Any]:
        """Add what a thing is; the things that can be reached from it."""
        # An object that stands in for another may lie about its class, or fail when it is asked.
        kind = type(thing)
        if issubclass(kind, torch.nn.Module):
            modules = modules_of(thing)
            self._seen.update(map(id, modules))
            return [part for module in modules for part in self._of_module(module)]
        if kind is FunctionType:
            return self._of_function(thing)
        if kind is MethodType:
            return thing.__func__, thing.__self__
        if issubclass(kind, functools.partial):
            return thing.func, *thing.args, *thing.keywords.values()
        if kind is CACHED:
            return (thing.__wrapped__,)
        if issubclass(kind, type):
            self._add_class(thing)
        elif kind in _CONTAINERS:
            if len(thing) <= _MOST_MEMBERS:
                members = thing.values() if issubclass(kind, dict) else thing
                return [m for m in members if type(m) not in _PLAIN]
        elif _is_of_user(kind):
            self._objects += 1
            if self._objects <= _MOST_OBJECTS:
                with contextlib.suppress(AttributeError):  # not each object has attributes
                    return kind, *self._values(object.__getattribute__(thing, "__dict__"))
            return (kind,)
        return ()

    def _of_module(self, module: torch.nn.Module) -> Iterator[Any]:
        yield type(module)
        yield from self._values(vars(module))
        if isinstance(module, torch.fx.GraphModule):
            yield vars(type(module)).get("forward")  # its code was made by torch, for the user

    def _values(self, own: dict[str, Any]) -> Iterator[Any]:
        for name, value in list(own.items()):
            kind = type(value)
            if (
                kind not in _PLAIN
                and name not in _REGISTRIES
                and (kind not in _CONTAINERS or value)
            ):
                yield self._named(own, name, value)

    def _of_function(self, function: FunctionType) -> Iterator[Any]:
        for cell in function.__closure__ or ():
            with contextlib.suppress(ValueError):  # a cell may be empty
                yield cell.cell_contents
        scope = function.__globals__
        # functools.wraps gives a wrapper the module of the function inside. The globals are its
        # own; those of code that exec() ran may have no name.
        if not _is_users_name(scope.get("__name__", "__main__")):
            return
        self.functions.append(function)
        yield from function.__defaults__ or ()
        yield from (function.__kwdefaults__ or {}).values()
        names = names_in(function.__code__)
        self.look_up(names)
        # A name that only an attribute has is no global now; to find one later is not worth a look.
        globals_ = tuple(name for name in names if name in scope or hasattr(builtins, name))
        self._looked.append((scope, globals_, list(map(id, map(scope.get, globals_)))))
        for name in globals_:
            value = scope.get(name)
            if type(value) not in _PLAIN:
                yield from self._global(scope, name, value, names)

    def _global(
        self, scope: dict[str, Any], name: str, value: Any, names: frozenset[str]
    ) -> Iterator[Any]:
        """What a name of a module leads to; of a module, what these names lead to in it."""
        if not issubclass(type(value), ModuleType):
            yield self._named(scope, name, value)
        elif _is_users_name(value.__name__):
            inside = vars(value)
            for attribute in names & inside.keys():
                if inside[attribute] is not value and type(inside[attribute]) not in _PLAIN:
                    yield from self._global(inside, attribute, inside[attribute], names - {name})

    def _add_class(self, kind: type) -> None:
        for base in kind.__mro__:
            if not _is_of_user(base) or (base is not kind and id(base) in self._seen):
                continue
            self._seen.add(id(base))
            # Python calls special methods without their name; a module has been made already.
            made = issubclass(base, torch.nn.Module)
            for name in list(vars(base)):
                special = name.startswith("__") and not (made and name == "__init__")
                if special or name in self.names:
                    self._add_method(base, name)
                else:
                    self._waiting.setdefault(name, []).append(base)

    def _add_method(self, kind: type, name: str) -> None:
        value = vars(kind)[name]
        if isinstance(value, (staticmethod, classmethod)):
            if type(value.__func__) is CACHED:
                self.cached.append((kind, name, value))
            self._pending.append(value.__func__)
        elif isinstance(value, property):
            self._pending += [value.fget, value.fset]
        elif isinstance(value, (functools.cached_property, functools.partialmethod)):
            self._pending.append(value.func)
        elif isinstance(value, (FunctionType, CACHED)) or type(value) in _CONTAINERS:
            self._pending.append(self._named(kind, name, value))

    def _named(self, owner: Any, name: str, value: Any) -> Any:
        """A value, remembered with its name where it is a cached function of the user's."""
        if type(value) is CACHED and _is_users_name(getattr(value, "__module__", None)):
            self.cached.append((owner, name, value))
        return value


def _is_of_module(thing: Any) -> bool:
    """Whether a thing is a class or a function that a module has under its name."""
    kind = type(thing)
    if kind is not FunctionType and not issubclass(kind, type):
        return False
    found: Any = sys.modules.get(thing.__module__)
    for part in thing.__qualname__.split("."):
        found = vars(found).get(part) if isinstance(found, (ModuleType, type)) else None
    return found is thing


def _is_of_user(kind: type) -> bool:
    """Whether a class is neither torch's, Python's nor symfx's."""
    return _is_users_name(vars(kind).get("__module__"))


def _is_users_name(module: object) -> bool:
    return isinstance(module, str) and module.partition(".")[0] not in _FOREIGN
