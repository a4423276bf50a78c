"""Random programs of layers, views, writes and shared modules: optimized against eager."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import symfx
from symfx.optimization import fuse, optimize_for_inference

SEEDS = range(400 if os.environ.get("SYMFX_LONG") else 30)
CHANNELS, STEPS = 4, 14


class Program(nn.Module):
    """A straight line of random steps on values of shape ``(batch, 4, height, width)``."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        draw = random.Random(seed)
        self.modules_ = nn.ModuleList(self._module(draw) for _ in range(6))
        self.weight = nn.Parameter(torch.randn(CHANNELS, CHANNELS, 1, 1))
        self.register_buffer("mean", torch.randn(CHANNELS))
        self.register_buffer("var", torch.rand(CHANNELS) + 0.5)
        self.gain = nn.Parameter(torch.rand(CHANNELS, 1, 1) + 0.5)
        count, self.steps = 1, []
        for _ in range(STEPS):
            kind = draw.choices(list(STEP_KINDS), [w for w, _ in STEP_KINDS.values()])[0]
            places = [draw.randrange(max(0, count - 4), count) for _ in range(2)]
            self.steps.append((kind, places, draw.randrange(6)))
            count += 1

    @staticmethod
    def _module(draw: random.Random) -> nn.Module:
        make: list[Callable[[], nn.Module]] = [
            lambda: nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1),
            lambda: nn.Conv2d(CHANNELS, CHANNELS, 1, bias=False, groups=2),
            lambda: nn.Conv2d(CHANNELS, CHANNELS, 3, padding="same", padding_mode="circular"),
            lambda: nn.ConvTranspose2d(CHANNELS, CHANNELS, 3, padding=1),
            lambda: nn.BatchNorm2d(CHANNELS),
            lambda: nn.BatchNorm2d(CHANNELS, track_running_stats=False),
            lambda: nn.Sequential(nn.Conv2d(CHANNELS, CHANNELS, 1), nn.BatchNorm2d(CHANNELS)),
            lambda: nn.ReLU(inplace=draw.random() < 0.7),
            lambda: nn.Hardswish(),
            lambda: nn.Dropout(),
            lambda: nn.Identity(),
        ]
        return draw.choice(make)()

    def forward(self, x: Tensor) -> Any:
        values = [x]
        for kind, (one, other), index in self.steps:
            values.append(STEP_KINDS[kind][1](self, values[one], values[other], index))
        return values[-1], values[-2] + 0


def _write(program: Program, x: Tensor, y: Tensor, index: int) -> Tensor:
    x += y
    return x


STEP_KINDS: dict[str, tuple[int, Callable[[Program, Tensor, Tensor, int], Tensor]]] = {
    "module": (14, lambda p, x, y, i: p.modules_[i](x)),
    "add": (4, lambda p, x, y, i: x + y),
    "relu": (3, lambda p, x, y, i: F.relu(x)),
    "relu in place": (3, lambda p, x, y, i: F.relu(x, inplace=True)),
    "write": (2, _write),
    "write a number": (1, lambda p, x, y, i: x.mul_(0.5)),
    "write a view": (1, lambda p, x, y, i: x[:, :2].sigmoid_().repeat(1, 2, 1, 1)),
    "conv": (2, lambda p, x, y, i: F.conv2d(x, p.weight)),
    "scale": (2, lambda p, x, y, i: x * p.gain - 0.5),
    "norm": (2, lambda p, x, y, i: F.batch_norm(x, p.mean, p.var)),
    "view": (1, lambda p, x, y, i: x.view(x.shape[0], -1).view(x.shape)),
    "turn": (1, lambda p, x, y, i: x.transpose(2, 3).contiguous().transpose(2, 3)),
    "halves": (1, lambda p, x, y, i: torch.cat(x.chunk(2, 1)[::-1], 1)),
    "gate": (1, lambda p, x, y, i: x * torch.sigmoid(y.mean((2, 3), keepdim=True))),
}


def trained(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    model = Program(seed)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d) and module.running_mean is not None:
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias)
    return model.eval()


@torch.no_grad()
@pytest.mark.parametrize("block", range(0, len(SEEDS), 10))
def test_random_models(block: int) -> None:
    for seed in SEEDS[block : block + 10]:
        model = trained(seed)
        x = torch.randn(2, CHANNELS, 6, 5)
        mine = x.clone()
        try:
            expected = model(mine)
        except RuntimeError:
            continue  # a view that these strides do not allow, for example
        for label, make in {
            "optimize": lambda m: symfx.optimize(m, x.clone(), measure=False, check=False),
            "fuse": fuse,
            "for inference": lambda m: optimize_for_inference(
                m, {"mkldnn_layout_optimize": {"heuristic": lambda part: True}}
            ),
        }.items():
            fast = make(model)
            theirs = x.clone()
            torch.testing.assert_close(
                (fast(theirs), theirs),
                (expected, mine),
                rtol=1e-3,
                atol=1e-3,
                msg=lambda m, label=label, seed=seed: f"seed {seed}, {label}: {m}",
            )
