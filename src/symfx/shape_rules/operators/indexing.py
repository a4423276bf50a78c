"""Parts of a tensor: by brackets, by indices, by masks."""

from __future__ import annotations

import operator
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from symfx.shape_rules.dims import UNKNOWN, Dim, Domain, Shape, Unknown
from symfx.shape_rules.errors import IllTypedError
from symfx.shape_rules.operators.elementwise import broadcast_shapes
from symfx.shape_rules.table import axis, exactly, is_size, module_rule, rule

__all__ = ["index_tensor", "sliced"]


@rule(operator.getitem, takes_unknown=True)
def getitem(d: Domain, value: Any, index: Any) -> Any:
    """An item of a tuple, or a part of a tensor."""
    if isinstance(value, Shape):
        entries = index if isinstance(index, tuple) and not isinstance(index, Shape) else (index,)
        return index_tensor(d, value, entries)
    if isinstance(value, (tuple, list)):
        if isinstance(index, int):
            if not -len(value) <= index < len(value):
                raise IllTypedError(f"there is no item {index} in a tuple of {len(value)}")
            return value[index]
        if isinstance(index, slice) and _plain(index):
            return tuple(value)[index]
    return UNKNOWN


def _plain(index: slice) -> bool:
    bounds = (index.start, index.stop, index.step)
    return all(bound is None or isinstance(bound, int) for bound in bounds)


def index_tensor(d: Domain, x: Shape, index: tuple[Any, ...]) -> Any:
    """What ``x[index]`` leaves: for ints, slices, ``None``, ``...`` and tensors of indices."""
    taken = sum(1 for entry in index if _takes(entry))
    if taken > len(x):
        raise IllTypedError(f"{taken} indices are too many for {x}")
    if any(isinstance(entry, (Unknown, list)) for entry in index):
        return UNKNOWN  # a mask, a row of indices, or a number: each leaves another rank
    if any(entry is True or entry is False for entry in index):
        return UNKNOWN
    entries: list[Any] = []
    for entry in index:
        if entry is Ellipsis:
            entries += [slice(None)] * (len(x) - taken)
        else:
            entries.append(entry)
    entries += [slice(None)] * (len(x) - sum(1 for entry in entries if _takes(entry)))
    result: list[Dim] = []
    gathered: list[Shape] = []
    places: list[int] = []
    sizes = iter(x)
    for position, entry in enumerate(entries):
        if entry is None:
            result.append(1)
            continue
        size = next(sizes)
        if isinstance(entry, slice):
            result.append(sliced(d, size, entry))
        elif isinstance(entry, Shape):
            gathered.append(entry)
            places.append(len(result) if not places or places[-1] != -1 else -1)
            if (
                len(places) > 1
                and entries[position - 1] is not None
                and not _gathers(entries[position - 1])
            ):
                places[0] = 0  # indices apart from each other: their dimensions come first
        elif is_size(entry):
            _inside(d, size, entry)
        else:
            raise IllTypedError(f"a tensor is not indexed by {entry!r}")
    if gathered:
        at = places[0]
        found = broadcast_shapes(d, *gathered, what="tensors of indices broadcast")
        result[at:at] = found
    return Shape(result)


def _takes(entry: Any) -> bool:
    return entry is not None and entry is not Ellipsis


def _gathers(entry: Any) -> bool:
    return isinstance(entry, (Shape, int))


def _inside(d: Domain, size: Dim, index: Any) -> None:
    if isinstance(index, int):
        least = index + 1 if index >= 0 else -index
        d.require(">=", size, least, f"index {index} is within the dimension")


