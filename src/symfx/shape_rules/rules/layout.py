"""Operators that rearrange elements: views, permutations, repetition."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from symfx.shape_rules.errors import IllTypedError
from symfx.shape_rules.sizes import UNKNOWN, Dim, Shape, Sizes, size_text
from symfx.shape_rules.table import at_least, axes, axis, exactly, is_size, module_rule, rule

__all__ = ["flatten", "reshape", "sizes_of"]


def sizes_of(given: tuple[Any, ...]) -> tuple[Any, ...]:
    """The sizes given to a method, as single arguments or as one tuple."""
    if len(given) == 1 and isinstance(given[0], (tuple, list)):
        return tuple(given[0])
    return given


def _are_sizes(values: tuple[Any, ...]) -> bool:
    return all(is_size(value) for value in values)


@rule(
    torch.reshape,
    "reshape",
    "view",
    torch.ops.aten.view,
    torch.ops.aten.reshape,
    torch.ops.aten._unsafe_view,
    torch.ops.aten.view_copy,
    takes_unknown=True,
)
def reshape(d: Sizes, input: Any, *shape: Any) -> Any:
    """The given shape; -1 stands for the remaining size."""
    if len(shape) == 1 and isinstance(shape[0], torch.dtype):
        return _of_bytes(d, input, shape[0]) if isinstance(input, Shape) else input
    wanted = sizes_of(shape)
    if not _are_sizes(wanted):
        # An unknown size still has a place.
        wanted = tuple(size if is_size(size) else d.fresh("a size") for size in wanted)
    missing = [i for i, size in enumerate(wanted) if isinstance(size, int) and size == -1]
    if len(missing) > 1:
        raise IllTypedError(f"only one size may be -1, not {_text(wanted)}")
    if not isinstance(input, Shape):
        return Shape(d.fresh("what remains") if i in missing else s for i, s in enumerate(wanted))
    if missing:
        rest = [size for i, size in enumerate(wanted) if i not in missing]
        remains = _remains(d, input, rest, f"{input} can take the shape {_text(wanted)}")
        return Shape(remains if i in missing else size for i, size in enumerate(wanted))
    old, new = _without_common(list(input), list(wanted))
    d.equal(d.product(old), d.product(new), f"{input} has as many elements as {_text(wanted)}")
    return Shape(wanted)


def _of_bytes(d: Sizes, input: Shape, dtype: torch.dtype) -> Shape:
    """The shape of the same bytes as elements of another dtype."""
    old, new = (input.dtype or torch.float32).itemsize, dtype.itemsize
    if old == new:
        return input
    if not input:
        raise IllTypedError(
            f"a tensor of rank 0 cannot be viewed as {dtype}, which has another number of bytes"
        )
    *front, last = input
    if old > new:
        return Shape((*front, last * (old // new)))
    what = f"the elements of the last dimension are bytes of whole elements of {dtype}"
    return Shape((*front, d.fits(last, new // old, what=what)))


def _remains(d: Sizes, input: Shape, rest: list[Dim], what: str) -> Dim:
    old, new = _without_common(list(input), rest)
    return d.fits(d.product(old), *new, what=what)


def _without_common(one: list[Dim], other: list[Dim]) -> tuple[list[Dim], list[Dim]]:
    """Two lists of factors without the factors that both have (and that are not 0)."""
    left: list[Dim] = []
    for size in one:
        found = next((i for i, s in enumerate(other) if s is size or _same(s, size)), None)
        if found is None or (isinstance(size, int) and size == 0):
            left.append(size)
        else:
            other = other[:found] + other[found + 1 :]
    return left, other


def _same(a: Dim, b: Dim) -> bool:
    if isinstance(a, int) or isinstance(b, int):
        return isinstance(a, int) and isinstance(b, int) and a == b
    # Equal terms are one object; two sizes that are ``Dyn`` may differ.
    return a.value is b.value and a.value is not None and type(a.value).__name__ != "_DynType"


def _text(sizes: tuple[Any, ...]) -> str:
    return f"[{', '.join(map(size_text, sizes))}]"


@rule("view_as", "reshape_as")
def view_as(d: Sizes, input: Shape, other: Shape) -> Any:
    """The shape of the other tensor."""
    return reshape(d, input, tuple(other))


@rule(torch.flatten, "flatten", torch.ops.aten.flatten)
def flatten(d: Sizes, input: Shape, start_dim: int = 0, end_dim: int = -1) -> Shape:
    """Replace a run of dimensions by their product."""
    start, end = (axis(i, len(input), "flatten", scalar=True) for i in (start_dim, end_dim))
    if not input:
        return Shape((1,))
    if start > end:
        raise IllTypedError(f"flatten cannot go from dimension {start_dim} to {end_dim} of {input}")
    return Shape((*input[:start], d.product(input[start : end + 1]), *input[end + 1 :]))


@module_rule(nn.Flatten)
def flatten_module(d: Sizes, module: nn.Flatten, input: Shape) -> Shape:
    """As `flatten`."""
    return flatten(d, input, module.start_dim, module.end_dim)


@rule(torch.unflatten, "unflatten")
def unflatten(d: Sizes, input: Shape, dim: int, sizes: Any) -> Shape:
    """Replace one dimension by several."""
    i = axis(dim, len(input), "unflatten")
    return Shape((*input[:i], *reshape(d, Shape((input[i],)), tuple(sizes)), *input[i + 1 :]))


@module_rule(nn.Unflatten)
def unflatten_module(d: Sizes, module: nn.Unflatten, input: Shape) -> Shape:
    """Replace one dimension by several."""
    if not isinstance(module.dim, int):
        raise IllTypedError("named dimensions are not supported")
    return unflatten(d, input, module.dim, module.unflattened_size)


@rule(torch.ravel, "ravel")
def ravel(d: Sizes, input: Shape) -> Shape:
    """All elements in one dimension."""
    return Shape((d.product(input),))


@rule(
    torch.transpose,
    "transpose",
    "transpose_",
    torch.swapaxes,
    "swapaxes",
    torch.swapdims,
    "swapdims",
    torch.ops.aten.transpose,
    torch.ops.aten.transpose_,
    torch.ops.aten.transpose_copy,
)
def transpose(d: Sizes, input: Shape, dim0: int, dim1: int) -> Shape:
    """Exchange two dimensions."""
    i, j = (axis(k, len(input), "transpose", scalar=True) for k in (dim0, dim1))
    sizes = [*input]
    if sizes:
        sizes[i], sizes[j] = sizes[j], sizes[i]
    return Shape(sizes)


@rule(torch.t, "t", torch.ops.aten.t, torch.ops.aten.t_copy)
def t(d: Sizes, input: Shape) -> Shape:
    """Transpose a matrix; a vector is unchanged."""
    if len(input) > 2:
        raise IllTypedError(f"t takes a tensor of rank 2 or less, not {input}")
    return Shape(reversed(input))


@rule(torch.adjoint, "adjoint")
def adjoint(d: Sizes, input: Shape) -> Shape:
    """Exchange the last two dimensions."""
    return transpose(d, at_least(input, 2, "adjoint"), -2, -1)


@rule(torch.permute, "permute", torch.ops.aten.permute, torch.ops.aten.permute_copy)
def permute(d: Sizes, input: Shape, *dims: Any) -> Shape:
    """Put the dimensions into another order."""
    order = [axis(i, len(input), "permute") for i in sizes_of(dims)]
    if sorted(order) != [*range(len(input))]:
        raise IllTypedError(
            f"permute must name each dimension of {input} once, not {sizes_of(dims)}"
        )
    return Shape(input[i] for i in order)


@rule(torch.movedim, "movedim", torch.moveaxis, "moveaxis")
def movedim(d: Sizes, input: Shape, source: Any, destination: Any) -> Shape:
    """Move some dimensions; the others keep their order."""
    lists = [v if isinstance(v, (tuple, list)) else (v,) for v in (source, destination)]
    sources, targets = (axes(each, len(input), "movedim") for each in lists)
    if len(sources) != len(targets):
        raise IllTypedError(
            f"movedim takes one destination for each source, not {lists[0]} to {lists[1]}"
        )
    if not input:
        return input
    rest = iter([i for i in range(len(input)) if i not in sources])
    placed = dict(zip(targets, sources, strict=True))
    return Shape(input[placed[i] if i in placed else next(rest)] for i in range(len(input)))


@rule(
    torch.squeeze,
    "squeeze",
    "squeeze_",
    torch.ops.aten.squeeze,
    torch.ops.aten.squeeze_,
    torch.ops.aten.squeeze_copy,
)
def squeeze(d: Sizes, input: Shape, dim: Any = None) -> Any:
    """Remove dimensions of size 1."""
    if dim is None:
        ones = [d.compare("==", size, 1) for size in input]
        if any(truth not in (True, False) for truth in ones):
            return UNKNOWN  # a size may be 1 or not
        return Shape(size for size, is_one in zip(input, ones, strict=True) if not is_one)
    at = axes(dim, len(input), "squeeze")
    kept: list[Dim] = []
    for i, size in enumerate(input):
        is_one = d.compare("==", size, 1) if i in at else False
        if is_one not in (True, False):
            return UNKNOWN  # the rank depends on whether the size is 1
        if not is_one:
            kept.append(size)
    return Shape(kept)


@rule(
    torch.unsqueeze,
    "unsqueeze",
    "unsqueeze_",
    torch.ops.aten.unsqueeze,
    torch.ops.aten.unsqueeze_,
    torch.ops.aten.unsqueeze_copy,
)
def unsqueeze(d: Sizes, input: Shape, dim: int) -> Shape:
    """Insert a dimension of size 1."""
    i = axis(dim, len(input) + 1, "unsqueeze")
    return Shape((*input[:i], 1, *input[i:]))


@rule(
    "expand", torch.ops.aten.expand, torch.ops.aten.expand_copy, torch.broadcast_to, "broadcast_to"
)
def expand(d: Sizes, input: Shape, *sizes: Any, implicit: bool = False) -> Shape:
    """Repeat dimensions of size 1; -1 keeps a dimension."""
    wanted = sizes_of(sizes)
    if len(wanted) < len(input):
        raise IllTypedError(f"{input} cannot expand to {_text(wanted)}, which has a lower rank")
    lacking = len(wanted) - len(input)
    result: list[Dim] = []
    for i, asked in enumerate(wanted):
        new: Dim = asked if is_size(asked) else d.fresh("a size")
        if i < lacking:
            if isinstance(new, int) and new == -1:
                raise IllTypedError(f"expand to {_text(wanted)}: a new dimension cannot be -1")
            result.append(new)
            continue
        old = input[i - lacking]
        if isinstance(new, int) and new == -1:
            result.append(old)
        elif isinstance(old, int) and old == 1:
            result.append(new)
        else:
            result.append(d.stretch(old, new, f"{input} expands to {_text(wanted)}"))
    return Shape(result)


@rule("expand_as")
def expand_as(d: Sizes, input: Shape, other: Shape) -> Shape:
    """Expand to the shape of the other tensor."""
    return expand(d, input, *other)


@rule("repeat", torch.ops.aten.repeat)
def repeat(d: Sizes, input: Shape, *sizes: Any) -> Shape:
    """Repeat the whole tensor along each dimension."""
    times = sizes_of(sizes)
    if len(times) < len(input):
        raise IllTypedError(f"repeat {_text(times)} names fewer dimensions than {input} has")
    padded = (1,) * (len(times) - len(input)) + tuple(input)
    return Shape(_times(d, s, n) for s, n in zip(padded, times, strict=True))


def _times(d: Sizes, size: Dim, times: Any) -> Dim:
    if not is_size(times):
        return d.fresh("a repeated size")
    number: Dim = times
    d.require(">=", number, 0, "a tensor is not repeated a negative number of times")
    return size * number


@rule(torch.tile, "tile")
def tile(d: Sizes, input: Shape, *dims: Any) -> Shape:
    """As `repeat`, along the last dimensions."""
    times = sizes_of(dims)
    return repeat(d, input, *((1,) * (len(input) - len(times))), *times)


@rule(torch.repeat_interleave, "repeat_interleave")
def repeat_interleave(
    d: Sizes, input: Shape, repeats: Any, dim: Any = None, *, output_size: Any = None
) -> Shape:
    """Repeat each element."""
    flat = Shape((d.product(input),)) if dim is None else input
    i = 0 if dim is None else axis(dim, len(input), "repeat_interleave")
    if is_size(output_size):
        if isinstance(repeats, Shape):
            _repeats(d, repeats, flat[i])
        new = output_size
    elif is_size(repeats):
        new = flat[i] * repeats
    else:
        if isinstance(repeats, Shape):
            _repeats(d, repeats, flat[i])
        new = d.fresh("the sum of repeats")
    return Shape((*flat[:i], new, *flat[i + 1 :]))


def _repeats(d: Sizes, repeats: Shape, size: Dim) -> None:
    if len(repeats) > 1:
        raise IllTypedError(f"repeat_interleave takes a number or a vector, not {repeats}")
    if repeats:
        d.stretch(repeats[0], size, "repeat_interleave takes one number for each element")


@rule("unfold", torch.ops.aten.unfold, torch.ops.aten.unfold_copy)
def unfold_method(d: Sizes, input: Shape, dimension: int, size: int, step: int) -> Shape:
    """Put the windows along one dimension into a new last dimension."""
    i = axis(dimension, len(input), "unfold", scalar=True)
    if isinstance(step, int) and step < 1:
        raise IllTypedError(f"unfold takes a step of 1 or more, not {step}")
    if not input:
        d.require("<=", size, 1, "the window of unfold fits into its dimension")
        return Shape((size,))
    d.require("<=", size, input[i], "the window of unfold fits into its dimension")
    return Shape((*input[:i], (input[i] - size) // step + 1, *input[i + 1 :], size))


@rule(torch.diagonal, "diagonal", torch.ops.aten.diagonal, torch.ops.aten.diagonal_copy)
def diagonal(d: Sizes, input: Shape, offset: Dim = 0, dim1: int = 0, dim2: int = 1) -> Shape:
    """Put the diagonal of two dimensions into a new last dimension."""
    i, j = (axis(k, len(input), "diagonal") for k in (dim1, dim2))
    if i == j:
        raise IllTypedError(f"diagonal takes two different dimensions, not {dim1} twice")
    down = input[i] + d.compute("min", offset, 0)
    right = input[j] - d.compute("max", offset, 0)
    kept = (s for k, s in enumerate(input) if k not in (i, j))
    length = d.compute("min", down, right)
    return Shape((*kept, d.compute("max", length, 0) if offset else length))


@rule(torch.diagonal_scatter, "diagonal_scatter", torch.ops.aten.diagonal_scatter)
def diagonal_scatter(
    d: Sizes, input: Shape, src: Shape, offset: Dim = 0, dim1: int = 0, dim2: int = 1
) -> Shape:
    """A copy with another diagonal."""
    replaced = diagonal(d, input, offset, dim1, dim2)
    exactly(src, len(replaced), "the source of diagonal_scatter")
    for a, b in zip(src, replaced, strict=True):
        d.equal(a, b, "diagonal_scatter takes the shape of the diagonal")
    return input


@rule(torch.view_as_complex, torch.ops.aten.view_as_complex)
def view_as_complex(d: Sizes, input: Shape) -> Shape:
    """Read the pairs of the last dimension as complex numbers."""
    d.equal(
        at_least(input, 1, "view_as_complex")[-1],
        2,
        "the last dimension of view_as_complex has size 2",
    )
    return Shape(input[:-1])


@rule(torch.view_as_real, torch.ops.aten.view_as_real)
def view_as_real(d: Sizes, input: Shape) -> Shape:
    """Write complex numbers as pairs in a new last dimension."""
    return Shape((*input, 2))


@rule(torch.fliplr, "fliplr", torch.flipud, "flipud")
def flipped(d: Sizes, input: Shape) -> Shape:
    """Keep the shape; one dimension is reversed."""
    return at_least(input, 1, "flipud and fliplr")


@rule(torch.rot90, "rot90", torch.ops.aten.rot90)
def rot90(d: Sizes, input: Shape, k: int = 1, dims: Any = (0, 1)) -> Shape:
    """Rotate in a plane: an odd number of turns exchanges its two dimensions."""
    at = axes(dims, len(at_least(input, 2, "rot90")), "rot90")
    if len(at) != 2:
        raise IllTypedError(f"rot90 turns in a plane of two dimensions, not {tuple(dims)}")
    return transpose(d, input, *at) if k % 2 else input
