"""The origin of a node as data: the modules, the torch function and the lines that made it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from symfx.untrusted import Item, one_line

__all__ = ["describe_origin", "read_origin"]

#: The most modules that run one inside of the other, and the most characters of a text.
_MODULES, _LONGEST, _NAME = 500, 100_000, 2_000


def describe_origin(meta: Mapping[str, Any]) -> dict[str, Any] | None:
    """The origin that the metadata of a node tell; None for a node without one.

    The operator behind the node is left out: it is that of the node.
    """
    modules = meta.get("nn_module_stack") or {}
    function, lines = meta.get("torch_fn"), meta.get("stack_trace")
    if not modules and function is None and not lines:
        return None
    return {
        "modules": [[key, path, str(kind)] for key, (path, kind) in modules.items()],
        "function": None if function is None else [str(part) for part in function],
        "lines": lines or None,
    }


def read_origin(item: Item) -> dict[str, Any]:
    """The metadata that `describe_origin` describes.

    Raises:
        TraceFileError: the data describe no origin.
    """
    if item.value is None:
        return {}
    fields = item.fields("modules", "function", "lines")
    meta: dict[str, Any] = {}
    stack = {}
    for module in fields["modules"].items(_MODULES):
        key, path, kind = (one_line(part.text(_NAME)) for part in module.items(exactly=3))
        stack[key] = (path, kind)
    if stack:
        meta["nn_module_stack"] = stack
    if fields["function"].value is not None:
        parts = fields["function"].items(exactly=2)
        meta["torch_fn"] = tuple(one_line(part.text(_NAME)) for part in parts)
    if fields["lines"].value is not None:
        text = fields["lines"].text(_LONGEST)
        # Nothing in it may act on the terminal that shows it.
        meta["stack_trace"] = "".join(c if c.isprintable() or c == "\n" else " " for c in text)
    return meta
