"""The stack of modules that are running, for the metadata of nodes."""

from __future__ import annotations

import contextlib
import sys
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from types import CodeType
from typing import Any, NamedTuple

import torch
from torch.utils.hooks import RemovableHandle

from symfx.proxy_tensor.program_calls import CallsOfProgram, calls_of_program
from symfx.torch_bridge.modules import named_modules

__all__ = [
    "Entered",
    "ModuleProxy",
    "ModuleStack",
    "is_hook_of_stack",
    "module_of",
    "telling_traced_modules",
]

_HOOKS = ("_forward_pre_hooks", "_forward_hooks", "_forward_hooks_always_called")
#: The code of the hooks of all stacks.
_codes_of_hooks: set[CodeType] = set()
_active: ContextVar[ModuleStack | None] = ContextVar("symfx_module_stack", default=None)
_Tell = Callable[[torch.nn.Module], object]
_tell: ContextVar[_Tell | None] = ContextVar("symfx_tell_traced_modules", default=None)


@contextlib.contextmanager
def telling_traced_modules(tell: _Tell) -> Iterator[None]:
    """Call a function with each module at the end of each of its calls in traces that run inside.

    A call counts also where the trace records its nodes from an equal call.
    """
    token = _tell.set(tell)
    try:
        yield
    finally:
        _tell.reset(token)


class Entered(NamedTuple):
    """A module that was entered: its key among the running ones, and the calls up to it."""

    module: torch.nn.Module
    key: str
    calls: CallsOfProgram


def is_hook_of_stack(hook: Any) -> bool:
    """Whether a hook of a module is one by which a `ModuleStack` follows the calls."""
    return getattr(hook, "__code__", None) in _codes_of_hooks


def module_of(f: Callable[..., Any]) -> torch.nn.Module | None:
    """The module that a function runs: the function itself, or its ``_orig_mod``; else None."""
    if isinstance(f, torch.nn.Module):
        return f
    wrapped = getattr(f, "_orig_mod", None)
    return wrapped if isinstance(wrapped, torch.nn.Module) else None


class ModuleProxy:
    """The class that torch's make_fx wraps around submodules.

    symfx follows modules by hooks and makes no objects of this class. torch's Dynamo tests
    whether a module is one.
    """


class _WatchedModules(dict[str, "torch.nn.Module | None"]):
    """The submodules of a module, with a callback for each that the program takes out."""

    def __init__(self, modules: Any, taken: Callable[[str, Any], None]) -> None:
        super().__init__(modules)
        self._taken = taken

    def __getitem__(self, name: str) -> torch.nn.Module | None:
        module = super().__getitem__(name)
        self._taken(name, module)
        return module

    def values(self) -> Any:
        """The modules, with the callback as the loop comes to each."""
        for name in self:
            yield self[name]


