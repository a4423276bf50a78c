"""Convolution, pooling, padding, resizing: what moves a window over the last dimensions."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from symfx.shape_rules.errors import IllTypedError
from symfx.shape_rules.sizes import UNKNOWN, Dim, Shape, Sizes
from symfx.shape_rules.table import at_least, exactly, is_size, module_rule, rule

__all__ = ["per_dimension", "window"]


def per_dimension(
    value: Any, n: int, what: str = "a setting", least: Any = None
) -> tuple[Any, ...]:
    """A setting of a window as one value for each of `n` dimensions.

    Args:
        value: one value for all, or a tuple of them.
        n: the number of dimensions.
        what: the setting, for the message.
        least: the least that each may be.

    Raises:
        IllTypedError: there are more or fewer values, or one is too small.
    """
    values = tuple(value) if isinstance(value, (tuple, list)) else (value,)
    if len(values) not in (1, n):
        raise IllTypedError(f"{what} is given for {len(values)} dimensions of {n}: {values}")
    if least is not None:
        for each in values:
            if isinstance(each, int) and each < least:
                raise IllTypedError(f"{what} is {least} or more, not {each}")
    return values * n if len(values) == 1 else values


def _for_each(value: Any, n: int, what: str) -> tuple[Any, ...]:
    """As `per_dimension`, but a tuple of one is for one dimension only."""
    several = isinstance(value, (tuple, list))
    if several and len(value) != n:
        raise IllTypedError(f"{what} is given for {len(value)} dimensions of {n}: {tuple(value)}")
    return tuple(value) if several else (value,) * n


def _settings(
    n: int, what: str, kernel: Any, padding: Any, dilation: Any, stride: Any
) -> Iterator[tuple[Any, Any, Any, Any]]:
    """Kernel, padding, dilation and stride of a window, for each dimension."""
    return zip(
        per_dimension(kernel, n, f"the window of {what}", 1),
        per_dimension(padding, n, f"the padding of {what}", 0),
        per_dimension(dilation, n, f"the dilation of {what}", 1),
        per_dimension(stride, n, f"the stride of {what}", 1),
        strict=True,
    )


def window(size: Dim, kernel: int, padding: int, stride: int, dilation: int = 1) -> Dim:
    """How often a window fits: the formula of torch.nn.Conv2d's manual page."""
    return (size + (2 * padding - dilation * (kernel - 1) - 1)) // stride + 1


def _fitting(d: Sizes, size: Dim, kernel: int, padding: int, dilation: int, what: str) -> None:
    """The window, spread by its dilation, is no larger than the padded input."""
    least = dilation * (kernel - 1) + 1 - 2 * padding
    d.require(">=", size, max(least, 0), f"the window of {what} fits into its input")


def _split(x: Shape, n: int, what: str) -> tuple[tuple[Dim, ...], Dim, tuple[Dim, ...]]:
    """Batch (or none), channels and the `n` positions of an input."""
    if len(x) not in (n + 1, n + 2):
        raise IllTypedError(
            f"{what} takes a tensor of rank {n + 2}, or {n + 1} without a batch, "
            f"not of rank {len(x)}: {x}"
        )
    return x[: len(x) - n - 1], x[-n - 1], x[-n:]


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
    """A convolution over the last `n` dimensions."""
    batch, channels, positions = _split(x, n, what)
    d.equal(channels, c_in, f"{what} takes {c_in} channels")
    if padding == "same":
        stride = per_dimension(stride, n, f"the stride of {what}", 1)
        per_dimension(dilation, n, f"the dilation of {what}", 1)
        if any(isinstance(step, int) and step != 1 for step in stride):
            raise IllTypedError(f'{what} takes padding "same" with stride 1 only, not {stride}')
        return Shape((*batch, c_out, *positions))
    settings = _settings(n, what, kernel, 0 if padding == "valid" else padding, dilation, stride)
    moved = []
    for size, (k, p, dil, s) in zip(positions, settings, strict=True):
        if isinstance(k, int):
            _fitting(d, size, k, p, dil, what)
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
    """A transposed convolution over the last `n` dimensions."""
    batch, channels, positions = _split(x, n, what)
    d.equal(channels, c_in, f"{what} takes {c_in} channels")
    settings = _settings(n, what, kernel, padding, dilation, stride)
    extras = per_dimension(output_padding, n, f"the output_padding of {what}", 0)
    moved: list[Dim] = []
    for size, (k, p, dil, s), extra in zip(positions, settings, extras, strict=True):
        step = d.compute("max", s, dil)
        d.require("<", extra, step, f"{what} takes an output_padding below stride or dilation")
        moved.append((size - 1) * s - 2 * p + dil * (k - 1) + extra + 1)
        d.require(">=", moved[-1], 1, f"{what} leaves something")
    return Shape((*batch, c_out, *moved))