def sliced(d: Domain, size: Dim, index: slice) -> Dim:
    """How many elements a slice leaves of a dimension."""
    start, stop, step = index.start, index.stop, 1 if index.step is None else index.step
    bounds = (start, stop)
    if any(b is not None and not is_size(b) for b in bounds) or not isinstance(step, int):
        return d.fresh("a slice")
    if step <= 0:
        raise IllTypedError(f"a slice of a tensor takes a positive step, not {step}")
    if isinstance(size, int) and all(b is None or isinstance(b, int) for b in bounds):
        return len(range(size)[slice(start, stop, step)])
    if (start is None or _is(start, 0)) and (stop is None or _is_huge(stop)):
        return size if step == 1 else (size + (step - 1)) // step
    low = _clamped(d, size, start, 0)
    high = _clamped(d, size, stop, size)
    length = high - low
    if not (isinstance(low, int) and low == 0):
        length = d.compute("max", length, 0)
    return length if step == 1 else (length + (step - 1)) // step


def _is(bound: Any, value: int) -> bool:
    return isinstance(bound, int) and bound == value


def _is_huge(bound: Any) -> bool:
    return isinstance(bound, int) and bound >= 2**62


def _clamped(d: Domain, size: Dim, bound: Any, default: Dim) -> Dim:
    if bound is None or _is_huge(bound):
        return default if bound is None else size
    if isinstance(bound, int) and bound < 0:
        return d.compute("max", size + bound, 0)
    if isinstance(bound, int) and bound == 0:
        return 0
    # A size that is computed is taken to count from the front, as sizes do.
    return bound if bound is size else d.compute("min", size, bound)


@rule(torch.ops.aten.slice)
def aten_slice(
    d: Domain, input: Shape, dim: int = 0, start: Any = None, end: Any = None, step: Any = 1
) -> Shape:
    """A slice of one dimension."""
    i = axis(dim, len(input), "slice")
    return Shape((*input[:i], sliced(d, input[i], slice(start, end, step)), *input[i + 1 :]))


@rule(torch.select, "select", torch.ops.aten.select)
def select(d: Domain, input: Shape, dim: int, index: Any) -> Shape:
    """One index of a dimension, which goes."""
    i = axis(dim, len(input), "select")
    _inside(d, input[i], index)
    return Shape((*input[:i], *input[i + 1 :]))


@rule(torch.narrow, "narrow", torch.ops.aten.narrow)
def narrow(d: Domain, input: Shape, dim: int, start: Any, length: Any) -> Shape:
    """So many indices of a dimension."""
    i = axis(dim, len(input), "narrow")
    new = length if is_size(length) else d.fresh("a length")
    if isinstance(start, int) and start >= 0:
        d.require(">=", input[i], new + start, f"narrow stays within dimension {dim}")
    return Shape((*input[:i], new, *input[i + 1 :]))


@rule(torch.index_select, "index_select", torch.ops.aten.index_select, takes_unknown=True)
def index_select(d: Domain, input: Any, dim: int, index: Any) -> Any:
    """A dimension becomes as long as the vector of indices."""
    if not isinstance(input, Shape):
        return UNKNOWN
    i = axis(dim, len(input), "index_select")
    new: Dim = d.fresh("the number of indices")
    if isinstance(index, Shape):
        if len(index) > 1:
            raise IllTypedError(f"index_select takes a vector of indices, not {index}")
        new = index[0] if index else 1
    return Shape((*input[:i], new, *input[i + 1 :]))


@rule(torch.ops.aten.index)
def aten_index(d: Domain, input: Shape, indices: Any) -> Any:
    """Brackets with tensors of indices."""
    entries = tuple(slice(None) if entry is None else entry for entry in indices)
    return index_tensor(d, input, entries)


@rule(torch.gather, "gather", torch.ops.aten.gather, takes_unknown=True)
def gather(d: Domain, input: Any, dim: int, index: Any, **options: Any) -> Any:
    """The shape of the indices, whose rank is the input's."""
    if isinstance(input, Shape):
        axis(dim, len(input), "gather", scalar=True)
    if isinstance(input, Shape) and isinstance(index, Shape) and len(input) != len(index):
        raise IllTypedError(f"gather takes tensors of one rank, not {input} and {index}")
    return index