class ModuleStack:
    """The submodules of a module that are running, outermost first.

    Args:
        root: the module. A submodule with several names has the name under which the program
            looked it up.
        keeps_calls: whether to keep the calls of the program that lead to each running module.

    Attributes:
        running: for each running module, a key (its name, or ``name@n`` for a later call) to its
            name and class.
    """

    def __init__(self, root: torch.nn.Module, *, keeps_calls: bool = False) -> None:
        self._keeps_calls = keeps_calls
        self._called: list[CallsOfProgram] = []
        #: The calls of the program up to the module that is running, if those are kept.
        self.called: CallsOfProgram | None = None
        self.running: OrderedDict[str, tuple[str, str]] = OrderedDict()
        self._names = {module: name for name, module in named_modules(root)}
        # In a tree of modules, each but the root is in one place.
        places = sum(part is not None for m in self._names for _, part in m._modules.items())
        self._several = places >= len(self._names)
        # The names under which the program looked up a module without calling it yet. A call
        # belongs to the last one, as in `self.b(self.a(x))`.
        self._taken: dict[torch.nn.Module, list[str]] = {module: [] for module in self._names}
        self._calls: Counter[str] = Counter()
        self._snapshot: dict[str, tuple[str, str]] | None = None
        kind = type(root)
        self._root = ("", f"{kind.__module__}.{kind.__qualname__}")
        self._open: list[torch.nn.Module] = []
        #: A list that gets each module that is entered; None while no caller asks for them.
        self.entered: list[Entered] | None = None
        self._tell = _tell.get()

    @property
    def innermost(self) -> torch.nn.Module | None:
        """The module that was called last and has not ended."""
        return self._open[-1] if self._open else None

    def count(self, module: torch.nn.Module) -> tuple[str, tuple[str, str]]:
        """Count a call of a module that is not run; its key and its name and class."""
        if self._tell is not None:
            self._tell(module)
        kind = type(module)
        name = self._names[module]
        calls = self._calls[name]
        self._calls[name] += 1
        described = f"{kind.__module__}.{kind.__qualname__}"
        return f"{name}@{calls}" if calls else name, (name, described)

    def snapshot(self) -> dict[str, tuple[str, str]]:
        """The root and the modules that are running; the nodes of one call share the dict."""
        if self._snapshot is None:
            # A method of the root other than `forward` runs without a call of the root.
            self._snapshot = {"": self._root, **self.running}
        return self._snapshot

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Follow the calls of the modules in this thread."""
        # One key for the hooks of all modules: torch itself takes a number for each hook, and would
        # make an object for the removal of each, which for thousands of modules takes long.
        key: Any = RemovableHandle(OrderedDict()).id
        enter, leave = self._hooks()
        modules = list(self._names)
        with contextlib.ExitStack() as stack:
            if self._several:
                for module in modules:
                    if module._modules:
                        stack.enter_context(self._watch_submodules(module))
            token = _active.set(self)
            try:
                for module in modules:
                    before: Any = module._forward_pre_hooks
                    before[key] = enter
                    before.move_to_end(key, last=False)
                    module._forward_hooks[key] = leave
                    module._forward_hooks_always_called[key] = True
                yield
            finally:
                _active.reset(token)
                for module in modules:
                    for hooks in _HOOKS:
                        getattr(module, hooks).pop(key, None)

    @contextlib.contextmanager
    def _watch_submodules(self, parent: torch.nn.Module) -> Iterator[None]:
        def taken(name: str, module: Any) -> None:
            if _active.get() is not self or module not in self._taken:
                return
            above = self._names[parent]
            if parent not in self._open and self._taken[parent]:
                above = self._taken[parent][-1]
            self._taken[module].append(f"{above}.{name}" if above else name)

        before = parent._modules
        parent._modules = watched = _WatchedModules(before, taken)
        try:
            yield
        finally:
            # The program may have added or removed one.
            before.clear()
            before.update(watched)
            parent._modules = before

    def _hooks(self) -> tuple[Callable[..., None], Callable[..., None]]:
        def enter(module: torch.nn.Module, *_: Any) -> None:
            # Another thread may run the same module outside of this trace.
            if _active.get() is self:
                self._snapshot = None
                if self._taken[module]:
                    self._names[module] = self._taken[module].pop()
                name = self._names[module]
                count = self._calls[name]
                self._calls[name] = count + 1
                key = f"{name}@{count}" if count else name
                kind = type(module)
                self.running[key] = (name, f"{kind.__module__}.{kind.__qualname__}")
                self._open.append(module)
                if self._keeps_calls:
                    # The frame that calls this hook calls the module's `forward` next.
                    self.called = calls = calls_of_program(self.called, sys._getframe(1))
                    self._called.append(calls)
                    if self.entered is not None:
                        self.entered.append(Entered(module, key, calls))

        def leave(module: torch.nn.Module, *_: Any) -> None:
            if _active.get() is self and self.running:
                self._snapshot = None
                self.running.popitem()
                self._open.pop()
                if self._keeps_calls:
                    self._called.pop().frame = None
                    self.called = self._called[-1] if self._called else None
                if self._tell is not None:
                    self._tell(module)

        _codes_of_hooks.update((enter.__code__, leave.__code__))
        return enter, leave
