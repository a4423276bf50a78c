"""Memory formats of images with dimensions of one element, which torch chooses by all strides."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import symfx

LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "row-major": lambda x: x,
    "channels-last": lambda x: x.contiguous(memory_format=torch.channels_last),
    "transposed": lambda x: x.transpose(1, 2).contiguous().transpose(1, 2),
    "of a sum": lambda x: x.transpose(1, 2).clone().transpose(1, 2).add(1),
}
BEFORE: dict[str, Callable[[Tensor], Tensor]] = {
    "as it is": lambda x: x,
    "relu": lambda x: x.transpose(1, 2).clone().transpose(1, 2).relu(),
    "product": lambda x: x * 2,
    "sum": lambda x: x + x,
}
OPERATORS: dict[str, Callable[[Tensor], Tensor]] = {
    "conv2d": lambda x: F.conv2d(x, torch.ones(2, x.shape[1], 1, 1, dtype=x.dtype)),
    "conv_transpose2d": lambda x: F.conv_transpose2d(
        x, torch.ones(x.shape[1], 2, 1, 1, dtype=x.dtype)
    ),
    "max_pool2d": lambda x: F.max_pool2d(x, 1),
    "adaptive_avg_pool2d": lambda x: F.adaptive_avg_pool2d(x, (2, 2)),
    "interpolate": lambda x: F.interpolate(x, scale_factor=2.0),
    "pad": lambda x: F.pad(x, (1, 0)),
    "batch_norm": lambda x: F.batch_norm(
        x, torch.zeros(x.shape[1], dtype=x.dtype), torch.ones(x.shape[1], dtype=x.dtype)
    ),
    "group_norm": lambda x: F.group_norm(x, 1),
    "channel_shuffle": lambda x: F.channel_shuffle(x, 1),
    "prelu": lambda x: F.prelu(x, torch.ones(1, dtype=x.dtype)),
    "of two layouts": lambda x: x + x.contiguous(),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_format_is_that_of_eager_mode(name: str, layout: str, dtype: torch.dtype) -> None:
    for before in BEFORE.values():

        def program(x: Tensor, before: Callable[[Tensor], Tensor] = before) -> tuple[Tensor, ...]:
            y = OPERATORS[name](before(x))
            formats = (torch.contiguous_format, torch.channels_last)
            return y, *(torch.tensor(int(y.is_contiguous(memory_format=f))) for f in formats)

        for shape in [(2, 3, 4, 1), (2, 1, 4, 3), (2, 3, 1, 3)]:
            x = LAYOUTS[layout](torch.randn(shape)).to(dtype)
            names = tuple(None if size == 1 else s for s, size in zip("nchw", shape, strict=True))
            traced = symfx.trace(program, x, dynamic=[names])
            for other in (shape, tuple(1 if size == 1 else 5 for size in shape)):
                z = LAYOUTS[layout](torch.randn(other)).to(dtype)
                for mine, theirs in zip(traced.graph_module(z), program(z), strict=True):
                    assert torch.equal(mine, theirs)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("order", [(0, 3, 1, 2), (3, 0, 1, 2), (0, 1, 3, 2), (2, 1, 3, 0)])
def test_batch_normalization_knows_two_orders(order: tuple[int, ...], training: bool) -> None:
    def program(x: Tensor) -> tuple[Tensor, int, int]:
        y = x.permute(order).exp()
        zeros, ones = torch.zeros(y.shape[1]), torch.ones(y.shape[1])
        y = F.batch_norm(y, zeros, ones, training=training)
        formats = (torch.contiguous_format, torch.channels_last)
        return y, *(int(y.is_contiguous(memory_format=f)) for f in formats)

    dynamic = [tuple(symfx.Dim(name, min=1) for name in "abcd")]
    traced = symfx.trace(program, torch.randn(3, 4, 5, 2), dynamic=dynamic, strict=False)
    compared = 0
    for shape in [(3, 4, 5, 2), (6, 6, 6, 6), (3, 3, 1, 2)]:
        x = torch.randn(shape)
        if traced.check(x):
            compared += 1
            assert traced.graph_module(x)[1:] == program(x)[1:]
    assert compared >= 2
