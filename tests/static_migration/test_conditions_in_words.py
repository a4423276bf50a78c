"""Conditions are printed as remainders and bounds of single names, where they say no more."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from symfx.static_migration import typecheck


class Program(nn.Module):
    def __init__(self, function: Any, layer: nn.Module | None = None) -> None:
        super().__init__()
        self.function, self.layer = function, layer

    def forward(self, x):
        return self.function(x if self.layer is None else self.layer(x))


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down, self.up = nn.Conv1d(3, 8, 3, 2, 1), nn.ConvTranspose1d(8, 3, 3, 2, 1)

    def forward(self, x):
        return x + self.up(self.down(x))


def windows(x: Any) -> Any:
    return x.view(x.shape[0], x.shape[1] // 7, 7, x.shape[2] // 5, 5, 8)


def pyramid(x: Any) -> Any:
    small = F.max_pool2d(F.max_pool2d(x, 2), 2)
    return torch.cat([F.interpolate(small, scale_factor=4), x], 1)


@pytest.mark.parametrize(
    "module, given, conditions",
    [
        (Program(windows), "[n, h, w, 8]", ["h % 7 == 0", "w % 5 == 0"]),
        (Program(pyramid), "[n, 3, h, w]", ["h % 4 == 0", "w % 4 == 0"]),
        (Residual(), "[n, 3, t]", ["t % 2 == 1 or t == 2"]),
        (
            Program(lambda x: x.flatten(1).view(x.shape[0], -1, 6)),
            "[n, t, 3]",
            ["t % 2 == 0"],
        ),
    ],
)
def test_conditions_are_those_of_eager(
    module: nn.Module, given: str, conditions: list[str]
) -> None:
    found = typecheck(module, {"x": given})
    assert found.conditions == conditions
    names = [part for part in given[1:-1].split(", ") if part.isalpha()]
    for size in range(1, 36):
        for other in (5, size):
            sizes = dict(zip(names, (2, size, other), strict=False))
            shape = [sizes.get(part) or int(part) for part in given[1:-1].split(", ")]
            try:
                with torch.no_grad():
                    module(torch.rand(shape))
                runs = True
            except RuntimeError:
                runs = False
            assert runs == all(eval(condition, {}, sizes) for condition in conditions), sizes
