"""Inference rules of layers for images: convolution, pooling, batch normalization."""

from __future__ import annotations

from typing import Any

import torch
from torch.fx import Node
from torch.fx.tensor_type import TensorType

from symfx.migrate_gradual_types.constraint import (
    BinConstraintD,
    BinConstraintT,
    CalcConv,
    CalcMaxPool,
    Conj,
    Constraint,
    DVar,
    TVar,
)
from symfx.migrate_gradual_types.constraint_builders import type_is
from symfx.migrate_gradual_types.inference.registry import (
    NotCovered,
    Symbols,
    Written,
    argument_of,
    new_tensor,
    register_inference_rule,
    tensor_of,
)
from symfx.migrate_gradual_types.operation import op_consistency, op_matching
from symfx.migrate_gradual_types.util import gen_nat_constraints, gen_tensor_dims
from symfx.shape_rules.weights import weight_shape

__all__ = [
    "adaptive_inference_rule",
    "batchnorm_inference_rule",
    "conv2d_inference_rule",
    "maxpool_inference_rule",
]


def _images(
    n: Node, symbols: Symbols, counter: int
) -> tuple[TVar, TVar, list[DVar], list[Constraint], int]:
    """The variables of an input that is ``Dyn`` or has rank 4, and of the result."""
    given = tensor_of(symbols, argument_of(n, 0, "input"))
    output, counter = new_tensor(n, symbols, counter)
    dims, counter = gen_tensor_dims(4, counter)
    return given, output, dims, [BinConstraintT(given, TensorType(dims), op_matching)], counter


@register_inference_rule(torch.nn.Conv2d)
def conv2d_inference_rule(
    n: Node,
    module_instance: torch.nn.Conv2d,
    symbols: Symbols,
    constraints: list[Constraint],
    counter: int,
) -> Written:
    """The channels are the convolution's; the window moves over the last two dimensions."""
    m = module_instance
    if isinstance(m.padding, str):
        raise NotCovered
    declared = (m.out_channels, m.in_channels // m.groups, *m.kernel_size)
    weight: Any = weight_shape(m, "weight") or declared
    given, output, dims, matching, counter = _images(n, symbols, counter)
    window = (tuple(weight[2:]), m.padding, m.stride, m.dilation)
    return [
        *matching,
        BinConstraintD(weight[1] * m.groups, dims[1], op_consistency),
        CalcConv(output, given, weight[0], *window, dims),
        *gen_nat_constraints(dims),
    ], counter


@register_inference_rule(torch.nn.MaxPool2d)
def maxpool_inference_rule(
    n: Node,
    module_instance: torch.nn.MaxPool2d,
    symbols: Symbols,
    constraints: list[Constraint],
    counter: int,
) -> Written:
    """The window moves over the last two dimensions."""
    m = module_instance
    if m.ceil_mode or m.return_indices:
        raise NotCovered
    given, output, dims, matching, counter = _images(n, symbols, counter)
    window = (m.kernel_size, m.padding, m.stride, m.dilation)
    pooled = CalcMaxPool(output, given, *window, dims)
    return [*matching, pooled, *gen_nat_constraints(dims)], counter


@register_inference_rule(torch.nn.AdaptiveAvgPool2d)
def adaptive_inference_rule(
    n: Node,
    module_instance: torch.nn.AdaptiveAvgPool2d,
    symbols: Symbols,
    constraints: list[Constraint],
    counter: int,
) -> Written:
    """The last two dimensions are the module's output size; ``None`` keeps a dimension."""
    _, output, dims, matching, counter = _images(n, symbols, counter)
    size: Any = module_instance.output_size
    pair = size if isinstance(size, (tuple, list)) else (size, size)
    last = [dim if given_ is None else given_ for dim, given_ in zip(dims[2:], pair, strict=True)]
    return [*matching, type_is(output, [*dims[:2], *last]), *gen_nat_constraints(dims)], counter


@register_inference_rule(torch.nn.BatchNorm2d)
def batchnorm_inference_rule(
    n: Node,
    module_instance: torch.nn.BatchNorm2d,
    symbols: Symbols,
    constraints: list[Constraint],
    counter: int,
) -> Written:
    """The output has the input's type; the channels are `num_features`."""
    given, output, dims, matching, counter = _images(n, symbols, counter)
    (features,) = weight_shape(module_instance, "weight") or (module_instance.num_features,)
    channels = BinConstraintD(dims[1], features, op_consistency)
    return [
        *matching,
        Conj([type_is(given, output), channels]),
        *gen_nat_constraints(dims),
    ], counter