def _groups(d: Sizes, channels: Dim, groups: int, what: str) -> None:
    if groups < 1:
        raise IllTypedError(f"{what} takes 1 group or more, not {groups}")
    d.fits(channels, groups, what=f"the channels of {what} divide into the groups")


def _convolution_module(n: int, d: Sizes, module: Any, input: Shape) -> Shape:
    m, what = module, type(module).__name__
    settings = (m.kernel_size, m.stride, m.padding, m.dilation)
    return convolve(d, input, n, m.in_channels, m.out_channels, *settings, what)


def _transposed_module(
    n: int, d: Sizes, module: Any, input: Shape, output_size: Any = None
) -> Shape:
    m, what = module, type(module).__name__
    if output_size is not None:
        batch, channels, _ = _split(input, n, what)
        d.equal(channels, m.in_channels, f"{what} takes {m.in_channels} channels")
        return Shape((*batch, m.out_channels, *tuple(output_size)[-n:]))
    settings = (m.kernel_size, m.stride, m.padding, m.output_padding, m.dilation)
    return convolve_transposed(d, input, n, m.in_channels, m.out_channels, *settings, what)


def _convolution(
    n: int,
    d: Sizes,
    input: Shape,
    weight: Shape,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Shape:
    exactly(weight, n + 2, f"the weight of conv{n}d")
    if isinstance(bias, Shape):
        d.equal(exactly(bias, 1, "a bias")[0], weight[0], "there is one bias for each channel")
    _groups(d, weight[0], groups, f"conv{n}d")
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
    groups: int = 1,
    dilation: Any = 1,
) -> Shape:
    exactly(weight, n + 2, f"the weight of conv_transpose{n}d")
    _groups(d, weight[0], groups, f"conv_transpose{n}d")
    c_out, kernel = weight[1] * groups, weight[2:]
    if isinstance(bias, Shape):
        d.equal(exactly(bias, 1, "a bias")[0], c_out, "there is one bias for each channel")
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
    groups: int,
) -> Shape:
    """The operator that all convolutions become."""
    n = len(weight) - 2
    if transposed:
        return _transposed(
            n, d, input, weight, bias, stride, padding, output_padding, groups, dilation
        )
    return _convolution(n, d, input, weight, bias, stride, padding, dilation, groups)


# -- pooling ----------------------------------------------------------------------------------


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
    """A window that keeps batch and channels; a stride of ``None`` is the window's own size."""
    batch, channels, positions = _split(x, n, what)
    strides = kernel if stride in (None, (), []) else stride
    settings = _settings(n, what, kernel, padding, dilation, strides)
    moved: list[Dim] = []
    for size, (k, p, dil, s) in zip(positions, settings, strict=True):
        d.require("<=", 2 * p, k, f"{what} pads by half of its window at most")
        if not ceil_mode:
            _fitting(d, size, k, p, dil, what)
            moved.append(window(size, k, p, s, dil))
            continue
        # Rounded up, a window may reach past the end, but none starts in the padding there.
        least = dil * (k - 1) + 1 - 2 * p - (s - 1)
        d.require(">=", size, max(least, 0), f"the window of {what} fits into its input")
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
    if n == 3:  # there the padding does not count
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


