"""The Python state that a model can reach: its attributes, lists, dicts, sets and variables.

A run of the model may change this state. `HeldState` remembers it, puts it back, and names the
changes.
"""

from __future__ import annotations

import functools
import inspect
import operator
import sys
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterator
from types import CellType, FunctionType, MethodType
from typing import Any, NamedTuple

import torch
from torch.utils import _pytree as pytree

from symfx.user_code import is_user_file

__all__ = ["HeldState"]

#: The attributes that every module has; torch keeps them.
_OF_EVERY_MODULE = frozenset(vars(torch.nn.Module()))
#: Libraries whose objects and functions are not part of a model.
_LIBRARIES = frozenset({*sys.stdlib_module_names, "torch", "numpy", "sympy", "symfx"})
_SYMBOLIC = (torch.SymInt, torch.SymFloat, torch.SymBool)
#: The containers whose members are remembered. The methods of other classes may do anything.
_CONTAINERS = (list, set, dict, deque, OrderedDict, defaultdict, Counter)
#: Values of these types reach no other value.
_PLAIN = frozenset({bool, int, float, complex, str, bytes, type(None)})
_MISSING = object()
_NOTHING: list[Any] = []


class HeldState:
    """The state that is reachable from a model, as it is when this object is made.

    Args:
        model: a module, a method, a function or another object that can be called.

    Attributes:
        modules: the modules, by name.
        tensors: the tensors, parameters left out.
        parameters: the parameters, by name.
    """

    def __init__(self, model: Callable[..., Any]) -> None:
        self.modules: dict[str, torch.nn.Module] = {}
        self.tensors: list[torch.Tensor] = []
        self.parameters: dict[str, torch.nn.Parameter] = {}
        self._seen: set[int] = set()
        #: The dicts of parameters, buffers and submodules, with their members.
        self._registries: list[tuple[dict[str, Any], list[Any]]] = []
        #: The classes of the modules, whose own containers and functions are visited once.
        self._classes: set[type] = set()
        self._containers: list[_Remembered] = []
        self._objects: list[_Remembered] = []
        self._module_attributes: list[_Remembered] = []
        #: Each variable of a function: its cell or the namespace that has it, name and value.
        self._variables: list[tuple[CellType | dict[str, Any], str, Any]] = []
        #: What only global variables reach is visited last: the model itself may hold it as well.
        self._globals: list[tuple[str, Any]] = []
        self._walk([("", model)], shared=False)
        while self._globals:
            found, self._globals = self._globals, []
            self._walk(found, shared=True)
        #: All that the registries and the attributes of modules hold, in one row.
        self._row = self._in_a_row()

    # -- remembering -----------------------------------------------------------------------------

    def _walk(self, pending: list[tuple[str, Any]], *, shared: bool) -> None:
        """Remember these values, and all values that are reachable from them."""
        seen = self._seen
        while pending:
            name, value = pending.pop()
            kind = type(value)
            if kind in _PLAIN or id(value) in seen:
                continue
            seen.add(id(value))
            if kind is torch.nn.Parameter:  # most values are one, or a module
                self.parameters[name] = value
            elif isinstance(value, torch.nn.Module):
                self._visit_module(name, value, pending)
            else:
                pending.extend(self._visit(name, value, shared))

    def _visit(self, name: str, value: Any, shared: bool) -> Iterator[tuple[str, Any]]:
        """Remember a value; yield the values that are reachable from it, with their names."""
        if isinstance(value, torch.nn.Parameter):
            self.parameters[name] = value
        elif isinstance(value, torch.Tensor):
            self.tensors.append(value)
        elif type(value) in _CONTAINERS:
            self._containers.append(_Remembered(name, value, _members(value), shared))
            members = value.items() if isinstance(value, dict) else enumerate(value)
            yield from ((f"{name}[{key!r}]", member) for key, member in members if _reaches(member))
        elif isinstance(value, tuple):
            yield from ((f"{name}[{i}]", m) for i, m in enumerate(value) if _reaches(m))
        elif isinstance(value, MethodType):
            yield name, value.__self__
            yield name, value.__func__
        elif isinstance(value, functools.partial):
            yield name, value.func
            yield from ((name, part) for part in value.args)
            yield from value.keywords.items()
        elif isinstance(value, FunctionType):
            yield from self._function(value)
        elif _reaches(value):
            self._objects.append(_Remembered(name, value, dict(vars(value)), shared))
            yield from ((f"{name}.{key}".lstrip("."), part) for key, part in vars(value).items())
            call = getattr(type(value), "__call__", None)  # noqa: B004 - its function is wanted
            if isinstance(call, FunctionType):
                yield name, call

    def _visit_module(
        self, name: str, module: torch.nn.Module, pending: list[tuple[str, Any]]
    ) -> None:
        """Remember a module; append what is reachable from it."""
        self.modules[name] = module
        kind = type(module)
        place = f"{name}." if name else ""
        if kind not in self._classes:
            self._classes.add(kind)
            for cls in reversed(kind.__mro__):
                if cls.__module__.partition(".")[0] not in _LIBRARIES:
                    for key, part in vars(cls).items():
                        if type(part) in _CONTAINERS and not key.startswith("__"):
                            pending.append((place + key, part))
            forward = getattr(kind, "forward", None)
            if isinstance(forward, FunctionType):
                pending.append((name, forward))
        attributes = vars(module)
        self._module_attributes.append(_Remembered(name, module, attributes.copy(), False))
        for key, part in attributes.items():
            if type(part) not in _PLAIN and key not in _OF_EVERY_MODULE:
                pending.append((place + key, part))
        for registry in (module._parameters, module._buffers, module._modules):
            if registry:
                self._registries.append((registry, _members(registry)))
                for key, part in registry.items():
                    pending.append((place + key, part))
            else:
                self._registries.append((registry, _NOTHING))

    def _function(self, function: FunctionType) -> Iterator[tuple[str, Any]]:
        """The variables of other scopes that a function of the user's reads or assigns."""
        wrapped = getattr(function, "__wrapped__", None)
        if isinstance(wrapped, FunctionType):
            yield "", wrapped
        code = function.__code__
        library = str(function.__module__).partition(".")[0] in _LIBRARIES
        if library or not is_user_file(code.co_filename):
            return
        for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
            value = _content(cell)
            self._variables.append((cell, name, value))
            yield name, value
        # Functions and lambdas inside of it use its globals too.
        for part in (code, *filter(inspect.iscode, code.co_consts)):
            for name in part.co_names:
                value = function.__globals__.get(name, _MISSING)
                self._variables.append((function.__globals__, name, value))
                self._globals.append((name, value))

    # -- putting back ----------------------------------------------------------------------------

    def restore(self, *, modules_alone: bool = False) -> list[str]:
        """Put the state back.

        What the model shares with other code, by global variables, is put back only where a tensor
        or a symbolic number came into it.

        Args:
            modules_alone: whether to put back the attributes of modules, and nothing else.

        Returns:
            A description of each change that a graph leaves out: the attributes and variables
            that hold another tensor or symbolic number, and the containers with other members.
        """
        changes: list[str] = []
        now = self._in_a_row()
        if len(now) != len(self._row) or not all(map(operator.is_, now, self._row)):
            changes += self._restore_modules()
        if not modules_alone:
            for held in self._objects:
                changes += held.restore_attributes()
            for held in self._containers:
                changes += held.restore_members()
            for place, name, value in self._variables:
                changes += _restore_variable(place, name, value)
        return changes

    def _in_a_row(self) -> list[Any]:
        row: list[Any] = []
        extend = row.extend
        for registry, _ in self._registries:
            row.append(len(registry))
            if registry:
                extend(registry)
                extend(registry.values())
        for held in self._module_attributes:
            attributes = vars(held.value)
            row.append(len(attributes))
            extend(attributes)
            extend(attributes.values())
        return row

    def _restore_modules(self) -> list[str]:
        changes: list[str] = []
        for registry, before in self._registries:
            if not _same(_members(registry), before):
                _put_back(registry, before)
        for held in self._module_attributes:
            changes += held.restore_attributes()
        return changes


