"""Padding, interpolation, and positions exchanged for channels."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from symfx.shape_rules.errors import IllTypedError
from symfx.shape_rules.rules.windows import (
    batch_channels_positions,
    exactly_per_dimension,
    per_dimension,
    require_fitting,
    require_groups,
    settings_by_dimension,
    window,
)
from symfx.shape_rules.sizes import UNKNOWN, Dim, Shape, Sizes, size_text
from symfx.shape_rules.table import at_least, exactly, module_rule, rule

__all__: list[str] = []


@rule(F.pad, torch.ops.aten.pad)
def pad(d: Sizes, input: Shape, pad: Any, mode: str = "constant", value: Any = None) -> Shape:
    """Add to both ends of the last dimensions; a negative amount cuts off."""
    return _padded(d, input, tuple(pad), mode)


@rule(torch.constant_pad_nd, torch.ops.aten.constant_pad_nd)
def constant_pad(d: Sizes, input: Shape, pad: Any, value: Any = 0) -> Shape:
    """As `pad`."""
    return _padded(d, input, tuple(pad), "constant")


def _padded(d: Sizes, input: Shape, amounts: tuple[Any, ...], mode: str) -> Shape:
    count = len(amounts) // 2
    # Modes other than "constant" take positions with channels and at most a batch before them.
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
        if mode in ("reflect", "replicate"):  # one end may cut off values that the other added
            d.require(">=", new, 0, "padding does not cut off more than the dimension has")
        else:
            cut = d.compute("max", -before, 0) + d.compute("max", -after, 0)
            d.require(
                ">=", sizes[where], cut, "padding does not cut off more than the dimension has"
            )
        sizes[where] = new
    if mode in ("reflect", "replicate"):
        # For several dimensions torch only refuses a result without any value.
        moved = sizes[len(sizes) - count :]
        if count == 1 or all(isinstance(size, int) and size < 1 for size in moved):
            d.require(">=", moved[0], 1, f"{mode} padding leaves at least one value")
    return Shape(sizes)


def _within(d: Sizes, size: Dim, amounts: tuple[Any, ...], mode: str) -> None:
    """Demand that a dimension is long enough to be mirrored or repeated."""
    for amount in amounts:
        least = amount + 1 if mode == "reflect" else amount
        what = f"{mode} padding by {size_text(amount)} takes a dimension long enough"
        d.require(">=", size, least, what)


def _pad_rule(mode: str, target: Any) -> None:
    def padding(d: Sizes, input: Shape, amounts: Any) -> Shape:
        """As `pad`."""
        return pad(d, input, amounts, mode)

    rule(target)(padding)


for _kind, _mode in {"reflection": "reflect", "replication": "replicate"}.items():
    for _n in (1, 2, 3):
        _pad_rule(_mode, getattr(torch.ops.aten, f"{_kind}_pad{_n}d"))


_PADDING = [
    getattr(nn, f"{kind}Pad{n}d")
    for kind in ("Constant", "Zero", "Reflection", "Replication", "Circular")
    for n in (1, 2, 3)
]


@module_rule(*_PADDING)
def pad_module(d: Sizes, module: Any, input: Shape) -> Shape:
    """As `pad`."""
    name = type(module).__name__
    modes = {"Refle": "reflect", "Repli": "replicate", "Circu": "circular"}
    return pad(d, input, module.padding, modes.get(name[:5], "constant"))


# -- resizing ----------------------------------------------------------------------------------


#: The ranks that each mode of interpolation takes.
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
    """Resize the positions to `size`, or scale them by a factor, rounded down."""
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
        new = exactly_per_dimension(size, n, "the size of interpolate")
    elif scale_factor is not None:
        factors = exactly_per_dimension(scale_factor, n, "the scale_factor of interpolate")
        new = tuple(_scaled(d, s, f) for s, f in zip(input[2:], factors, strict=True))
    else:
        raise IllTypedError("interpolate needs a size or a scale_factor")
    for each in (*input[2:], *new) if mode != "area" else ():
        d.require(">=", each, 1, "interpolate takes and returns at least one position")
    return Shape((*input[:2], *new))


_UPSAMPLING = {
    "nearest": (1, 2, 3),
    "_nearest_exact": (1, 2, 3),
    "linear": (1,),
    "bilinear": (2,),
    "bicubic": (2,),
    "trilinear": (3,),
    "_bilinear_aa": (2,),
    "_bicubic_aa": (2,),
}


def _upsampling_rule(n: int, target: Any) -> None:
    def upsampling(d: Sizes, input: Shape, output_size: Any, *settings: Any) -> Any:
        """Resize the positions to `output_size`, or scale them by the last of the settings."""
        exactly(input, n + 2, "an upsampling")
        factors = settings[-1] if settings and isinstance(settings[-1], (tuple, list)) else None
        new: tuple[Dim, ...]
        if output_size is not None:
            new = tuple(exactly_per_dimension(output_size, n, "output_size"))
        elif factors is not None:
            new = tuple(_scaled(d, s, f) for s, f in zip(input[2:], factors, strict=True))
        else:
            return UNKNOWN
        for each in (*input[2:], *new):
            d.require(">=", each, 1, "an upsampling takes and returns at least one position")
        return Shape((*input[:2], *new))

    rule(target)(upsampling)


for _kind, _ranks in _UPSAMPLING.items():
    for _n in _ranks:
        _front, _kind_name = ("_", _kind[1:]) if _kind.startswith("_") else ("", _kind)
        _name, _aa = _kind_name.removesuffix("_aa"), "_aa" if _kind_name.endswith("_aa") else ""
        _name = _name.replace("_", "-") if _name == "nearest_exact" else _name
        _upsampling_rule(
            _n, getattr(torch.ops.aten, f"{_front}upsample_{_name.replace('-', '_')}{_n}d{_aa}")
        )


def _scaled(d: Sizes, size: Dim, factor: Any) -> Dim:
    if isinstance(factor, (int, float)):
        # As in torch, which rounds down size * factor computed with floats.
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
def pixel_shuffle(d: Sizes, input: Shape, upscale_factor: Dim) -> Shape:
    """Rearrange channels into positions."""
    *batch, c, h, w = at_least(input, 3, "pixel_shuffle")
    r = upscale_factor
    d.require(">=", r, 1, "pixel_shuffle takes a factor of 1 or more")
    channels = d.fits(c, r * r, what=f"pixel_shuffle divides the channels by {size_text(r)}²")
    return Shape((*batch, channels, h * r, w * r))


@rule(F.pixel_unshuffle, torch.ops.aten.pixel_unshuffle)
def pixel_unshuffle(d: Sizes, input: Shape, downscale_factor: Dim) -> Shape:
    """Rearrange positions into channels."""
    *batch, c, h, w = at_least(input, 3, "pixel_unshuffle")
    r = downscale_factor
    d.require(">=", r, 1, "pixel_unshuffle takes a factor of 1 or more")
    what = f"pixel_unshuffle divides height and width by {size_text(r)}"
    rows, columns = (d.fits(s, r, what=what) for s in (h, w))
    return Shape((*batch, c * r * r, rows, columns))


@module_rule(nn.PixelShuffle)
def pixel_shuffle_module(d: Sizes, module: nn.PixelShuffle, input: Shape) -> Shape:
    """As `pixel_shuffle`."""
    return pixel_shuffle(d, input, module.upscale_factor)


@module_rule(nn.PixelUnshuffle)
def pixel_unshuffle_module(d: Sizes, module: nn.PixelUnshuffle, input: Shape) -> Shape:
    """As `pixel_unshuffle`."""
    return pixel_unshuffle(d, input, module.downscale_factor)


@rule(F.unfold, torch.ops.aten.im2col)
def unfold(
    d: Sizes, input: Shape, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1
) -> Shape:
    """Write each window as a column."""
    batch, channels, positions = batch_channels_positions(input, 2, "unfold")
    for setting in (kernel_size, dilation, padding, stride):
        exactly_per_dimension(setting, 2, "a setting of unfold")
    settings = settings_by_dimension(2, "unfold", kernel_size, padding, dilation, stride)
    counts, taps = [], []
    for size, (k, p, dil, s) in zip(positions, settings, strict=True):
        require_fitting(d, size, k, p, dil, "unfold")
        counts.append(window(size, k, p, s, dil))
        taps.append(k)
    return Shape((*batch, channels * math.prod(taps), d.product(counts)))


@module_rule(nn.Unfold)
def unfold_module(d: Sizes, module: nn.Unfold, input: Shape) -> Shape:
    """As `unfold`."""
    return unfold(d, input, module.kernel_size, module.dilation, module.padding, module.stride)


@rule(F.fold, torch.ops.aten.col2im)
def fold(
    d: Sizes,
    input: Shape,
    output_size: Any,
    kernel_size: Any,
    dilation: Any = 1,
    padding: Any = 0,
    stride: Any = 1,
) -> Shape:
    """Add up columns at the places of their windows."""
    if len(input) not in (2, 3):
        raise IllTypedError(f"fold takes a tensor of rank 2 or 3, not {input}")
    sizes = per_dimension(output_size, 2, "the output_size of fold")
    settings = [*settings_by_dimension(2, "fold", kernel_size, padding, dilation, stride)]
    counts = [
        window(size, k, p, s, dil) for size, (k, p, dil, s) in zip(sizes, settings, strict=True)
    ]
    kernel = [k for k, *_ in settings]
    d.equal(input[-1], d.product(counts), "fold takes one column for each window")
    channels = d.fits(
        input[-2], math.prod(kernel), what="fold divides the rows by the size of the window"
    )
    return Shape((*input[:-2], channels, *sizes))


@module_rule(nn.ChannelShuffle)
def channel_shuffle_module(d: Sizes, module: nn.ChannelShuffle, input: Shape) -> Shape:
    """As `channel_shuffle`."""
    return channel_shuffle(d, input, module.groups)


@rule(F.channel_shuffle, torch.ops.aten.channel_shuffle)
def channel_shuffle(d: Sizes, input: Shape, groups: int) -> Shape:
    """Keep the shape; the channels are divided into the groups."""
    require_groups(d, at_least(input, 3, "channel_shuffle")[1], groups, "channel_shuffle")
    return input


@module_rule(nn.Fold)
def fold_module(d: Sizes, module: nn.Fold, input: Shape) -> Shape:
    """As `fold`."""
    m = module
    return fold(d, input, m.output_size, m.kernel_size, m.dilation, m.padding, m.stride)


@rule(F.affine_grid, torch.affine_grid_generator, torch.ops.aten.affine_grid_generator)
def affine_grid(d: Sizes, theta: Shape, size: Any, align_corners: Any = None) -> Shape:
    """One position for each pixel of images of the given size."""
    sizes = tuple(size)
    if len(sizes) not in (4, 5):
        raise IllTypedError(f"affine_grid takes a size of 4 or 5 numbers, not {len(sizes)}")
    n = len(sizes) - 2
    batch, rows, columns = exactly(theta, 3, "affine_grid")
    d.equal(rows, n, f"affine_grid takes maps of {n} dimensions")
    d.equal(columns, n + 1, f"affine_grid takes maps of {n} dimensions with a translation")
    batch = d.equal(batch, sizes[0], "affine_grid takes one map for each image")
    return Shape((batch, *sizes[2:], n))


@rule(
    F.grid_sample,
    torch.grid_sampler,
    torch.grid_sampler_2d,
    torch.grid_sampler_3d,
    torch.ops.aten.grid_sampler,
    torch.ops.aten.grid_sampler_2d,
    torch.ops.aten.grid_sampler_3d,
)
def grid_sample(d: Sizes, input: Shape, grid: Shape, *rest: Any, **options: Any) -> Any:
    """Sample the input at the positions of a grid."""
    if not isinstance(grid, Shape):
        return UNKNOWN
    exactly(grid, len(at_least(input, 4, "grid_sample")), "the grid of grid_sample")
    batch = d.equal(input[0], grid[0], "grid_sample takes one grid for each image")
    d.equal(grid[-1], len(input) - 2, "the grid has one coordinate for each dimension of positions")
    return Shape((batch, input[1], *grid[1:-1]))
