"""The arguments of a node with values in place of nodes, as shape rules take them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch.fx import Node
from torch.fx.node import map_arg

__all__ = ["arguments_of"]


class _Held:
    """Keeps a value whole: torch.fx would take a `Shape` apart, since it is a tuple."""

    def __init__(self, value: Any) -> None:
        self.value = value


def arguments_of(
    node: Node, value_of: Callable[[Node], Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The positional and keyword arguments of a node, with the value of each node in them."""

    def hold(used: Node) -> Any:
        return _Held(value_of(used))

    held: Any = map_arg((node.args, node.kwargs), hold)
    args, kwargs = _released(held[0]), _released(held[1])
    return args, kwargs


def _released(value: Any) -> Any:
    if isinstance(value, _Held):
        return value.value
    if isinstance(value, list):
        return [_released(part) for part in value]  # x[[0, 2]] is not x[0, 2]
    if isinstance(value, tuple):
        return tuple(map(_released, value))
    if isinstance(value, dict):
        return {name: _released(part) for name, part in value.items()}
    if isinstance(value, slice):
        return slice(*map(_released, (value.start, value.stop, value.step)))
    return value
