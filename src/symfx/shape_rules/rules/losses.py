"""Losses: of each element, of positions with classes, of pairs and of triples of vectors."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from symfx.dtypes import short_name
from symfx.shape_rules.errors import IllTypedError
from symfx.shape_rules.rules.elementwise import broadcast_shapes, into
from symfx.shape_rules.rules.reductions import reduced
from symfx.shape_rules.sizes import Shape, Sizes
from symfx.shape_rules.table import at_least, exactly, module_rule, rule
from symfx.shape_rules.weights import weight_shape

__all__: list[str] = []

#: The reduction that aten's losses are given as a number.
_NUMBERED = {0: "none", 1: "mean", 2: "sum"}


def _loss(shape: Shape, reduction: Any) -> Shape:
    return shape if _NUMBERED.get(reduction, reduction) == "none" else Shape()


_POINTWISE = (
    F.mse_loss,
    F.l1_loss,
    F.smooth_l1_loss,
    F.huber_loss,
    F.kl_div,
    F.poisson_nll_loss,
    F.hinge_embedding_loss,
)


@rule(*_POINTWISE)
def pointwise_loss(d: Sizes, input: Shape, target: Shape, *rest: Any, **options: Any) -> Shape:
    """A loss for each element, reduced to one number unless the reduction is "none"."""
    return _loss(broadcast_shapes(d, input, target), options.get("reduction", "mean"))


@rule(F.soft_margin_loss)
def soft_margin(d: Sizes, input: Shape, target: Shape, *rest: Any, **options: Any) -> Shape:
    """A loss for each element of the input, to which the targets broadcast."""
    return _loss(into(d, input, target), options.get("reduction", "mean"))


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
    """As `binary_loss`, with the layer's weights."""
    weights = [weight_shape(module, name) for name in ("weight", "pos_weight")]
    return binary_loss(
        d, input, target, weights[0], pos_weight=weights[1], reduction=module.reduction
    )


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
    nn.PoissonNLLLoss,
    nn.HingeEmbeddingLoss,
)
def pointwise_loss_module(d: Sizes, module: Any, input: Shape, target: Shape) -> Shape:
    """As `pointwise_loss`."""
    return _loss(broadcast_shapes(d, input, target), module.reduction)


@module_rule(nn.SoftMarginLoss)
def soft_margin_module(d: Sizes, module: Any, input: Shape, target: Shape) -> Shape:
    """As `soft_margin`."""
    return soft_margin(d, input, target, reduction=module.reduction)


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
    if target.dtype is not None and target.dtype.is_floating_point:
        raise IllTypedError(
            f"class indices must be i64, not {short_name(target.dtype)}, and probabilities have "
            f"the shape of the inputs, {input}, not {target}"
        )
    if len(target) != len(positions):
        raise IllTypedError(
            f"the class indices of inputs {input} have the shape {positions}, not {target}"
        )
    for a, b in zip(positions, target, strict=True):
        d.equal(a, b, "the targets have one value for each position")
    return positions


@rule(*(getattr(torch.ops.aten, f"{name}_loss") for name in ("mse", "smooth_l1", "huber")))
def aten_pointwise_loss(
    d: Sizes, input: Shape, target: Shape, reduction: Any = 1, *r: Any
) -> Shape:
    """As `pointwise_loss`; the reduction is a number."""
    return _loss(broadcast_shapes(d, input, target), reduction)


@rule(torch.ops.aten.soft_margin_loss)
def aten_soft_margin(
    d: Sizes, input: Shape, target: Shape, reduction: Any = 1, *rest: Any
) -> Shape:
    """As `soft_margin`; the reduction is a number."""
    return soft_margin(d, input, target, reduction=reduction)


@rule(torch.ops.aten.binary_cross_entropy)
def aten_binary_loss(
    d: Sizes, input: Shape, target: Shape, weight: Any = None, reduction: Any = 1
) -> Shape:
    """As `binary_loss`; the reduction is a number."""
    return binary_loss(d, input, target, weight, reduction=reduction)


@rule(torch.ops.aten.binary_cross_entropy_with_logits)
def aten_logits_loss(
    d: Sizes,
    input: Shape,
    target: Shape,
    weight: Any = None,
    pos_weight: Any = None,
    reduction: Any = 1,
) -> Shape:
    """As `binary_loss`; the reduction is a number."""
    return binary_loss(d, input, target, weight, pos_weight=pos_weight, reduction=reduction)


