"""Pooling, adaptive pooling and unpooling, over one, two and three dimensions."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from symfx.shape_rules.errors import IllTypedError
from symfx.shape_rules.rules.windows import (
    batch_channels_positions,
    exactly_per_dimension,
    for_dimensions,
    per_dimension,
    register_for_one_to_three_dimensions,
    require_fitting,
    settings_by_dimension,
    window,
)
from symfx.shape_rules.sizes import Dim, Shape, Sizes
from symfx.shape_rules.table import is_size, rule

__all__: list[str] = []


def pool(
    d: Sizes,
    x: Shape,
    n: int,
    kernel: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    ceil_mode: bool,
    what: str,
) -> Shape:
    """The result of pooling; a stride of ``None`` means the size of the window."""
    batch, channels, positions = batch_channels_positions(x, n, what)
    strides = kernel if stride in (None, (), []) else stride
    settings = settings_by_dimension(n, what, kernel, padding, dilation, strides)
    moved: list[Dim] = []
    for size, (k, p, dil, s) in zip(positions, settings, strict=True):
        d.require("<=", 2 * p, k, f"{what} pads by at most half of its window")
        if not ceil_mode:
            require_fitting(d, size, k, p, dil, what)
            moved.append(window(size, k, p, s, dil))
            continue
        # With ceil_mode a window may reach past the end, but none starts in the padding there.
        least = d.compute("max", dil * (k - 1) + 1 - 2 * p - (s - 1), 0)
        d.require(">=", size, least, f"the window of {what} fits into its input")
        up = (size + (2 * p - dil * (k - 1) - 1 + s - 1)) // s + 1
        moved.append(d.compute("min", up, (size + (p - 1)) // s + 1))
    return Shape((*batch, channels, *moved))


def _max_pool(
    n: int,
    d: Sizes,
    input: Shape,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    settings = (kernel_size, stride, padding, dilation, ceil_mode)
    pooled = pool(d, input, n, *settings, f"max_pool{n}d")
    return (pooled, pooled) if return_indices else pooled


def _max_pool_with_indices(
    n: int,
    d: Sizes,
    input: Shape,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = True,
) -> Any:
    return _max_pool(n, d, input, kernel_size, stride, padding, dilation, ceil_mode, True)


def _avg_pool(
    n: int,
    d: Sizes,
    input: Shape,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: Any = None,
) -> Shape:
    settings = (kernel_size, stride, padding, ceil_mode)
    return _average(n, d, input, *settings, f"avg_pool{n}d")


def _average(
    n: int,
    d: Sizes,
    input: Shape,
    kernel: Any,
    stride: Any,
    padding: Any,
    ceil_mode: bool,
    what: str,
) -> Shape:
    pooled = pool(d, input, n, kernel, stride, padding, 1, ceil_mode, what)
    if n == 3:  # avg_pool3d does not count the padding
        for size, k in zip(input[-3:], per_dimension(kernel, 3), strict=True):
            d.require(">=", size, k, f"the window of {what} fits into its input")
    return pooled


def _max_pool_module(n: int, d: Sizes, module: Any, input: Shape) -> Any:
    m = module
    settings = (m.kernel_size, m.stride, m.padding, m.dilation, m.ceil_mode)
    pooled = pool(d, input, n, *settings, type(m).__name__)
    return (pooled, pooled) if m.return_indices else pooled


def _avg_pool_module(n: int, d: Sizes, module: Any, input: Shape) -> Shape:
    m = module
    settings = (m.kernel_size, m.stride, m.padding, m.ceil_mode)
    return _average(n, d, input, *settings, type(m).__name__)


def _lp_pool_module(n: int, d: Sizes, module: Any, input: Shape) -> Shape:
    m = module
    if n == 1 and not isinstance(m.kernel_size, int):
        raise IllTypedError(f"LPPool1d takes a number as its kernel_size, not {m.kernel_size}")
    return _average(n, d, input, m.kernel_size, m.stride, 0, m.ceil_mode, type(m).__name__)


def _lp_pool(
    n: int,
    d: Sizes,
    input: Shape,
    norm_type: Any,
    kernel_size: Any,
    stride: Any = None,
    ceil_mode: bool = False,
) -> Shape:
    if n == 1 and not isinstance(kernel_size, int):
        raise IllTypedError(f"lp_pool1d takes a number as its kernel_size, not {kernel_size}")
    return _average(n, d, input, kernel_size, stride, 0, ceil_mode, f"lp_pool{n}d")


def _adaptive(
    n: int, d: Sizes, input: Shape, output_size: Any, return_indices: bool = False
) -> Any:
    batch, channels, positions = batch_channels_positions(
        input, n, f"adaptive pooling to {output_size}"
    )
    wanted = exactly_per_dimension(output_size, n, "the size after adaptive pooling")
    if n == 1 and wanted[0] is None:
        raise IllTypedError("adaptive pooling of one dimension takes its size, not None")
    sizes = [old if new is None else new for old, new in zip(positions, wanted, strict=True)]
    result = Shape((*batch, channels, *sizes))
    return (result, result) if return_indices else result


def _adaptive_module(n: int, d: Sizes, module: Any, input: Shape) -> Any:
    return _adaptive(n, d, input, module.output_size, getattr(module, "return_indices", False))


def _max_unpool(
    n: int,
    d: Sizes,
    input: Shape,
    indices: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    output_size: Any = None,
) -> Shape:
    what = f"max_unpool{n}d"
    batch, channels, positions = batch_channels_positions(input, n, what)
    if isinstance(indices, Shape):
        if len(indices) != len(input):
            raise IllTypedError(f"{what} takes one index for each value, not {indices} for {input}")
        for a, b in zip(input, indices, strict=True):
            d.equal(a, b, f"{what} takes one index for each value")
    strides = kernel_size if stride in (None, (), []) else stride
    for setting in (kernel_size, padding, strides):
        exactly_per_dimension(setting, n, f"a setting of {what}")
    settings = [*settings_by_dimension(n, what, kernel_size, padding, 1, strides)]
    moved = [
        (size - 1) * s - 2 * p + k for size, (k, p, _, s) in zip(positions, settings, strict=True)
    ]
    if output_size is None:
        return Shape((*batch, channels, *moved))
    asked = tuple(output_size)
    if len(asked) not in (n, n + 2):
        raise IllTypedError(f"{what} takes {n} sizes as output_size, not {asked}")
    for new, usual, (_, _, _, s) in zip(asked[-n:], moved, settings, strict=True):
        if is_size(new):
            d.require(">", new, usual - s, f"the output_size of {what} is not too small")
            d.require("<", new, usual + s, f"the output_size of {what} is not too large")
    return Shape((*batch, channels, *asked[-n:]))


def _max_unpool_module(
    n: int, d: Sizes, module: Any, input: Shape, indices: Any, output_size: Any = None
) -> Shape:
    m = module
    return _max_unpool(n, d, input, indices, m.kernel_size, m.stride, m.padding, output_size)


for _n in (1, 2, 3):
    rule(getattr(F, f"max_unpool{_n}d"))(for_dimensions("max_unpool{}d", _max_unpool, _n))


@rule(
    torch.ops.aten.max_unpool2d,
    torch.ops.aten.max_unpool3d,
    torch._C._nn.max_unpool2d,
    torch._C._nn.max_unpool3d,
)
def aten_max_unpool(
    d: Sizes, input: Shape, indices: Any, output_size: Any, stride: Any = None, padding: Any = None
) -> Shape:
    """The positions have the given sizes; the operator of three dimensions takes its stride too."""
    sizes = tuple(output_size)
    what = f"max_unpool{len(sizes)}d"
    batch, channels, positions = batch_channels_positions(input, len(sizes), what)
    if isinstance(indices, Shape):
        if len(indices) != len(input):
            raise IllTypedError(f"{what} takes one index for each value, not {indices} for {input}")
        for a, b in zip(input, indices, strict=True):
            d.equal(a, b, f"{what} takes one index for each value")
    del positions
    return Shape((*batch, channels, *sizes))


register_for_one_to_three_dimensions(
    {
        "max_pool{}d": _max_pool,
        "max_pool{}d_with_indices": _max_pool_with_indices,
        "lp_pool{}d": _lp_pool,
        "avg_pool{}d": _avg_pool,
        "adaptive_avg_pool{}d _adaptive_avg_pool{}d adaptive_max_pool{}d": _adaptive,
    },
    {
        "MaxPool{}d": _max_pool_module,
        "MaxUnpool{}d": _max_unpool_module,
        "AvgPool{}d": _avg_pool_module,
        "LPPool{}d": _lp_pool_module,
        "AdaptiveAvgPool{}d": _adaptive_module,
        "AdaptiveMaxPool{}d": _adaptive_module,
    },
)
