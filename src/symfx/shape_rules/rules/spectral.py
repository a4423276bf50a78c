"""Fourier transforms: along one dimension, along two, along several."""

from __future__ import annotations

from typing import Any

import torch
from torch import fft

from symfx.shape_rules.errors import IllTypedError
from symfx.shape_rules.sizes import Dim, Shape, Sizes
from symfx.shape_rules.table import axes, axis, is_size, rule

__all__: list[str] = []


def _asked(d: Sizes, size: Any, of: Dim) -> Dim:
    """The length of the signal: the size that is asked for, or the size of the dimension."""
    if size is None:
        new = of
    else:
        new = size if is_size(size) else d.fresh("the length of a signal")
    d.require(">=", new, 1, "the signal has at least one value")
    return new


def _half(size: Dim) -> Dim:
    """The number of frequencies of a real signal."""
    return size // 2 + 1


def _whole(size: Dim) -> Dim:
    """The length of the real signal of so many frequencies."""
    return (size - 1) * 2


def _along_one(kind: str, d: Sizes, input: Shape, n: Any, dim: int) -> Shape:
    i = axis(dim, len(input), "a transform")
    return _transformed(kind, d, input, [i], [n])


def _transformed(kind: str, d: Sizes, input: Shape, at: list[int], lengths: list[Any]) -> Shape:
    if not at and kind != "fft":
        raise IllTypedError("a transform of real signals takes at least one dimension")
    sizes = [*input]
    for i, n in zip(at, lengths, strict=True):
        if kind == "irfft" and i == at[-1]:
            sizes[i] = _whole(sizes[i]) if n is None else n
            d.require(">=", sizes[i], 1, "the signal has at least one value")
        else:
            sizes[i] = _asked(d, n, sizes[i])
    if kind == "rfft":
        sizes[at[-1]] = _half(sizes[at[-1]])
    return Shape(sizes)


def _along_several(kind: str, default: Any, d: Sizes, input: Shape, s: Any, dim: Any) -> Shape:
    rank = len(input)
    if dim is None:
        dim = default if s is None else tuple(range(-len(s), 0))
    at = [*range(rank)] if dim is None else axes(dim, rank, "a transform")
    # A length of -1 keeps the size of the dimension.
    lengths = [None] * len(at) if s is None else [None if n == -1 else n for n in s]
    if len(lengths) != len(at):
        raise IllTypedError(
            f"a transform along {len(at)} dimensions takes as many lengths, not {tuple(lengths)}"
        )
    return _transformed(kind, d, input, at, lengths)


def _entry(kind: str, default: Any) -> Any:
    if default == 1:

        def one(d: Sizes, input: Shape, n: Any = None, dim: int = -1, norm: Any = None) -> Shape:
            return _along_one(kind, d, input, n, dim)

        return one

    def several(
        d: Sizes, input: Shape, s: Any = None, dim: Any = default, norm: Any = None
    ) -> Shape:
        return _along_several(kind, default, d, input, s, dim)

    return several


#: The last transformed dimension is kept (fft), halved (rfft) or doubled (irfft).
_KINDS = {"fft": ("fft", "ifft"), "rfft": ("rfft", "ihfft"), "irfft": ("irfft", "hfft")}
for _kind, _names in _KINDS.items():
    for _suffix, _default in (("", 1), ("2", (-2, -1)), ("n", None)):
        _made = _entry(_kind, _default)
        _made.__doc__ = "The transform of a signal."
        _made.__name__ = _names[0] + _suffix
        rule(*(getattr(fft, name + _suffix) for name in _names))(_made)


@rule(fft.fftshift, fft.ifftshift)
def shift(d: Sizes, input: Shape, dim: Any = None) -> Shape:
    """Keep the shape; the frequencies change their order along some dimensions."""
    if isinstance(dim, (tuple, list)) and not dim:
        raise IllTypedError("fftshift takes at least one dimension, or None for all")
    for each in dim if isinstance(dim, (tuple, list)) else () if dim is None else (dim,):
        axis(each, len(input), "fftshift")
    return input


@rule(fft.fftfreq, takes_unknown=True)
def frequencies(d: Sizes, n: Any, *rest: Any, **options: Any) -> Shape:
    """A vector with one frequency for each value of a signal."""
    return Shape((n if is_size(n) else d.fresh("the number of frequencies"),))


@rule(fft.rfftfreq, takes_unknown=True)
def half_frequencies(d: Sizes, n: Any, *rest: Any, **options: Any) -> Shape:
    """A vector with the frequencies of a real signal."""
    return Shape((_half(n) if is_size(n) else d.fresh("the number of frequencies"),))


@rule(
    *(getattr(torch, f"{name}_window") for name in ("hann", "hamming", "bartlett", "blackman")),
    *(getattr(torch.signal.windows, name) for name in ("hann", "hamming", "cosine", "blackman")),
    takes_unknown=True,
)
def window(d: Sizes, length: Any, *settings: Any, **options: Any) -> Shape:
    """A vector of weights of this length."""
    return Shape((length if is_size(length) else d.fresh("the length of a window"),))