@rule(torch.ops.aten.cross_entropy_loss)
def aten_cross_entropy(
    d: Sizes, input: Shape, target: Shape, weight: Any = None, reduction: Any = 1, *rest: Any
) -> Shape:
    """As `cross_entropy`; the reduction is a number."""
    return cross_entropy(d, input, target, weight=weight, reduction=reduction)


@rule(torch.ops.aten.nll_loss, torch.ops.aten.nll_loss2d, torch.ops.aten.nll_loss_nd)
def aten_likelihood(
    d: Sizes, input: Shape, target: Shape, weight: Any = None, reduction: Any = 1, *rest: Any
) -> Shape:
    """As `negative_likelihood`; the reduction is a number."""
    return negative_likelihood(d, input, target, weight=weight, reduction=reduction)


@rule(torch.ops.aten.nll_loss_forward, torch.ops.aten.nll_loss2d_forward)
def aten_likelihood_forward(
    d: Sizes, input: Shape, target: Shape, weight: Any, reduction: Any, ignore_index: Any
) -> Any:
    """The loss, and the sum of the weights."""
    return (aten_likelihood(d, input, target, weight, reduction), Shape())


# -- losses of pairs and triples -------------------------------------------------------------------


@rule(F.margin_ranking_loss)
def ranking_loss(
    d: Sizes, input1: Shape, input2: Shape, target: Shape, *rest: Any, **options: Any
) -> Shape:
    """A loss for each pair of values."""
    if not len(input1) == len(input2) == len(target):
        raise IllTypedError(
            f"margin_ranking_loss takes tensors of one rank, not {input1}, {input2} and {target}"
        )
    return _loss(broadcast_shapes(d, input1, input2, target), options.get("reduction", "mean"))


@rule(F.cosine_embedding_loss)
def cosine_loss(
    d: Sizes, input1: Shape, input2: Shape, target: Shape, *rest: Any, **options: Any
) -> Shape:
    """A loss for each pair of vectors."""
    if len(target) > 1 or not len(input1) == len(input2) == len(target) + 1:
        raise IllTypedError(
            "cosine_embedding_loss takes two vectors with a number, or two matrices with a vector, "
            f"not {input1}, {input2} and {target}"
        )
    vectors = broadcast_shapes(d, input1, input2)
    return _loss(broadcast_shapes(d, Shape(vectors[:-1]), target), options.get("reduction", "mean"))


@rule(F.triplet_margin_loss, F.triplet_margin_with_distance_loss)
def triplet_loss(
    d: Sizes, anchor: Shape, positive: Shape, negative: Shape, *rest: Any, **options: Any
) -> Shape:
    """A loss for each triple of vectors."""
    if not len(anchor) == len(positive) == len(negative):
        raise IllTypedError(
            f"triplet_margin_loss takes tensors of one rank, not {anchor}, {positive}, {negative}"
        )
    both = broadcast_shapes(d, anchor, positive, negative)
    return _loss(
        Shape(at_least(both, 1, "triplet_margin_loss")[:-1]), options.get("reduction", "mean")
    )


@rule(F.multi_margin_loss, torch.ops.aten.multi_margin_loss)
def multi_margin_loss(d: Sizes, input: Shape, target: Shape, *rest: Any, **options: Any) -> Shape:
    """A loss for each row of scores; the target is the class of the row."""
    if len(input) > 2:
        raise IllTypedError(f"multi_margin_loss takes a matrix or a vector, not {input}")
    power = options.get("p", rest[0] if rest else 1)
    if isinstance(power, int) and power not in (1, 2):
        raise IllTypedError(f"multi_margin_loss takes a p of 1 or 2, not {power}")
    rows = input[0] if len(input) == 2 else 1
    count = exactly(target, 1, "the targets of multi_margin_loss")[0] if target else 1
    d.equal(count, rows, "there is one target for each row of scores")
    each = target if len(input) == 2 else Shape()
    numbered = rest[3] if len(rest) > 3 and isinstance(rest[3], int) else "mean"
    return _loss(each, options.get("reduction", numbered))


