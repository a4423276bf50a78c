"""Operators that join tensors (cat, stack) and that split them (split, chunk)."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import torch

from symfx.shape_rules.errors import IllTypedError
from symfx.shape_rules.rules.elementwise import broadcast_shapes
from symfx.shape_rules.sizes import UNKNOWN, Dim, Pieces, Shape, Sizes
from symfx.shape_rules.table import axis, is_size, rule

__all__: list[str] = []


def _are_shapes(tensors: Any) -> bool:
    """Whether a value is a plain tuple or list of shapes."""
    plain = type(tensors) in (tuple, list)
    return plain and all(isinstance(x, Shape) for x in tensors)


@rule(torch.cat, torch.concat, torch.concatenate, torch.ops.aten.cat)
def cat(d: Sizes, tensors: Sequence[Shape], dim: int = 0) -> Any:
    """Join tensors along a dimension; all other dimensions are equal."""
    if not _are_shapes(tensors):
        return UNKNOWN
    if not tensors:
        raise IllTypedError("cat takes at least one tensor")
    # torch allows an empty vector among tensors of any shape.
    shapes = [x for x in tensors if tuple(x) != (0,)] or [tensors[0]]
    first = shapes[0]
    if not first:
        raise IllTypedError("cat takes no tensor of rank 0")
    i = axis(dim, len(first), "cat")
    sizes = [*first]
    for other in shapes[1:]:
        if len(other) != len(first):
            raise IllTypedError(f"cat takes tensors of one rank, not {first} and {other}")
        for k, size in enumerate(other):
            if k == i:
                sizes[k] = sizes[k] + size
            else:
                sizes[k] = d.equal(
                    sizes[k], size, f"cat along {dim} takes equal sizes in dimension {k}"
                )
    return Shape(sizes)


@rule(torch.stack, torch.ops.aten.stack)
def stack(d: Sizes, tensors: Sequence[Shape], dim: int = 0) -> Any:
    """Join tensors of one shape along a new dimension."""
    if not _are_shapes(tensors):
        return UNKNOWN
    if not tensors:
        raise IllTypedError("stack takes at least one tensor")
    sizes: Shape = tensors[0]
    for other in tensors[1:]:
        if len(other) != len(sizes):
            raise IllTypedError(f"stack takes tensors of one shape, not {sizes} and {other}")
        what = "stack takes tensors of one shape"
        sizes = Shape(d.equal(a, b, what) for a, b in zip(sizes, other, strict=True))
    i = axis(dim, len(sizes) + 1, "stack")
    return Shape((*sizes[:i], len(tensors), *sizes[i:]))


def _with(shape: Shape, i: int, size: Dim) -> Shape:
    return Shape((*shape[:i], size, *shape[i + 1 :]))


@rule(
    torch.split,
    "split",
    torch.ops.aten.split,
    torch.functional.split,
    "split_with_sizes",
    torch.split_with_sizes,
    torch.ops.aten.split_with_sizes,
    torch.ops.aten.split_with_sizes_copy,
    torch.unsafe_split,
    "unsafe_split",
    torch.ops.aten.unsafe_split,
    torch.unsafe_split_with_sizes,
    "unsafe_split_with_sizes",
    torch.ops.aten.unsafe_split_with_sizes,
)
def split(d: Sizes, input: Shape, split_size_or_sections: Any, dim: int = 0) -> Any:
    """Pieces of one size, the last one perhaps smaller; or pieces of given sizes."""
    i = axis(dim, len(input), "split")
    given = split_size_or_sections
    if isinstance(given, (tuple, list)):
        if not all(is_size(size) for size in given):
            return tuple(_with(input, i, d.fresh("a piece")) for _ in given)
        total: Dim = 0
        for size in given:
            total = total + size
        d.equal(input[i], total, f"the pieces add up to dimension {dim}")
        return tuple(_with(input, i, size) for size in given)
    if isinstance(given, int) and isinstance(input[i], int):
        return _pieces(input, i, given)
    if is_size(given) and given is not None:
        return _even(d, input, i, given)
    return UNKNOWN


def _pieces(input: Shape, i: int, size: int) -> tuple[Shape, ...]:
    whole = input[i]
    assert isinstance(whole, int)
    if size <= 0:
        if whole == 0:
            return (input,)
        raise IllTypedError(f"pieces of size {size} do not add up to a dimension of {whole}")
    count = max(1, -(-whole // size))
    return tuple(_with(input, i, min(size, whole - k * size)) for k in range(count))


def _even(d: Sizes, input: Shape, i: int, size: Dim) -> Pieces:
    """Pieces of one size, the last one perhaps smaller, of a dimension of unknown size."""
    whole = input[i]
    # An empty dimension is one empty piece.
    full = d.compute("max", whole - 1, 0) // size

    def piece(k: int) -> Shape:
        if k == -1:
            return _with(input, i, whole - size * full)
        if k < 0:
            d.require(">=", full, -k - 1, f"dimension {i} has {-k} pieces")
            return _with(input, i, size)
        if k > 0:
            d.require(">=", full, k, f"dimension {i} has a piece {k}")
        return _with(input, i, d.compute("min", size, whole - size * k))

    return Pieces(full + 1, piece)


@rule(
    torch.chunk,
    "chunk",
    torch.ops.aten.chunk,
    torch.unsafe_chunk,
    "unsafe_chunk",
    torch.ops.aten.unsafe_chunk,
)
def chunk(d: Sizes, input: Shape, chunks: Dim, dim: int = 0) -> Any:
    """At most `chunks` pieces of one size, the last one perhaps smaller."""
    i = axis(dim, len(input), "chunk")
    whole = input[i]
    d.require(">=", chunks, 1, "chunk makes at least one piece")
    if isinstance(whole, int) and isinstance(chunks, int):
        return _pieces(input, i, -(-whole // chunks) if whole else 0)
    return _even(d, input, i, (whole + (chunks - 1)) // chunks)


@rule(torch.tensor_split, "tensor_split", torch.ops.aten.tensor_split)
def tensor_split(d: Sizes, input: Shape, indices_or_sections: Any, dim: int = 0) -> Any:
    """A number of pieces of nearly one size, or pieces cut at given indices."""
    i = axis(dim, len(input), "tensor_split")
    whole, given = input[i], indices_or_sections
    if isinstance(given, Shape):
        return UNKNOWN  # the indices are data
    if isinstance(given, int):
        if given < 1:
            raise IllTypedError(f"tensor_split makes at least one piece, not {given}")
        return tuple(_with(input, i, (whole + (given - 1 - k)) // given) for k in range(given))
    if isinstance(given, (tuple, list)) and all(is_size(cut) for cut in given):
        cuts = [0, *(d.place(whole, cut) for cut in given), whole]
        lengths = [d.compute("max", b - a, 0) for a, b in itertools.pairwise(cuts)]
        return tuple(_with(input, i, length) for length in lengths)
    return UNKNOWN


_AXES: dict[Any, tuple[int, int]] = {
    torch.hsplit: (1, 1),
    "hsplit": (1, 1),
    torch.vsplit: (2, 0),
    "vsplit": (2, 0),
    torch.dsplit: (3, 2),
    "dsplit": (3, 2),
}
for _target, (_least, _dim) in _AXES.items():

    def _split_along(
        d: Sizes, input: Shape, given: Any, least: int = _least, dim: int = _dim
    ) -> Any:
        """Split along a fixed dimension, into a number of equal pieces or at given indices."""
        if len(input) < least:
            raise IllTypedError(f"the split takes a tensor of rank {least} or more, not {input}")
        i = 0 if least == 1 and len(input) == 1 else dim
        if isinstance(given, int) and given > 0:
            d.fits(input[i], given, what=f"dimension {i} is split into {given} equal pieces")
        return tensor_split(d, input, given, i)

    rule(_target)(_split_along)


@rule(torch.unbind, "unbind", torch.ops.aten.unbind, torch.ops.aten.unbind_copy)
def unbind(d: Sizes, input: Shape, dim: int = 0) -> Any:
    """One tensor for each index of a dimension."""
    i = axis(dim, len(input), "unbind")
    rest = Shape((*input[:i], *input[i + 1 :]))
    count = input[i]
    if isinstance(count, int):
        return (rest,) * count

    def piece(k: int) -> Shape:
        d.require(">=", count, k + 1 if k >= 0 else -k, f"dimension {i} has an index {k}")
        return rest

    return Pieces(count, piece)


@rule(torch.meshgrid)
def meshgrid(d: Sizes, *tensors: Any, indexing: str = "ij") -> Any:
    """One tensor over the grid of all vectors for each vector."""
    given = tensors[0] if len(tensors) == 1 and not isinstance(tensors[0], Shape) else tensors
    for x in given:
        if len(x) > 1:
            raise IllTypedError(f"meshgrid takes vectors, not {x}")
    sizes = [x[0] if x else 1 for x in given]
    if indexing == "xy" and len(sizes) > 1:
        sizes[:2] = sizes[1::-1]
    return tuple(Shape(sizes) for _ in sizes)


@rule(torch.broadcast_tensors)
def broadcast_tensors(d: Sizes, *tensors: Any) -> Any:
    """Each tensor expanded to the shape that all broadcast to."""
    given = tensors[0] if len(tensors) == 1 and not isinstance(tensors[0], Shape) else tensors
    shape = broadcast_shapes(d, *given)
    return tuple(shape for _ in given)


def _raised(x: Shape, rank: int) -> Shape:
    """A shape with dimensions of size 1 in front up to a rank, as `atleast_1d` and `_2d` do."""
    return Shape((*(1,) * (rank - len(x)), *x))


def _cube(x: Shape) -> Shape:
    """A shape with dimensions of size 1 up to rank 3, as `atleast_3d` does."""
    if len(x) == 0:
        return Shape((1, 1, 1))
    if len(x) == 1:
        return Shape((1, x[0], 1))
    return Shape((*x, 1)) if len(x) == 2 else x


_RAISE: dict[Any, Callable[[Shape], Shape]] = {
    torch.atleast_1d: lambda x: _raised(x, 1),
    torch.atleast_2d: lambda x: _raised(x, 2),
    torch.atleast_3d: _cube,
}
for _function, _raise in _RAISE.items():

    def _at_least(d: Sizes, *tensors: Any, to: Callable[[Shape], Shape] = _raise) -> Any:
        """Add dimensions of size 1 to tensors of a lower rank."""
        if len(tensors) == 1 and isinstance(tensors[0], Shape):
            return to(tensors[0])
        given = tensors[0] if len(tensors) == 1 else tensors
        return tuple(map(to, given)) if _are_shapes(given) else UNKNOWN

    rule(_function)(_at_least)


@rule(torch.hstack)
def hstack(d: Sizes, tensors: Sequence[Shape]) -> Any:
    """Join vectors along their dimension, other tensors along dimension 1."""
    if not _are_shapes(tensors):
        return UNKNOWN
    raised = [_raised(x, 1) for x in tensors]
    return cat(d, raised, 0 if raised and len(raised[0]) == 1 else 1)


@rule(torch.vstack, torch.row_stack)
def vstack(d: Sizes, tensors: Sequence[Shape]) -> Any:
    """Join tensors of rank 2 or more along dimension 0; a vector is one row."""
    if not _are_shapes(tensors):
        return UNKNOWN
    return cat(d, [_raised(x, 2) for x in tensors], 0)


@rule(torch.dstack)
def dstack(d: Sizes, tensors: Sequence[Shape]) -> Any:
    """Join tensors of rank 3 or more along dimension 2."""
    return cat(d, [*map(_cube, tensors)], 2) if _are_shapes(tensors) else UNKNOWN


@rule(torch.column_stack)
def column_stack(d: Sizes, tensors: Sequence[Shape]) -> Any:
    """Join tensors along dimension 1; a vector is one column."""
    if not _are_shapes(tensors):
        return UNKNOWN
    columns = [x if len(x) > 1 else Shape((x[0] if x else 1, 1)) for x in tensors]
    return cat(d, columns, 1)


@rule(torch.block_diag)
def block_diag(d: Sizes, *tensors: Any) -> Any:
    """Put matrices along the diagonal of one matrix."""
    given = tensors[0] if len(tensors) == 1 and type(tensors[0]) in (tuple, list) else tensors
    if not _are_shapes([*given]):
        return UNKNOWN
    rows: Dim = 0
    columns: Dim = 0
    for x in given:
        if len(x) > 2:
            raise IllTypedError(f"block_diag takes matrices, not {x}")
        height, width = _raised(x, 2)
        rows, columns = rows + height, columns + width
    return Shape((rows, columns) if given else (1, 0))


@rule(torch.cartesian_prod)
def cartesian_prod(d: Sizes, *tensors: Any) -> Any:
    """One row for each combination of entries of the vectors."""
    given = tensors[0] if len(tensors) == 1 and type(tensors[0]) in (tuple, list) else tensors
    for x in given:
        if len(x) != 1:
            raise IllTypedError(f"cartesian_prod takes vectors, not {x}")
    if len(given) == 1:
        return given[0]
    return Shape((d.product(x[0] for x in given), len(given)))
