"""The origin of a node as data: the modules, the torch function and the lines that made it.

Most nodes of a graph share their modules and their lines with others. So a graph has a list of
each, and a node has places in them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from symfx.handover.listed import Listed
from symfx.untrusted import Item, one_line

__all__ = ["OriginReader", "OriginWriter"]

#: The most modules that run one inside of the other, and the most characters of a text.
_MODULES, _LONGEST, _NAME = 500, 100_000, 2_000


class OriginWriter:
    """Writes the origins of the nodes of a graph.

    Attributes:
        modules: the list of the modules behind nodes, for the file.
        lines: the list of their lines.
    """

    def __init__(self) -> None:
        self.modules = Listed()
        self.lines = Listed()

    def describe(self, meta: Mapping[str, Any]) -> dict[str, Any] | None:
        """The origin that the metadata of a node tell; None for a node without one.

        The operator behind the node is left out: it is that of the node.
        """
        modules = meta.get("nn_module_stack") or {}
        function, lines = meta.get("torch_fn"), meta.get("stack_trace")
        if not modules and function is None and not lines:
            return None
        stack = [[key, path, str(kind)] for key, (path, kind) in modules.items()]
        return {
            "modules": self.modules.place(stack) if stack else None,
            "function": None if function is None else [str(part) for part in function],
            "lines": self.lines.place(lines) if lines else None,
        }


class OriginReader:
    """Reads the origins of the nodes of a graph.

    Args:
        modules: the list of modules; None for a file in which each node has its own.
        lines: the list of lines; None likewise.

    Raises:
        TraceFileError: the data describe no origin.
    """

    def __init__(self, modules: Item | None, lines: Item | None) -> None:
        self._modules = None if modules is None else [_read_modules(m) for m in modules.items()]
        self._lines = None if lines is None else [_read_lines(text) for text in lines.items()]

    def read(self, node: Item) -> dict[str, Any]:
        """The metadata of a node whose data have the field ``origin``."""
        value = node.value["origin"]
        if value is None:
            return {}
        return self._of_listed(value) or self._with_care(node.at("origin"))

    def _of_listed(self, value: Any) -> dict[str, Any] | None:
        """The metadata that most origins tell; None for one that `_with_care` reads."""
        if type(value) is not dict or len(value) != 3:
            return None
        stacks, texts = self._modules, self._lines
        at, function, line = value.get("modules"), value.get("function"), value.get("lines")
        if (
            stacks is None
            or texts is None
            or type(function) is not list
            or type(at) is not int
            or type(line) is not int
            or not (0 <= at < len(stacks) and 0 <= line < len(texts) and len(function) == 2)
        ):
            return None
        name, full = function
        if not (
            type(name) is type(full) is str
            and name.isidentifier()
            and full.isprintable()
            and len(name) <= _NAME >= len(full)
        ):
            return None
        meta: dict[str, Any] = {}
        if stacks[at]:
            meta["nn_module_stack"] = stacks[at]
        meta["torch_fn"] = (name, full.strip())
        meta["stack_trace"] = texts[line]
        return meta

    def _with_care(self, item: Item) -> dict[str, Any]:
        fields = item.raw_fields("modules", "function", "lines")
        meta: dict[str, Any] = {}
        stack = _entry(item.at("modules"), self._modules, _read_modules)
        if stack:
            meta["nn_module_stack"] = stack  # the nodes of one call share it, as in a trace
        if fields["function"] is not None:
            parts = item.at("function").items(exactly=2)
            meta["torch_fn"] = tuple([one_line(part.text(_NAME)) for part in parts])
        lines = _entry(item.at("lines"), self._lines, _read_lines)
        if lines is not None:
            meta["stack_trace"] = lines
        return meta


def _entry(item: Item, listed: Sequence[Any] | None, read: Any) -> Any:
    if item.value is None:
        return None
    return read(item) if listed is None else listed[item.whole(0, len(listed) - 1)]


def _read_modules(item: Item) -> dict[str, tuple[str, str]]:
    value = item.value
    if type(value) is list and len(value) <= _MODULES and all(map(_is_plain_module, value)):
        return {key: (path, kind) for key, path, kind in value}
    stack = {}
    for module in item.items(_MODULES):
        key, path, kind = (one_line(part.text(_NAME)) for part in module.items(exactly=3))
        stack[key] = (path, kind)
    return stack


def _is_plain_module(value: Any) -> bool:
    """Whether a module is written as most are: three short texts that `one_line` leaves alone."""
    return (
        type(value) is list
        and len(value) == 3
        and all(
            type(text) is str and len(text) <= _NAME and text.isprintable() and text == text.strip()
            for text in value
        )
    )


def _read_lines(item: Item) -> str:
    text = item.text(_LONGEST)
    # Nothing in it may act on the terminal that shows it.
    if text.replace("\n", "").isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\n" else " " for c in text)
