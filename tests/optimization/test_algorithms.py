"""Ways to compute one layer, each against eager: Winograd's algorithm, blocked stems, rows."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import symfx
from symfx.optimization import OptimizedModel, load
from symfx.optimization.runtime import compiled, compiled_conv, conv_kernels
from symfx.optimization.runtime.activations import REFERENCES, SCALARS, PostOp
from symfx.optimization.runtime.conv_kernels import (
    BLOCKED,
    DIRECT,
    GATHERED,
    TILES_OF_4,
    WINOGRAD,
    other_ways,
)
from symfx.optimization.runtime.fused_conv import FusedConv
from symfx.optimization.runtime.fused_linear import FusedLinear
from symfx.optimization.runtime.linear_kernels import CONVOLUTION, linear_ways, make_linear_kernel
from symfx.optimization.runtime.winograd import Winograd


@pytest.fixture(autouse=True)
def whatever_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fused form is taken, and no time is spent on finding the fastest way."""
    monkeypatch.setattr("symfx.optimization.pipeline.fastest_form", lambda *given: "fused")
    monkeypatch.setattr("symfx.optimization.tuning._fastest", lambda ways, *rest: (DIRECT, 1.0))
    monkeypatch.setattr("symfx.optimization.tuning._MATTERS", 0.0)


def parts(model: nn.Module) -> list[FusedConv | FusedLinear]:
    return [part for part in model.modules() if isinstance(part, FusedConv | FusedLinear)]


