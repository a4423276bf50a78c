"""Models whose forward changes settings of torch around it: nothing of that is dropped."""

from __future__ import annotations

import contextlib
import cProfile
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import symfx
from symfx.optimization import fuse, optimize_for_inference


class Layers(nn.Module):
    """A convolution with its normalization, and a linear layer, in a forward to be wrapped."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn, self.head = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Linear(8, 4)

    def plain(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.bn(self.conv(x))).mean((2, 3)))


def around(context: Callable[[], Any]) -> type[nn.Module]:
    class Around(Layers):
        def forward(self, x: Tensor) -> Tensor:
            with context():
                return self.plain(x)

    return Around


class Seeds(Layers):
    def forward(self, x: Tensor) -> Tensor:
        torch.manual_seed(3)
        return self.plain(x) + torch.rand(4)


class SeedsAGenerator(Layers):
    def forward(self, x: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(3)
        return self.plain(x) + torch.rand(4, generator=generator)


class TakesAGenerator(Layers):
    def forward(self, x: Tensor) -> Tensor:
        return self.plain(x) + torch.rand(4, generator=torch.default_generator)


class KeepsAGenerator(Layers):
    def __init__(self) -> None:
        super().__init__()
        self.generator = torch.Generator().manual_seed(5)

    def forward(self, x: Tensor) -> Tensor:
        return self.plain(x) + torch.rand(4, generator=self.generator)


class ForksTheGenerator(Layers):
    def forward(self, x: Tensor) -> Tensor:
        with torch.random.fork_rng(devices=[]):
            noise = torch.rand(4)
        return self.plain(x) + noise


class AsksForGradMode(Layers):
    def forward(self, x: Tensor) -> Tensor:
        return self.plain(x) + (1 if torch.is_grad_enabled() else 2)


class AsksForAutocast(Layers):
    def forward(self, x: Tensor) -> Tensor:
        return self.plain(x) + (1 if torch.is_autocast_enabled("cpu") else 2)


class DefaultDtype(Layers):
    def forward(self, x: Tensor) -> Tensor:
        torch.set_default_dtype(torch.float64)
        try:
            return self.plain(x) + torch.ones(4)
        finally:
            torch.set_default_dtype(torch.float32)


class Swallows(Layers):
    """Code that catches the exception by which symfx stops the trace."""

    def forward(self, x: Tensor) -> Tensor:
        with contextlib.suppress(Exception):
            torch.manual_seed(3)
        return self.plain(x) + torch.rand(4)


@contextlib.contextmanager
def threads() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def deterministic() -> Any:
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


CASES: dict[str, tuple[type[nn.Module], str]] = {
    "autocast off": (around(lambda: torch.autocast("cpu", enabled=False)), "autocast"),
    "autocast on": (around(lambda: torch.autocast("cpu", torch.bfloat16)), "autocast"),
    "no_grad": (around(torch.no_grad), "grad mode"),
    "enable_grad": (around(torch.enable_grad), "grad mode"),
    "inference_mode": (around(torch.inference_mode), "grad mode"),
    "threads": (around(threads), "number of threads"),
    "deterministic": (around(deterministic), "deterministic"),
    "device": (around(lambda: torch.device("cpu")), "default device"),
    "seed": (Seeds, "sets the state of a random number generator"),
    "generator": (SeedsAGenerator, "sets the state of a random number generator"),
    "fork": (ForksTheGenerator, "sets the state of a random number generator"),
    "default generator": (TakesAGenerator, "random number generator that it is given"),
    "own generator": (KeepsAGenerator, "random number generator that it is given"),
    "grad mode asked": (AsksForGradMode, "grad mode"),
    "autocast asked": (AsksForAutocast, "autocast"),
    "default dtype": (DefaultDtype, "default dtype"),
    "swallowed": (Swallows, "sets the state of a random number generator"),
}
FRONTS: dict[str, Callable[[nn.Module, Tensor], nn.Module]] = {
    "optimize": lambda model, x: symfx.optimize(model, x),
    "optimize, no timing": lambda model, x: symfx.optimize(model, x, measure=False),
    "fuse": lambda model, x: fuse(model),
    "optimize_for_inference": lambda model, x: optimize_for_inference(model),
}


def run(model: nn.Module, x: Tensor) -> list[Tensor]:
    """Results and gradients under each grad mode and under autocast, and the next random number."""
    found = []
    for mode in (contextlib.nullcontext, torch.no_grad, lambda: torch.autocast("cpu")):
        torch.manual_seed(0)
        mine = x.clone().requires_grad_()
        with mode():
            result = model(mine)
        found += [result.detach(), torch.rand(1)]
        if result.requires_grad:
            found.append(torch.autograd.grad(result.float().square().sum(), mine)[0])
    return found


COMBINATIONS = [
    *((case, "optimize, no timing", True) for case in CASES if case != "autocast off"),
    *((case, "fuse", False) for case in CASES),
    *((case, "optimize", False) for case in ("autocast off", "autocast on", "no_grad", "seed")),
    *((case, "optimize_for_inference", True) for case in ("autocast on", "no_grad", "seed")),
]


@pytest.mark.parametrize(("case", "front", "inside"), COMBINATIONS)
def test_settings_of_forward_are_kept(case: str, front: str, inside: bool) -> None:
    torch.manual_seed(0)
    kind, _ = CASES[case]
    model = kind().eval()
    if inside:
        model = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), model, nn.ReLU()).eval()
    x = torch.randn(2, 3, 8, 8)
    state = torch.get_rng_state()
    fast = FRONTS[front](model, x)
    assert torch.equal(torch.get_rng_state(), state)
    expected, found = run(model, x), run(fast, x)
    for mine, theirs in zip(found, expected, strict=True):
        close = 0.03 if torch.bfloat16 in (mine.dtype, theirs.dtype) else 1e-3
        torch.testing.assert_close(mine, theirs, rtol=close, atol=close)


@pytest.mark.parametrize("case", CASES)
def test_the_report_says_which_setting(case: str) -> None:
    kind, reason = CASES[case]
    model = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), kind()).eval()
    report = symfx.optimize(model, torch.randn(2, 3, 8, 8), measure=False).report
    assert any(entry.node == "2" and reason in entry.why for entry in report.left_alone)
    assert any(entry.what.startswith("folded BatchNorm2d") for entry in report.rewrites)


def test_a_profiler_goes_on() -> None:
    profile = cProfile.Profile()
    with profile:
        fuse(Seeds().eval())
        after()
    assert any(getattr(entry.code, "co_name", "") == "after" for entry in profile.getstats())
    calls: list[str] = []
    sys.setprofile(lambda frame, event, arg: calls.append(frame.f_code.co_name))
    try:
        fuse(Ordinary())
        after()
    finally:
        sys.setprofile(None)
    assert {"plain", "after"} <= set(calls)


def after() -> None:
    pass


class Ordinary(Layers):
    def forward(self, x: Tensor) -> Tensor:
        return self.plain(x)


class Records(Layers):
    """A hook records the result of a part, and the forward returns the record."""

    def __init__(self) -> None:
        super().__init__()
        self.part = nn.Conv2d(3, 3, 1)
        self.part.register_forward_hook(self.record)
        self.seen: list[Tensor] = []

    def record(self, module: nn.Module, args: Any, result: Tensor) -> None:
        self.seen.append(result)

    def forward(self, x: Tensor) -> Tensor:
        self.seen.clear()
        return self.plain(self.part(x)) + sum(each.sum() for each in self.seen)


class RecordsByPatching(Records):
    """Replaces the forward of a part while it runs, as some feature extractors do."""

    def __init__(self) -> None:
        super().__init__()
        self.part = nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        self.seen.clear()
        before = self.part.forward

        def recording(*args: Any) -> Tensor:
            self.seen.append(before(*args))
            return self.seen[-1]

        self.part.forward = recording
        try:
            return self.plain(self.part(x)) + sum(each.sum() for each in self.seen)
        finally:
            del self.part.forward


class Hooks(Records):
    """Gives a part a hook while it runs."""

    def __init__(self) -> None:
        super().__init__()
        self.part = nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        handle = self.part.register_forward_hook(self.record)
        try:
            return super().forward(x)
        finally:
            handle.remove()


class Forces(Layers):
    """Returns the gradient of an energy."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = x.detach().requires_grad_()
        energy = self.plain(x).sum()
        return energy, torch.autograd.grad(energy, x, create_graph=True)[0]


class ForcesAnywhere(Forces):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            return super().forward(x)


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        (Records, "does not return its results"),
        (RecordsByPatching, "replaces the forward of a module"),
        (Hooks, "gives a module a hook"),
        (Forces, "computes gradients"),
        (ForcesAnywhere, "grad mode"),
    ],
)
@pytest.mark.parametrize("inside", [False, True])
def test_unusual_forwards_are_kept_whole(kind: type[nn.Module], why: str, inside: bool) -> None:
    torch.manual_seed(0)
    model = kind().eval()
    if inside:
        model = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), model).eval()
    x = torch.randn(2, 3, 8, 8)
    fast = symfx.optimize(model, x, measure=False)
    path = "2" if inside else kind.__name__
    assert any(entry.node == path and why in entry.why for entry in fast.report.left_alone)
    assert all(check.passed for check in fast.report.checks)
    torch.testing.assert_close(fast(x), model(x), rtol=1e-4, atol=1e-4)