class _Remembered(NamedTuple):
    """An object or a container as it was.

    Attributes:
        name: its name, for messages.
        value: the object or container.
        before: its attributes or members.
        shared: whether only global variables reach it.
    """

    name: str
    value: Any
    before: Any
    shared: bool

    def restore_members(self) -> list[str]:
        """Put the members of a container back; return a description of the change."""
        now = _members(self.value)
        if _same(now, self.before):
            return []
        if self.shared and not any(map(_is_traced, pytree.tree_leaves(now))):
            return []
        _put_back(self.value, self.before)
        return [f"changes the {type(self.value).__name__} {self.name}"]

    def restore_attributes(self) -> list[str]:
        """Put the attributes of an object back; return descriptions of changes."""
        now = vars(self.value)
        changed = [key for key in now if now[key] is not self.before.get(key, _MISSING)]
        if not changed and len(now) == len(self.before):
            return []
        traced = [key for key in changed if _is_traced(now[key])]
        if self.shared and not traced:
            return []
        place = f"{self.name}." if self.name else ""
        changes = [f"assigns {_noun(now[key])} to its attribute {place}{key}" for key in traced]
        now.clear()
        now.update(self.before)
        return changes


def _restore_variable(place: CellType | dict[str, Any], name: str, value: Any) -> list[str]:
    """Put the value of a variable back; return a description of the change, if there is one."""
    now = _content(place) if isinstance(place, CellType) else place.get(name, _MISSING)
    is_global = isinstance(place, dict)
    if now is value or (is_global and not _is_traced(now)):
        return []
    if isinstance(place, CellType):
        if value is _MISSING:
            del place.cell_contents
        else:
            place.cell_contents = value
    elif value is _MISSING:
        place.pop(name, None)
    else:
        place[name] = value
    return [f"assigns {_noun(now)} to the variable {name}"] if _is_traced(now) else []


