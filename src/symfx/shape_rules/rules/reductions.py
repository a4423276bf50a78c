"""Reductions along dimensions, and sorting."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from symfx.shape_rules.errors import IllTypedError
from symfx.shape_rules.rules.elementwise import broadcast_shapes
from symfx.shape_rules.sizes import NO_TENSOR, UNKNOWN, Dim, Shape, Sizes
from symfx.shape_rules.table import axes, axis, exactly, is_size, module_rule, rule

__all__ = ["reduced"]


def reduced(d: Sizes, x: Shape, dim: Any, keepdim: Any, what: str) -> Shape:
    """A shape without the reduced dimensions, or with 1 in their place."""
    if dim is None or (isinstance(dim, (tuple, list)) and not dim):
        gone = {*range(len(x))}
    else:
        gone = {*axes(dim, len(x), what)}
    if keepdim:
        return Shape(1 if i in gone else size for i, size in enumerate(x))
    return Shape(size for i, size in enumerate(x) if i not in gone)


def _everywhere(*names: str) -> list[Any]:
    found: dict[Any, None] = {}
    for name in names:
        for home in (torch, torch.ops.aten, torch.special, torch.linalg):
            function = getattr(home, name, None)
            if function is not None:
                found[function] = None
        if hasattr(torch.Tensor, name):
            found[name] = None
    return [*found]


def _axis_names(dim: Any, keepdim: Any, options: dict[str, Any]) -> tuple[Any, Any]:
    return options.get("axis", dim), options.get("keepdims", keepdim)


@rule(
    *_everywhere(
        "sum",
        "mean",
        "nansum",
        "nanmean",
        "amax",
        "amin",
        "logsumexp",
        "count_nonzero",
        "argmax",
        "argmin",
        "prod",
    )
)
def reduction(
    d: Sizes, input: Shape, dim: Any = None, keepdim: Any = False, **options: Any
) -> Shape:
    """Reduce some dimensions, or all."""
    dim, keepdim = _axis_names(dim, keepdim, options)
    if isinstance(dim, torch.dtype):  # x.sum(torch.float)
        dim = None
    return reduced(d, input, dim, keepdim, "the reduction")


@rule(*_everywhere("all", "any"))
def truth(d: Sizes, input: Shape, dim: Any = None, keepdim: Any = False, **options: Any) -> Shape:
    """As `reduction`; an empty tuple of dimensions reduces nothing."""
    dim, keepdim = _axis_names(dim, keepdim, options)
    if isinstance(dim, (tuple, list)) and not dim:
        return input
    return reduced(d, input, dim, keepdim, "the reduction")


@rule(*_everywhere("std", "var"))
def spread(d: Sizes, input: Shape, *given: Any, **options: Any) -> Shape:
    """As `reduction`; the flag `unbiased` may come before the dimensions."""
    rest = [value for value in given if not isinstance(value, bool) and value is not None]
    flags = [value for value in given if isinstance(value, bool)]
    dim = options.get("dim", rest[0] if rest else None)
    keepdim = options.get(
        "keepdim",
        flags[-1]
        if len(flags) > 1 or (flags and rest and given[-1] is flags[-1] and len(given) > 2)
        else False,
    )
    return reduced(d, input, dim, keepdim, "the reduction")


@rule(*_everywhere("std_mean", "var_mean"))
def spread_and_mean(d: Sizes, input: Shape, *given: Any, **options: Any) -> Any:
    """As `spread`, with two results."""
    result = spread(d, input, *given, **options)
    return (result, result)


@rule(*_everywhere("norm", "vector_norm"))
def norm(
    d: Sizes,
    input: Shape,
    p: Any = None,
    dim: Any = None,
    keepdim: Any = False,
    *rest: Any,
    **options: Any,
) -> Shape:
    """Reduce some dimensions, or all."""
    return reduced(d, input, dim, keepdim, "norm")


@rule(*_everywhere("max", "min"))
def extremum(d: Sizes, input: Shape, dim: Any = None, keepdim: Any = False, **options: Any) -> Any:
    """Reduce all elements, or one dimension (with indices), or combine two tensors."""
    dim, keepdim = _axis_names(options.get("other", dim), keepdim, options)
    if isinstance(dim, Shape):
        return broadcast_shapes(d, input, dim)
    if dim is None:
        return Shape()
    result = reduced(d, input, dim, keepdim, "the extremum")
    return (result, result)


@rule(*_everywhere("median", "nanmedian"))
def median(d: Sizes, input: Shape, dim: Any = None, keepdim: Any = False, **options: Any) -> Any:
    """Reduce all elements, or one dimension (with indices)."""
    return Shape() if dim is None else mode(d, input, dim, keepdim)


@rule(*_everywhere("mode"))
def mode(d: Sizes, input: Shape, dim: int = -1, keepdim: Any = False, **options: Any) -> Any:
    """The values and their indices along a dimension."""
    result = reduced(d, input, dim, keepdim, "the reduction")
    return (result, result)


@rule(*_everywhere("kthvalue"))
def kth_value(d: Sizes, input: Shape, k: Any, dim: int = -1, keepdim: Any = False) -> Any:
    """The k-th smallest values and their indices, along a dimension."""
    i = axis(dim, len(input), "kthvalue", scalar=True)
    if is_size(k):
        for op, bound in ((">=", 1), ("<=", input[i] if input else 1)):
            d.require(op, k, bound, "kthvalue takes a k from 1 to the size of its dimension")
    return mode(d, input, dim, keepdim)


@rule(*_everywhere("cummax", "cummin"))
def running_extremum(d: Sizes, input: Shape, dim: int) -> Any:
    """The extremum up to each element, and its index."""
    axis(dim, len(input), "the running extremum", scalar=True)
    return (input, input)


@rule(*_everywhere("aminmax"))
def extrema(d: Sizes, input: Shape, *, dim: Any = None, keepdim: bool = False) -> Any:
    """The minimum and the maximum, of all elements or along a dimension."""
    result = reduced(d, input, dim, keepdim, "aminmax")
    return (result, result)


@rule(*_everywhere("topk"))
def topk(d: Sizes, input: Shape, k: Any, dim: int = -1, *rest: Any, **options: Any) -> Any:
    """The `k` largest along a dimension, and their indices."""
    i = axis(dim, len(input), "topk", scalar=True)
    new: Dim = k if is_size(k) else d.fresh("k")
    d.require(">=", new, 0, "topk takes a k of 0 or more")
    d.require(
        ">=",
        input[i] if input else 1,
        new,
        f"topk takes at most as many elements as dimension {dim} has",
    )
    result = Shape((*input[:i], new, *input[i + 1 :])) if input else input
    return (result, result)


@rule(torch.multinomial, "multinomial")
def multinomial(
    d: Sizes, input: Shape, num_samples: Any, replacement: bool = False, **options: Any
) -> Shape:
    """As many indices as samples, for each row."""
    if len(input) not in (1, 2):
        raise IllTypedError(f"multinomial takes a tensor of rank 1 or 2, not {input}")
    if is_size(num_samples):
        d.require(">=", num_samples, 1, "multinomial draws one sample or more")
    if is_size(num_samples) and replacement is False:
        what = "multinomial without replacement draws at most all elements"
        d.require("<=", num_samples, input[-1], what)
    return Shape((*input[:-1], num_samples if is_size(num_samples) else d.fresh("samples")))


@rule(F.cosine_similarity, torch.cosine_similarity)
def cosine_similarity(d: Sizes, x1: Shape, x2: Shape, dim: int = 1, eps: float = 1e-8) -> Shape:
    """Reduce one dimension of the shape that two tensors broadcast to."""
    return reduced(d, broadcast_shapes(d, x1, x2), dim, False, "cosine_similarity")


@module_rule(nn.CosineSimilarity)
def cosine_similarity_module(d: Sizes, module: nn.CosineSimilarity, x1: Shape, x2: Shape) -> Shape:
    """As `cosine_similarity`."""
    return cosine_similarity(d, x1, x2, module.dim)


@rule(torch.cdist, torch.ops.aten._cdist_forward)
def cdist(d: Sizes, x1: Shape, x2: Shape, *rest: Any, **options: Any) -> Shape:
    """The distance of each row of one tensor to each row of another."""
    for x in (x1, x2):
        if len(x) < 2:
            raise IllTypedError(f"cdist takes tensors of rank 2 or more, not {x}")
    d.equal(x1[-1], x2[-1], "cdist takes rows of one length")
    batch = broadcast_shapes(d, Shape(x1[:-2]), Shape(x2[:-2]))
    return Shape((*batch, x1[-2], x2[-2]))


@rule(*_everywhere("dist"))
def distance(d: Sizes, input: Shape, other: Shape, p: Any = 2) -> Shape:
    """One number for two tensors that broadcast."""
    broadcast_shapes(d, input, other)
    return Shape()


@rule(*_everywhere("allclose"))
def all_close(d: Sizes, input: Shape, other: Shape, *rest: Any, **options: Any) -> Any:
    """A truth value, of two tensors that broadcast."""
    broadcast_shapes(d, input, other)
    return NO_TENSOR


@rule(*_everywhere("equal"))
def truth_of_two(d: Sizes, input: Shape, other: Shape, *rest: Any, **options: Any) -> Any:
    """A truth value, which is no tensor."""
    return NO_TENSOR


@rule(*_everywhere("quantile", "nanquantile"))
def quantile(
    d: Sizes, input: Shape, q: Any, dim: Any = None, keepdim: bool = False, **options: Any
) -> Shape:
    """As `reduction`; several quantiles are a new first dimension."""
    result = reduced(d, input, dim, keepdim, "quantile")
    if not isinstance(q, Shape) or not q:
        return result
    return Shape((*exactly(q, 1, "the quantiles"), *result))


@rule(F.pdist, torch.pdist, torch.ops.aten._pdist_forward)
def pdist(d: Sizes, input: Shape, p: float = 2.0) -> Shape:
    """The distance of each two rows."""
    rows = exactly(input, 2, "pdist")[0]
    return Shape((rows * (rows - 1) // 2,))


@rule(*_everywhere("histc"))
def histogram(d: Sizes, input: Shape, bins: Any = 100, *rest: Any, **options: Any) -> Shape:
    """One count for each bin."""
    return Shape((bins if is_size(bins) else d.fresh("the number of bins"),))


@rule(*_everywhere("histogram"))
def histogram_with_edges(
    d: Sizes, input: Shape, bins: Any, *, weight: Any = None, **options: Any
) -> Any:
    """One count for each bin, and the edges of the bins."""
    if isinstance(weight, Shape):
        exactly(weight, len(input), "histogram")
        for one, own in zip(weight, input, strict=True):
            d.equal(one, own, "histogram takes one weight for each number")
    if isinstance(bins, Shape):
        edges = exactly(bins, 1, "histogram")[0]
        d.require(">=", edges, 2, "histogram takes two edges or more")
    else:
        edges = bins + 1
        d.require(">=", bins, 1, "histogram takes a bin or more")
    return Shape((edges - 1,)), Shape((edges,))


@rule(*_everywhere("bincount"))
def bincount(d: Sizes, input: Shape, weights: Any = None, minlength: Any = 0) -> Shape:
    """One count for each number up to the largest, which is data."""
    exactly(input, 1, "bincount")
    if isinstance(weights, Shape):
        d.equal(exactly(weights, 1, "bincount")[0], input[0], "there is one weight for each number")
    count = d.fresh("the largest number")
    if is_size(minlength):
        d.require(">=", minlength, 0, "bincount takes a minlength of 0 or more")
        d.require(">=", count, minlength, "bincount counts at least minlength numbers")
    return Shape((count,))


@rule(*_everywhere("trapezoid", "trapz"))
def integral(d: Sizes, y: Shape, x: Any = None, *, dx: Any = None, dim: int = -1) -> Any:
    """Reduce one dimension by the trapezoidal rule; the places are a vector, or broadcast."""
    i = axis(dim, len(y), "trapezoid")
    if not isinstance(x, Shape):
        return reduced(d, y, i, False, "trapezoid")
    if len(x) == 1:
        d.equal(x[0], y[i], "trapezoid takes one place for each value")
        return reduced(d, y, i, False, "trapezoid")
    if len(x) > len(y):
        return UNKNOWN
    places = Shape((*(1,) * (len(y) - len(x)), *x))
    steps = [Shape((*s[:i], s[i] - 1, *s[i + 1 :])) for s in (y, places)]
    return reduced(d, broadcast_shapes(d, *steps), i, False, "trapezoid")


@rule(*_everywhere("corrcoef", "cov"))
def covariance(d: Sizes, input: Shape, **options: Any) -> Any:
    """One number for each two rows; one number for a vector, and for a matrix of one row."""
    if len(input) > 2:
        raise IllTypedError(f"cov and corrcoef take a matrix, not {input}")
    for name in ("fweights", "aweights"):
        if isinstance(options.get(name), Shape):
            if len(options[name]) > 1:
                raise IllTypedError(f"{name} is a vector, not {options[name]}")
            count = input[-1] if input else 1
            d.equal(d.product(options[name]), count, f"{name} has one weight for each observation")
    one = d.compare("==", input[0], 1) if len(input) == 2 else True
    if one is True:
        return Shape()
    return Shape((input[0], input[0])) if one is False else UNKNOWN
