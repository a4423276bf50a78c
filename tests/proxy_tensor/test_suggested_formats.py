"""Answers about memory formats that hang on strides of dimensions of size 1."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F

import symfx
from symfx import Dim

D = torch.float64
Function = Callable[[torch.Tensor], torch.Tensor]
KERNELS: dict[str, Function] = {
    "convolution": lambda x: F.conv2d(x, torch.ones(2, x.shape[1], 2, 2, dtype=D), padding=1),
    "transposed convolution": lambda x: F.conv_transpose2d(
        x, torch.ones(x.shape[1], 2, 2, 2, dtype=D)
    ),
    "padding": lambda x: F.pad(x, (1, 1, 1, 0)),
    "replication": lambda x: F.pad(x, (1, 1, 1, 0), mode="replicate"),
    "average": lambda x: F.avg_pool2d(x, 2, 1, padding=1),
    "maximum": lambda x: F.max_pool2d(x, 2, 1, padding=1),
    "adaptive": lambda x: F.adaptive_avg_pool2d(x, (2, 3)),
    "batch norm": lambda x: F.batch_norm(x, None, None, training=True),
}


def asked(kernel: Function) -> Callable[[torch.Tensor], tuple[torch.Tensor, int, int]]:
    def program(x: torch.Tensor) -> tuple[torch.Tensor, int, int]:
        y = kernel(x)
        return y, int(y.is_contiguous()), int(y.is_contiguous(memory_format=torch.channels_last))

    return program


def test_a_format_that_hangs_on_a_stride_no_rule_knows_is_asked_or_asserted() -> None:
    def kernel(x: torch.Tensor) -> torch.Tensor:
        y = x.clone().transpose_(1, 2).relu()
        return F.conv2d(y, torch.ones(2, y.shape[1], 1, 1, dtype=D))

    x = torch.randn(1, 3, 2, 4, dtype=D)[..., :1]
    dynamic = [(Dim("c", min=1), None, Dim("a", min=2), "c")]
    trace = symfx.trace(asked(kernel), (x,), dynamic=dynamic, strict=False)
    for got, want in zip(trace.graph_module(x), asked(kernel)(x), strict=True):
        torch.testing.assert_close(got, want)


@pytest.mark.parametrize("name", KERNELS)
def test_inputs_with_one_channel_are_admitted_with_the_stride_that_the_format_needs(
    name: str,
) -> None:
    program = asked(KERNELS[name])
    plain = torch.randn(2, 1, 4, 4, dtype=D)
    trace = symfx.trace(program, (plain,), dynamic=[(Dim("n", min=1), None, None, None)])
    admitted = 0
    for n, stride in itertools.product((1, 2, 3), (1, 16, 97)):
        # The stride of the one channel decides in eager mode which format the result has.
        x = torch.randn(n, 1, 4, 4, dtype=D).as_strided((n, 1, 4, 4), (16, stride, 4, 1))
        if trace.check(x):
            admitted += 1
            for got, want in zip(trace.graph_module(x), program(x), strict=True):
                if isinstance(want, torch.Tensor):
                    torch.testing.assert_close(got, want)
                else:
                    assert got == want
        else:
            assert stride != 16
    assert admitted >= 3


@pytest.mark.parametrize("name", KERNELS)
def test_kernels_in_a_row_keep_a_row_major_layout_at_every_size(name: str) -> None:
    def program(x: torch.Tensor) -> tuple[torch.Tensor, int]:
        y = KERNELS[name](KERNELS[name](x).relu())
        return y, int(y.is_contiguous())

    x = torch.randn(3, 2, 4, 3, dtype=D)
    dims = (Dim("n", min=1), None, Dim("h", min=1), Dim("w", min=1))
    trace = symfx.trace(program, (x,), dynamic=[dims])
    for n, h, w in itertools.product((2, 3), (1, 2), (1, 2)):
        one = torch.randn(n, 2, h, w, dtype=D)
        assert trace.check(one), (n, h, w, trace.guards)
        assert trace.graph_module(one)[1] == program(one)[1] == 1
