"""The modules, parameters and buffers of a module, in torch's order.

torch walks with a generator in a generator for each module, which takes longer the deeper it is.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

__all__ = ["modules_of", "named_modules", "named_state", "registered_modules", "state_count"]

_Module = torch.nn.Module
#: The methods that torch's walks call; a class may have its own.
_WALKS = ("named_modules", "named_parameters", "named_buffers", "_named_members")


def named_modules(root: torch.nn.Module) -> list[tuple[str, torch.nn.Module]]:
    """What ``root.named_modules()`` yields."""
    found = _walked(root)
    if _walk_otherwise(module for _, module in found):
        return list(root.named_modules())
    return found


def registered_modules(root: torch.nn.Module) -> list[torch.nn.Module]:
    """A module and those that its registries lead to, whatever its class says of them."""
    return [module for _, module in _walked(root)]


def _walked(root: torch.nn.Module) -> list[tuple[str, torch.nn.Module]]:
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
    modules = named_modules(root)
    if _walk_otherwise(module for _, module in modules):
        return dict(root.named_parameters()), dict(root.named_buffers())
    found: tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]] = {}, {}
    seen: tuple[set[int], set[int]] = set(), set()
    for place, module in modules:
        registries: tuple[Any, Any] = (module._parameters, module._buffers)
        for of_kind, ids, held in zip(found, seen, registries, strict=True):
            for name, tensor in held.items():
                if tensor is not None and id(tensor) not in ids:
                    ids.add(id(tensor))
                    of_kind[f"{place}.{name}" if place else name] = tensor
    return found


def state_count(root: torch.nn.Module) -> int:
    """How many places for parameters and buffers in the modules of a module are filled."""
    return sum(
        tensor is not None
        for module in modules_of(root)
        for held in (module._parameters, module._buffers)
        for tensor in held.values()
    )


def _walk_otherwise(modules: Iterable[torch.nn.Module]) -> bool:
    """Whether a class of the modules walks in its own way."""
    return any(
        issubclass(kind, torch.jit.ScriptModule)
        or any(getattr(kind, name) is not getattr(_Module, name) for name in _WALKS)
        for kind in set(map(type, modules))
    )
