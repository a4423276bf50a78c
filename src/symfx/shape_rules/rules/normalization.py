"""Normalizations: they keep the shape, which must fit their statistics and weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from symfx.shape_rules.errors import IllTypedError
from symfx.shape_rules.sizes import Dim, Shape, Sizes
from symfx.shape_rules.table import at_least, exactly, is_size, module_rule, rule
from symfx.shape_rules.weights import weight_shape

__all__: list[str] = []

_RANKS: dict[type[nn.Module], tuple[int, ...]] = {
    nn.BatchNorm1d: (2, 3),
    nn.BatchNorm2d: (4,),
    nn.BatchNorm3d: (5,),
    nn.InstanceNorm1d: (2, 3),
    nn.InstanceNorm2d: (3, 4),
    nn.InstanceNorm3d: (4, 5),
}


def _ranks_of(module: Any) -> tuple[int, ...]:
    kind = getattr(module, "cls_to_become", None) or type(module)  # a lazy layer becomes another
    return next(ranks for cls, ranks in _RANKS.items() if issubclass(kind, cls))


def _check_rank(module: nn.Module, x: Shape) -> None:
    ranks = _ranks_of(module)
    if len(x) not in ranks:
        wanted = " or ".join(map(str, ranks))
        raise IllTypedError(
            f"{type(module).__name__} takes a tensor of rank {wanted}, not of rank {len(x)}: {x}"
        )


@module_rule(nn.BatchNorm2d, rank=4)
def batch_norm_2d_module(d: Sizes, module: nn.BatchNorm2d, input: Shape) -> Shape:
    """As `batch_norm_module`."""
    return batch_norm_module(d, module, input)


@module_rule(nn.BatchNorm1d, nn.BatchNorm3d)
def batch_norm_module(d: Sizes, module: Any, input: Shape) -> Shape:
    """Dimension 1 has the channels; training needs several values of each channel."""
    _check_rank(module, input)
    _one_for_each_channel(d, module, input[1])
    if module.training or not module.track_running_stats:
        _several(d, Shape((input[0], *input[2:])), f"{type(module).__name__} while training")
    return input


@module_rule(nn.SyncBatchNorm)
def sync_batch_norm_module(d: Sizes, module: nn.SyncBatchNorm, input: Shape) -> Shape:
    """Dimension 1 has the channels."""
    at_least(input, 2, "SyncBatchNorm")
    _one_for_each_channel(d, module, input[1])
    return input


@module_rule(nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)
def instance_norm_module(d: Sizes, module: Any, input: Shape) -> Shape:
    """The channels come before the positions, with or without a batch in front."""
    _check_rank(module, input)
    uses_statistics = module.training or not module.track_running_stats
    positions = _ranks_of(module)[0] - 1
    _one_for_each_channel(d, module, input[-positions - 1])
    if uses_statistics:
        _several(d, Shape(input[-positions:]), type(module).__name__)
    return input


def _one_for_each_channel(d: Sizes, module: nn.Module, channels: Dim) -> None:
    """Demand that the weights and statistics of a layer have one value for each channel."""
    for name in ("weight", "bias", "running_mean", "running_var"):
        shape = weight_shape(module, name)
        if shape is not None:
            what = f"the {name} of {type(module).__name__} has one value for each channel"
            d.equal(channels, exactly(shape, 1, f"the {name}")[0], what)


def _several(d: Sizes, values: Shape, what: str) -> None:
    """Demand more than one value, as a variance needs; several unknown sizes are not checked."""
    demand = f"{what} takes more than one value for each channel"
    larger = [size for size in values if size != 1]
    if not larger:
        raise IllTypedError(demand)
    if len(larger) == 1:
        d.require(">=", larger[0], 2, demand)


def _channels(d: Sizes, input: Shape, *weights: Any, rank: int | None = None) -> None:
    for weight in weights:
        if isinstance(weight, Shape):
            if rank is not None:
                exactly(weight, rank, "the weight of each channel")
            d.equal(input[1], d.product(weight), "dimension 1 has as many channels as the weights")


@rule(F.batch_norm, torch.batch_norm, torch.ops.aten.batch_norm)
def batch_norm(d: Sizes, input: Shape, *weights: Any, **options: Any) -> Shape:
    """Dimension 1 has the channels."""
    at_least(input, 2, "batch_norm")
    if options.get("training", weights[4] if len(weights) > 4 else False) is True:
        _several(d, Shape((input[0], *input[2:])), "batch_norm while training")
    statistics = [*weights[:2], options.get("running_mean"), options.get("running_var")]
    _channels(d, input, *statistics, rank=1)
    _channels(d, input, *weights[2:], options.get("weight"), options.get("bias"))
    return input


@rule(
    torch.ops.aten.native_batch_norm,
    torch.ops.aten._native_batch_norm_legit_no_training,
    torch.ops.aten._native_batch_norm_legit,
    torch.ops.aten._native_batch_norm_legit_functional,
)
def native_batch_norm(d: Sizes, input: Shape, *weights: Any, **options: Any) -> Any:
    """The result and two statistics, which are empty in evaluation."""
    at_least(input, 2, "batch_norm")
    _channels(d, input, *weights)
    statistics = Shape((d.fresh("statistics"),))
    return (input, statistics, statistics)


@rule(F.instance_norm)
def instance_norm(d: Sizes, input: Shape, *weights: Any, **options: Any) -> Shape:
    """Dimension 1 has the channels."""
    if options.get("use_input_stats", True):
        _several(d, Shape(at_least(input, 2, "instance_norm")[2:]), "instance_norm")
    _channels(d, at_least(input, 2, "instance_norm"), *weights, *options.values(), rank=1)
    return input


@rule(
    F.layer_norm, torch.layer_norm, F.rms_norm, torch.ops.aten.layer_norm, torch.ops.aten.rms_norm
)
def layer_norm(
    d: Sizes, input: Shape, normalized_shape: Sequence[Dim], *weights: Any, **options: Any
) -> Shape:
    """The last dimensions are the normalized shape."""
    wanted = Shape(normalized_shape)
    if not wanted:
        raise IllTypedError("a normalization takes at least one dimension")
    for weight in (*weights, *options.values()):
        if isinstance(weight, Shape):
            _last(
                d,
                exactly(weight, len(wanted), "a weight"),
                wanted,
                f"the weight has the shape {wanted}",
            )
    return _last(d, input, wanted, f"the last dimensions are {wanted}")


@rule(torch.ops.aten.native_layer_norm)
def native_layer_norm(
    d: Sizes, input: Shape, normalized_shape: Sequence[Dim], *weights: Any
) -> Any:
    """The result, and two statistics for each index of the other dimensions."""
    result = layer_norm(d, input, normalized_shape)
    ones = (1,) * len(normalized_shape)
    statistics = Shape((*input[: len(input) - len(normalized_shape)], *ones))
    return (result, statistics, statistics)


@rule(torch.ops.aten.native_group_norm, torch.native_group_norm)
def native_group_norm(
    d: Sizes,
    input: Shape,
    weight: Any,
    bias: Any,
    N: Any,
    C: Any,
    HxW: Any,
    group: int,
    eps: float,
) -> Any:
    """The result, and two statistics for each group of each image."""
    for given in (weight, bias):
        if isinstance(given, Shape) and is_size(C):
            d.equal(d.product(given), C, "the weights have one value for each channel")
    if is_size(C):
        d.fits(C, group, what="group_norm divides the channels into groups")
    if all(map(is_size, (N, C, HxW))):
        what = "native_group_norm takes the sizes of its input as N, C and HxW"
        d.equal(d.product(input), d.product((N, C, HxW)), what)
    statistics = Shape((N, group))
    return (input, statistics, statistics)


@rule(torch.ops.aten._weight_norm_interface)
def weight_norm(d: Sizes, v: Shape, g: Shape, dim: int = 0) -> Any:
    """The normalized weight, and its norms."""
    return (v, g)


def _last(d: Sizes, input: Shape, wanted: Sequence[Dim], what: str) -> Shape:
    if len(wanted) > len(input):
        raise IllTypedError(f"{what}, but the tensor is {input}")
    for a, b in zip(input[len(input) - len(wanted) :], wanted, strict=True):
        d.equal(a, b, what)
    return input


@module_rule(nn.LayerNorm, nn.RMSNorm)
def layer_norm_module(d: Sizes, module: Any, input: Shape) -> Shape:
    """As `layer_norm`."""
    weights = [weight_shape(module, name) for name in ("weight", "bias")]
    return layer_norm(d, input, module.normalized_shape, *weights)


@rule(F.group_norm, torch.group_norm, torch.ops.aten.group_norm)
def group_norm(d: Sizes, input: Shape, num_groups: Dim, *weights: Any, **options: Any) -> Shape:
    """Dimension 1 is divided into the groups."""
    at_least(input, 2, "group_norm")
    d.require(">=", num_groups, 1, "group_norm takes 1 group or more")
    d.fits(input[1], num_groups, what="group_norm divides dimension 1 into num_groups")
    _channels(d, input, *weights, *options.values(), rank=1)
    _several(d, Shape((input[0], input[1] // num_groups, *input[2:])), "group_norm")
    return input


@module_rule(nn.GroupNorm)
def group_norm_module(d: Sizes, module: nn.GroupNorm, input: Shape) -> Shape:
    """Dimension 1 has the channels."""
    at_least(input, 2, "GroupNorm")
    _one_for_each_channel(d, module, input[1])
    return group_norm(d, input, module.num_groups)


@rule(F.local_response_norm)
def local_response_norm(d: Sizes, input: Shape, size: Dim, *rest: Any, **options: Any) -> Shape:
    """Keep the shape."""
    d.require(">=", size, 1, "local_response_norm takes 1 channel or more")
    return at_least(input, 3, "local_response_norm")


@module_rule(nn.LocalResponseNorm)
def local_response_norm_module(d: Sizes, module: nn.Module, input: Shape) -> Shape:
    """Keep the shape."""
    return at_least(input, 3, "LocalResponseNorm")
