"""Winograd's algorithm for 3x3 convolutions: fewer multiplications, on oneDNN's own kernels.

A tile is four outputs, one below the other. Sums and differences of six inputs make the six places
of the tile; each place is multiplied with a transformed weight; sums of the products are the four
outputs. Along the width the kernel is not transformed. The products of one place in all tiles are a
convolution again, which oneDNN computes; the sums are element-wise. Bigger tiles save more
products and were never faster here, because the sums then take the time.

Sources: S. Winograd, *Arithmetic Complexity of Computations* (1980); A. Lavin and S. Gray, *Fast
Algorithms for Convolutional Neural Networks* (arXiv:1509.09308).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from symfx.optimization.runtime.tensor_checks import packed_alike

__all__ = ["Winograd"]

#: The numbers of outputs and of places of a tile.
_TILE, _PLACES = 4, 6
# A kernel of three becomes one number for each place: the rows are the powers 1, p, p^2 of the
# points 0, 1, -1, 2, -2 and infinity, scaled so that the sums below have whole factors.
_KERNEL: list[list[float]] = [
    [1 / 4, 0, 0],
    [-1 / 6, -1 / 6, -1 / 6],
    [-1 / 6, 1 / 6, -1 / 6],
    [1 / 24, 1 / 12, 1 / 6],
    [1 / 24, -1 / 12, 1 / 6],
    [0, 0, 1],
]


def _spread(d: Sequence[Tensor], out: Sequence[Tensor]) -> None:
    """Compute the six places from the six inputs."""
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


def _collect(m: Sequence[Tensor], out: Sequence[Tensor]) -> None:
    """Compute the four outputs from the six places.

    All outputs but the first may have fewer tiles, where the border cuts the last tile.
    """
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
    """The tiles of ``x`` for which ``out`` has room."""
    return x if x.shape[1] == out.shape[1] else x.narrow(1, 0, out.shape[1])


class Winograd:
    """A 3x3 convolution of stride 1, with its weight packed for one shape of input.

    Args:
        weight: of shape ``(channels_out, channels_in, 3, 3)``.
        bias: of shape ``(channels_out,)``, or None.
        padding: rows and columns of zeros on each side.
        shape: of the input, ``(batch, channels_in, height, width)``.
        known: the same convolution for other shapes, whose weights are shared if packed alike.
    """

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None,
        padding: Sequence[int],
        shape: Sequence[int],
        known: Sequence[Winograd] = (),
    ) -> None:
        batch, channels_in, height, width = shape
        self.above, across = padding
        self.bias, self.channels = bias, weight.shape[0]
        self.sizes = height + 2 * self.above - 2, width + 2 * across - 2
        self.tiles = -(-self.sizes[0] // _TILE)
        # Rows are padded in `_places`, columns by oneDNN.
        self._padding = [0, across]
        pack: Any = torch._C._nn.mkldnn_reorder_conv2d_weight
        inner = [batch, channels_in, self.tiles, width]
        rows = weight.permute(2, 0, 1, 3).reshape(3, -1)

        def packed(factors: Tensor) -> Tensor:
            kernel = (factors @ rows).view(*weight.shape[:2], 1, 3).to_mkldnn()
            found: Tensor = pack(kernel, self._padding, [1, 1], [1, 1], 1, inner)
            return found

        places = torch.tensor(_KERNEL).unbind()
        first = packed(places[0])  # the others have the same layout
        same = [other._packed for other in known if packed_alike(other._packed[0], first)]
        self._packed: list[Tensor] = same[0] if same else [first, *map(packed, places[1:])]

    def __call__(self, x: Tensor) -> Tensor:
        """The convolution of ``x``; both are channels last in memory."""
        products = [
            # The second place counts once in each output of a tile, so the bias goes there.
            self._multiply(place, packed, self.bias if index == 1 else None)
            for index, (place, packed) in enumerate(zip(self._places(x), self._packed, strict=True))
        ]
        result = x.new_empty(x.shape[0], *self.sizes, self.channels)
        _collect(products, [result[:, row::_TILE] for row in range(_TILE)])
        return result.permute(0, 3, 1, 2)

    def _places(self, x: Tensor) -> Sequence[Tensor]:
        """The places of each tile, each of shape (batch, tiles, width, channels)."""
        below = _TILE * self.tiles + 2 - x.shape[2] - self.above
        padded = F.pad(x, (0, 0, self.above, below)).permute(0, 2, 3, 1)
        found = x.new_empty(_PLACES, x.shape[0], self.tiles, x.shape[3], x.shape[1]).unbind(0)
        last = _TILE * (self.tiles - 1) + 1
        _spread([padded[:, i : i + last : _TILE] for i in range(_PLACES)], found)
        return found

    def _multiply(self, place: Tensor, packed: Tensor, bias: Tensor | None) -> Tensor:
        product: Tensor = torch.ops.mkldnn._convolution_pointwise.default(
            place.permute(0, 3, 1, 2),
            packed,
            bias,
            self._padding,
            [1, 1],
            [1, 1],
            1,
            "none",
            [],
            "",
        )
        return product.permute(0, 2, 3, 1)
