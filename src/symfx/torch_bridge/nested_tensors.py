"""Jagged nested tensors as arguments: a trace has their values and their offsets as two inputs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch.nested._internal.nested_tensor import NestedTensor, nested_view_from_values_offsets
from torch.utils import _pytree as pytree

__all__ = ["JaggedTensor", "as_parts", "as_whole", "offsets_of", "with_parts", "with_wholes"]

_nested_view: Any = nested_view_from_values_offsets  # torch gives it no types


@dataclass(frozen=True, eq=False)
class JaggedTensor:
    """A jagged nested tensor as two dense ones.

    Attributes:
        values: the rows of all its members.
        offsets: where each member begins in the values, and where the last one ends.
        measured: whether the tensor knows how long its longest and its shortest member are.
            Padding goes up to the longest member then, and otherwise up to the number of all rows.
    """

    values: Any
    offsets: Any
    measured: bool


def _of_children(children: Iterable[Any], measured: Any) -> JaggedTensor:
    values, offsets = children
    return JaggedTensor(values, offsets, measured)


pytree.register_pytree_node(
    JaggedTensor,
    lambda parts: ([parts.values, parts.offsets], parts.measured),
    _of_children,
    flatten_with_keys_fn=lambda parts: (
        [
            (pytree.GetAttrKey("values"), parts.values),
            (pytree.GetAttrKey("offsets"), parts.offsets),
        ],
        parts.measured,
    ),
)


def as_parts(value: Any) -> Any:
    """The parts of a jagged nested tensor without gaps; any other value itself."""
    if type(value) is not NestedTensor or value._ragged_idx != 1 or value._lengths is not None:
        return value
    measured = value._max_seqlen_tensor is not None
    return JaggedTensor(value._values, value._offsets, measured)


def as_whole(value: Any) -> Any:
    """The nested tensor that has these parts; any other value itself."""
    if not isinstance(value, JaggedTensor):
        return value
    if not value.measured:
        return _nested_view(value.values, value.offsets)
    lengths = value.offsets.diff()
    extremes = [lengths.min().item(), lengths.max().item()]
    for extreme in extremes:
        torch._check(extreme >= 0)  # type: ignore[no-untyped-call]
    return _nested_view(value.values, value.offsets, 1, *extremes)


def with_parts(tree: Any) -> Any:
    """A tree with the parts of its jagged nested tensors."""
    return pytree.tree_map(as_parts, tree)


def with_wholes(tree: Any) -> Any:
    """A tree with the nested tensors whose parts it has."""
    return pytree.tree_map(as_whole, tree, is_leaf=lambda node: isinstance(node, JaggedTensor))


def offsets_of(
    rows: int, example: torch.Tensor, count: int, generator: torch.Generator
) -> torch.Tensor:
    """Random offsets that divide rows among members, each of one row or more where they suffice.

    Args:
        rows: the number of rows.
        example: offsets, for the dtype and the device.
        count: the number of offsets.
        generator: the source of random numbers.
    """
    cuts = torch.randperm(max(rows - 1, 0), generator=generator)[: count - 2] + 1
    missing = torch.full((count - 2 - len(cuts),), rows)
    ends = torch.cat([torch.tensor([0]), cuts.sort().values, missing, torch.tensor([rows])])
    return ends.to(example.device, example.dtype)
