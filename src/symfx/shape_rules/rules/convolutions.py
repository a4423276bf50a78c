"""Convolutions: conv1d, conv2d, conv3d, the transposed ones, and their layers."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from symfx.shape_rules.errors import IllTypedError
from symfx.shape_rules.rules.windows import (
    batch_channels_positions,
    per_dimension,
    register_for_one_to_three_dimensions,
    require_fitting,
    require_groups,
    settings_by_dimension,
    window,
)
from symfx.shape_rules.sizes import Dim, Shape, Sizes, size_text
from symfx.shape_rules.table import exactly, rule
from symfx.shape_rules.weights import weight_shape

__all__: list[str] = []


def convolve(
    d: Sizes,
    x: Shape,
    n: int,
    c_in: Dim,
    c_out: Dim,
    kernel: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    what: str,
) -> Shape:
    """The result of a convolution over the last `n` dimensions."""
    batch, channels, positions = batch_channels_positions(x, n, what)
    d.equal(channels, c_in, f"{what} takes {size_text(c_in)} channels")
    if padding == "same":
        stride = per_dimension(stride, n, f"the stride of {what}", 1)
        per_dimension(dilation, n, f"the dilation of {what}", 1)
        if any(isinstance(step, int) and step != 1 for step in stride):
            raise IllTypedError(f'{what} takes padding "same" only with stride 1, not {stride}')
        return Shape((*batch, c_out, *positions))
    settings = settings_by_dimension(
        n, what, kernel, 0 if padding == "valid" else padding, dilation, stride
    )
    moved = []
    for size, (k, p, dil, s) in zip(positions, settings, strict=True):
        require_fitting(d, size, k, p, dil, what)
        moved.append(window(size, k, p, s, dil))
    return Shape((*batch, c_out, *moved))


def convolve_transposed(
    d: Sizes,
    x: Shape,
    n: int,
    c_in: Dim,
    c_out: Dim,
    kernel: Any,
    stride: Any,
    padding: Any,
    output_padding: Any,
    dilation: Any,
    what: str,
) -> Shape:
    """The result of a transposed convolution over the last `n` dimensions."""
    batch, channels, positions = batch_channels_positions(x, n, what)
    d.equal(channels, c_in, f"{what} takes {size_text(c_in)} channels")
    settings = settings_by_dimension(n, what, kernel, padding, dilation, stride)
    extras = per_dimension(output_padding, n, f"the output_padding of {what}", 0)
    moved: list[Dim] = []
    for size, (k, p, dil, s), extra in zip(positions, settings, extras, strict=True):
        step = d.compute("max", s, dil)
        d.require(
            "<", extra, step, f"{what} takes an output_padding smaller than its stride or dilation"
        )
        moved.append((size - 1) * s - 2 * p + dil * (k - 1) + extra + 1)
        d.require(">=", moved[-1], 1, f"{what} leaves at least one position")
    return Shape((*batch, c_out, *moved))


def _weight_of(module: Any, first: int, second: int) -> Shape | None:
    declared = (first, second // module.groups, *module.kernel_size)
    return weight_shape(module, "weight", declared)


def _check_bias(d: Sizes, module: nn.Module, channels: Dim) -> None:
    bias = weight_shape(module, "bias")
    if bias is not None:
        d.equal(exactly(bias, 1, "a bias")[0], channels, "the bias has one value for each channel")


def _convolution_module(n: int, d: Sizes, module: Any, input: Shape) -> Shape:
    m, what = module, type(module).__name__
    settings = (m.stride, m.padding, m.dilation)
    weight = _weight_of(m, m.out_channels, m.in_channels)
    if weight is None:  # a lazy layer takes the channels of its first input
        channels = batch_channels_positions(input, n, what)[1]
        return convolve(d, input, n, channels, m.out_channels, m.kernel_size, *settings, what)
    exactly(weight, n + 2, f"the weight of {what}")
    _check_bias(d, m, weight[0])
    require_groups(d, weight[0], m.groups, what)
    return convolve(d, input, n, weight[1] * m.groups, weight[0], weight[2:], *settings, what)


def _transposed_module(
    n: int, d: Sizes, module: Any, input: Shape, output_size: Any = None
) -> Shape:
    m, what = module, type(module).__name__
    batch, channels, _ = batch_channels_positions(input, n, what)
    weight = _weight_of(m, m.in_channels, m.out_channels)
    if weight is None:  # a lazy layer takes the channels of its first input
        c_in, c_out, kernel = channels, m.out_channels, m.kernel_size
    else:
        exactly(weight, n + 2, f"the weight of {what}")
        c_in, c_out, kernel = weight[0], weight[1] * m.groups, weight[2:]
    _check_bias(d, m, c_out)
    if output_size is not None:
        d.equal(channels, c_in, f"{what} takes {size_text(c_in)} channels")
        return Shape((*batch, c_out, *tuple(output_size)[-n:]))
    settings = (kernel, m.stride, m.padding, m.output_padding, m.dilation)
    return convolve_transposed(d, input, n, c_in, c_out, *settings, what)


def _convolution(
    n: int,
    d: Sizes,
    input: Shape,
    weight: Shape,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: Dim = 1,
) -> Shape:
    exactly(weight, n + 2, f"the weight of conv{n}d")
    if isinstance(bias, Shape):
        d.equal(exactly(bias, 1, "a bias")[0], weight[0], "the bias has one value for each channel")
    require_groups(d, weight[0], groups, f"conv{n}d")
    c_in = weight[1] * groups
    return convolve(
        d, input, n, c_in, weight[0], weight[2:], stride, padding, dilation, f"conv{n}d"
    )


def _transposed(
    n: int,
    d: Sizes,
    input: Shape,
    weight: Shape,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: Dim = 1,
    dilation: Any = 1,
) -> Shape:
    exactly(weight, n + 2, f"the weight of conv_transpose{n}d")
    require_groups(d, weight[0], groups, f"conv_transpose{n}d")
    c_out, kernel = weight[1] * groups, weight[2:]
    if isinstance(bias, Shape):
        d.equal(exactly(bias, 1, "a bias")[0], c_out, "the bias has one value for each channel")
    settings = (kernel, stride, padding, output_padding, dilation)
    return convolve_transposed(d, input, n, weight[0], c_out, *settings, f"conv_transpose{n}d")


@rule(torch.ops.aten.convolution)
def convolution(
    d: Sizes,
    input: Shape,
    weight: Shape,
    bias: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    transposed: bool,
    output_padding: Any,
    groups: Dim,
) -> Shape:
    """The operator to which all convolutions are decomposed."""
    n = len(weight) - 2
    if transposed:
        return _transposed(
            n, d, input, weight, bias, stride, padding, output_padding, groups, dilation
        )
    return _convolution(n, d, input, weight, bias, stride, padding, dilation, groups)


register_for_one_to_three_dimensions(
    {"conv{}d": _convolution, "conv_transpose{}d": _transposed},
    {"Conv{}d": _convolution_module, "ConvTranspose{}d": _transposed_module},
)
