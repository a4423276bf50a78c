"""Strides in the metadata of a graph against those of the real kernels, on many layouts."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import symfx

r = torch.randn

INPUTS = {
    "row-major": r(4, 6, 7),
    "transposed": r(4, 7, 6).transpose(1, 2),
    "batch inside": r(6, 4, 7).transpose(0, 1),
    "sliced": r(4, 7, 8)[:, 1:, 1:],
    "expanded": r(1, 6, 7).expand(4, 6, 7),
    "images": r(4, 6, 6, 8),
    "channels-last images": r(4, 6, 6, 8).to(memory_format=torch.channels_last),
    "transposed images": r(4, 6, 8, 6).transpose(2, 3),
    "images, batch inside": r(6, 4, 6, 8).transpose(0, 1),
    "sliced images": r(4, 7, 7, 9)[:, 1:, 1:, 1:],
    "one channel group": r(4, 6, 1, 1),
}

NORM1, NORM2 = nn.BatchNorm1d(6).eval(), nn.BatchNorm2d(6).eval()

PROGRAMS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "logsigmoid": F.logsigmoid,
    "rrelu in eval mode": lambda x: F.rrelu(x, 0.1, 0.3, False),
    "rrelu in training": lambda x: F.rrelu(x, 0.1, 0.3, True),
    "roll": lambda x: x.roll(1, 1),
    "roll by nothing": lambda x: x.roll(0, 1),
    "roll of the flat tensor": lambda x: x.roll(1),
    "roll along two": lambda x: x.roll((1, 2), (0, 1)),
    "channel_shuffle": lambda x: F.channel_shuffle(x, 2),
    "BatchNorm in eval mode": lambda x: (NORM1 if x.dim() == 3 else NORM2)(x),
    "batch_norm in training": lambda x: F.batch_norm(x, None, None, training=True),
    "max_pool1d": lambda x: F.max_pool1d(x, 2) if x.dim() == 3 else x,
    "one_hot": lambda x: F.one_hot(x.abs().long(), 20),
    "nearest": lambda x: F.interpolate(x, scale_factor=2),
    "nearest-exact": lambda x: F.interpolate(x, size=(5,) * (x.dim() - 2), mode="nearest-exact"),
    "exp": torch.exp,
    "sum with itself transposed": lambda x: x + x.transpose(0, 1).contiguous().transpose(0, 1),
    "softmax": lambda x: x.softmax(1),
    "sort": lambda x: x.sort(1)[0],
    "flip": lambda x: x.flip(1),
    "cat": lambda x: torch.cat([x, x], 1),
    "gather": lambda x: x.gather(1, torch.zeros_like(x).long()),
    "pad": lambda x: F.pad(x, (1, 1)),
}


def meaningful(x: torch.Tensor) -> list[int]:
    return [s for n, s in zip(x.shape, x.stride(), strict=True) if n != 1]


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("layout", INPUTS)
def test_strides_are_those_of_the_real_kernel(name: str, layout: str) -> None:
    program, x = PROGRAMS[name], INPUTS[layout]
    real = program(x)
    t = symfx.trace(program, x)
    (output,) = t.graph_module.graph.output_node().all_input_nodes
    assert output.meta["val"].shape == real.shape
    assert meaningful(output.meta["val"]) == meaningful(real)


def test_a_view_that_eager_mode_takes_is_taken() -> None:
    def program(x: torch.Tensor) -> torch.Tensor:
        return F.logsigmoid(x.transpose(1, 2)).view(4, -1)

    x = r(4, 7, 6)
    torch.testing.assert_close(symfx.trace(program, x)(x), program(x))


@pytest.mark.parametrize("dim", [0, 1, -1, -2])
def test_distinct_rows_along_a_dimension_from_the_end(dim: int) -> None:
    x = torch.tensor([[1.0, 1.0, 2.0], [1.0, 1.0, 3.0]])
    for program in (
        lambda x: torch.unique_consecutive(x, dim=dim),
        lambda x: torch.ops.aten.unique_dim(x, dim, True, True, True),
    ):
        t = symfx.trace(program, x, dynamic=[("n", "m")])
        torch.testing.assert_close(t(x), program(x))
        node = next(n for n in t.graph_module.graph.nodes if "unique" in str(n.target))
        shape = node.meta["val"][0].shape
        assert [str(s) for s in shape] == [("n", "m")[i] if i != dim % 2 else "u0" for i in (0, 1)]
