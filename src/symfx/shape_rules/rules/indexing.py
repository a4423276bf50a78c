"""Operators that read or write parts of a tensor: brackets, index tensors, masks."""

from __future__ import annotations

import operator
from typing import Any

import torch

from symfx.shape_rules.errors import IllTypedError
from symfx.shape_rules.rules.elementwise import broadcast_shapes, into, named
from symfx.shape_rules.sizes import UNKNOWN, Dim, Pieces, Shape, Sizes, Unknown, number_of_steps
from symfx.shape_rules.table import axis, exactly, is_size, rule

__all__ = ["index_tensor", "sliced"]


@rule(operator.getitem, takes_unknown=True)
def getitem(d: Sizes, value: Any, index: Any) -> Any:
    """An item of a tuple, or a part of a tensor."""
    if isinstance(value, Shape):
        entries = index if isinstance(index, tuple) and not isinstance(index, Shape) else (index,)
        return index_tensor(d, value, entries)
    if isinstance(value, Pieces):
        return value[index] if isinstance(index, int) else UNKNOWN
    if isinstance(value, (tuple, list)):
        if isinstance(index, int):
            if not -len(value) <= index < len(value):
                raise IllTypedError(f"a tuple of {len(value)} items has no item {index}")
            return value[index]
        if isinstance(index, slice) and _plain(index):
            return tuple(value)[index]
    if isinstance(value, dict):
        if index not in value:
            raise IllTypedError(f"a dictionary with the keys {[*value]} has no key {index!r}")
        return value[index]
    return UNKNOWN


def _plain(index: slice) -> bool:
    bounds = (index.start, index.stop, index.step)
    return all(bound is None or isinstance(bound, int) for bound in bounds)


def index_tensor(d: Sizes, x: Shape, index: tuple[Any, ...]) -> Any:
    """The shape of ``x[index]``, for ints, slices, ``None``, ``...`` and tensors of indices."""
    if len(index) == 1 and isinstance(index[0], list) and any(map(_is_list, index[0])):
        return UNKNOWN  # torch takes lists in a list for a tuple of lists, or for one tensor
    index = tuple(_as_tensor(d, entry) if isinstance(entry, list) else entry for entry in index)
    taken = sum(map(_dimensions_taken, index))
    if taken > len(x):
        raise IllTypedError(f"{taken} indices are too many for {x}")
    if any(isinstance(entry, Unknown) for entry in index):
        return UNKNOWN  # a mask, a list or a number: each leaves another rank
    if any(entry is True or entry is False for entry in index):
        return UNKNOWN
    entries: list[Any] = []
    for entry in index:
        if entry is Ellipsis:
            entries += [slice(None)] * (len(x) - taken)
        else:
            entries.append(entry)
    entries += [slice(None)] * (len(x) - sum(map(_dimensions_taken, entries)))
    result: list[Dim] = []
    gathered: list[Shape] = []
    places: list[int] = []
    sizes = iter(x)
    for position, given in enumerate(entries):
        entry = given
        if entry is None:
            result.append(1)
            continue
        if _is_mask(entry):
            for masked in entry:
                d.equal(next(sizes), masked, "a mask has the sizes of its dimensions")
            entry = Shape((_true_elements(d, entry),))
        else:
            size = next(sizes)
        if isinstance(entry, slice):
            result.append(sliced(d, size, entry))
        elif isinstance(entry, Shape):
            if isinstance(entry, _KnownIndices):
                for number in dict.fromkeys(entry.numbers):
                    _inside(d, size, number)
            gathered.append(entry)
            places.append(len(result) if not places or places[-1] != -1 else -1)
            if (
                len(places) > 1
                and entries[position - 1] is not None
                and not _gathers(entries[position - 1])
            ):
                places[0] = 0  # the dimensions of separated index tensors come first
        elif is_size(entry):
            _inside(d, size, entry)
        else:
            raise IllTypedError(f"a tensor cannot be indexed by {entry!r}")
    if gathered:
        at = places[0]
        found = broadcast_shapes(d, *gathered, what="the index tensors broadcast")
        result[at:at] = found
    return Shape(result)


def _is_list(entry: Any) -> bool:
    return isinstance(entry, list)


def _dimensions_taken(entry: Any) -> int:
    """The number of dimensions that one entry of an index stands for."""
    if entry is None or entry is Ellipsis:
        return 0
    return len(entry) if _is_mask(entry) else 1


def _is_mask(entry: Any) -> bool:
    """Whether an index is a boolean tensor, which selects by data; uint8 counts as boolean."""
    return isinstance(entry, Shape) and entry.dtype in (torch.bool, torch.uint8)