def made_to(
    way: str, model: nn.Module, x: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> OptimizedModel:
    """Optimized, with a way for every layer that has it, be it the fastest or not."""
    used = []

    def choose(
        ways: dict[str, Callable[[], torch.Tensor]], beside: bool = False
    ) -> tuple[str, float]:
        used.extend(name for name in ways if name == way)
        return (way if way in ways else DIRECT), 1.0

    monkeypatch.setattr("symfx.optimization.tuning._fastest", choose)
    fast = symfx.optimize(model, x)
    assert used, f"nothing can be computed {way}"
    return fast


@torch.no_grad()
def test_winograd_is_convolution() -> None:
    torch.manual_seed(0)
    sizes = [(3, 3, 1), (4, 8, 3), (5, 7, 1), (9, 8, 3), (16, 16, 1)]
    paddings = [(0, 0), (1, 1), (2, 0), (0, 3)]
    for (height, width, batch), padding in zip(itertools.cycle(sizes), paddings * 3, strict=False):
        x = torch.randn(batch, 8, height, width).contiguous(memory_format=torch.channels_last)
        weight, bias = torch.randn(16, 8, 3, 3), torch.randn(16) if batch == 1 else None
        found = Winograd(weight, bias, padding, x.shape)(x)
        wide = None if bias is None else bias.double()
        expected = F.conv2d(x.double(), weight.double(), wide, 1, padding)
        assert found.shape == expected.shape
        assert found.is_contiguous(memory_format=torch.channels_last)
        off = (found - expected).abs().max() / expected.abs().max()
        assert off < 3e-6


class Block(nn.Module):
    def __init__(self, post: nn.Module) -> None:
        super().__init__()
        self.stem, self.pool = nn.Conv2d(3, 32, 7, 2, 3), nn.MaxPool2d(3, 2, 1)
        self.one, self.two = nn.Conv2d(32, 32, 3, padding=1), nn.Conv2d(32, 32, 3, padding=1)
        self.post, self.head = post, nn.Linear(32, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.pool(torch.relu(self.stem(x)))
        y = self.post(self.two(self.post(self.one(x))) + x)
        return self.head(y.mean((2, 3)))


WITHOUT_COMPILER = (WINOGRAD, BLOCKED)
WAYS = [*WITHOUT_COMPILER, *linear_ways()]
if compiled.kernels() is not None:
    WAYS += [GATHERED, TILES_OF_4]


@torch.no_grad()
@pytest.mark.parametrize(
    ("way", "post"),
    [*((way, nn.ReLU()) for way in WAYS), (WINOGRAD, nn.SiLU()), (TILES_OF_4, nn.SiLU())],
)
def test_each_way_against_eager(
    way: str, post: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(1)
    if way in WITHOUT_COMPILER:
        for module in (conv_kernels, compiled_conv):
            monkeypatch.setattr(module, "kernels", lambda: None)
    model, x = Block(post).eval(), torch.randn(2, 3, 80, 72)
    fast = made_to(way, model, x, monkeypatch)
    fast.save(tmp_path / "fast")
    others = [copy.deepcopy(fast), load(tmp_path / "fast")]
    for each in (fast, *others):
        for given in (
            x,
            x[:1],
            torch.randn(3, 3, 64, 96),
            x.contiguous(memory_format=torch.channels_last),
        ):
            torch.testing.assert_close(each(given), model(given), rtol=1e-4, atol=1e-5)
    assert [repr(part) for part in parts(others[1])] == [repr(part) for part in parts(fast)]
    assert [part.describe() for part in parts(others[1])] == [p.describe() for p in parts(fast)]


@torch.no_grad()
def test_a_sum_beside_an_activation_that_sums_do_not_take(monkeypatch: pytest.MonkeyPatch) -> None:
    class Inverted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Conv2d(16, 16, 3, 1, 1), nn.Conv2d(16, 16, 3, 1, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.relu(self.two(F.relu6(self.one(x))) + x)

    model, x = Inverted().eval(), torch.randn(2, 16, 24, 24)
    monkeypatch.undo()  # the ways of both convolutions, which are alike, are timed
    monkeypatch.setattr("symfx.optimization.pipeline.fastest_form", lambda *given: "fused")
    torch.testing.assert_close(symfx.optimize(model, x)(x), model(x), rtol=1e-4, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("way", linear_ways())
def test_residual_rows(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Feed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.up, self.down = nn.Linear(16, 64), nn.Linear(64, 16)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + self.down(F.gelu(self.up(x)))

    model, x = Feed().eval(), torch.randn(2, 5, 16)
    fast = made_to(way, model, x, monkeypatch)
    assert [part.adds for part in parts(fast)] == [False, True]
    for given in (
        x,
        x.transpose(0, 1),
        torch.randn(10, 16),
        torch.randn(16),
        torch.randn(3, 0, 16),
    ):
        torch.testing.assert_close(fast(given), model(given), rtol=1e-4, atol=1e-5)
        assert fast(given).stride() == model(given).stride()


@torch.no_grad()
def test_layers_that_have_no_faster_algorithm() -> None:
    options = [
        {"stride": 2},
        {"dilation": 2},
        {"groups": 2},
        {"kernel_size": 5, "padding": 2},
        {"out_channels": 8},
    ]
    for option in options:
        conv = nn.Conv2d(**{"in_channels": 64, "out_channels": 64, "kernel_size": 3, **option})
        fast = symfx.optimize(conv.eval(), torch.randn(1, 64, 12, 12), measure=False)
        for part in parts(fast):
            form = part.form()
            direct = [] if form.groups > 1 or compiled.kernels() is None else [GATHERED]
            assert other_ways(form, (1, 64, 12, 12)) == direct


@torch.no_grad()
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_a_number_is_not_lost(bad: float) -> None:
    torch.manual_seed(2)
    for post in (nn.ReLU(), nn.ReLU6(), nn.Hardsigmoid(), nn.Hardtanh()):
        model, x = Block(post).eval(), torch.randn(2, 3, 32, 32)
        model.head = nn.Conv2d(32, 4, 1)
        body = nn.Sequential(model.stem, nn.ReLU(), model.pool, model.one, post, model.head).eval()
        fast = symfx.optimize(body, x)
        y = x.clone()
        y[1, 2, 9, 9] = bad
        expected = body(y)
        assert torch.isnan(expected).any() or bad != bad
        torch.testing.assert_close(fast(y), expected, rtol=1e-4, atol=1e-5, equal_nan=True)


@torch.no_grad()
def test_convolutions_of_lines_are_fused() -> None:
    torch.manual_seed(3)
    model = nn.Sequential(
        nn.Conv1d(4, 8, 3, padding=1, stride=2),
        nn.BatchNorm1d(8),
        nn.GELU(),
        nn.Conv1d(8, 8, 5, groups=2),
    ).eval()
    x = torch.randn(2, 4, 40)
    fast = symfx.optimize(model, x, measure=False)
    assert [(part.rank, part.post.name) for part in parts(fast)] == [(1, "gelu"), (1, "none")]
    for given in (x, x[:1], torch.randn(3, 4, 33), torch.randn(0, 4, 40)):
        torch.testing.assert_close(fast(given), model(given), rtol=1e-4, atol=1e-5)
        assert fast(given).stride() == model(given).stride()


@torch.no_grad()
@pytest.mark.parametrize("name", REFERENCES)
@pytest.mark.parametrize("way", linear_ways())
def test_each_activation_behind_rows(way: str, name: str) -> None:
    torch.manual_seed(0)
    scalars = {"hardtanh": (-0.5, 1.5), "leaky_relu": (0.1,)}.get(name, ())
    assert len(scalars) == SCALARS.get(name, 0)
    x, weight = torch.randn(6, 33), torch.randn(17, 33) / 4
    for algorithm in ("none", "tanh") if name == "gelu" else ("",):
        post = PostOp(name, scalars, algorithm)
        for bias, other in [(torch.randn(17), None), (None, torch.randn(6, 17))]:
            if way == CONVOLUTION and other is not None and name not in ("none", "relu"):
                continue  # `can_fuse` refuses it
            kernel = make_linear_kernel(way, weight, bias, post, 6)
            expected = F.linear(x, weight, bias)
            expected = expected if other is None else expected + other
            expected = expected if post.function is None else post.function(expected)
            found = kernel(x, other, False)
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
            assert found.is_contiguous()
