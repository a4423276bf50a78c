"""Nested containers as data: the structure of arguments and results, without their leaves.

A container of another class than Python's own is looked up among the classes that are registered
with `torch.utils._pytree` in this process; no module is imported for it.
"""

from __future__ import annotations

import collections
import functools
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch.utils import _pytree as pytree

from symfx.errors import TraceFileError
from symfx.graph_data.arguments import decode, encode
from symfx.untrusted import Item, is_identifier, shown

__all__ = ["describe_structure", "read_structure"]

_PLAIN: dict[str, Any] = {"tuple": tuple, "list": list}
#: The classes of dicts: their keys are their context.
_DICTS: dict[str, Any] = {"dict": dict, "OrderedDict": collections.OrderedDict}
_DEPTH = 40
_MEMBERS = 10_000
_IMPORT = "import the library that has this class before you load the file"


def describe_structure(spec: pytree.TreeSpec, where: str) -> Any:
    """A structure as data; a leaf is ``"*"``.

    Args:
        spec: the structure.
        where: what has it, for the message.

    Raises:
        TraceFileError: a container is of a class that a file cannot name.
    """
    if spec.is_leaf():
        return "*"
    children = [describe_structure(child, where) for child in spec.children()]
    context, kind = spec._context, spec.type
    keyed = functools.partial(encode, where=where, error=TraceFileError)
    for name, plain in _PLAIN.items():
        if kind is plain:
            return {name: children}
    for name, plain in _DICTS.items():
        if kind is plain:
            return {name: [[keyed(k), child] for k, child in zip(context, children, strict=True)]}
    if kind is collections.namedtuple or issubclass(kind, tuple):
        made = kind if kind is not collections.namedtuple else context
        return {"named": _name_of(made), "children": children}
    known = pytree.SUPPORTED_SERIALIZED_TYPES.get(kind)
    registered = known.serialized_type_name if known is not None else None
    if registered is None or pytree.SERIALIZED_TYPE_TO_PYTHON_TYPE.get(registered) is not kind:
        raise TraceFileError(
            f"{where} has a {kind.__name__} in it, whose class has no name for files",
            fix="register it by torch.utils._pytree.register_pytree_node(..., "
            "serialized_type_name=...), or pass a dict",
        )
    return {"registered": registered, "context": keyed(context), "children": children}


def _name_of(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def read_structure(item: Item, depth: int = 0) -> pytree.TreeSpec:
    """The structure that data describe.

    Raises:
        TraceFileError: the data describe no structure, or this process has no class of that name.
    """
    if item.value == "*":
        return pytree.tree_structure(0)
    if depth > _DEPTH:
        raise item.refusal(f"containers may be nested {_DEPTH} deep")
    entries = item.entries()
    if "named" in entries:
        fields = item.fields("named", "children")
        return _read_named(fields["named"], _read_children(fields["children"], depth))
    if "registered" in entries:
        fields = item.fields("registered", "context", "children")
        return _read_registered(fields, _read_children(fields["children"], depth))
    kind, inner = item.single()
    if kind in _PLAIN:
        return _spec(_PLAIN[kind], None, _read_children(inner, depth))
    if kind not in _DICTS:
        raise item.refusal(f"there is no kind of container called {shown(kind)}")
    pairs = [pair.items(exactly=2) for pair in inner.items(_MEMBERS)]
    keys = [decode(key, {}) for key, _ in pairs]
    with item.source.guarding("these cannot be the keys of a dict", item.path):
        if len(set(keys)) != len(keys):
            raise item.refusal("a key occurs twice")
    return _spec(_DICTS[kind], keys, [read_structure(child, depth + 1) for _, child in pairs])


def _read_children(item: Item, depth: int) -> list[pytree.TreeSpec]:
    return [read_structure(child, depth + 1) for child in item.items(_MEMBERS)]


def _spec(kind: Any, context: Any, children: list[pytree.TreeSpec]) -> pytree.TreeSpec:
    return pytree.TreeSpec(kind, context, children)


def _read_named(item: Item, children: list[pytree.TreeSpec]) -> pytree.TreeSpec:
    """The structure of a namedtuple, or of a result of several tensors as torch's operators have.

    The class is looked up in a module that this process has imported.
    """
    name = item.text(500)
    found = _class_of(name)
    fields = getattr(found, "_fields", None) or getattr(found, "__match_args__", None)
    is_tuple = isinstance(found, type) and issubclass(found, tuple) and found is not tuple
    if not is_tuple or not isinstance(fields, tuple) or len(fields) != len(children):
        raise item.refusal(
            f"there is no class {shown(name)} of tuples with {len(children)} fields", fix=_IMPORT
        )
    made: Callable[..., Any] = found
    with item.source.guarding("the class makes no tuples of its fields", item.path):
        if pytree.is_structseq_class(found):
            example = made([0] * len(fields))
        else:
            example = tuple.__new__(found, range(len(fields)))
        spec = pytree.tree_structure(example)
        return _spec(spec.type, spec._context, children)


def _class_of(name: str) -> Any:
    """The class of this name, if its module is imported and has it; otherwise None."""
    home, _, last = name.rpartition(".")
    if not is_identifier(last):
        return None
    if home == "torch.return_types":
        return vars(torch.return_types).get(last)
    module = sys.modules.get(home)
    return vars(module).get(last) if module is not None else None


def _read_registered(fields: dict[str, Item], children: list[pytree.TreeSpec]) -> pytree.TreeSpec:
    name = fields["registered"].text(500)
    kind = pytree.SERIALIZED_TYPE_TO_PYTHON_TYPE.get(name)
    if kind is None or kind in (tuple, list, dict, collections.defaultdict):
        raise fields["registered"].refusal(
            f"no class is registered as {shown(name)} with torch.utils._pytree", fix=_IMPORT
        )
    return _spec(kind, decode(fields["context"], {}), children)