def _adaptive(
    n: int, d: Sizes, input: Shape, output_size: Any, return_indices: bool = False
) -> Any:
    batch, channels, positions = _split(input, n, f"adaptive pooling to {output_size}")
    wanted = _for_each(output_size, n, "the size after adaptive pooling")
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
    batch, channels, positions = _split(input, n, what)
    if isinstance(indices, Shape):
        if len(indices) != len(input):
            raise IllTypedError(f"{what} takes one index for each value, not {indices} of {input}")
        for a, b in zip(input, indices, strict=True):
            d.equal(a, b, f"{what} takes one index for each value")
    strides = kernel_size if stride in (None, (), []) else stride
    for setting in (kernel_size, padding, strides):
        _for_each(setting, n, f"a setting of {what}")
    settings = [*_settings(n, what, kernel_size, padding, 1, strides)]
    moved = [
        (size - 1) * s - 2 * p + k for size, (k, p, _, s) in zip(positions, settings, strict=True)
    ]
    if output_size is None:
        return Shape((*batch, channels, *moved))
    asked = tuple(output_size)
    if len(asked) not in (n, n + 2):
        raise IllTypedError(f"{what} to {asked} does not fit {n} dimensions of positions")
    for new, usual, (_, _, _, s) in zip(asked[-n:], moved, settings, strict=True):
        if is_size(new):
            d.require(">", new, usual - s, f"{what} finds as many positions")
            d.require("<", new, usual + s, f"{what} fills as many positions")
    return Shape((*batch, channels, *asked[-n:]))


def _max_unpool_module(
    n: int, d: Sizes, module: Any, input: Shape, indices: Any, output_size: Any = None
) -> Shape:
    m = module
    return _max_unpool(n, d, input, indices, m.kernel_size, m.stride, m.padding, output_size)


# -- all of these, for one, two and three dimensions -------------------------------------------


def _targets(names: str, n: int) -> list[Any]:
    """The functions of these names, wherever torch has them."""
    found: dict[Any, None] = {}
    for name in names.split():
        for home in (F, torch, torch._C._nn, torch.ops.aten):
            function = getattr(home, name.format(n), None)
            if function is not None:
                found[function] = None
    return [*found]


def _entry(name: str, function: Any, n: int) -> Any:
    """A rule for `n` dimensions, of a function that takes `n` first."""
    made = functools.partial(function, n)
    made.__name__ = name.format(n)  # type: ignore[attr-defined]
    return made


_FUNCTIONS = {
    "conv{}d": _convolution,
    "conv_transpose{}d": _transposed,
    "max_pool{}d": _max_pool,
    "max_pool{}d_with_indices": _max_pool_with_indices,
    "max_unpool{}d": _max_unpool,
    "avg_pool{}d": _avg_pool,
    "adaptive_avg_pool{}d _adaptive_avg_pool{}d adaptive_max_pool{}d": _adaptive,
}
_MODULES = {
    "Conv{}d": _convolution_module,
    "ConvTranspose{}d": _transposed_module,
    "MaxPool{}d": _max_pool_module,
    "MaxUnpool{}d": _max_unpool_module,
    "AvgPool{}d": _avg_pool_module,
    "LPPool{}d": _lp_pool_module,
    "AdaptiveAvgPool{}d": _adaptive_module,
    "AdaptiveMaxPool{}d": _adaptive_module,
}
for _n in (1, 2, 3):
    for _names, _function in _FUNCTIONS.items():
        rule(*_targets(_names, _n))(_entry(_names.split()[0], _function, _n))
    for _name, _function in _MODULES.items():
        # A convolution of two dimensions says of an unknown input that it has a batch.
        _rank = 4 if _name.format(_n) == "Conv2d" else None
        module_rule(getattr(nn, _name.format(_n)), rank=_rank)(_entry(_name, _function, _n))


# -- padding ----------------------------------------------------------------------------------


@rule(F.pad, torch.ops.aten.pad, torch.ops.aten.constant_pad_nd)
def pad(d: Sizes, input: Shape, pad: Any, mode: str = "constant", value: Any = None) -> Shape:
    """Pairs of additions, from the last dimension on; negative ones cut off."""
    amounts = tuple(pad)
    count = len(amounts) // 2
    # What is repeated or mirrored are positions, with channels and at most a batch before them.
    fits = count <= len(input) if mode == "constant" else 1 <= len(input) - count <= 2
    if len(amounts) % 2 or not fits:
        raise IllTypedError(f"{mode} padding {amounts} does not fit a tensor of rank {len(input)}")
    sizes = [*input]
    for i in range(count):
        where = len(sizes) - 1 - i
        if mode in ("reflect", "circular"):
            _within(d, sizes[where], amounts[2 * i : 2 * i + 2], mode)
        before, after = amounts[2 * i : 2 * i + 2]
        new = sizes[where] + before + after
        if mode in ("reflect", "replicate"):  # one side may cut off what the other added
            d.require(">=", new, 0, "padding cuts off no more than there is")
        else:
            cut = -sum(min(a, 0) for a in (before, after) if isinstance(a, int))
            d.require(">=", sizes[where], cut, "padding cuts off no more than there is")
        sizes[where] = new
    if mode in ("reflect", "replicate"):
        # Of several positions torch only looks whether one is left.
        moved = sizes[len(sizes) - count :]
        if count == 1 or all(isinstance(size, int) and size < 1 for size in moved):
            d.require(">=", moved[0], 1, f"{mode} padding leaves something")
    return Shape(sizes)


