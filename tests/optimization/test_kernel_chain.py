"""Kernels in one call: the results of the model, in every mode and with every change of weights."""

from __future__ import annotations

import copy
import io
import random
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import symfx
from symfx.optimization import load, pipeline, tuning
from symfx.optimization.passes.chain_kernels import unchained
from symfx.optimization.runtime import compiled
from symfx.optimization.runtime.conv_kernels import COMPILED_WAYS, DIRECT
from symfx.optimization.runtime.graph_functions import laid_out_as
from symfx.optimization.runtime.kernel_chain import KernelChain
from symfx.optimization.runtime.linear_kernels import COMPILED
from symfx.optimization.runtime.tape import _STEP, NotOnTapeError, Step, Tape

pytestmark = pytest.mark.skipif(compiled.compiler() is None, reason="there is no C compiler")


@pytest.fixture(autouse=True)
def compiled_kernels(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each layer is computed by a compiled kernel, where there is one, be it fast or not."""
    wanted = (COMPILED, *COMPILED_WAYS)

    def choose(ways: dict[str, Any], *rest: Any) -> tuple[str, float]:
        return next((way for way in ways if way in wanted), DIRECT), 1.0

    monkeypatch.setattr(pipeline, "fastest_form", lambda *given: "fused")
    monkeypatch.setattr(tuning, "_fastest", choose)
    monkeypatch.setattr(tuning, "_MATTERS", 0.0)
    torch.manual_seed(0)
    with torch.no_grad():
        yield


def chains(model: nn.Module) -> list[KernelChain]:
    return [part for part in model.modules() if isinstance(part, KernelChain)]


def programs(model: nn.Module) -> int:
    return sum(len(chain._programs) for chain in chains(model))


def close(found: Tensor, expected: Tensor) -> None:
    assert found.stride() == expected.stride()
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4, equal_nan=True)


def encoder() -> nn.Module:
    layer = nn.TransformerEncoderLayer(32, 4, 48, activation="gelu", batch_first=True)
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False).eval()


class Gated(nn.Module):
    """A product of two layers, and a sum."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.up, self.down = nn.Linear(16, 40), nn.Linear(16, 40), nn.Linear(40, 16)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.down(F.silu(self.gate(x)) * self.up(x)) + x
        return y


class Inverted(nn.Module):
    """Two inverted residuals, the second with a shortcut."""

    def __init__(self, channels: int, wide: int, stride: int) -> None:
        super().__init__()

        def block(i: int, o: int, stride: int) -> nn.Sequential:
            return nn.Sequential(
                nn.Conv2d(i, wide, 1),
                nn.ReLU6(),
                nn.Conv2d(wide, wide, 3, stride, 1, groups=wide),
                nn.ReLU6(),
                nn.Conv2d(wide, o, 1),
            )

        self.start = nn.Conv2d(3, channels, 3, 1, 1)
        self.one, self.two = block(channels, 24, stride), block(24, 24, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.one(self.start(x))
        result: Tensor = y + self.two(y)
        return result


class Images(nn.Module):
    """Convolutions, poolings, a concatenation, a mean and a last layer, as in residual networks."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.pool = nn.Conv2d(3, 16, 7, 2, 3), nn.MaxPool2d(3, 2, 1)
        self.one, self.two = nn.Conv2d(16, 16, 3, 1, 1), nn.Conv2d(16, 16, 3, 1, 1)
        self.down, self.last = nn.Conv2d(16, 32, 3, 2, 1), nn.Conv2d(48, 32, 3, 1, 1)
        self.mean, self.flatten = nn.AdaptiveAvgPool2d(1), nn.Flatten()
        self.head = nn.Linear(32, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(torch.relu(self.stem(x)))
        x = torch.relu(self.two(F.relu6(self.one(x))) + x)
        y = torch.cat([F.relu(self.down(x)), F.max_pool2d(x, 3, 2, 1)], 1)
        result: Tensor = self.head(self.flatten(self.mean(F.silu(self.last(y)))))
        return result


class Lines(nn.Module):
    """Convolutions of lines in front of rows."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv1d(8, 16, 3, padding=1), nn.Conv1d(16, 16, 3, 2, 1)
        self.head = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(F.gelu(self.two(F.gelu(self.one(x)))).transpose(1, 2))
        return y


class Positions(nn.Module):
    """Lines with a table of positions in front of blocks of rows, as encoders of speech have."""

    def __init__(self, shows: bool = False) -> None:
        super().__init__()
        self.one, self.two = nn.Conv1d(8, 32, 3, padding=1), nn.Conv1d(32, 32, 3, 2, 1)
        self.table, self.norms = nn.Embedding(25, 32), nn.ModuleList([nn.LayerNorm(32)] * 3)
        self.up, self.down = nn.Linear(32, 64), nn.Linear(64, 32)
        self.shows = shows

    def forward(self, x: Tensor) -> Any:
        y = F.gelu(self.two(F.gelu(self.one(x)))).permute(0, 2, 1)
        y = shown = y + self.table(torch.arange(25, device=y.device))
        for norm in self.norms[:2]:
            y = y + self.down(F.gelu(self.up(norm(y))))
        y = self.norms[2](y)
        return (y, shown) if self.shows else y


MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "encoder": (encoder, (3, 7, 32)),
    "gated": (Gated, (5, 16)),
    "inverted": (lambda: Inverted(16, 32, 1), (2, 3, 12, 9)),
    "images": (Images, (2, 3, 45, 52)),
    "small images": (Images, (1, 3, 5, 6)),
    "lines": (Lines, (3, 8, 21)),
    "inverted, large": (lambda: Inverted(8, 96, 2), (2, 3, 50, 41)),
}


@pytest.mark.parametrize("name", MODELS)
def test_results_are_those_of_the_model(name: str) -> None:
    make, shape = MODELS[name]
    model = make().eval()
    fast = symfx.optimize(model, torch.randn(shape))
    assert chains(fast)
    for batch in (shape[0], 1, 4, shape[0]):
        for _ in range(3):
            x = torch.randn(batch, *shape[1:])
            close(fast(x), model(x))
    assert programs(fast) >= 1


@pytest.mark.parametrize("name", MODELS)
def test_numbers_that_are_not_finite(name: str) -> None:
    make, shape = MODELS[name]
    model = make().eval()
    x = torch.randn(shape)
    fast = symfx.optimize(model, x)
    fast(x)
    for number in (torch.nan, torch.inf):
        x.view(-1)[5] = number
        assert torch.equal(fast(x).isnan(), model(x).isnan())
    x = torch.randn(shape)
    close(fast(x), model(x))


def test_results_have_memory_of_their_own() -> None:
    model, x = encoder(), torch.randn(3, 7, 32)
    fast = symfx.optimize(model, x)
    first = fast(x)
    kept = first.clone()
    second = fast(torch.randn(3, 7, 32))
    assert torch.equal(first, kept)
    assert first.data_ptr() != second.data_ptr()
    first.zero_()
    close(fast(x), kept)


def test_weights_that_change_are_seen() -> None:
    model, x = encoder(), torch.randn(3, 7, 32)
    fast = symfx.optimize(model, x)
    fast(x)
    (chain,) = chains(fast)
    norms = {
        name: parameter
        for name, parameter in chain.named_parameters()
        if "norm" in name and name.endswith("weight")
    }
    (first, *_), last = norms, list(norms)[-1]
    norms[first].mul_(2.0)
    layers: Any = model
    layers.layers[0].norm1.weight.mul_(2.0)
    close(fast(x), model(x))
    owner, _, name = last.rpartition(".")
    setattr(chain.get_submodule(owner), name, nn.Parameter(torch.full((32,), 3.0)))
    layers.layers[1].norm2.weight.fill_(3.0)
    for _ in range(3):
        close(fast(x), model(x))
    assert programs(fast) == 1


def test_gradients_hooks_and_modes() -> None:
    model, x = encoder(), torch.randn(3, 7, 32)
    fast = symfx.optimize(model, x)
    fast(x)
    with torch.enable_grad():
        given = x.clone().requires_grad_()
        fast(given).sum().backward()
        assert given.grad is not None
        expected = x.clone().requires_grad_()
        model(expected).sum().backward()
        torch.testing.assert_close(given.grad, expected.grad, rtol=1e-3, atol=1e-4)
        assert fast(x).requires_grad == fast.graph_module(x).requires_grad
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert fast(x).dtype == unchained(fast.graph_module)(x).dtype
    with torch.inference_mode():
        assert fast(x).is_inference()
    called: list[str] = []
    (chain,) = chains(fast)
    layer = next(part for part in chain.modules() if hasattr(part, "ways"))
    handle = layer.register_forward_hook(lambda *given: called.append("hook"))
    fast(x)
    assert called == ["hook"]
    handle.remove()
    close(fast(x), model(x))
    assert len(called) == 1
    fast.double()
    assert fast(x.double()).dtype is torch.double


def test_threads_that_run_one_model() -> None:
    model = encoder()
    inputs = [torch.randn(3, 7, 32) for _ in range(4)]
    fast = symfx.optimize(model, inputs[0])
    expected = [fast(x) for x in inputs]
    wrong: list[int] = []

    def run(place: int) -> None:
        with torch.no_grad():
            for _ in range(50):
                if not torch.equal(fast(inputs[place]), expected[place]):
                    wrong.append(place)

    workers = [threading.Thread(target=run, args=(place,)) for place in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert wrong == []


def test_copies_and_files(tmp_path: Path) -> None:
    for name, (make, shape) in MODELS.items():
        model = make().eval()
        x = torch.randn(shape)
        fast = symfx.optimize(model, x)
        expected = fast(x)
        path = tmp_path / f"{len(name)}.safetensors"
        fast.save(path)
        buffer = io.BytesIO()
        torch.save(fast, buffer)
        buffer.seek(0)
        again: list[nn.Module] = [
            load(path),
            copy.deepcopy(fast),
            torch.load(buffer, weights_only=False),
        ]
        for other in again:
            assert len(chains(other)) == len(chains(fast))
            for _ in range(2):
                torch.testing.assert_close(other(x), expected)
            assert programs(other) == len(chains(fast))


def test_inputs_that_share_memory() -> None:
    class Sum(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Linear(8, 8), nn.Linear(8, 8)

        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            result: Tensor = self.two(self.one(x) + y)
            return result

    model, x = Sum().eval(), torch.randn(6, 8)
    fast = symfx.optimize(model, (x, x))
    for _ in range(3):
        close(fast(x, x), model(x, x))
        close(fast(x[:3], x[3:]), model(x[:3], x[3:]))
        close(fast(x[3:], x[:3]), model(x[3:], x[:3]))
        other = torch.randn(6, 8)
        close(fast(x, other), model(x, other))


@pytest.mark.parametrize("expands", [True, False])
@pytest.mark.parametrize("threads", [1, 2])
def test_separable_convolutions_of_random_sizes(expands: bool, threads: int) -> None:
    draw = random.Random(f"{expands}{threads}")
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for _ in range(8):
            wide, out = draw.choice([16, 48, 96]), draw.choice([5, 16, 40])
            size, stride = draw.choice([3, 5]), draw.choice([1, 2, 3])
            gap, pad = draw.choice([1, 2]), draw.choice([0, 1, 2])
            height, width = draw.choice([30, 75]), draw.choice([64, 101])
            batch = 1 + 2**18 // (wide * height * width)
            layers: list[nn.Module] = [nn.Conv2d(4, wide, 3)]
            if expands:
                layers += [nn.Conv2d(wide, wide, 1), nn.ReLU6()]
            middle = nn.Conv2d(wide, wide, size, stride, pad, gap, groups=wide)
            layers += [middle, nn.ReLU(), nn.Conv2d(wide, out, 1)]
            model = nn.Sequential(*layers).eval()
            x = torch.randn(batch, 4, height + 2, width + 2)
            fast = symfx.optimize(model, x, patience=torch.inf)
            fast(x)
            steps = [
                int.from_bytes(ready.program.steps[start : start + 8], "little")
                for chain in chains(fast)
                for ready in chain._programs.values()
                for start in range(0, len(ready.program.steps), _STEP.size)
            ]
            assert Step.SEPARABLE in steps
            exact = copy.deepcopy(model).double()(x.double())
            torch.testing.assert_close(fast(x), exact.float(), rtol=1e-4, atol=1e-5)
    finally:
        torch.set_num_threads(before)


def test_values_of_other_operators_are_refused() -> None:
    x = torch.randn(4)
    with Tape([x], []) as tape:
        tape.add(Step.COMBINE, (x, x, y := torch.empty(4)), 2, (4, 4, 0))
        with pytest.raises(NotOnTapeError):
            tape.add(Step.COMBINE, (y, torch.ones(4), torch.empty(4)), 2, (4, 4, 0))
        with pytest.raises(NotOnTapeError):
            tape.finish((y + 1,))
        assert tape.finish((y, 7)).results[1] == 7


def test_an_answer_that_depends_on_numbers_is_asked_each_time() -> None:
    class Asks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Linear(8, 8), nn.Linear(8, 8)

        def forward(self, x: Tensor) -> Tensor:
            y = self.one(x)
            if y.sum() > 0:
                y = -y
            result: Tensor = self.two(y)
            return result

    model, x = Asks().eval(), torch.randn(5, 8)
    fast = symfx.optimize(model, x)
    for _ in range(6):
        x = torch.randn(5, 8)
        close(fast(x), model(x))
        close(fast(-x), model(-x))


def test_lines_with_positions_are_one_call() -> None:
    model = Positions().eval()
    fast = symfx.optimize(model, torch.randn(2, 8, 50))
    assert len(chains(fast)) == 1
    assert not fast.graph_module.graph.find_nodes(op="call_function", target=laid_out_as)
    for shape in ((2, 8, 50), (1, 8, 50), (3, 8, 49)):
        for _ in range(3):
            x = torch.randn(shape)
            close(fast(x), model(x))


def test_shown_sums_keep_their_strides() -> None:
    model = Positions(shows=True).eval()
    fast = symfx.optimize(model, torch.randn(2, 8, 50))
    for shape in ((2, 8, 50), (1, 8, 50), (3, 8, 49)):
        x = torch.randn(shape)
        for found, expected in zip(fast(x), model(x), strict=True):
            close(found, expected)


@pytest.mark.parametrize("last", [False, True])
def test_a_network_of_images_is_one_call(last: bool) -> None:
    layout = torch.channels_last if last else torch.contiguous_format
    model, x = Images().eval(), torch.randn(2, 3, 45, 52)
    fast = symfx.optimize(model, x)
    (chain,) = chains(fast)
    for shape in ((2, 3, 45, 52), (1, 3, 45, 52), (9, 3, 33, 64), (2, 3, 45, 52), (1, 3, 7, 9)):
        for _ in range(3):
            given = torch.randn(shape).contiguous(memory_format=layout)
            close(fast(given), model(given))
    assert len([n for n in fast.graph_module.graph.nodes if n.op.startswith("call")]) == 2
    assert len(chain._programs) >= 4
    # The programs were noted with finite numbers.
    for number in (torch.nan, torch.inf, -torch.inf):
        given = torch.randn(2, 3, 45, 52).contiguous(memory_format=layout)
        given[1, 2, 20, 30] = number
        close(fast(given), model(given))


def test_a_check_that_other_nodes_need_stays() -> None:
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Conv2d(16, 16, 3, 1, 1), nn.Conv2d(16, 16, 3, 1, 1)
            self.grouped = nn.Conv2d(16, 16, 3, 1, 1, groups=2)

        def forward(self, x: Tensor) -> Tensor:
            y = torch.relu(self.two(torch.relu(self.one(x))))
            z: Tensor = torch.relu(self.grouped(torch.sort(y, 3)[0]))
            return z

    model, x = Both().eval(), torch.randn(2, 16, 9, 8)
    fast = symfx.optimize(model, x)
    assert chains(fast)
    for number in (1.0, torch.nan, torch.inf):
        x[0, 1, 2, 3] = number
        for _ in range(3):
            close(fast(x), model(x))
