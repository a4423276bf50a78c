"""The modules of a process that hold an object of torch under some name, found by identity."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any, NamedTuple

__all__ = ["USERS", "Place", "import_users", "places_of", "replace_everywhere"]

USERS = (
    "torch._dynamo",
    "torch._dynamo.backends.debugging",
    "torch._dynamo.compiled_autograd",
    "torch._dynamo.aot_compile_types",
    "torch._export.non_strict_utils",
    "torch._export.serde.serialize",
    "torch._functorch.aot_autograd",
    "torch._functorch._aot_autograd.aot_autograd_result",
    "torch._functorch._aot_autograd.frontend_utils",
    "torch._higher_order_ops",
    "torch._inductor.compile_fx",
    "torch._inductor.graph",
    "torch._inductor.output_code",
    "torch._inductor.sizevars",
    "torch._inductor.standalone_compile",
    "torch._subclasses.fake_utils",
    "torch.export._draft_export",
    "torch.export._trace",
    "torch.export.exported_program",
)
"""Modules of torch that bring in all users of symbolic shapes and of make_fx.

A module that is imported later takes the names from torch's modules, which then hold symfx's.
"""


class Place(NamedTuple):
    """A global of a module."""

    module: ModuleType
    name: str

    def __str__(self) -> str:
        return f"{self.module.__name__}.{self.name}"


def import_users() -> list[str]:
    """Import torch's modules that use symbolic shapes.

    Returns:
        The names of those that the running torch does not have.
    """
    missing = []
    for name in USERS:
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is None or not name.startswith(error.name):
                raise  # the module is there, and needs another one
            missing.append(name)
    return missing


def places_of(objects: Mapping[int, Any]) -> Iterator[tuple[Place, Any]]:
    """Each global that holds one of some objects, except for those of symfx.

    Args:
        objects: the objects by their identity.
    """
    for module in list(sys.modules.values()):
        if not isinstance(module, ModuleType):
            continue
        name = module.__name__
        if name == "symfx" or name.startswith("symfx."):
            continue
        # A module with lazy attributes may add globals while this loop looks at them.
        for key, value in list(vars(module).items()):
            if id(value) in objects and objects[id(value)] is value:
                yield Place(module, key), value


def replace_everywhere(pairs: list[tuple[Any, Any]]) -> dict[int, list[Place]]:
    """Put one object in the place of another, in each global that holds the other.

    Args:
        pairs: the object that is there, and the object that takes its place.

    Returns:
        For the identity of each object that was there, the places.
    """
    new = {id(old): new for old, new in pairs}
    found: dict[int, list[Place]] = {id(old): [] for old, _ in pairs}
    for place, value in list(places_of({id(old): old for old, _ in pairs})):
        setattr(place.module, place.name, new[id(value)])
        found[id(value)].append(place)
    return found