@rule(F.multilabel_margin_loss)
def multilabel_loss(d: Sizes, input: Shape, target: Shape, *rest: Any, **options: Any) -> Shape:
    """A loss for each row of scores; the targets have the shape of the inputs."""
    if len(input) > 2:
        raise IllTypedError(f"multilabel_margin_loss takes a matrix or a vector, not {input}")
    given, wanted = (x or Shape((1,)) for x in (target, input))
    _agree(d, wanted, given)
    return _loss(Shape(input[:-1]), options.get("reduction", "mean"))


@rule(F.multilabel_soft_margin_loss)
def soft_multilabel_loss(
    d: Sizes, input: Shape, target: Shape, weight: Any = None, *rest: Any, **options: Any
) -> Shape:
    """A loss for each row of scores, with which targets and weights broadcast."""
    each = broadcast_shapes(d, input, target)
    if isinstance(weight, Shape):
        each = broadcast_shapes(d, each, weight)
    at_least(input, 1, "multilabel_soft_margin_loss")
    rows = reduced(d, each, len(input) - 1, False, "multilabel_soft_margin_loss")
    return _loss(rows, options.get("reduction", "mean"))


@rule(F.gaussian_nll_loss)
def gaussian_loss(
    d: Sizes, input: Shape, target: Shape, var: Any, *rest: Any, **options: Any
) -> Any:
    """A loss for each element; the variance may lack one dimension, or have size 1 there."""
    if isinstance(var, Shape):
        what = "gaussian_nll_loss takes a variance for each element, or one along one dimension"
        if len(var) not in (len(input), len(input) - 1):
            raise IllTypedError(f"{what}: {var} for {input}")
        for a, b in zip(var, input, strict=False):
            if len(var) == len(input):
                d.stretch(a, b, what)
            else:
                d.equal(a, b, what)
    return _loss(broadcast_shapes(d, input, target), options.get("reduction", "mean"))


@rule(F.ctc_loss)
def ctc_loss(
    d: Sizes,
    log_probs: Shape,
    targets: Shape,
    input_lengths: Any,
    target_lengths: Any,
    *rest: Any,
    **options: Any,
) -> Shape:
    """A loss for each sequence; the dimensions are time, batch and classes."""
    if len(log_probs) not in (2, 3):
        raise IllTypedError(f"ctc_loss takes a tensor of rank 2 or 3, not {log_probs}")
    batch = log_probs[1] if len(log_probs) == 3 else 1
    if len(targets) not in (1, 2):
        raise IllTypedError(f"ctc_loss takes targets of rank 1 or 2, not {targets}")
    if len(targets) == 2:
        d.equal(targets[0], batch, "ctc_loss takes one target for each sequence")
    for name, lengths in (("input_lengths", input_lengths), ("target_lengths", target_lengths)):
        if isinstance(lengths, (Shape, tuple, list)):
            one: Any = 1  # a tensor of rank 0 has the length of the only sequence
            if lengths or not isinstance(lengths, Shape):
                one = exactly(lengths, 1, name)[0] if isinstance(lengths, Shape) else len(lengths)
            d.equal(one, batch, f"{name} has one length for each sequence")
    each = Shape((batch,)) if len(log_probs) == 3 else Shape()
    return _loss(each, options.get("reduction", "mean"))


@module_rule(nn.CTCLoss)
def ctc_loss_module(d: Sizes, module: nn.CTCLoss, log_probs: Shape, *given: Any) -> Shape:
    """As `ctc_loss`."""
    return ctc_loss(d, log_probs, *given, reduction=module.reduction)


_OF_LAYERS = {
    nn.MarginRankingLoss: ranking_loss,
    nn.CosineEmbeddingLoss: cosine_loss,
    nn.TripletMarginLoss: triplet_loss,
    nn.MultiMarginLoss: multi_margin_loss,
    nn.MultiLabelMarginLoss: multilabel_loss,
    nn.MultiLabelSoftMarginLoss: soft_multilabel_loss,
    nn.GaussianNLLLoss: gaussian_loss,
}


@module_rule(*_OF_LAYERS)
def loss_module(d: Sizes, module: Any, *given: Any) -> Any:
    """As the function of the layer."""
    return _OF_LAYERS[type(module)](d, *given, reduction=module.reduction)