class _KnownMask(Shape):
    """A list of booleans among indices; the number of its true elements is known."""

    dtype = torch.bool
    true_count: int

    def __new__(cls, values: list[bool]) -> _KnownMask:
        """Make the shape of the list."""
        made = super().__new__(cls, (len(values),))
        made.true_count = sum(values)
        return made


class _KnownIndices(Shape):
    """A list of numbers among indices, or lists of them."""

    numbers: tuple[Dim, ...]

    def __new__(cls, sizes: tuple[int, ...], numbers: tuple[Dim, ...]) -> _KnownIndices:
        """Make the shape of the list."""
        made = super().__new__(cls, sizes)
        made.numbers = numbers
        return made


def _true_elements(d: Sizes, mask: Shape) -> Dim:
    if isinstance(mask, _KnownMask):
        return mask.true_count
    return d.fresh("the number of true elements")


def _as_tensor(d: Sizes, entry: list[Any]) -> Any:
    """A list among indices as the tensor that torch makes of it."""
    if entry and all(isinstance(item, bool) for item in entry):
        return _KnownMask(entry)
    if all(is_size(item) for item in entry):
        return _KnownIndices((len(entry),), tuple(entry))
    if all(isinstance(item, list) for item in entry):
        rows = [_as_tensor(d, item) for item in entry]
        same = all(isinstance(row, _KnownIndices) and row == rows[0] for row in rows)
        if same:
            return _KnownIndices((len(rows), *rows[0]), sum((row.numbers for row in rows), ()))
    return UNKNOWN


def _gathers(entry: Any) -> bool:
    return isinstance(entry, (Shape, int))


def _inside(d: Sizes, size: Dim, index: Any) -> None:
    if isinstance(index, int):
        least = index + 1 if index >= 0 else -index
        d.require(">=", size, least, f"index {index} is within the dimension")
    elif is_size(index):
        what = "a computed index is within the dimension"
        d.require("<=", index, size - 1, what)
        d.require(">=", index, -size, what)


def sliced(d: Sizes, size: Dim, index: slice) -> Dim:
    """The number of elements that a slice takes of a dimension."""
    start, stop, step = index.start, index.stop, 1 if index.step is None else index.step
    bounds = (start, stop)
    if any(b is not None and not is_size(b) for b in (*bounds, step)):
        return d.fresh("a slice")
    d.require(">=", step, 1, "a slice of a tensor takes a positive step")
    if all(b is None or isinstance(b, int) for b in (size, *bounds, step)):
        return len(range(size)[slice(start, stop, step)])
    if (start is None or _is(start, 0)) and (stop is None or _is_huge(stop)):
        return number_of_steps(size, step)
    low = _clamped(d, size, start, 0)
    high = _clamped(d, size, stop, size)
    length = high - low
    if not (isinstance(low, int) and low == 0):
        length = d.compute("max", length, 0)
    return number_of_steps(length, step)


def _is(bound: Any, value: int) -> bool:
    return isinstance(bound, int) and bound == value


def _is_huge(bound: Any) -> bool:
    return isinstance(bound, int) and bound >= 2**62


def _clamped(d: Sizes, size: Dim, bound: Any, default: Dim) -> Dim:
    if bound is None or _is_huge(bound):
        return default if bound is None else size
    return size if bound is size else d.place(size, bound)


@rule(torch.ops.aten.slice)
def aten_slice(
    d: Sizes, input: Shape, dim: int = 0, start: Any = None, end: Any = None, step: Any = 1
) -> Shape:
    """A slice of one dimension."""
    i = axis(dim, len(input), "slice")
    return Shape((*input[:i], sliced(d, input[i], slice(start, end, step)), *input[i + 1 :]))


@rule(torch.select, "select", torch.ops.aten.select)
def select(d: Sizes, input: Shape, dim: int, index: Any) -> Shape:
    """Take one index of a dimension, which disappears."""
    i = axis(dim, len(input), "select")
    _inside(d, input[i], index)
    return Shape((*input[:i], *input[i + 1 :]))


@rule(torch.narrow, "narrow", torch.ops.aten.narrow)
def narrow(d: Sizes, input: Shape, dim: int, start: Any, length: Any) -> Shape:
    """Take `length` indices of a dimension."""
    i = axis(dim, len(input), "narrow")
    new = length if is_size(length) else d.fresh("a length")
    if isinstance(start, int):
        inside = f"narrow stays within dimension {dim}"
        d.require(">=", input[i], new + start if start >= 0 else -start, inside)
        if start < 0:
            d.require("<=", new, -start, inside)
    elif is_size(start):
        inside = f"narrow stays within dimension {dim}"
        d.require("<=", start, input[i], inside)
        d.require(">=", start, -input[i], inside)
        d.require("<=", d.place(input[i], start) + new, input[i], inside)
    return Shape((*input[:i], new, *input[i + 1 :]))


