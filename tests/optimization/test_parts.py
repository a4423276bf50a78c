"""Models whose outermost forward cannot be traced: their parts are optimized."""

from __future__ import annotations

import copy
import io
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import symfx
from symfx.optimization import contest, load, pipeline
from symfx.optimization.graphs.capture import copy_of
from symfx.optimization.runtime.fused_conv import FusedConv
from symfx.optimization.runtime.fused_linear import FusedLinear


@pytest.fixture(autouse=True)
def whatever_is_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fused form is taken, whatever this machine finds faster at these sizes."""
    monkeypatch.setattr(pipeline, "fastest_form", lambda *given: "fused")
    monkeypatch.setattr(pipeline, "restore_idle_parts", lambda module: None)


class Block(nn.Module):
    """A block that can be traced; ``scale`` is an attribute that its owner reads."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.scale = 0.5

    def forward(self, x: Tensor, residual: Tensor | None = None, sharp: bool = False) -> Tensor:
        y = torch.relu(self.bn(self.conv(x)))
        y = y if residual is None else y + residual
        return y * 2 if sharp else y


class Branches(nn.Module):
    """Branches on a value, so that torch.fx cannot trace it."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([Block(), Block(), Block()])
        self.shared = self.blocks[0]
        self.inner = Deeper()
        self.unused = nn.Linear(3, 3)

    def forward(self, x: Tensor, sharp: bool = False) -> tuple[Tensor, float]:
        if float(x.detach().abs().sum()) > 1e12:
            return x, 0.0
        for block in self.blocks:
            assert isinstance(block, Block)
            x = block(x, sharp=sharp) * block.scale
        x = self.shared(x, x)
        return self.inner(x), self.blocks[1].bn.weight.sum().item()


class Deeper(nn.Module):
    """Cannot be traced either, and reads the weight of a layer that it calls."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 4))
        self.last = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.head(x.mean((2, 3)))
        y = y + 1 if bool((y > 1e9).any()) else y
        return self.last(y.to(self.last.weight.dtype)) @ self.last.weight


def made(kind: type[nn.Module] = Branches) -> nn.Module:
    torch.manual_seed(0)
    model = kind().eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    return model


def close(found: Any, expected: Any) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5, equal_nan=True)


@torch.no_grad()
def test_each_part_that_can_be_traced_is_optimized() -> None:
    model, x = made(), torch.randn(2, 4, 8, 8)
    state = copy.deepcopy(model.state_dict())
    fast = symfx.optimize(model, x)
    assert len({m for m in fast.modules() if isinstance(m, FusedConv)}) == 3
    assert len({m for m in fast.modules() if isinstance(m, FusedLinear)}) == 3
    names = [rewrite.nodes for rewrite in fast.report.rewrites]
    assert ("blocks.0.conv", "blocks.0.bn") in names
    left = {entry.node: entry.why for entry in fast.report.left_alone}
    assert "torch.fx cannot trace it" in left["Branches"]
    for shape in [(2, 4, 8, 8), (1, 4, 5, 7), (3, 4, 9, 9)]:
        x = torch.randn(shape)
        close(fast(x), model(x))
    close(copy_of(fast)(x), model(x))
    torch.testing.assert_close(model.state_dict(), state, rtol=0, atol=0)
    assert all(
        type(module) is type(twin) for module, twin in zip(model.modules(), made().modules())
    )


@torch.no_grad()
def test_calls_unlike_the_example_run_the_parts_own_forward() -> None:
    model, x = made(), torch.randn(2, 4, 8, 8)
    fast = symfx.optimize(model, x)
    block, twin = (each.blocks[0] for each in (fast.graph_module.call, model))
    for args, kwargs in [
        ((x,), {"sharp": True}),
        ((x, x), {"sharp": False}),
        ((x,), {}),
        ((), {"x": x, "residual": x}),
    ]:
        close(block(*args, **kwargs), twin(*args, **kwargs))
    with torch.enable_grad():
        leaf = x.clone().requires_grad_()
        (mine,) = torch.autograd.grad(fast(leaf)[0].sum(), leaf)
        (theirs,) = torch.autograd.grad(model(leaf)[0].sum(), leaf)
    torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-4)
    with torch.autocast("cpu"):
        assert fast(x)[0].dtype == model(x)[0].dtype
    close(copy_of(fast).double()(x.double()), copy_of(model).double()(x.double()))
    train, twin = copy_of(fast).train(), copy_of(model).train()
    close(train(x), twin(x))
    other, loaded = made(), copy_of(fast)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(1.5)
    loaded.graph_module.call.load_state_dict(other.state_dict())
    close(loaded(x), other(x))


@torch.no_grad()
def test_parts_can_be_pickled_and_copied() -> None:
    model, x = made(), torch.randn(2, 4, 8, 8)
    fast = symfx.optimize(model, x)
    stored = io.BytesIO()
    torch.save(fast, stored)
    stored.seek(0)
    for again in (
        pickle.loads(pickle.dumps(fast)),
        copy.deepcopy(fast),
        torch.load(stored, weights_only=False),
    ):
        close(again(x), model(x))
        assert any(isinstance(module, FusedConv) for module in again.modules())


def test_without_a_run_no_part_is_optimized() -> None:
    fast = symfx.optimize(made(), torch.randn(2, 4, 8, 8), check=False, measure=False)
    assert not any(isinstance(module, FusedConv) for module in fast.modules())