def _within(d: Sizes, size: Dim, amounts: tuple[Any, ...], mode: str) -> None:
    """A mirror gives all but the edge, a ring no more than there is."""
    for amount in amounts:
        if isinstance(amount, int):
            least = amount + 1 if mode == "reflect" else amount
            d.require(">=", size, least, f"{mode} padding by {amount} finds as much to repeat")


_PADDING = [
    getattr(nn, f"{kind}Pad{n}d")
    for kind in ("Constant", "Zero", "Reflection", "Replication", "Circular")
    for n in (1, 2, 3)
]


@module_rule(*_PADDING)
def pad_module(d: Sizes, module: Any, input: Shape) -> Shape:
    """As `pad`; the positions come last, with batch and channels in front."""
    name = type(module).__name__
    modes = {"Refle": "reflect", "Repli": "replicate", "Circu": "circular"}
    return pad(d, input, module.padding, modes.get(name[:5], "constant"))


# -- resizing ----------------------------------------------------------------------------------


#: The ranks that each way to interpolate takes.
_MODES = {
    "nearest": (3, 4, 5),
    "nearest-exact": (3, 4, 5),
    "area": (3, 4, 5),
    "linear": (3,),
    "bilinear": (4,),
    "bicubic": (4,),
    "lanczos": (4,),
    "trilinear": (5,),
}


@rule(F.interpolate, F.upsample)
def interpolate(
    d: Sizes,
    input: Shape,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: Any = None,
    recompute_scale_factor: Any = None,
    antialias: bool = False,
) -> Any:
    """The positions become `size`, or so many times what they were, rounded down."""
    ranks = _MODES.get(mode, ())
    if len(input) not in ranks:
        wanted = " or ".join(map(str, ranks)) or "none"
        raise IllTypedError(f'interpolate in mode "{mode}" takes rank {wanted}, not {input}')
    if align_corners is not None and not mode.endswith(("linear", "cubic", "lanczos")):
        raise IllTypedError(f'interpolate in mode "{mode}" takes no align_corners')
    n = len(input) - 2
    if size is not None and scale_factor is not None:
        raise IllTypedError("interpolate takes a size or a scale_factor, not both")
    if size is not None:
        new = _for_each(size, n, "the size of interpolate")
    elif scale_factor is not None:
        factors = _for_each(scale_factor, n, "the scale_factor of interpolate")
        new = tuple(_scaled(d, s, f) for s, f in zip(input[2:], factors, strict=True))
    else:
        raise IllTypedError("interpolate needs a size or a scale_factor")
    for each in (*input[2:], *new) if mode != "area" else ():
        d.require(">=", each, 1, "interpolate has positions before and after")
    return Shape((*input[:2], *new))


def _scaled(d: Sizes, size: Dim, factor: Any) -> Dim:
    if isinstance(factor, (int, float)):
        # What a float stands for: 0.1 is 1/10 here, as in torch, which rounds down s * 0.1.
        numerator, denominator = float(factor).as_integer_ratio()
        if isinstance(size, int):
            return math.floor(size * factor)
        if denominator <= 1024:
            return size * numerator // denominator
    return d.fresh("a size scaled by a factor")


@module_rule(nn.Upsample, nn.UpsamplingNearest2d, nn.UpsamplingBilinear2d)
def upsample_module(d: Sizes, module: Any, input: Shape) -> Any:
    """As `interpolate`."""
    m = module
    return interpolate(d, input, m.size, m.scale_factor, m.mode, m.align_corners)


@rule(F.pixel_shuffle, torch.ops.aten.pixel_shuffle)
def pixel_shuffle(d: Sizes, input: Shape, upscale_factor: int) -> Shape:
    """Channels become positions."""
    *batch, c, h, w = at_least(input, 3, "pixel_shuffle")
    r = upscale_factor
    channels = d.fits(c, r * r, what=f"the channels divide by {r}²")
    return Shape((*batch, channels, h * r, w * r))