@rule(torch.index_select, "index_select", torch.ops.aten.index_select, takes_unknown=True)
def index_select(d: Sizes, input: Any, dim: int, index: Any) -> Any:
    """Take one part of a dimension for each index of a vector."""
    if not isinstance(input, Shape):
        return UNKNOWN
    i = axis(dim, len(input), "index_select", scalar=True)
    new: Dim = d.fresh("the number of indices")
    if isinstance(index, Shape):
        if len(index) > 1:
            raise IllTypedError(f"index_select takes a vector of indices, not {index}")
        new = index[0] if index else 1
    if not input:
        d.equal(new, 1, "index_select takes one element of a tensor of rank 0")
        return input
    return Shape((*input[:i], new, *input[i + 1 :]))


@rule(torch.ops.aten.index, torch.ops.aten._unsafe_index)
def aten_index(d: Sizes, input: Shape, indices: Any) -> Any:
    """As brackets with index tensors."""
    entries = tuple(slice(None) if entry is None else entry for entry in indices)
    return index_tensor(d, input, entries)


@rule(torch.gather, "gather", torch.ops.aten.gather, takes_unknown=True)
def gather(d: Sizes, input: Any, dim: int, index: Any, **options: Any) -> Any:
    """The shape of the index tensor, which has the input's rank."""
    if isinstance(input, Shape):
        i = axis(dim, len(input), "gather", scalar=True)
        if isinstance(index, Shape) and not _is_empty(index):
            _no_larger(d, index, input, i, "gather")
    return index


def _is_empty(x: Shape) -> bool:
    return any(isinstance(size, int) and size == 0 for size in x)


def _no_larger(d: Sizes, index: Shape, other: Shape, but: int | None, what: str) -> None:
    """Demand that an index tensor is no larger than another tensor, one dimension apart."""
    index, other = (x or Shape((1,)) for x in (index, other))
    if len(index) != len(other):
        raise IllTypedError(f"{what} takes tensors of one rank, not {index} and {other}")
    for k, (a, b) in enumerate(zip(index, other, strict=True)):
        if k != but:
            d.require("<=", a, b, f"the index tensor of {what} is no larger in dimension {k}")


@rule(torch.take_along_dim, "take_along_dim")
def take_along_dim(d: Sizes, input: Shape, indices: Shape, dim: Any = None) -> Shape:
    """The shape of the index tensor, broadcast in all other dimensions."""
    if dim is None:
        return Shape((d.product(indices),))
    i = axis(dim, len(input), "take_along_dim")
    if len(input) != len(indices):
        raise IllTypedError(f"take_along_dim takes tensors of one rank, not {input} and {indices}")
    pairs = zip(input, indices, strict=True)
    what = "take_along_dim broadcasts"
    return Shape(b if k == i else d.broadcast(a, b, what) for k, (a, b) in enumerate(pairs))


@rule(torch.take, "take", torch.ops.aten.take)
def take(d: Sizes, input: Shape, index: Shape) -> Shape:
    """The shape of the index tensor."""
    return index


@rule(*named("scatter", "scatter_add", "scatter_reduce"), takes_unknown=True)
def scatter(d: Sizes, input: Any, dim: Any, index: Any, src: Any = None, *r: Any, **o: Any) -> Any:
    """Keep the shape; the index tensor is no larger than the input and the source."""
    if isinstance(input, Shape):
        i = axis(dim, len(input), "scatter", scalar=True)
        if isinstance(index, Shape) and not _is_empty(index):
            _no_larger(d, index, input, i, "scatter")
            if isinstance(src, Shape) and (src or "value" not in o):
                _no_larger(d, index, src, None, "scatter")
    return input


@rule(*named("index_copy", "index_add", "index_reduce"), takes_unknown=True)
def index_write(
    d: Sizes, input: Any, dim: Any, index: Any, source: Any, *rest: Any, **options: Any
) -> Any:
    """Keep the shape; the source has one part for each index."""
    if not isinstance(input, Shape):
        return input
    i = axis(dim, len(input), "index_copy and index_add", scalar=True)
    if isinstance(index, Shape) and len(index) > 1:
        raise IllTypedError(f"index_copy and index_add take a vector of indices, not {index}")
    if isinstance(index, Shape) and isinstance(source, Shape):
        count = index[0] if index else 1
        whole, part = (x or Shape((1,)) for x in (input, source))
        if len(whole) != len(part):
            raise IllTypedError(
                f"index_copy and index_add take a source of the rank of {input}, not {source}"
            )
        d.equal(part[i], count, "the source has one part for each index")
        for k, (a, b) in enumerate(zip(whole, part, strict=True)):
            if k != i:
                d.equal(a, b, "the source has the sizes of the tensor that it is written into")
    return input


