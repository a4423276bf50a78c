"""Operators that keep the shape and work along some of its dimensions."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from symfx.shape_rules.errors import IllTypedError
from symfx.shape_rules.rules.elementwise import broadcast_shapes, named
from symfx.shape_rules.sizes import Dim, Shape, Sizes
from symfx.shape_rules.table import at_least, axes, axis, exactly, module_rule, rule

__all__: list[str] = []


def _kept(input: Shape, dim: Any, what: str) -> Shape:
    axes(dim, len(input), what)
    return input


@rule(
    *named("cumsum", "cumprod", "logcumsumexp", "softmax", "log_softmax", "softmin"),
    *named("_softmax", "_log_softmax", "_safe_softmax"),
)
def along_one(d: Sizes, input: Shape, dim: Any = None, *rest: Any, **options: Any) -> Shape:
    """Keep the shape; the dimension must exist."""
    return _kept(input, options.get("axis", dim), "the operator")


@module_rule(nn.Softmax, nn.LogSoftmax, nn.Softmin)
def along_one_module(d: Sizes, module: Any, input: Shape) -> Shape:
    """Keep the shape; the dimension of the module must exist."""
    return _kept(input, module.dim, type(module).__name__)


@rule(*named("flip"))
def flip(d: Sizes, input: Shape, *dims: Any) -> Shape:
    """Keep the shape; some dimensions are reversed."""
    given = dims[0] if len(dims) == 1 and isinstance(dims[0], (tuple, list)) else dims
    return _kept(input, given, "flip")


@rule(*named("roll"))
def roll(d: Sizes, input: Shape, shifts: Any = None, dims: Any = ()) -> Shape:
    """Keep the shape; there is one dimension, possibly repeated, for each shift, or none."""
    several = [*dims] if isinstance(dims, (tuple, list)) else [dims]
    moves = len(shifts) if isinstance(shifts, (tuple, list)) else 1
    if moves != (len(several) or 1):
        raise IllTypedError(f"roll takes one shift for each dimension, not {shifts} for {dims}")
    for dim in several:
        axis(dim, len(input), "roll", scalar=True)
    return input


@rule(*named("normalize"))
def normalize(d: Sizes, input: Shape, p: Any = 2.0, dim: Any = 1, *rest: Any, **o: Any) -> Shape:
    """Keep the shape; vectors along a dimension are scaled to length 1."""
    return _kept(input, dim, "normalize")


@rule(*named("gumbel_softmax"))
def gumbel_softmax(d: Sizes, logits: Shape, *rest: Any, dim: int = -1, **options: Any) -> Shape:
    """Keep the shape; samples are drawn along a dimension."""
    return _kept(logits, rest[3] if len(rest) > 3 else dim, "gumbel_softmax")


@rule(*named("renorm"))
def renorm(d: Sizes, input: Shape, p: Any, dim: int, maxnorm: Any) -> Shape:
    """Keep the shape; parts along a dimension are scaled down to a bound."""
    return _kept(at_least(input, 2, "renorm"), dim, "renorm")


@rule(*named("tril", "triu"))
def triangle(d: Sizes, input: Shape, diagonal: Any = 0) -> Shape:
    """Keep the shape; matrices keep one side of their diagonal."""
    return at_least(input, 2, "tril and triu")


@rule(*named("sort"))
def sort(d: Sizes, input: Shape, *given: Any, **options: Any) -> Any:
    """The sorted values and their indices."""
    order = argsort(d, input, *given, **options)
    return (order, order)


@rule(*named("argsort"))
def argsort(d: Sizes, input: Shape, *given: Any, **options: Any) -> Shape:
    """The indices of the sorted values."""
    dims = [value for value in given if not isinstance(value, bool)]
    return _kept(input, options.get("dim", dims[0] if dims else -1), "sort")


@rule(torch.bucketize, "bucketize", torch.ops.aten.bucketize)
def bucketize(d: Sizes, input: Shape, boundaries: Any, **options: Any) -> Shape:
    """One index among the boundaries for each value."""
    if isinstance(boundaries, Shape):
        exactly(boundaries, 1, "the boundaries of bucketize")
    return input


@rule(F.pairwise_distance)
def pairwise_distance(
    d: Sizes, x1: Shape, x2: Shape, p: Any = 2.0, eps: Any = 1e-6, keepdim: bool = False
) -> Shape:
    """The distances of the vectors along the last dimension of two tensors that broadcast."""
    both = at_least(broadcast_shapes(d, x1, x2), 1, "pairwise_distance")
    return Shape((*both[:-1], 1)) if keepdim else Shape(both[:-1])


@module_rule(nn.PairwiseDistance)
def pairwise_distance_module(d: Sizes, module: nn.PairwiseDistance, x1: Shape, x2: Shape) -> Shape:
    """As `pairwise_distance`."""
    return pairwise_distance(d, x1, x2, keepdim=module.keepdim)


@rule(*named("diff"))
def diff(
    d: Sizes,
    input: Shape,
    n: Dim = 1,
    dim: int = -1,
    prepend: Any = None,
    append: Any = None,
) -> Shape:
    """The differences of neighbors, taken `n` times: each time one value fewer."""
    at_least(input, 1, "diff")
    d.require(">=", n, 0, "diff takes an n of 0 or more")
    if n == 0 and prepend is None and append is None:
        return input
    i = axis(dim, len(input), "diff")
    size = input[i]
    for more in (prepend, append):
        if isinstance(more, Shape):
            if len(more) != len(input):
                raise IllTypedError(
                    f"diff takes a prepend and append of the rank of {input}, not {more}"
                )
            for k, (a, b) in enumerate(zip(input, more, strict=True)):
                if k != i:
                    d.equal(a, b, "prepend and append of diff have the sizes of the input")
            size = size + more[i]
    if n == 0:
        return input  # torch ignores prepend and append here
    return Shape((*input[:i], d.compute("max", size - n, 0), *input[i + 1 :]))
