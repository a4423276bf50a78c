"""Embeddings: rows of a matrix for indices, alone or combined in bags, and one-hot vectors."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from symfx.shape_rules.errors import IllTypedError
from symfx.shape_rules.sizes import UNKNOWN, Dim, Shape, Sizes
from symfx.shape_rules.table import exactly, is_size, module_rule, rule
from symfx.shape_rules.weights import weight_shape

__all__: list[str] = []


@rule(F.embedding, takes_unknown=True)
def embedding(d: Sizes, input: Any, weight: Any, *rest: Any, **options: Any) -> Any:
    """One row of the weight for each index."""
    if not isinstance(input, Shape) or not isinstance(weight, Shape):
        return UNKNOWN
    return Shape((*input, exactly(weight, 2, "the weight of embedding")[1]))


@rule(torch.ops.aten.embedding, torch.embedding)
def aten_embedding(d: Sizes, weight: Shape, indices: Shape, *rest: Any, **options: Any) -> Shape:
    """As `embedding`."""
    return Shape((*indices, exactly(weight, 2, "the weight of embedding")[1]))


@module_rule(nn.Embedding)
def embedding_module(d: Sizes, module: nn.Embedding, input: Shape) -> Shape:
    """As `embedding`, with the layer's weight."""
    return embedding(d, input, _rows_of(module))  # type: ignore[no-any-return]


@module_rule(nn.EmbeddingBag)
def embedding_bag_module(
    d: Sizes, module: nn.EmbeddingBag, input: Shape, offsets: Any = None, *rest: Any
) -> Shape:
    """One combined row for each row of indices, or for each offset."""
    width = exactly(_rows_of(module), 2, "the weight of EmbeddingBag")[1]
    if len(input) == 2:
        return Shape((input[0], width))
    exactly(input, 1, "EmbeddingBag")
    if not isinstance(offsets, Shape):
        raise IllTypedError("EmbeddingBag takes offsets with a vector of indices")
    count = offsets[0] - 1 if module.include_last_offset else offsets[0]
    return Shape((count, width))


@rule(F.embedding_bag)
def embedding_bag(
    d: Sizes, input: Shape, weight: Shape, offsets: Any = None, *rest: Any, **options: Any
) -> Shape:
    """One combined row for each row of indices, or for each offset."""
    width = exactly(weight, 2, "the weight of embedding_bag")[1]
    weights = options.get("per_sample_weights")
    if isinstance(weights, Shape):
        exactly(weights, len(input), "per_sample_weights")
        for a, b in zip(weights, input, strict=True):
            d.equal(a, b, "embedding_bag takes one weight for each index")
    if len(input) == 2:
        return Shape((input[0], width))
    exactly(input, 1, "embedding_bag")
    if not isinstance(offsets, Shape):
        raise IllTypedError("embedding_bag takes offsets with a vector of indices")
    return Shape((_bags(offsets, options.get("include_last_offset")), width))


def _bags(offsets: Shape, include_last_offset: Any) -> Dim:
    count = exactly(offsets, 1, "the offsets")[0]
    return count - 1 if include_last_offset else count


@rule(
    torch.embedding_bag,
    torch.ops.aten.embedding_bag,
    torch.ops.aten._embedding_bag,
    torch.ops.aten._embedding_bag_forward_only,
)
def aten_embedding_bag(
    d: Sizes,
    weight: Shape,
    indices: Shape,
    offsets: Shape,
    scale_grad_by_freq: bool = False,
    mode: int = 0,
    sparse: bool = False,
    per_sample_weights: Any = None,
    include_last_offset: bool = False,
    padding_idx: Any = -1,
) -> Any:
    """One row for each bag, and three vectors that a backward pass reads."""
    width = exactly(weight, 2, "the weight of embedding_bag")[1]
    exactly(indices, 1, "embedding_bag")
    result = Shape((_bags(offsets, include_last_offset), width))
    return (result, *(Shape((d.fresh("a record of bags"),)) for _ in range(3)))


def _rows_of(module: nn.Embedding | nn.EmbeddingBag) -> Shape:
    declared = (module.num_embeddings, module.embedding_dim)
    return weight_shape(module, "weight", declared) or Shape(declared)


@rule(F.one_hot)
def one_hot(d: Sizes, tensor: Shape, num_classes: Any = -1) -> Shape:
    """A new last dimension with one entry for each class."""
    known = is_size(num_classes) and not (isinstance(num_classes, int) and num_classes == -1)
    if known:
        d.require(">=", num_classes, 1, "one_hot has one class or more")
    return Shape((*tensor, num_classes if known else d.fresh("the number of classes")))