def _content(cell: CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # the cell is still empty
        return _MISSING


def _members(container: Any) -> list[Any]:
    """The members of a container; of a dict the keys and then the values."""
    return [*container, *container.values()] if isinstance(container, dict) else list(container)


def _same(now: list[Any], before: list[Any]) -> bool:
    """Whether two lists have the same members: the very objects, or tuples of them."""
    if len(now) != len(before):
        return False
    return all(map(operator.is_, now, before)) or all(
        one is other
        or (
            isinstance(one, tuple)
            and isinstance(other, tuple)
            and len(one) == len(other)
            and all(map(operator.is_, one, other))
        )
        for one, other in zip(now, before, strict=True)
    )


def _put_back(container: Any, members: list[Any]) -> None:
    container.clear()
    if isinstance(container, dict):
        count = len(members) // 2
        container.update(zip(members[:count], members[count:], strict=True))
    elif isinstance(container, set):
        container.update(members)
    else:
        container.extend(members)


def _is_traced(value: Any) -> bool:
    """Whether a value is one that tracing makes: a tensor or a symbolic number."""
    return isinstance(value, (torch.Tensor, *_SYMBOLIC))


def _noun(value: Any) -> str:
    return "a tensor" if isinstance(value, torch.Tensor) else "a symbolic number"


def _reaches(value: Any) -> bool:
    """Whether a value may hold state of the model: it is no plain value and no library's object."""
    if isinstance(value, (torch.Tensor, torch.nn.Module, tuple, FunctionType, MethodType)):
        return True
    if type(value) in _CONTAINERS or isinstance(value, functools.partial):
        return True
    if inspect.ismodule(value) or inspect.isclass(value):
        return False
    if not isinstance(getattr(value, "__dict__", None), dict):
        return False
    return type(value).__module__.partition(".")[0] not in _LIBRARIES