@rule(F.pixel_unshuffle, torch.ops.aten.pixel_unshuffle)
def pixel_unshuffle(d: Sizes, input: Shape, downscale_factor: int) -> Shape:
    """Positions become channels."""
    *batch, c, h, w = at_least(input, 3, "pixel_unshuffle")
    r = downscale_factor
    rows, columns = (d.fits(s, r, what=f"height and width divide by {r}") for s in (h, w))
    return Shape((*batch, c * r * r, rows, columns))


@module_rule(nn.PixelShuffle)
def pixel_shuffle_module(d: Sizes, module: nn.PixelShuffle, input: Shape) -> Shape:
    """Channels become positions."""
    return pixel_shuffle(d, input, module.upscale_factor)


@module_rule(nn.PixelUnshuffle)
def pixel_unshuffle_module(d: Sizes, module: nn.PixelUnshuffle, input: Shape) -> Shape:
    """Positions become channels."""
    return pixel_unshuffle(d, input, module.downscale_factor)


@rule(F.unfold)
def unfold(
    d: Sizes, input: Shape, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1
) -> Shape:
    """Each window becomes a column."""
    batch, channels, positions = _split(input, 2, "unfold")
    for setting in (kernel_size, dilation, padding, stride):
        _for_each(setting, 2, "a setting of unfold")
    settings = _settings(2, "unfold", kernel_size, padding, dilation, stride)
    counts, taps = [], []
    for size, (k, p, dil, s) in zip(positions, settings, strict=True):
        _fitting(d, size, k, p, dil, "unfold")
        counts.append(window(size, k, p, s, dil))
        taps.append(k)
    return Shape((*batch, channels * math.prod(taps), d.product(counts)))


@module_rule(nn.Unfold)
def unfold_module(d: Sizes, module: nn.Unfold, input: Shape) -> Shape:
    """Each window becomes a column."""
    return unfold(d, input, module.kernel_size, module.dilation, module.padding, module.stride)


@rule(F.fold)
def fold(
    d: Sizes,
    input: Shape,
    output_size: Any,
    kernel_size: Any,
    dilation: Any = 1,
    padding: Any = 0,
    stride: Any = 1,
) -> Shape:
    """Columns are put back where their windows were."""
    if len(input) not in (2, 3):
        raise IllTypedError(f"fold takes a tensor of rank 2 or 3, not {input}")
    sizes = per_dimension(output_size, 2, "the output_size of fold")
    settings = [*_settings(2, "fold", kernel_size, padding, dilation, stride)]
    counts = [
        window(size, k, p, s, dil) for size, (k, p, dil, s) in zip(sizes, settings, strict=True)
    ]
    kernel = [k for k, *_ in settings]
    d.equal(input[-1], d.product(counts), "fold takes as many columns as there are windows")
    channels = d.fits(input[-2], math.prod(kernel), what="the rows of fold divide by the window")
    return Shape((*input[:-2], channels, *sizes))


@module_rule(nn.ChannelShuffle)
def channel_shuffle_module(d: Sizes, module: nn.ChannelShuffle, input: Shape) -> Shape:
    """The shape stays; the channels divide into the groups."""
    return channel_shuffle(d, input, module.groups)


@rule(F.channel_shuffle)
def channel_shuffle(d: Sizes, input: Shape, groups: int) -> Shape:
    """The shape stays; the channels divide into the groups."""
    _groups(d, at_least(input, 3, "channel_shuffle")[1], groups, "channel_shuffle")
    return input


@module_rule(nn.Fold)
def fold_module(d: Sizes, module: nn.Fold, input: Shape) -> Shape:
    """Columns are put back where their windows were."""
    m = module
    return fold(d, input, m.output_size, m.kernel_size, m.dilation, m.padding, m.stride)


@rule(F.grid_sample)
def grid_sample(d: Sizes, input: Shape, grid: Shape, *rest: Any, **options: Any) -> Any:
    """The positions of the grid."""
    if not isinstance(grid, Shape):
        return UNKNOWN
    exactly(grid, len(at_least(input, 4, "grid_sample")), "the grid of grid_sample")
    batch = d.equal(input[0], grid[0], "grid_sample has one grid for each image")
    d.equal(grid[-1], len(input) - 2, "a grid has one coordinate for each dimension of positions")
    return Shape((batch, input[1], *grid[1:-1]))
