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


class ModuleStack:
    """The submodules of a module that are running, outermost first.

    Args:
        root: the module. A submodule that stands in it twice goes by its first name.

    Attributes:
        running: for each, its name (``name@n`` for a later call) to its name and class.
    """

    def __init__(self, root: torch.nn.Module) -> None:
        self.running: OrderedDict[str, tuple[str, str]] = OrderedDict()
        self._root = root
        self._calls: Counter[str] = Counter()

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Follow the calls of the modules in this thread."""
        with contextlib.ExitStack() as stack:
            for name, module in self._root.named_modules():
                enter, leave = self._hooks(name, module)
                before = module.register_forward_pre_hook(enter, prepend=True)
                stack.callback(before.remove)
                after = module.register_forward_hook(leave, always_call=True)
                stack.callback(after.remove)
            token = _active.set(self)
            try:
                yield
            finally:
                _active.reset(token)

    def _hooks(
        self, name: str, module: torch.nn.Module
    ) -> tuple[Callable[..., None], Callable[..., None]]:
        kind = type(module)
        described = f"{kind.__module__}.{kind.__qualname__}"

        def enter(*_: Any) -> None:
            # Another thread may run the same module; what it traces is its own affair.
            if _active.get() is self:
                calls = self._calls[name]
                self._calls[name] += 1
                self.running[f"{name}@{calls}" if calls else name] = (name, described)

        def leave(*_: Any) -> None:
            if _active.get() is self and self.running:
                self.running.popitem()

        return enter, leave