@torch.no_grad()
def test_folding_alone_reaches_the_parts_too() -> None:
    model, x = made(), torch.randn(2, 4, 8, 8)
    fast = symfx.optimize(model, x, fuse=False)
    assert any(rewrite.what == "folded BatchNorm2d into Conv2d" for rewrite in fast.report.rewrites)
    assert not any(isinstance(module, FusedConv) for module in fast.modules())
    close(fast(x), model(x))


class Recurrent(nn.Module):
    """Calls one part with results of itself, in a loop whose length is a value."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 8))

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(2 + int(x.sum().item() > 1e9)):
            x = x + self.cell(x)
        return x


class WritesIntoItsInput(nn.Module):
    """The part writes to its argument, which its owner reads again."""

    def __init__(self) -> None:
        super().__init__()
        self.part = Overwrites()

    def forward(self, x: Tensor) -> Tensor:
        x = x * (2 if bool(x.sum() > 1e9) else 1)
        return self.part(x) + x


class Overwrites(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        x.mul_(2)
        return F.relu(self.layer(x))


class Counts(nn.Module):
    """The part counts its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.part = CountsCalls()

    def forward(self, x: Tensor) -> Tensor:
        return self.part(x) if bool(x.sum() < 1e9) else x


class CountsCalls(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.calls, self.layer = 0, nn.Sequential(nn.Linear(8, 8), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.layer(x) * self.calls


@torch.no_grad()
@pytest.mark.parametrize("kind", [Recurrent, WritesIntoItsInput, Counts])
@pytest.mark.parametrize("measure", [False, True])
def test_the_results_are_those_of_the_model(kind: type[nn.Module], measure: bool) -> None:
    model, x = made(kind), torch.randn(3, 8)
    fast, twin = symfx.optimize(model, x, measure=measure), copy_of(model)
    for _ in range(2):
        mine, theirs = x.clone(), x.clone()
        close((fast(mine), mine), (twin(theirs), theirs))


class Unchanged(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x)).relu()


def test_a_slower_result_is_not_returned(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.undo()
    slower = {"original": 1.0, "fused": 2.0, "folded": 1.5}
    monkeypatch.setattr(contest, "median_seconds", lambda forms, trials: dict(slower))
    model, x = Unchanged().eval(), torch.randn(2, 4, 8, 8)
    fast = symfx.optimize(model, x)
    assert "the model is returned unchanged" in str(fast.report) and not fast.report.rewrites
    assert torch.equal(fast(x), model(x))
    # A file holds its operators: the class of the model is not torch's.
    fast.save(tmp_path / "unchanged.safetensors")
    again = load(tmp_path / "unchanged.safetensors")
    assert torch.equal(again(x), model(x)) and torch.equal(again(x[:1]), model(x[:1]))


class SizesToAWholePart(nn.Module):
    """A part that is kept whole is given the sizes of a value between fused operators."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 1)
        self.part = TakesSizes()

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.first(x))
        return self.part(self.second(y), y.shape)


class TakesSizes(nn.Module):
    def forward(self, x: Tensor, sizes: torch.Size) -> Tensor:
        return x.reshape(sizes[0], -1) if bool(x.sum() < 1e9) else x


class PixelToAWholePart(nn.Module):
    """A part that is kept whole resizes an image of one pixel: it reads strides of size one."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(4, 8, 3, padding=1), nn.Conv2d(8, 8, 1)
        self.part = Resizes()

    def forward(self, x: Tensor) -> Tensor:
        return self.part(self.second(torch.relu(self.first(x)).mean((2, 3), keepdim=True)))


class Resizes(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(x, (5, 6)) if bool(x.sum() < 1e9) else x


class MixedConcatenation(nn.Module):
    """A concatenation of values in two layouts is contiguous, and so is the result."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(4, 4, 1), nn.Conv2d(8, 4, 1)
        self.second.weight.data.mul_(2)

    def forward(self, x: Tensor) -> Tensor:
        last = (x + 1).contiguous(memory_format=torch.channels_last)
        return self.second(torch.cat([self.first(last), self.first(x)], 1))


class SeveralFromAWholePart(nn.Module):
    """A part that is kept whole returns a tuple, and NaN in it reaches the fused operators."""

    def __init__(self) -> None:
        super().__init__()
        self.part, self.conv = ReturnsSeveral(), nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        one, two = self.part(x)
        return torch.relu(self.conv(one)) + torch.relu(self.conv(two["x"]))


class ReturnsSeveral(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        return (torch.log(x - 0.5) if bool(x.sum() < 1e9) else x), {"x": x}


class LayersOfConstants(nn.Module):
    """Linear layers of a buffer, as of a table of positions."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("table", torch.randn(5, 4))
        self.mlp, self.layer = nn.Sequential(nn.Linear(4, 8), nn.ReLU()), nn.Linear(4, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) @ self.mlp(self.table).t()


@torch.no_grad()
@pytest.mark.parametrize(
    ("kind", "shape"),
    [
        (SizesToAWholePart, (2, 4, 6, 6)),
        (PixelToAWholePart, (2, 4, 6, 6)),
        (MixedConcatenation, (2, 4, 6, 6)),
        (SeveralFromAWholePart, (2, 4, 6, 6)),
        (LayersOfConstants, (3, 4)),
    ],
)
def test_what_the_zoo_found(kind: type[nn.Module], shape: tuple[int, ...]) -> None:
    model, x = made(kind), torch.randn(shape)
    fast = symfx.optimize(model, x)
    close(fast(x), model(x))
    assert fast(x).stride() == model(x).stride()
