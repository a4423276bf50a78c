"""Convolutions by the compiled kernels: directly, or by Winograd's algorithm."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch
from torch import Tensor

from symfx.optimization.runtime.activations import PostOp
from symfx.optimization.runtime.compiled import kernels
from symfx.optimization.runtime.compiled_linear import applied, filled_up, panels
from symfx.optimization.runtime.conv_form import ConvForm, Kernel
from symfx.optimization.runtime.image_kernels import channels_last, pooled
from symfx.optimization.runtime.tape import NotOnTapeError, running_tape

__all__ = ["Gathered", "Tiled", "best_side", "may_gather", "promise"]

#: An image of up to so many channels is copied, since the lanes of a vector would stay empty.
_FEW = 4
#: With fewer channels than this, the sums of Winograd's algorithm take longer than the products
#: that it saves.
_MANY = 16
#: In the time in which a weight comes from memory, so many products are computed.
_READS = 33


def may_gather(form: ConvForm) -> bool:
    """Whether the direct kernel takes a convolution."""
    weight, compiled = form.weight, kernels()
    return (
        compiled is not None
        and not form.transposed
        and weight.ndim == 4
        and form.groups == 1
        and weight.dtype is torch.float
        and weight.shape[1] <= compiled.deepest
    )


def best_side(form: ConvForm, shape: Sequence[int]) -> int | None:
    """The side of the tiles in which Winograd's algorithm computes such images fastest.

    None where it takes no such convolution, or is expected to be slower than the direct kernel.
    """
    weight, compiled = form.weight, kernels()
    if compiled is None or not may_gather(form) or weight.shape[2:] != (3, 3):
        return None
    channels = weight.shape[:2]
    if form.stride + form.dilation != [1, 1, 1, 1] or min(channels) < _MANY:
        return None
    if any(each % compiled.lanes for each in channels):
        return None
    if min(form.sides(shape)) < 1:
        return None
    side = max((4, 2), key=lambda side: promise(form, shape, side))
    return side if promise(form, shape, side) > 1 else None


def promise(form: ConvForm, shape: Sequence[int], side: int) -> float:
    """How many times as fast as the direct kernel tiles of a side should be, by their work."""
    down, across = form.sides(shape)
    tiles = shape[0] * -(-down // side) * -(-across // side)
    direct = 9 * (shape[0] * down * across + _READS)
    return direct / ((side + 2) ** 2 * (tiles + _READS))


class _Compiled:
    """A convolution by a compiled kernel; subclasses call it.

    Args:
        form: the convolution.
        shape: of the image.
    """

    def __init__(self, form: ConvForm, shape: Sequence[int]) -> None:
        compiled = kernels()
        assert compiled is not None
        self.kernels, self.form = compiled, form
        self.sides = form.sides(shape)
        self.shape = shape[0], form.weight.shape[0], *self.sides
        self.bias = filled_up(form.bias, form.weight, compiled.columns)
        self.applied, self.range = applied(form.post)
        self.rest = form.post if self.applied == 0 else PostOp("none")

    def _compute(self, x: Tensor, other: Tensor | None, result: Tensor) -> bool:
        """Write the convolution, the sum and the activation; whether the kernel refuses."""
        raise NotImplementedError

    def __call__(self, x: Tensor, other: Tensor | None, accumulate: bool) -> Tensor:
        """See `Kernel`."""
        if other is not None:
            other = channels_last(other)
        result = torch.empty(self.shape, memory_format=torch.channels_last)
        refused = self._compute(x, other, result)
        if (refused or self.rest.function is not None) and running_tape() is not None:
            raise NotOnTapeError  # torch's operators change the result
        if refused:
            return self.form.plainly(x, other)
        result = self.rest.apply_to(result)
        pool = self.form.pool
        return result if pool is None else pooled(self.kernels, result, pool)


class Gathered(_Compiled):
    """The direct kernel, for all sizes of kernel, strides and dilations.

    Args:
        form: the convolution.
        shape: of the image.
        known: kernels of the same convolution for other shapes, which share its packed weight.
    """

    def __init__(self, form: ConvForm, shape: Sequence[int], known: Sequence[Kernel]) -> None:
        super().__init__(form, shape)
        weight = form.weight.detach()
        self.narrow = weight.shape[1] <= _FEW and form.dilation[1] == 1
        places = *form.stride, *form.padding, *form.dilation
        self.sizes = *shape, *self.sides, *weight.shape[2:], *places, self.shape[1], self.applied
        same = [each.packed for each in known if isinstance(each, Gathered)]
        rows = weight.permute(0, 2, 3, 1).flatten(1)
        self.packed: Tensor = same[0] if same else panels(rows, self.kernels.columns)

    def _compute(self, x: Tensor, other: Tensor | None, result: Tensor) -> bool:
        if self.narrow:
            strides: tuple[int, ...] = x.stride()
        else:
            x, strides = channels_last(x), (0, 0, 0, 0)
        tensors = x, self.packed, self.bias, other, result
        return self.kernels.convolve(tensors, (*self.sizes, *strides), *self.range)


class Tiled(_Compiled):
    """Winograd's algorithm.

    Where a result is not finite, torch's operators compute all of them: sums within a tile spread
    an infinity to its neighbors.

    Args:
        form: the convolution.
        shape: of the image.
        known: kernels of the same convolution for other shapes, which share its packed weight.
        side: the height and the width of a tile of the result, 2 or 4.
    """

    def __init__(
        self, form: ConvForm, shape: Sequence[int], known: Sequence[Kernel], side: int
    ) -> None:
        super().__init__(form, shape)
        weight = form.weight.detach()
        self.side = side
        self.sizes = *shape, *self.sides, *form.padding, self.shape[1], self.applied, side
        same = [k.packed for k in known if isinstance(k, Tiled) and k.side == side]
        self.packed: Tensor = same[0] if same else self._pack(weight)

    def _pack(self, weight: Tensor) -> Tensor:
        # In panels first: there are fewer numbers to move than after the product.
        places = panels(weight.flatten(2).permute(2, 0, 1), self.kernels.columns)
        return (_factors(self.side) @ places.flatten(1)).view(-1, *places.shape[1:])

    def _compute(self, x: Tensor, other: Tensor | None, result: Tensor) -> bool:
        x = channels_last(x)
        tensors = x, self.packed, self.bias, other, result
        return self.kernels.winograd(tensors, self.sizes, *self.range)


#: The points of the larger tile beside 0 and infinity, as in ``convolutions.c``. These are whole
#: numbers of eighths, and their powers grow less than those of 1 and 2: the error is smaller.
_NEAR, _FAR = 0.625, 1.5


@functools.cache
def _factors(side: int) -> Tensor:
    """The matrix from the nine numbers of a kernel to the places of a tile."""
    if side == 2:
        rows = [[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]]
    else:
        near, far = _NEAR**2, _FAR**2
        rows = [[1 / (near * far), 0, 0]]
        for point, scale in (
            (_NEAR, 2 * near * (near - far)),
            (-_NEAR, 2 * near * (near - far)),
            (_FAR, 2 * far * (far - near)),
            (-_FAR, 2 * far * (far - near)),
        ):
            rows.append([1 / scale, point / scale, point**2 / scale])
        rows.append([0, 0, 1])
    one = torch.tensor(rows, dtype=torch.double)
    return torch.kron(one, one).float()
