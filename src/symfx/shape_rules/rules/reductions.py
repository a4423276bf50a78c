"""Reductions along dimensions, sorting, and losses."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from symfx.shape_rules.errors import IllTypedError
from symfx.shape_rules.rules.elementwise import broadcast_shapes, into
from symfx.shape_rules.sizes import Dim, Shape, Sizes
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
def multinomial(d: Sizes, input: Shape, num_samples: Any, *rest: Any, **options: Any) -> Shape:
    """As many indices as samples, for each row."""
    if len(input) not in (1, 2):
        raise IllTypedError(f"multinomial takes a tensor of rank 1 or 2, not {input}")
    return Shape((*input[:-1], num_samples if is_size(num_samples) else d.fresh("samples")))


@rule(F.cosine_similarity, torch.cosine_similarity)
def cosine_similarity(d: Sizes, x1: Shape, x2: Shape, dim: int = 1, eps: float = 1e-8) -> Shape:
    """Reduce one dimension of the shape that two tensors broadcast to."""
    return reduced(d, broadcast_shapes(d, x1, x2), dim, False, "cosine_similarity")


@module_rule(nn.CosineSimilarity)
def cosine_similarity_module(d: Sizes, module: nn.CosineSimilarity, x1: Shape, x2: Shape) -> Shape:
    """As `cosine_similarity`."""
    return cosine_similarity(d, x1, x2, module.dim)


@rule(torch.cdist)
def cdist(d: Sizes, x1: Shape, x2: Shape, *rest: Any, **options: Any) -> Shape:
    """The distance of each row of one tensor to each row of another."""
    for x in (x1, x2):
        if len(x) < 2:
            raise IllTypedError(f"cdist takes tensors of rank 2 or more, not {x}")
    d.equal(x1[-1], x2[-1], "cdist takes rows of one length")
    batch = broadcast_shapes(d, Shape(x1[:-2]), Shape(x2[:-2]))
    return Shape((*batch, x1[-2], x2[-2]))


# -- losses -----------------------------------------------------------------------------------


def _loss(shape: Shape, reduction: Any) -> Shape:
    return shape if reduction == "none" else Shape()


_POINTWISE = (
    F.mse_loss,
    F.l1_loss,
    F.smooth_l1_loss,
    F.huber_loss,
    F.kl_div,
    F.soft_margin_loss,
    F.poisson_nll_loss,
)


@rule(*_POINTWISE)
def pointwise_loss(d: Sizes, input: Shape, target: Shape, *rest: Any, **options: Any) -> Shape:
    """A loss for each element, reduced to one number unless the reduction is "none"."""
    return _loss(broadcast_shapes(d, input, target), options.get("reduction", "mean"))


@rule(F.binary_cross_entropy, F.binary_cross_entropy_with_logits)
def binary_loss(
    d: Sizes, input: Shape, target: Shape, weight: Any = None, *rest: Any, **options: Any
) -> Shape:
    """A loss for each element; the targets have the inputs' shape, weights broadcast to it."""
    _agree(d, input, target)
    into(d, input, weight, options.get("pos_weight"))
    return _loss(input, options.get("reduction", "mean"))


@module_rule(nn.BCELoss, nn.BCEWithLogitsLoss)
def binary_loss_module(d: Sizes, module: Any, input: Shape, target: Shape) -> Shape:
    """As `binary_loss`, without weights."""
    _agree(d, input, target)
    return _loss(input, module.reduction)


def _agree(d: Sizes, input: Shape, target: Shape) -> None:
    if len(target) != len(input):
        raise IllTypedError(f"the targets must have the shape of the inputs, {input}, not {target}")
    for a, b in zip(input, target, strict=True):
        d.equal(a, b, "the targets have the shape of the inputs")


@module_rule(
    nn.MSELoss,
    nn.L1Loss,
    nn.SmoothL1Loss,
    nn.HuberLoss,
    nn.KLDivLoss,
    nn.SoftMarginLoss,
    nn.PoissonNLLLoss,
)
def pointwise_loss_module(d: Sizes, module: Any, input: Shape, target: Shape) -> Shape:
    """As `pointwise_loss`."""
    return _loss(broadcast_shapes(d, input, target), module.reduction)


@rule(F.nll_loss)
def negative_likelihood(d: Sizes, input: Shape, target: Shape, *rest: Any, **options: Any) -> Shape:
    """As `cross_entropy`, with indices of classes as targets, never probabilities."""
    if len(input) == 1 and len(target) == 1:
        d.equal(target[0], 1, "nll_loss of a vector takes one target")
        target = Shape()
    if len(target) >= len(input):
        raise IllTypedError(f"the targets {target} do not fit the inputs {input}")
    return cross_entropy(d, input, target, *rest, **options)


@rule(F.cross_entropy)
def cross_entropy(d: Sizes, input: Shape, target: Shape, *rest: Any, **options: Any) -> Shape:
    """A loss for each position; the classes are dimension 1, or the only dimension."""
    weight = options.get("weight", rest[0] if rest else None)
    positions = _positions(d, input, target)
    if isinstance(weight, Shape):
        classes = input[1] if len(input) > 1 else input[0]
        if len(input) <= 2:
            exactly(weight, 1, "the weight")
        d.equal(d.product(weight), classes, "the weight has one value for each class")
    return _loss(positions, options.get("reduction", "mean"))


@module_rule(nn.CrossEntropyLoss, nn.NLLLoss)
def class_loss_module(d: Sizes, module: Any, input: Shape, target: Shape) -> Shape:
    """As `cross_entropy` and `negative_likelihood`."""
    loss = negative_likelihood if isinstance(module, nn.NLLLoss) else cross_entropy
    weight = None if module.weight is None else Shape(module.weight.shape)
    return loss(d, input, target, weight=weight, reduction=module.reduction)


def _are_floats(target: Shape) -> bool:
    """Whether targets may be probabilities."""
    return target.dtype is None or target.dtype.is_floating_point


def _positions(d: Sizes, input: Shape, target: Shape) -> Shape:
    if not input:
        raise IllTypedError("a loss over classes takes no tensor of rank 0")
    positions = Shape((*input[:1], *input[2:])) if len(input) > 1 else Shape()
    if len(target) == len(input) and _are_floats(target):  # probabilities of classes
        _agree(d, input, target)
        return positions
    if len(target) != len(positions):
        raise IllTypedError(
            f"the class indices of inputs {input} have the shape {positions}, not {target}"
        )
    for a, b in zip(positions, target, strict=True):
        d.equal(a, b, "the targets have one value for each position")
    return positions
