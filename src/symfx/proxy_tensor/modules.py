"""Which modules are running: the stack of them that a node's metadata can remember."""

from __future__ import annotations

import contextlib
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

import torch

__all__ = ["ModuleProxy", "ModuleStack", "module_of"]

_active: ContextVar[ModuleStack | None] = ContextVar("symfx_module_stack", default=None)


def module_of(f: Callable[..., Any]) -> torch.nn.Module | None:
    """The module that a function runs: the function itself, or what it says it wraps."""
    if isinstance(f, torch.nn.Module):
        return f
    wrapped = getattr(f, "_orig_mod", None)
    return wrapped if isinstance(wrapped, torch.nn.Module) else None


class ModuleProxy:
    """A module as seen through one of the several names under which it stands in another.

    symfx follows modules by hooks and hands out none of these; torch's Dynamo asks whether a
    module is one.
    """


class _WatchedModules(dict[str, "torch.nn.Module | None"]):
    """The submodules of a module; tells who takes one out, as attributes and containers do."""

    def __init__(self, modules: Any, taken: Callable[[str, Any], None]) -> None:
        super().__init__(modules)
        self._taken = taken

    def __getitem__(self, name: str) -> torch.nn.Module | None:
        module = super().__getitem__(name)
        self._taken(name, module)
        return module

    def values(self) -> Any:
        """The modules, each told of when the loop comes to it."""
        for name in self:
            yield self[name]


class ModuleStack:
    """The submodules of a module that are running, outermost first.

    Args:
        root: the module. A submodule that stands in it under several names goes by the one by
            which the program got at it.

    Attributes:
        running: for each, its name (``name@n`` for a later call) to its name and class.
    """

    def __init__(self, root: torch.nn.Module) -> None:
        self.running: OrderedDict[str, tuple[str, str]] = OrderedDict()
        self._names = {module: name for name, module in root.named_modules()}
        names = sum(1 for _ in root.named_modules(remove_duplicate=False))
        self._several = names > len(self._names)
        # The names by which the program got at a module and has not called it since: a call is
        # of the last one, as in `self.b(self.a(x))`.
        self._taken: dict[torch.nn.Module, list[str]] = {module: [] for module in self._names}
        self._calls: Counter[str] = Counter()
        self._open: list[torch.nn.Module] = []

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Follow the calls of the modules in this thread."""
        with contextlib.ExitStack() as stack:
            for module in self._names:
                if self._several and module._modules:
                    stack.enter_context(self._watch_submodules(module))
                enter, leave = self._hooks(module)
                before = module.register_forward_pre_hook(enter, prepend=True)
                stack.callback(before.remove)
                after = module.register_forward_hook(leave, always_call=True)
                stack.callback(after.remove)
            token = _active.set(self)
            try:
                yield
            finally:
                _active.reset(token)

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

    def _hooks(self, module: torch.nn.Module) -> tuple[Callable[..., None], Callable[..., None]]:
        kind = type(module)
        described = f"{kind.__module__}.{kind.__qualname__}"

        def enter(*_: Any) -> None:
            # Another thread may run the same module; what it traces is its own affair.
            if _active.get() is self:
                if self._taken[module]:
                    self._names[module] = self._taken[module].pop()
                name = self._names[module]
                calls = self._calls[name]
                self._calls[name] += 1
                self.running[f"{name}@{calls}" if calls else name] = (name, described)
                self._open.append(module)

        def leave(*_: Any) -> None:
            if _active.get() is self and self.running:
                self.running.popitem()
                self._open.pop()

        return enter, leave
