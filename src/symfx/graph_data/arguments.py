"""The arguments of graph nodes as JSON, and back: plain values, nodes by name, torch's constants.

Reading makes data alone. No text of a file may end a line of the source that torch.fx writes, or
start one.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import fx

from symfx.errors import SymfxError
from symfx.untrusted import Item, shown

__all__ = ["decode", "decode_field", "encode"]

#: torch.fx drops each line of its source that contains this text, which is its own mark.
_MARK = "# COUNTER:"
#: The depth to which arguments may be nested: Python's parser stops at a hundred parentheses.
_DEPTH = 20
_CONSTANTS: dict[str, dict[str, Any]] = {
    kind: {
        name: value
        for name, value in vars(torch).items()
        if isinstance(value, cls) and str(value) == f"torch.{name}"
    }
    for kind, cls in {
        "dtype": torch.dtype,
        "memory_format": torch.memory_format,
        "layout": torch.layout,
    }.items()
}


def encode(value: Any, where: str, error: type[SymfxError]) -> Any:
    """An argument as JSON.

    Args:
        value: the argument.
        where: the name of the node, for the message.
        error: the class of the error.

    Raises:
        SymfxError: the argument is of a kind that cannot be saved; of the class ``error``.
    """
    again = functools.partial(encode, where=where, error=error)
    if isinstance(value, fx.Node):
        return {"node": value.name}
    if value is None or type(value) in (bool, int, str):
        return value
    if isinstance(value, float):
        return {"float": value.hex()}
    if isinstance(value, complex):
        return {"complex": [value.real.hex(), value.imag.hex()]}
    if isinstance(value, torch.Size) or (
        isinstance(value, tuple) and not hasattr(value, "_fields")
    ):
        return {"tuple": [again(item) for item in value]}
    if isinstance(value, list):
        return {"list": [again(item) for item in value]}
    if isinstance(value, dict):
        return {"dict": [[again(key), again(item)] for key, item in value.items()]}
    if isinstance(value, slice):
        return {"slice": [again(v) for v in (value.start, value.stop, value.step)]}
    if value is Ellipsis:
        return {"ellipsis": True}
    if isinstance(value, torch.device):
        return {"device": str(value)}
    for kind, named in _CONSTANTS.items():
        name = str(value).removeprefix("torch.")
        if named.get(name) is value:
            return {kind: name}
    raise error(f"{where} has a {type(value).__name__} in it, which cannot be saved as data")


def decode_field(item: Item, key: str, known: Mapping[str, fx.Node]) -> Any:
    """The argument that `encode` wrote as a field of an object; see `decode`."""
    try:
        return _decoded(item.value[key], known, 0)
    except _UnusualError:
        return _decoded_with_care(item.at(key), known, 0)


def decode(item: Item, known: Mapping[str, fx.Node], depth: int = 0) -> Any:
    """The argument that `encode` wrote as JSON.

    Args:
        item: the JSON.
        known: the nodes before this one, by name.
        depth: the number of lists around it.
    """
    try:
        return _decoded(item.value, known, depth)
    except _UnusualError:
        return _decoded_with_care(item, known, depth)


class _UnusualError(Exception):
    """A value that `_decoded` leaves to `_decoded_with_care`."""


def _decoded(value: Any, known: Mapping[str, fx.Node], depth: int) -> Any:
    """The arguments of most nodes: nodes, small numbers, and tuples and lists of them."""
    kind = type(value)
    if kind is int or value is None or kind is bool:
        return value
    if kind is not dict or len(value) != 1 or depth > _DEPTH:
        raise _UnusualError
    ((kind, inner),) = value.items()
    if kind == "node" and type(inner) is str:
        node = known.get(inner)
        if node is not None:
            return node
    elif kind in ("tuple", "list") and type(inner) is list:
        made = [_decoded(each, known, depth + 1) for each in inner]
        return tuple(made) if kind == "tuple" else made
    raise _UnusualError


def _decoded_with_care(item: Item, known: Mapping[str, fx.Node], depth: int) -> Any:
    value = item.value
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        if _MARK in value:
            raise item.refusal(f"no text in a graph may contain {_MARK!r}")
        return item.text(10_000)
    if depth > _DEPTH:
        raise item.refusal(f"the arguments of a node may be nested {_DEPTH} deep")
    kind, inner = item.single()
    if kind == "node":
        return inner.choice(known, "node before this one that is called")
    if kind == "float":
        return _float(inner)
    if kind == "complex":
        return complex(*map(_finite, inner.items(exactly=2)))
    if kind in ("tuple", "list"):
        made = [decode(each, known, depth + 1) for each in inner.items()]
        return tuple(made) if kind == "tuple" else made
    if kind == "dict":
        pairs = [pair.items(exactly=2) for pair in inner.items()]
        return {_key(key): decode(each, known, depth + 1) for key, each in pairs}
    if kind == "slice":
        return slice(*(decode(each, known, depth + 1) for each in inner.items(exactly=3)))
    if kind == "ellipsis":
        return Ellipsis
    if kind == "device":
        with item.source.guarding("there is no such device", item.path):
            return torch.device(inner.text(50))
    if kind not in _CONSTANTS:
        raise item.refusal(f"there is no kind of value called {shown(kind)}")
    return inner.choice(_CONSTANTS[kind], kind)


def _float(item: Item) -> float:
    try:
        return float.fromhex(item.text(50))
    except (ValueError, OverflowError):
        raise item.refusal(f"{shown(item.value)} is no float") from None


def _finite(item: Item) -> float:
    value = _float(item)
    if not math.isfinite(value):
        raise item.refusal("the source of torch.fx cannot hold this part of a complex number")
    return value


def _key(item: Item) -> Any:
    key = decode(item, {}, _DEPTH - 1)  # without nodes, which torch.fx does not find in keys
    try:
        hash(key)
    except TypeError:
        raise item.refusal(f"{shown(item.value)} cannot be a key") from None
    return key
