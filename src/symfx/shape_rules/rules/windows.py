"""Windows that move over the last dimensions: their settings, and how often they fit.

The rules that use them stand in `convolutions`, `pooling` and `resizing`.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from symfx.shape_rules.errors import IllTypedError
from symfx.shape_rules.sizes import Dim, Shape, Size, Sizes, size_text
from symfx.shape_rules.table import module_rule, rule

__all__ = [
    "batch_channels_positions",
    "exactly_per_dimension",
    "for_dimensions",
    "per_dimension",
    "register_for_one_to_three_dimensions",
    "require_fitting",
    "require_groups",
    "settings_by_dimension",
    "window",
]


def per_dimension(
    value: Any, n: int, what: str = "a setting", least: Any = None
) -> tuple[Any, ...]:
    """A setting of a window, as one value for each of `n` dimensions.

    Args:
        value: one value for all, or a tuple of them.
        n: the number of dimensions.
        what: the setting, for the message.
        least: the least that each may be.

    Raises:
        IllTypedError: the number of values is neither 1 nor `n`, or a value is too small.
    """
    values = tuple(value) if isinstance(value, (tuple, list)) else (value,)
    if len(values) not in (1, n):
        raise IllTypedError(f"{what} has {len(values)} values for {n} dimensions: {values}")
    if least is not None:
        for each in values:
            if isinstance(each, int) and each < least:
                raise IllTypedError(f"{what} must be {least} or more, not {each}")
            if isinstance(each, Size):
                each.kind.require(">=", each, least, f"{what} is {least} or more")
    return values * n if len(values) == 1 else values


def exactly_per_dimension(value: Any, n: int, what: str) -> tuple[Any, ...]:
    """As `per_dimension`, but a tuple must have `n` values."""
    several = isinstance(value, (tuple, list))
    if several and len(value) != n:
        raise IllTypedError(f"{what} has {len(value)} values for {n} dimensions: {tuple(value)}")
    return tuple(value) if several else (value,) * n


def settings_by_dimension(
    n: int, what: str, kernel: Any, padding: Any, dilation: Any, stride: Any
) -> Iterator[tuple[Any, Any, Any, Any]]:
    """Yield kernel, padding, dilation and stride of a window for each dimension."""
    return zip(
        per_dimension(kernel, n, f"the window of {what}", 1),
        per_dimension(padding, n, f"the padding of {what}", 0),
        per_dimension(dilation, n, f"the dilation of {what}", 1),
        per_dimension(stride, n, f"the stride of {what}", 1),
        strict=True,
    )


def window(size: Dim, kernel: int, padding: int, stride: int, dilation: int = 1) -> Dim:
    """The number of positions of a window: the formula of torch.nn.Conv2d's manual page."""
    return (size + (2 * padding - dilation * (kernel - 1) - 1)) // stride + 1


def require_fitting(
    d: Sizes, size: Dim, kernel: Dim, padding: int, dilation: int, what: str
) -> None:
    """Demand that the dilated window is no larger than the padded input."""
    least = (kernel - 1) * dilation + (1 - 2 * padding)
    if isinstance(least, int):
        least = max(least, 0)
    d.require(">=", size, least, f"the window of {what} fits into its input")


def batch_channels_positions(
    x: Shape, n: int, what: str
) -> tuple[tuple[Dim, ...], Dim, tuple[Dim, ...]]:
    """Split a shape into its batch (or none), its channels and its `n` positions."""
    if len(x) not in (n + 1, n + 2):
        raise IllTypedError(
            f"{what} takes a tensor of rank {n + 2}, or {n + 1} without a batch, "
            f"not of rank {len(x)}: {x}"
        )
    return x[: len(x) - n - 1], x[-n - 1], x[-n:]


def require_groups(d: Sizes, channels: Dim, groups: Dim, what: str) -> None:
    """Demand that the channels can be divided into the groups."""
    d.require(">=", groups, 1, f"{what} takes 1 group or more")
    d.fits(channels, groups, what=f"{what} divides its channels into {size_text(groups)} groups")


def _targets(names: str, n: int) -> list[Any]:
    """The functions of these names in all namespaces of torch."""
    found: dict[Any, None] = {}
    for name in names.split():
        for home in (F, torch, torch._C._nn, torch.ops.aten):
            function = getattr(home, name.format(n), None)
            if function is not None:
                found[function] = None
    return [*found]


def for_dimensions(name: str, function: Any, n: int) -> Any:
    """Make a rule for `n` dimensions from a function that takes `n` first."""
    made = functools.partial(function, n)
    made.__name__ = name.format(n)  # type: ignore[attr-defined]
    return made


def register_for_one_to_three_dimensions(
    functions: Mapping[str, Any], modules: Mapping[str, Any]
) -> None:
    """Enter rules for one, two and three dimensions of positions.

    Args:
        functions: rules of functions by the functions' names, with ``{}`` for the number of
            dimensions, which the rule takes first; several names are separated by spaces.
        modules: rules of classes of modules, by their names in the same form.
    """
    for n in (1, 2, 3):
        for names, function in functions.items():
            rule(*_targets(names, n))(for_dimensions(names.split()[0], function, n))
        for name, function in modules.items():
            # A convolution of two dimensions says of an unknown input that it has a batch.
            rank = 4 if name.format(n) == "Conv2d" else None
            module_rule(getattr(nn, name.format(n)), rank=rank)(for_dimensions(name, function, n))