@rule(*named("index_fill"), takes_unknown=True)
def index_fill(d: Sizes, input: Any, dim: Any, index: Any, value: Any) -> Any:
    """Keep the shape."""
    if isinstance(input, Shape):
        axis(dim, len(input), "index_fill", scalar=True)
    if isinstance(index, Shape) and len(index) > 1:
        raise IllTypedError(f"index_fill takes a vector of indices, not {index}")
    if isinstance(value, Shape):
        exactly(value, 0, "the value of index_fill")
    return input


@rule(*(target for target in named("masked_scatter") if target != "masked_scatter_"))
def masked_scatter(d: Sizes, input: Shape, mask: Shape, source: Any) -> Shape:
    """The shape that tensor and mask broadcast to."""
    return broadcast_shapes(d, input, mask, what="the mask broadcasts")


@rule("masked_scatter_")
def masked_scatter_in_place(d: Sizes, input: Shape, mask: Shape, source: Any) -> Shape:
    """Keep the shape, to which the mask broadcasts."""
    return into(d, input, mask)


@rule(torch.select_scatter, "select_scatter", torch.ops.aten.select_scatter)
def select_scatter(d: Sizes, input: Shape, src: Shape, dim: int, index: Any) -> Shape:
    """Keep the shape; the source has the shape of `select`."""
    return _written(d, input, src, select(d, input, dim, index))


@rule(torch.slice_scatter, "slice_scatter", torch.ops.aten.slice_scatter)
def slice_scatter(
    d: Sizes,
    input: Shape,
    src: Shape,
    dim: int = 0,
    start: Any = None,
    end: Any = None,
    step: Any = 1,
) -> Shape:
    """Keep the shape; the source has the shape of the slice."""
    return _written(d, input, src, aten_slice(d, input, dim, start, end, step))


def _written(d: Sizes, input: Shape, src: Shape, place: Shape) -> Shape:
    if len(src) != len(place):
        raise IllTypedError(f"the source {src} must have the shape of its place, {place}")
    for a, b in zip(src, place, strict=True):
        d.equal(a, b, "the source has the shape of its place")
    return input


@rule(operator.setitem)
def setitem(d: Sizes, value: Any, index: Any, part: Any) -> None:
    """Demand that the assigned part broadcasts to the place that the index names."""
    _assign(d, getitem(d, value, index), part)


def _assign(d: Sizes, place: Any, part: Any) -> None:
    """Demand that a tensor broadcasts to the place that it is assigned to."""
    if isinstance(place, Shape) and isinstance(part, Shape):
        lacking = max(len(part) - len(place), 0)
        for size in part[:lacking]:
            d.require("==", size, 1, "the assigned tensor has no more dimensions than its place")
        into(d, place, Shape(part[lacking:]))


@rule(*named("index_put"), torch.ops.aten._unsafe_index_put, takes_unknown=True)
def index_put(d: Sizes, input: Any, indices: Any, values: Any, *r: Any, **options: Any) -> Any:
    """Keep the shape; the values broadcast to the place that the indices name."""
    if isinstance(input, Shape) and isinstance(indices, (tuple, list)):
        _assign(d, aten_index(d, input, indices), values)
    return input


@rule(torch.ops.aten._unsafe_masked_index_put_accumulate)
def masked_index_put(d: Sizes, input: Shape, mask: Shape, indices: Any, values: Any) -> Shape:
    """Keep the shape; the mask and the values broadcast to the place that the indices name."""
    place = aten_index(d, input, indices)
    for part in (mask, values):
        _assign(d, place, part)
    return input


@rule(*named("put"), torch.ops.aten.put)
def put(d: Sizes, input: Shape, index: Shape, source: Shape, *r: Any, **options: Any) -> Shape:
    """Keep the shape; there is one element of the source for each index."""
    counts = d.product(index), d.product(source)
    d.require("==", *counts, "put takes as many elements as indices")
    return input


@rule(torch.masked_select, "masked_select", torch.ops.aten.masked_select)
def masked_select(d: Sizes, input: Shape, mask: Shape) -> Shape:
    """A vector of the elements where the mask is true; their number is data."""
    broadcast_shapes(d, input, mask, what="the mask broadcasts")
    return Shape((d.fresh("the number of true elements"),))


@rule(torch.nonzero, "nonzero", torch.argwhere, "argwhere", torch.ops.aten.nonzero)
def nonzero(d: Sizes, input: Shape, **options: Any) -> Any:
    """One row of indices for each element that is not 0; their number is data."""
    count = d.fresh("the number of nonzero elements")
    if options.get("as_tuple"):
        return tuple(Shape((count,)) for _ in range(max(len(input), 1)))
    return Shape((count, len(input)))
