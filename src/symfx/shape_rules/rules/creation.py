"""Operators that make new tensors of a given shape."""

from __future__ import annotations

from typing import Any

import torch

from symfx.shape_rules.errors import IllTypedError
from symfx.shape_rules.rules.layout import diagonal as matrix_diagonal
from symfx.shape_rules.rules.layout import sizes_of
from symfx.shape_rules.sizes import UNKNOWN, Dim, Shape, Size, Sizes, number_of_steps
from symfx.shape_rules.table import exactly, is_size, rule

__all__: list[str] = []


def _shape(d: Sizes, sizes: tuple[Any, ...]) -> Shape:
    made = Shape(size if is_size(size) else d.fresh("a size") for size in sizes)
    for size in made:
        if isinstance(size, Size):
            d.require(">=", size, 0, "a new tensor has no negative size")
    return made


@rule(
    torch.zeros,
    torch.ones,
    torch.empty,
    torch.rand,
    torch.randn,
    torch.ops.aten.zeros,
    torch.ops.aten.ones,
    torch.ops.aten.empty,
    torch.ops.aten.rand,
    torch.ops.aten.randn,
    takes_unknown=True,
)
def filled(d: Sizes, *size: Any, **options: Any) -> Any:
    """The given shape."""
    given = sizes_of(size) or tuple(options.get("size", ()))
    return UNKNOWN if given == (UNKNOWN,) else _shape(d, given)


@rule(torch.full, torch.ops.aten.full, takes_unknown=True)
def full(d: Sizes, size: Any, fill_value: Any, **options: Any) -> Any:
    """The given shape."""
    return _shape(d, tuple(size)) if isinstance(size, (tuple, list)) else UNKNOWN


@rule(torch.ops.aten.empty_strided, torch.empty_strided)
def empty_strided(d: Sizes, size: Any, stride: Any, **options: Any) -> Any:
    """The given shape."""
    return _shape(d, tuple(size))


@rule(torch.randint, torch.ops.aten.randint, takes_unknown=True)
def randint(d: Sizes, *given: Any, **options: Any) -> Any:
    """The given shape, which comes after the bounds."""
    size = next((g for g in reversed(given) if isinstance(g, (tuple, list))), options.get("size"))
    return _shape(d, tuple(size)) if isinstance(size, (tuple, list)) else UNKNOWN


@rule(
    "new_zeros",
    "new_ones",
    "new_empty",
    torch.ops.aten.new_zeros,
    torch.ops.aten.new_ones,
    torch.ops.aten.new_empty,
    takes_unknown=True,
)
def new_filled(d: Sizes, input: Any, *size: Any, **options: Any) -> Any:
    """The given shape."""
    given = sizes_of(size) or tuple(options.get("size", ()))
    return UNKNOWN if given == (UNKNOWN,) else _shape(d, given)


@rule("new_full", torch.ops.aten.new_full, takes_unknown=True)
def new_full(d: Sizes, input: Any, size: Any, fill_value: Any, **options: Any) -> Any:
    """The given shape."""
    return _shape(d, tuple(size)) if isinstance(size, (tuple, list)) else UNKNOWN


@rule(
    torch.tensor,
    torch.as_tensor,
    torch.scalar_tensor,
    torch.ops.aten.scalar_tensor,
    "new_tensor",
    takes_unknown=True,
)
def tensor(d: Sizes, *given: Any, **options: Any) -> Any:
    """The shape of nested lists in the program."""
    data = given[-1] if given else options.get("data")
    shape: list[Dim] = []
    while isinstance(data, (tuple, list)) and not isinstance(data, Shape):
        shape.append(len(data))
        data = data[0] if data else 0
    if isinstance(data, Shape):
        return Shape((*shape, *data))
    if isinstance(data, (bool, int, float, complex, Size)) or is_size(data):
        return Shape(shape)
    return UNKNOWN


@rule(torch.arange, torch.ops.aten.arange, takes_unknown=True)
def arange(d: Sizes, *bounds: Any, **options: Any) -> Any:
    """A vector with one value for each step."""
    given = [*bounds, *(options[n] for n in ("start", "end", "step") if n in options)]
    if not 1 <= len(given) <= 3:
        raise IllTypedError(f"arange takes one to three numbers, not {len(given)}")
    if len(given) == 1:
        start, end, step = 0, given[0], 1
    else:
        start, end, step = (
            given[0],
            given[1],
            given[2] if len(given) > 2 else options.get("step", 1),
        )
    if all(isinstance(v, (int, float)) for v in (start, end, step)):
        if step == 0 or (end - start) / step < 0:
            raise IllTypedError(f"arange cannot go from {start} to {end} in steps of {step}")
        count = (end - start) / step
        return Shape((max(0, -int(-count // 1)),))
    if not all(is_size(v) for v in (start, end, step)):
        return Shape((d.fresh("the number of steps"),))
    if isinstance(step, int) and step == 0:
        raise IllTypedError("arange cannot take steps of 0")
    upwards = d.compare(">", step, 0)
    if upwards is False:
        start, end, step = end, start, -step
    elif upwards is not True:
        return Shape((d.fresh("the number of steps"),))
    d.require("<=", start, end, "arange goes from its start to its end in the sense of its step")
    return Shape((number_of_steps(end - start, step),))


@rule(torch.linspace, torch.logspace, takes_unknown=True)
def linspace(d: Sizes, start: Any, end: Any, steps: Any, *rest: Any, **options: Any) -> Shape:
    """A vector with `steps` values."""
    for end_point in (start, end):
        if isinstance(end_point, Shape):
            exactly(end_point, 0, "an end of linspace and logspace")
    return _shape(d, (steps,))


@rule(torch.eye, torch.ops.aten.eye, takes_unknown=True)
def eye(d: Sizes, n: Any, m: Any = None, **options: Any) -> Shape:
    """A square matrix, or one with `m` columns."""
    return _shape(d, (n, n if m is None else m))


@rule(torch.randperm, takes_unknown=True)
def randperm(d: Sizes, n: Any, **options: Any) -> Shape:
    """A vector of `n` values."""
    return _shape(d, (n,))


@rule(torch.tril_indices, torch.triu_indices, takes_unknown=True)
def triangle_indices(d: Sizes, *given: Any, **options: Any) -> Shape:
    """Two rows: the row and the column of each element of a triangle."""
    for size in given[:2]:
        if is_size(size):
            d.require(">=", size, 0, "the size of a triangle is not negative")
    return Shape((2, d.fresh("the number of elements")))


@rule(torch.diag, "diag")
def diag(d: Sizes, input: Shape, diagonal: int = 0) -> Shape:
    """The diagonal of a matrix, or the matrix with a diagonal."""
    if len(input) == 1:
        size = input[0] + abs(diagonal)
        return Shape((size, size))
    return matrix_diagonal(d, exactly(input, 2, "diag"), diagonal)
