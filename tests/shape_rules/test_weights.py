"""Layers are typed by the weights that they have, not by the attributes that they were built with."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from symfx.static_migration import typecheck


def changed(layer: nn.Module, **values: Any) -> nn.Module:
    """The layer with other parameters, buffers or attributes."""
    for name, value in values.items():
        tensor = isinstance(value, torch.Tensor)
        parameter = tensor and name in layer._parameters
        setattr(layer, name, nn.Parameter(value) if parameter else value)
    return layer


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words, self.out = nn.Embedding(9, 4), nn.Linear(4, 5, bias=False)
        self.out.weight = self.words.weight

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return self.out(self.words(input))


CASES: list[tuple[nn.Module, tuple[int, ...], torch.dtype]] = [
    (changed(nn.Conv2d(3, 8, 3), weight=torch.zeros(8, 1, 3, 3)), (2, 1, 6, 6), torch.float32),
    (changed(nn.Conv2d(3, 8, 3), weight=torch.zeros(8, 1, 3, 3)), (2, 3, 6, 6), torch.float32),
    (changed(nn.Conv2d(3, 8, 3), weight=torch.zeros(8, 3, 5, 5)), (2, 3, 6, 6), torch.float32),
    (changed(nn.Conv1d(3, 8, 3), weight=torch.zeros(4, 3, 3)), (2, 3, 6), torch.float32),
    (changed(nn.Conv1d(3, 8, 3), in_channels=7), (2, 3, 6), torch.float32),
    (
        changed(nn.ConvTranspose2d(3, 8, 3, bias=False), weight=torch.zeros(3, 5, 2, 2)),
        (2, 3, 6, 6),
        torch.float32,
    ),
    (changed(nn.Embedding(10, 20), weight=torch.zeros(400, 300)), (2, 3), torch.int64),
    (changed(nn.Linear(8, 1000), out_features=10), (2, 8), torch.float32),
    (changed(nn.Linear(8, 4), weight=torch.zeros(4, 6)), (2, 6), torch.float32),
    (changed(nn.Linear(8, 4), weight=torch.zeros(5, 8)), (2, 8), torch.float32),
    (changed(nn.Bilinear(3, 3, 4), out_features=9), (2, 3), torch.float32),
    (changed(nn.BatchNorm2d(4), num_features=8), (2, 4, 3, 3), torch.float32),
    (changed(nn.BatchNorm1d(4), weight=torch.ones(8)), (2, 4), torch.float32),
    (nn.BatchNorm1d(4, affine=False, track_running_stats=False), (3, 5), torch.float32),
    (changed(nn.LayerNorm(4), weight=torch.ones(6)), (2, 4), torch.float32),
    (changed(nn.GroupNorm(2, 4), weight=torch.ones(6), bias=torch.ones(6)), (2, 6), torch.float32),
    (changed(nn.GroupNorm(2, 4), num_channels=6), (2, 4), torch.float32),
    (changed(nn.PReLU(1), weight=torch.ones(4)), (2, 4), torch.float32),
    (changed(nn.LSTMCell(8, 6), input_size=3), (2, 8), torch.float32),
    (Tied(), (2, 3), torch.int64),
    (nn.LazyLinear(5), (2, 7), torch.float32),
    (nn.LazyConv2d(4, 3), (2, 5, 6, 6), torch.float32),
    (nn.LazyBatchNorm2d(), (2, 5, 6, 6), torch.float32),
    (parametrizations.weight_norm(nn.Linear(8, 4)), (2, 8), torch.float32),
    (parametrizations.spectral_norm(nn.Conv2d(3, 4, 3)), (2, 3, 5, 5), torch.float32),
]


@pytest.mark.parametrize("case", range(len(CASES)))
def test_types_are_those_of_the_weights(case: int) -> None:
    layer, shape, dtype = CASES[case]
    names = {nn.Bilinear: ("input1", "input2")}.get(type(layer), ("input",))
    found = typecheck(layer, {name: f"[{', '.join(map(str, shape))}]" for name in names})
    try:
        result = layer.eval()(*(torch.zeros(shape, dtype=dtype) for _ in names))
    except (RuntimeError, ValueError):
        assert found.verdict == "ill-typed"
        return
    assert found.verdict == "well-typed", str(found)
    result = result[0] if isinstance(result, tuple) else result
    last = found.shapes[found.graph.output_node()]
    assert str(list(result.shape)) in last
