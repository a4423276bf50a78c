"""The modules, parameters and buffers of a module, in torch's order.

torch walks with a generator in a generator for each module, which takes longer the deeper it is.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeAlias

import torch
from torch.nn.utils._named_member_accessor import _MISSING, swap_tensor

__all__ = [
    "call_with_state",
    "forget_walks",
    "modules_of",
    "named_modules",
    "named_state",
    "registered_modules",
    "state_count",
    "walking_once",
]

_Module = torch.nn.Module
#: The methods that torch's walks call; a class may have its own.
_WALKS = ("named_modules", "named_parameters", "named_buffers", "_named_members")
_Named: TypeAlias = list[tuple[str, torch.nn.Module]]


class _Walks(threading.local):
    """For the id of each root its walk and whether a class walks otherwise; None: none is kept."""

    def __init__(self) -> None:
        self.known: dict[int, tuple[_Named, bool]] | None = None


_walks = _Walks()


@contextlib.contextmanager
def walking_once() -> Iterator[None]:
    """Walk each root once inside, up to `forget_walks`; meanwhile no program may run."""
    before, _walks.known = _walks.known, {}
    try:
        yield
    finally:
        _walks.known = before


def forget_walks() -> None:
    """Walk anew from now on: a program runs, which may change its modules."""
    _walks.known = None


def named_modules(root: torch.nn.Module) -> list[tuple[str, torch.nn.Module]]:
    """What ``root.named_modules()`` yields; not to be changed."""
    found, otherwise = _known_walk(root)
    return list(root.named_modules()) if otherwise else found


def registered_modules(root: torch.nn.Module) -> list[torch.nn.Module]:
    """A module and those that its registries lead to, whatever its class says of them."""
    return [module for _, module in _known_walk(root)[0]]


def _known_walk(root: torch.nn.Module) -> tuple[_Named, bool]:
    known = None if _walks.known is None else _walks.known.get(id(root))
    if known is None:
        walked = _walked(root)
        known = walked, _walk_otherwise(module for _, module in walked)
        if _walks.known is not None:
            _walks.known[id(root)] = known
    return known


def _walked(root: torch.nn.Module) -> _Named:
    found: list[tuple[str, torch.nn.Module]] = []
    seen: set[int] = set()
    waiting = [("", root)]
    while waiting:
        name, module = waiting.pop()
        if id(module) in seen:
            continue
        seen.add(id(module))
        found.append((name, module))
        parts = module._modules
        if parts:
            place = f"{name}." if name else ""
            # `values` of a watched registry would tell that the program takes out each module.
            waiting += [(place + k, m) for k, m in reversed(parts.items()) if m is not None]
    return found


def modules_of(root: torch.nn.Module) -> list[torch.nn.Module]:
    """What ``root.modules()`` yields."""
    return [module for _, module in named_modules(root)]


def named_state(root: torch.nn.Module) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """What ``root.named_parameters()`` and ``root.named_buffers()`` yield."""
    modules, otherwise = _known_walk(root)
    if otherwise:
        return dict(root.named_parameters()), dict(root.named_buffers())
    parameters: dict[str, torch.Tensor] = {}
    buffers: dict[str, torch.Tensor] = {}
    ids: tuple[set[int], set[int]] = set(), set()
    for place, module in modules:
        if module._parameters:
            _add_named(parameters, ids[0], place, module._parameters)
        if module._buffers:
            _add_named(buffers, ids[1], place, module._buffers)
    return parameters, buffers


def _add_named(
    found: dict[str, torch.Tensor],
    ids: set[int],
    place: str,
    held: Mapping[str, torch.Tensor | None],
) -> None:
    for name, tensor in held.items():
        if tensor is not None and id(tensor) not in ids:
            ids.add(id(tensor))
            found[f"{place}.{name}" if place else name] = tensor


def state_count(root: torch.nn.Module) -> int:
    """How many places for parameters and buffers in the modules of a module are filled."""
    return sum(
        tensor is not None
        for module in modules_of(root)
        for held in (module._parameters, module._buffers)
        if held
        for tensor in held.values()
    )


def call_with_state(
    root: torch.nn.Module,
    state: dict[str, Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    *,
    tied: bool,
) -> Any:
    """What `torch.func.functional_call` does, in fewer steps where no tensors are tied.

    Args:
        root: the module.
        state: tensors to use in place of the parameters and buffers of these names. At the end it
            has the tensors that the module held then, and None for one that was deleted.
        args, kwargs: the arguments of the call.
        tied: whether the module has one of its tensors in several places.
    """
    if tied or isinstance(root, torch.nn.DataParallel):
        return torch.func.functional_call(root, state, args, kwargs, tie_weights=tied)
    modules = {"": root}
    places: list[tuple[torch.nn.Module, str]] = []
    before: list[torch.Tensor] = []
    try:
        for name, tensor in state.items():
            path, _, own = name.rpartition(".")
            module = _module_at(path, modules)
            before.append(_exchange(module, own, tensor))
            places.append((module, own))
        return root(*args, **kwargs)
    finally:
        after = [
            _exchange(module, own, tensor)
            for (module, own), tensor in zip(places, before, strict=True)
        ]
        state.update({k: None if t is _MISSING else t for k, t in zip(state, after, strict=False)})


def _module_at(path: str, known: dict[str, torch.nn.Module]) -> torch.nn.Module:
    """The module of a path, looked up once."""
    module = known.get(path)
    if module is None:
        above, _, last = path.rpartition(".")
        module = known[path] = getattr(_module_at(above, known), last)
    return module


def _exchange(module: torch.nn.Module, name: str, tensor: Any) -> Any:
    """Put a tensor where a module has one of this name; the tensor that it had."""
    held: Any = module._parameters
    if name not in held:
        held = module._buffers
        if name not in held:  # the program has made it a plain attribute, or has deleted it
            return swap_tensor(module, name, tensor, allow_missing=True)
    found = held[name]
    held[name] = tensor
    return found


def _walk_otherwise(modules: Iterable[torch.nn.Module]) -> bool:
    """Whether a class of the modules walks in its own way."""
    return any(
        issubclass(kind, torch.jit.ScriptModule)
        or any(getattr(kind, name) is not getattr(_Module, name) for name in _WALKS)
        for kind in set(map(type, modules))
    )
