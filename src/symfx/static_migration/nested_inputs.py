"""Inputs that are dictionaries, tuples or lists of tensors, as one input for each tensor.

The tensor ``batch["x"]`` is the input ``batch_x`` of the graph.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from symfx.static_migration.conditions import InputType

__all__ = ["built", "flat_types", "part_name"]


def part_name(name: str, key: str | int) -> str:
    """The name of one part of an input."""
    return f"{name}_{re.sub(r'[^0-9A-Za-z_]', '_', str(key))}"


def flat_types(types: Mapping[str, InputType]) -> dict[str, InputType]:
    """The types of all tensors and numbers, by the names of the graph's inputs."""
    flat: dict[str, InputType] = {}
    for name, given in types.items():
        if given.is_nested:
            flat |= flat_types({part_name(name, key): part for key, part in given.parts})
        else:
            flat[name] = given
    return flat


def built(name: str, given: InputType, value_of: Callable[[str, InputType], Any]) -> Any:
    """An input as the program takes it.

    Args:
        name: the name of the input.
        given: its type.
        value_of: makes the value of a tensor or a number from its name and its type.
    """
    if not given.is_nested:
        return value_of(name, given)
    parts = {key: built(part_name(name, key), part, value_of) for key, part in given.parts}
    if given.kind == "dict":
        return parts
    return tuple(parts.values()) if given.kind == "tuple" else [*parts.values()]
