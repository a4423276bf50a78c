"""Fourier transforms: along one dimension, along two, along several."""

from __future__ import annotations

from typing import Any

import torch
from torch import fft

from symfx.shape_rules.errors import IllTypedError
from symfx.shape_rules.sizes import Dim, Shape, Sizes, size_text
from symfx.shape_rules.table import axes, axis, exactly, is_size, rule

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


@rule(torch.ops.aten._fft_c2c)
def fft_complex(d: Sizes, input: Shape, dim: Any, normalization: int, forward: bool) -> Shape:
    """Keep the shape."""
    axes(dim, len(input), "a transform")
    return input


@rule(torch.ops.aten._fft_r2c)
def fft_of_real(d: Sizes, input: Shape, dim: Any, normalization: int, onesided: bool) -> Shape:
    """Keep the shape; of a one-sided transform the last dimension of `dim` is halved."""
    at = axes(dim, len(input), "a transform")
    if not onesided or not at:
        return input
    return _transformed("rfft", d, input, [at[-1]], [None])


@rule(torch.ops.aten._fft_c2r)
def fft_to_real(d: Sizes, input: Shape, dim: Any, normalization: int, last_dim_size: Dim) -> Shape:
    """Keep the shape but for the last dimension of `dim`, which has the given size."""
    at = axes(dim, len(input), "a transform")
    return _transformed("irfft", d, input, [at[-1]], [last_dim_size])


# -- short-time transforms -------------------------------------------------------------------------


@rule(torch.stft, "stft")
def stft(
    d: Sizes,
    input: Shape,
    n_fft: Dim,
    hop_length: Any = None,
    win_length: Any = None,
    window: Any = None,
    center: bool = True,
    pad_mode: str = "reflect",
    normalized: bool = False,
    onesided: Any = None,
    return_complex: Any = None,
    align_to_window: Any = None,
) -> Shape:
    """Frequencies by frames: a transform for each place of a window that moves over the signal."""
    if len(input) not in (1, 2):
        raise IllTypedError(f"stft takes a tensor of rank 1 or 2, not {input}")
    length, hop = input[-1], _settings(d, n_fft, hop_length, win_length, window, "stft")
    if center:
        if pad_mode in ("reflect", "circular"):
            least = n_fft // 2 + (1 if pad_mode == "reflect" else 0)
            d.require(">=", length, least, "stft pads a signal by at most its length")
        length = length + 2 * (n_fft // 2)
    d.require(">=", length, n_fft, "the window of stft fits into the signal")
    is_complex = input.dtype is not None and input.dtype.is_complex
    if isinstance(window, Shape) and window.dtype is not None:
        is_complex = is_complex or window.dtype.is_complex
    half = not is_complex if onesided is None else onesided
    frequencies = n_fft // 2 + 1 if half else n_fft
    front = (*input[:-1], frequencies, (length - n_fft) // hop + 1)
    if return_complex is False or (return_complex is None and not is_complex):
        if return_complex is None:
            raise IllTypedError("stft of a real signal takes return_complex=True")
        return Shape((*front, 2))
    return Shape(front)


def _settings(
    d: Sizes, n_fft: Dim, hop_length: Any, win_length: Any, window: Any, what: str
) -> Dim:
    """Check the window of a short-time transform, and return the distance of its places."""
    d.require(">=", n_fft, 1, f"{what} takes an n_fft of 1 or more")
    width = n_fft if win_length is None else win_length
    if is_size(width):
        d.require(">=", width, 1, f"{what} takes a win_length of 1 or more")
        d.require("<=", width, n_fft, f"{what} takes a win_length up to its n_fft")
    if isinstance(window, Shape):
        what = f"the window of {what} has win_length values"
        d.equal(exactly(window, 1, "a window")[0], width, what)
    hop: Dim = n_fft // 4 if hop_length is None else hop_length
    if is_size(hop):
        d.require(">=", hop, 1, f"{what} takes a hop_length of 1 or more")
    return hop


@rule(torch.istft, "istft")
def istft(
    d: Sizes,
    input: Shape,
    n_fft: Dim,
    hop_length: Any = None,
    win_length: Any = None,
    window: Any = None,
    center: bool = True,
    normalized: bool = False,
    onesided: Any = None,
    length: Any = None,
    return_complex: bool = False,
) -> Shape:
    """The signal of a short-time transform."""
    if len(input) not in (2, 3):
        raise IllTypedError(f"istft takes a complex tensor of rank 2 or 3, not {input}")
    hop = _settings(d, n_fft, hop_length, win_length, window, "istft")
    frequencies, half = input[-2], n_fft // 2 + 1
    whole = d.compare("==", frequencies, n_fft) if onesided is None else not onesided
    if isinstance(whole, bool):
        wanted = n_fft if whole else half
        d.equal(frequencies, wanted, f"istft takes {size_text(wanted)} frequencies")
    else:
        either = (frequencies - half) * (frequencies - n_fft)
        d.require("==", either, 0, "istft takes the frequencies of a transform, or half of them")
    if length is not None:
        return Shape((*input[:-2], length if is_size(length) else d.fresh("a length")))
    cut = 2 * (n_fft // 2) if center else 0
    moved = (input[-1] - 1) * hop + (n_fft - cut)
    d.require(">=", moved, 1, "istft leaves at least one value")
    return Shape((*input[:-2], moved))


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


_OLD_WINDOWS = ("hann", "hamming", "bartlett", "blackman", "kaiser")
_WINDOWS = (
    *("hann", "hamming", "cosine", "blackman", "bartlett", "exponential", "gaussian", "kaiser"),
    *("general_cosine", "general_hamming", "nuttall"),
)


@rule(
    *(getattr(torch, f"{name}_window") for name in _OLD_WINDOWS),
    *(getattr(torch.signal.windows, name) for name in _WINDOWS),
    takes_unknown=True,
)
def window(d: Sizes, length: Any, *settings: Any, **options: Any) -> Shape:
    """A vector of weights of this length."""
    return Shape((length if is_size(length) else d.fresh("the length of a window"),))