@rule(torch.take_along_dim, "take_along_dim")
def take_along_dim(d: Domain, input: Shape, indices: Shape, dim: Any = None) -> Shape:
    """The indices' shape, broadcast but for one dimension."""
    if dim is None:
        return Shape((d.product(indices),))
    i = axis(dim, len(input), "take_along_dim")
    pairs = zip(input, indices, strict=True)
    what = "take_along_dim broadcasts"
    return Shape(b if k == i else d.broadcast(a, b, what) for k, (a, b) in enumerate(pairs))


@rule(torch.take, "take")
def take(d: Domain, input: Shape, index: Shape) -> Shape:
    """The shape of the indices."""
    return index


@rule(
    "scatter",
    "scatter_",
    torch.scatter,
    "scatter_add",
    "scatter_add_",
    torch.scatter_add,
    "index_copy",
    "index_copy_",
    torch.index_copy,
    "index_add",
    "index_add_",
    torch.index_add,
    "index_fill",
    "index_fill_",
    torch.index_fill,
    "index_put",
    "index_put_",
    torch.index_put,
    "masked_scatter",
    "masked_scatter_",
    torch.masked_scatter,
    "scatter_reduce",
    torch.ops.aten.index_put,
    torch.ops.aten.index_put_,
    torch.ops.aten.scatter,
    torch.ops.aten.slice_scatter,
    torch.ops.aten.select_scatter,
    torch.slice_scatter,
    torch.select_scatter,
    takes_unknown=True,
)
def written_into(d: Domain, input: Any, *rest: Any, **options: Any) -> Any:
    """What is written into keeps its shape."""
    return input


@rule(torch.masked_select, "masked_select")
def masked_select(d: Domain, input: Shape, mask: Shape) -> Shape:
    """As many elements as the mask has true ones, which only running it tells."""
    broadcast_shapes(d, input, mask, what="the mask broadcasts")
    return Shape((d.fresh("the number of true elements"),))


@rule(torch.nonzero, "nonzero", torch.argwhere, "argwhere", torch.ops.aten.nonzero)
def nonzero(d: Domain, input: Shape, **options: Any) -> Any:
    """One row of indices for each element that is not 0."""
    count = d.fresh("the number of nonzero elements")
    if options.get("as_tuple"):
        return tuple(Shape((count,)) for _ in range(max(len(input), 1)))
    return Shape((count, len(input)))


@rule(F.embedding, torch.embedding, takes_unknown=True)
def embedding(d: Domain, input: Any, weight: Any, *rest: Any, **options: Any) -> Any:
    """A row of the weight for each index."""
    if not isinstance(input, Shape) or not isinstance(weight, Shape):
        return UNKNOWN
    return Shape((*input, exactly(weight, 2, "the weight of embedding")[1]))


@rule(torch.ops.aten.embedding)
def aten_embedding(d: Domain, weight: Shape, indices: Shape, *rest: Any) -> Shape:
    """A row of the weight for each index."""
    return Shape((*indices, exactly(weight, 2, "the weight of embedding")[1]))


@module_rule(nn.Embedding)
def embedding_module(d: Domain, module: nn.Embedding, input: Shape) -> Shape:
    """A row of the weight for each index."""
    return Shape((*input, module.embedding_dim))


@module_rule(nn.EmbeddingBag)
def embedding_bag_module(
    d: Domain, module: nn.EmbeddingBag, input: Shape, offsets: Any = None, *rest: Any
) -> Shape:
    """Rows summed or averaged: one for each row of indices, or for each offset."""
    if len(input) == 2:
        return Shape((input[0], module.embedding_dim))
    exactly(input, 1, "EmbeddingBag")
    if not isinstance(offsets, Shape):
        raise IllTypedError("EmbeddingBag takes offsets with a vector of indices")
    count = offsets[0] - 1 if module.include_last_offset else offsets[0]
    return Shape((count, module.embedding_dim))


@rule(F.one_hot)
def one_hot(d: Domain, tensor: Shape, num_classes: Any = -1) -> Shape:
    """One column for each class."""
    known = is_size(num_classes) and not _is(num_classes, -1)
    return Shape((*tensor, num_classes if known else d.fresh("the number of classes")))
