"""The parts of torch's specs of dynamic shapes, which torch keeps in private attributes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["entries_of_mapping", "entries_of_sequence", "parameters_of"]


def parameters_of(spec: Any) -> tuple[Mapping[str, Any], Sequence[Any], Mapping[str, Any]]:
    """The entries of a ``ShapesSpec``: of named parameters, of ``*args``, of ``**kwargs``."""
    params = spec._params
    if params is None:
        return {}, (), {}
    return params._named_args, params._varargs or (), params._varkw or {}


def entries_of_sequence(spec: Any) -> Sequence[Any]:
    """The entries of a ``SeqSpec``."""
    entries: Sequence[Any] = spec._entries
    return entries


def entries_of_mapping(spec: Any) -> dict[Any, Any]:
    """The entries of a ``DictSpec`` by key, or of an ``ObjectSpec`` by attribute."""
    return dict(spec.items())
