"""A check of the running torch: which names that symfx uses it lacks, and what that turns off.

The names are read from symfx's own source, so that no list has to be kept. `releases` is left
out: it chooses between the names of several releases itself.
"""

from __future__ import annotations

import ast
import importlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

__all__ = ["FEATURES", "MissingName", "missing_names"]

_PACKAGE = Path(__file__).parent.parent
_LEFT_OUT = Path("torch_bridge", "releases.py")

FEATURES = {
    "algebra": "the algebra's view in sympy",
    "cli": "the command line",
    "fake_operators": "symfx.trace and make_fx",
    "installation": "symfx.install",
    "graph_gradual_typechecker": "the type checker of gradual types",
    "meta_tracer": "meta_tracer",
    "migrate_gradual_types": "the constraints of gradual types",
    "optimization": "symfx.optimize",
    "proxy_tensor": "symfx.trace and make_fx",
    "recording": "event logs",
    "shape_rules": "shapes of graphs that are not run",
    "static_migration": "symfx typecheck",
    "sym_node": "symbolic shapes",
    "symbolic_shapes": "symbolic shapes",
    "torch_bridge": "symbolic shapes, symfx.trace and make_fx",
    "tracing": "symfx.trace",
}
"""For a room of the package, the feature that needs it."""


@dataclass(frozen=True)
class MissingName:
    """A name that the running torch lacks.

    Attributes:
        name: the full name, such as ``torch.overrides._pop_mode``.
        used_in: the modules of symfx that use it, as paths in the package.
    """

    name: str
    used_in: tuple[str, ...]

    @property
    def features(self) -> tuple[str, ...]:
        """The features that the lack turns off."""
        rooms = sorted({path.split("/")[0].removesuffix(".py") for path in self.used_in})
        return tuple(dict.fromkeys(FEATURES.get(room, f"symfx.{room}") for room in rooms))


def missing_names() -> list[MissingName]:
    """The names that symfx uses and the running torch lacks."""
    users: dict[str, list[str]] = {}
    for path in sorted(_PACKAGE.rglob("*.py")):
        place = path.relative_to(_PACKAGE)
        if place != _LEFT_OUT:
            for name in set(_names_of_torch(ast.parse(path.read_text(encoding="utf-8")))):
                users.setdefault(name, []).append(place.as_posix())
    return [MissingName(name, tuple(users[name])) for name in sorted(users) if not _look_up(name)]


def _names_of_torch(tree: ast.Module) -> Iterator[str]:
    """The full names of torch that a module imports, or reads as attributes."""
    # A local name to the full name that it stands for.
    known: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == "torch":
                    known[alias.asname or "torch"] = alias.name if alias.asname else "torch"
                    yield alias.name
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "torch":
            for alias in node.names:
                known[alias.asname or alias.name] = f"{node.module}.{alias.name}"
                yield f"{node.module}.{alias.name}"
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
            parts = _chain(node)
            # The attributes of modules alone: those of other objects may be set later.
            if parts and parts[0] in known and _is_module(known[parts[0]]):
                yield ".".join((known[parts[0]], *parts[1:]))


def _chain(node: ast.expr) -> list[str]:
    """The names in an expression such as ``a.b.c``; none for any other expression."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return [node.id, *reversed(parts)] if isinstance(node, ast.Name) else []


@cache
def _look_up(name: str) -> tuple[Any, ...]:
    """The object of a full name, alone in a tuple; an empty tuple if there is none."""
    parts = name.split(".")
    value: Any = torch
    for end, part in enumerate(parts[1:], 2):
        if not hasattr(value, part):
            try:
                importlib.import_module(".".join(parts[:end]))
            except ImportError:
                # A package may have an object under the name of one of its modules.
                value = sys.modules.get(".".join(parts[: end - 1]))
                if not hasattr(value, part):
                    return ()
        value = getattr(value, part)
    return (value,)


def _is_module(name: str) -> bool:
    return any(isinstance(value, ModuleType) for value in _look_up(name))
