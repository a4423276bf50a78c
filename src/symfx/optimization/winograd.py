"""Winograd's algorithm for 3x3 convolutions: fewer multiplications, on oneDNN's own kernels.

A tile of several outputs is computed from sums and differences of its inputs, each product with a
transformed weight, and sums of the products. The products of all tiles are convolutions again,
one for each place in the tile, which oneDNN computes; the sums are element-wise. Sources:
S. Winograd, *Arithmetic Complexity of Computations* (1980); A. Lavin and S. Gray, *Fast Algorithms
for Convolutional Neural Networks* (arXiv:1509.09308).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["TILES", "Winograd"]

#: The tiles on offer, by their outputs down and across; with 1 across, the kernel stays as it is
#: in that direction. Bigger ones would save more products, and lose more digits than these, which
#: cost about as many as summing up in another order.
TILES: tuple[tuple[int, int], ...] = ((4, 1), (4, 2))

# How a kernel of three becomes one number for each place: the rows are the powers 1, p, p^2 of
# the points 0, 1, -1 (2, -2) and infinity, scaled so that the sums below have whole factors.
_KERNELS: dict[int, list[list[float]]] = {
    2: [[1, 0, 0], [1 / 2, 1 / 2, 1 / 2], [1 / 2, -1 / 2, 1 / 2], [0, 0, 1]],
    4: [
        [1 / 4, 0, 0],
        [-1 / 6, -1 / 6, -1 / 6],
        [-1 / 6, 1 / 6, -1 / 6],
        [1 / 24, 1 / 12, 1 / 6],
        [1 / 24, -1 / 12, 1 / 6],
        [0, 0, 1],
    ],
}


def _spread2(d: Sequence[Tensor], out: Sequence[Tensor]) -> None:
    """From four inputs to four places."""
    torch.sub(d[0], d[2], out=out[0])
    torch.add(d[1], d[2], out=out[1])
    torch.sub(d[2], d[1], out=out[2])
    torch.sub(d[1], d[3], out=out[3])


def _spread4(d: Sequence[Tensor], out: Sequence[Tensor]) -> None:
    """From six inputs to six places."""
    one, two = torch.sub(d[4], d[2], alpha=4), torch.sub(d[3], d[1], alpha=4)
    torch.add(one, two, out=out[1])
    torch.sub(one, two, out=out[2])
    torch.sub(d[4], d[2], out=one)
    torch.sub(d[3], d[1], out=two)
    torch.add(one, two, alpha=2, out=out[3])
    torch.sub(one, two, alpha=2, out=out[4])
    torch.sub(d[0], d[2], out=out[0])
    torch.add(one, out[0], alpha=4, out=out[0])
    torch.sub(d[5], d[3], out=out[5])
    torch.sub(out[5], two, alpha=4, out=out[5])


def _collect2(m: Sequence[Tensor], out: Sequence[Tensor]) -> None:
    """From four places to two outputs, the last of which may be for fewer tiles."""
    first = torch.add(m[1], m[2])
    torch.add(m[0], first, out=out[0])
    rest = [_upto(t, out[1]) for t in m]
    last = torch.sub(rest[1], rest[2])
    torch.sub(last, rest[3], out=out[1])


def _collect4(m: Sequence[Tensor], out: Sequence[Tensor]) -> None:
    """From six places to four outputs, of which all but the first may be for fewer tiles."""
    near, far = torch.add(m[1], m[2]), torch.add(m[3], m[4])
    torch.add(m[0], near, out=out[0])
    out[0].add_(far)
    torch.add(_upto(near, out[2]), _upto(far, out[2]), alpha=4, out=out[2])
    torch.sub(m[1], m[2], out=near)
    torch.sub(m[3], m[4], out=far)
    torch.add(_upto(near, out[1]), _upto(far, out[1]), alpha=2, out=out[1])
    torch.add(_upto(near, out[3]), _upto(far, out[3]), alpha=8, out=out[3])
    out[3].add_(_upto(m[5], out[3]))


def _upto(x: Tensor, out: Tensor) -> Tensor:
    """The part of ``x`` that ``out`` has room for: borders can cut the last tile."""
    for dimension, size in enumerate(out.shape):
        if x.shape[dimension] != size:
            x = x.narrow(dimension, 0, size)
    return x


_SPREAD: dict[int, Callable[..., None]] = {2: _spread2, 4: _spread4}
_COLLECT: dict[int, Callable[..., None]] = {2: _collect2, 4: _collect4}


class Winograd:
    """A 3x3 convolution of stride 1, made ready for one shape of input.

    Args:
        weight: of shape ``(channels_out, channels_in, 3, 3)``.
        bias: of shape ``(channels_out,)``, or None.
        padding: rows and columns of zeros on each side.
        tile: how many outputs a tile has along height and width; one of `TILES`.
        shape: of the input, ``(batch, channels_in, height, width)``.
    """

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None,
        padding: Sequence[int],
        tile: tuple[int, int],
        shape: Sequence[int],
    ) -> None:
        self.tile, self.padding, self.bias = tile, tuple(padding), bias
        self.channels = weight.shape[0]
        batch, channels_in, *sizes = shape
        self.sizes = [size + 2 * pad - 2 for size, pad in zip(sizes, padding, strict=True)]
        self.tiles = [-(-size // step) for size, step in zip(self.sizes, tile, strict=True)]
        down, across = tile
        # What the tiles do not take of the padding is left to oneDNN.
        self._left = [0, 0 if across > 1 else padding[1]]
        inner = [batch, channels_in, self.tiles[0], self.tiles[1] if across > 1 else sizes[1]]
        rows = _spread_kernel(down, weight.unbind(2))
        columns = [
            _spread_kernel(across, kernel.unbind(2)) if across > 1 else [kernel] for kernel in rows
        ]
        self._packed = [
            [self._pack(k, inner) for k in row] for row in zip(*columns, strict=True)
        ]

    def _pack(self, kernel: Tensor, inner: list[int]) -> Tensor:
        """A kernel of shape ``(out, in, width)``, or ``(out, in)`` where that is one, packed."""
        pack: Any = torch._C._nn.mkldnn_reorder_conv2d_weight
        dense = kernel.reshape(*kernel.shape[:2], 1, -1).to_mkldnn()
        packed: Tensor = pack(dense, self._left, [1, 1], [1, 1], 1, inner)
        return packed

    def __call__(self, x: Tensor) -> Tensor:
        """The convolution of ``x``; both are channels last in memory."""
        down, across = self.tile
        places = self._spread_width(self._spread_height(x))
        # The bias stands where each output of a tile gets it once.
        products = [
            [
                self._multiply(
                    part, packed, self.bias if i == 1 and j == min(1, across - 1) else None
                )
                for i, (part, packed) in enumerate(zip(column, kernels, strict=True))
            ]
            for j, (column, kernels) in enumerate(zip(places, self._packed, strict=True))
        ]
        result = x.new_empty(x.shape[0], *self.sizes, self.channels)
        if across == 1:
            _COLLECT[down](products[0], [result[:, r::down] for r in range(down)])
        else:
            rows = []
            for column in products:
                rows.append(column[0].new_empty(down, *column[0].shape).unbind(0))
                _COLLECT[down](column, rows[-1])
            for r in range(down):
                outs = [result[:, r::down, c::across] for c in range(across)]
                _COLLECT[across]([_upto(row[r], outs[0]) for row in rows], outs)
        return result.permute(0, 3, 1, 2)

    def _spread_height(self, x: Tensor) -> Tensor:
        """The places of each tile's height: (places, batch, tiles, width, channels)."""
        (down, across), (rows, columns) = self.tile, self.tiles
        above, left = self.padding
        width = across * columns + 2 if across > 1 else x.shape[3]
        sides = (left, width - x.shape[3] - left) if across > 1 else (0, 0)
        below = down * rows + 2 - x.shape[2] - above
        padded = F.pad(x, (*sides, above, below)).permute(0, 2, 3, 1)
        found = x.new_empty(down + 2, x.shape[0], rows, width, x.shape[1])
        last = down * (rows - 1) + 1
        _SPREAD[down]([padded[:, i : i + last : down] for i in range(down + 2)], found.unbind(0))
        return found

    def _spread_width(self, spread: Tensor) -> Sequence[Sequence[Tensor]]:
        """The places of each tile, by those of its width and then those of its height."""
        across, columns = self.tile[1], self.tiles[1]
        if across == 1:
            return [spread.unbind(0)]
        places, batch, rows, _, channels = spread.shape
        found = spread.new_empty(across + 2, places, batch, rows, columns, channels)
        last = across * (columns - 1) + 1
        _SPREAD[across](
            [spread[:, :, :, i : i + last : across] for i in range(across + 2)], found.unbind(0)
        )
        return [column.unbind(0) for column in found.unbind(0)]

    def _multiply(self, part: Tensor, packed: Tensor, bias: Tensor | None) -> Tensor:
        product: Tensor = torch.ops.mkldnn._convolution_pointwise.default(
            part.permute(0, 3, 1, 2), packed, bias, self._left, [1, 1], [1, 1], 1, "none", [], ""
        )
        return product.permute(0, 2, 3, 1)


def _spread_kernel(outputs: int, taps: Sequence[Tensor]) -> list[Tensor]:
    """A kernel of three taps as one for each place of a tile with so many outputs."""
    return [sum(c * t for c, t in zip(row, taps, strict=True) if c) for row in _KERNELS[outputs]]  # type: ignore[misc]
