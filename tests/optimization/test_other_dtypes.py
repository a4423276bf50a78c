"""bfloat16 and int8: right within their error, only where they gain, in files too."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import symfx
from symfx import optimization
from symfx.errors import OptimizationError
from symfx.optimization import pipeline, tuning
from symfx.optimization.runtime import compiled, quantized_linear
from symfx.optimization.runtime.conv_kernels import BFLOAT16, has_bfloat16
from symfx.optimization.runtime.quantized_linear import INT8, has_int8, quantized
from symfx.optimization.saving import write_graph

needs_bfloat16 = pytest.mark.skipif(not has_bfloat16(), reason="this CPU has no bfloat16")
needs_int8 = pytest.mark.skipif(not has_int8(), reason="this CPU has no fast 8-bit integers")
DTYPES = [
    pytest.param(torch.bfloat16, id="bfloat16", marks=needs_bfloat16),
    pytest.param(torch.int8, id="int8", marks=needs_int8),
]


class Residual(nn.Module):
    """A layer whose result is added to its input, on either side of the sum."""

    def __init__(self, kind: type[nn.Module], *sizes: int, **more: int) -> None:
        super().__init__()
        self.first, self.second = kind(*sizes, **more), kind(*sizes, **more)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.first(x) + x)
        return x + self.second(x)


MODELS = {
    "linear": (lambda: nn.Linear(7, 5, bias=False), (7,)),
    "linear, gelu": (
        lambda: nn.Sequential(nn.Linear(64, 96), nn.GELU("tanh"), nn.Linear(96, 3)),
        (50, 64),
    ),
    "linear, three dimensions": (lambda: nn.Sequential(nn.Linear(16, 32), nn.SiLU()), (2, 9, 16)),
    "linear, residual": (lambda: Residual(nn.Linear, 32, 32), (6, 32)),
    "attention": (lambda: nn.TransformerEncoderLayer(32, 4, 64, batch_first=True), (3, 11, 32)),
    "conv1d": (
        lambda: nn.Sequential(nn.Conv1d(16, 32, 3), nn.ReLU(), nn.Conv1d(32, 8, 3, 2)),
        (4, 16, 40),
    ),
    "conv2d, groups": (
        lambda: nn.Sequential(nn.Conv2d(16, 32, 3, groups=4), nn.GELU()),
        (2, 16, 9, 9),
    ),
    "conv2d, residual": (lambda: Residual(nn.Conv2d, 16, 16, 3, padding=1), (2, 16, 9, 9)),
    "depthwise": (
        lambda: nn.Sequential(nn.Conv2d(32, 32, 3, groups=32), nn.ReLU6()),
        (2, 32, 9, 9),
    ),
    "conv3d": (lambda: nn.Sequential(nn.Conv3d(4, 8, 3), nn.ReLU()), (2, 4, 6, 7, 8)),
    "transposed": (
        lambda: nn.Sequential(nn.ConvTranspose2d(16, 8, 3, 2), nn.ReLU()),
        (2, 16, 5, 5),
    ),
    "pooling": (
        lambda: nn.Sequential(nn.Conv2d(3, 16, 7, 2, 3), nn.ReLU(), nn.MaxPool2d(3, 2, 1)),
        (2, 3, 32, 32),
    ),
}


@torch.no_grad()
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", MODELS)
def test_results_are_near_at_all_sizes_and_nan_stays(name: str, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    make, shape = MODELS[name]
    model, x = make().eval(), torch.randn(shape)
    fast = symfx.optimize(model, x, dtype=dtype, measure=False)
    way = {torch.int8: INT8, torch.bfloat16: BFLOAT16}[dtype]
    changed = any(way in rewrite.what for rewrite in fast.report.rewrites)
    assert changed == (dtype is torch.bfloat16 or "linear" in name or name == "attention")
    for batch in (x, x[:1], torch.cat([x, x])) if x.dim() > 1 else (x,):
        found, expected = fast(batch), model(batch)
        assert found.dtype is torch.float32 and found.stride() == expected.stride()
        error = float((found - expected).abs().max() / expected.abs().max())
        assert error < (0.05 if dtype is torch.int8 else 0.02)
        assert not changed or error > 1e-6  # it is computed in the other dtype
    for odd in (float("nan"), float("inf")):
        broken = x.clone()
        broken.view(-1)[3] = odd
        assert torch.equal(torch.isnan(fast(broken)), torch.isnan(model(broken)))


@torch.no_grad()
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_layer_takes_a_dtype_only_where_it_gains(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = nn.Sequential(nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 32)).eval()
    x = torch.randn(8, 64)
    ratios = iter([0.5, 1.5])
    medians = {"float32": 3.0, str(dtype): 2.0, "original": 4.0, "fused": 3.0, "folded": 4.0}
    monkeypatch.setattr(pipeline, "tune", lambda *args: None)
    monkeypatch.setattr(
        pipeline, "median_seconds", lambda forms, trials: {n: medians[n] for n in forms}
    )
    monkeypatch.setattr(pipeline, "fastest_form", lambda *args: "fused")
    monkeypatch.setattr(tuning, "_duel", lambda *args: next(ratios))
    low = symfx.optimize(model, x, dtype=dtype)
    changed = [rewrite for rewrite in low.report.rewrites if rewrite.what.startswith("computed")]
    assert [len(rewrite.nodes) for rewrite in changed] == [1]
    assert "2.00 times as fast as in float32" in changed[0].what
    assert any("not faster" in left.why for left in low.report.left_alone)
    assert f"{dtype} is 1.50 times as fast as float32" in low.report.notes[-1]
    assert "error" in low.report.notes[-1]
    assert low.report.checks[0].tolerance == optimization.TOLERANCES[dtype]
    medians[str(dtype)] = 3.0
    ratios = iter([0.5, 0.5])
    plain = symfx.optimize(model, x, dtype=dtype)
    assert any(f"{dtype} is not faster here" in note for note in plain.report.notes)
    assert plain.report.checks[0].tolerance == optimization.TOLERANCES[torch.float32]
    torch.testing.assert_close(plain(x), model(x), rtol=1e-4, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize(("dtype", "why"), [
    (torch.bfloat16, "no instructions for bfloat16"),
    (torch.int8, "no fast instructions for 8-bit integers"),
])  # fmt: skip
def test_a_cpu_without_instructions_computes_in_float32(
    dtype: torch.dtype, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "has_bfloat16", lambda: False)
    monkeypatch.setattr(pipeline, "has_int8", lambda: False)
    model, x = nn.Linear(8, 4).eval(), torch.randn(3, 8)
    fast = symfx.optimize(model, x, dtype=dtype, measure=False)
    assert any(why in note for note in fast.report.notes)
    torch.testing.assert_close(fast(x), model(x))


@torch.no_grad()
@pytest.mark.parametrize("dtype", DTYPES)
def test_files_keep_the_dtype(dtype: torch.dtype, tmp_path: Path) -> None:
    model = nn.Sequential(nn.Conv2d(8, 8, 3), nn.Flatten(), nn.Linear(8 * 9, 5)).eval()
    x = torch.randn(2, 8, 5, 5)
    low = symfx.optimize(model, dtype=dtype, measure=False)
    expected = low(x)
    low.save(tmp_path / "low")
    assert torch.equal(optimization.load(tmp_path / "low")(x), expected)
    other = torch.randn(7, 8, 5, 5)
    assert torch.equal(optimization.load(tmp_path / "low")(other), low(other))


@torch.no_grad()
def test_files_that_name_one_dtype_for_all_layers_are_read(tmp_path: Path) -> None:
    model, x = nn.Sequential(nn.Linear(64, 32), nn.Linear(32, 8)).eval(), torch.randn(5, 64)
    fast = symfx.optimize(model, x, measure=False)
    assert fast.graph_module is not None
    write_graph(fast.graph_module, torch.bfloat16, tmp_path / "old")
    again = optimization.load(tmp_path / "old")
    assert again.dtype is (torch.bfloat16 if has_bfloat16() else None)
    torch.testing.assert_close(again(x), model(x), rtol=0.1, atol=0.1)


def test_options_that_exclude_each_other() -> None:
    for dtype in (torch.float16, torch.qint8):
        with pytest.raises(OptimizationError, match=r"pass torch\.bfloat16 or torch\.int8"):
            symfx.optimize(nn.Linear(2, 2), torch.ones(1, 2), dtype=dtype)
    for dtype in (torch.bfloat16, torch.int8):
        with pytest.raises(OptimizationError, match="leave out fuse"):
            symfx.optimize(nn.Linear(2, 2), torch.ones(1, 2), dtype=dtype, fuse=False)


@needs_int8
def test_gradients_take_the_plain_way() -> None:
    model, x = nn.Linear(16, 8).eval(), torch.randn(3, 16)
    low = symfx.optimize(model, x, dtype=torch.int8, measure=False)
    given = x.clone().requires_grad_()
    low(given).sum().backward()
    torch.testing.assert_close(given.grad, model.weight.sum(0).expand(3, 16))


NUMBERS = [
    torch.randn(1),
    torch.randn(4099),
    torch.rand(33) + 1,
    -torch.rand(16),
    torch.zeros(20),
    torch.randn(40) * 1e-38,
    torch.randn(40) * 1e37,
    torch.randn(3, 5, 7),
]


@pytest.mark.parametrize("numbers", NUMBERS, ids=str(range(len(NUMBERS))).format)
@pytest.mark.parametrize("with_compiler", [True, False])
def test_bytes_stand_for_the_nearest_steps(
    numbers: Tensor, with_compiler: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not with_compiler:
        monkeypatch.setattr(quantized_linear, "kernels", lambda: None)
    elif compiled.kernels() is None:
        pytest.skip("there is no compiler")
    found = quantized(numbers)
    assert found is not None
    whole, step, zero = found
    assert whole.dtype is torch.uint8 and whole.shape == numbers.shape and 0 <= zero <= 255
    restored = (whole.double() - zero) * step
    assert float((restored - numbers).abs().max()) <= 0.51 * step + 1e-30
    span = max(float(numbers.max()), 0.0) - min(float(numbers.min()), 0.0)
    assert step == pytest.approx(max(span / 255, 1e-30), rel=1e-5)


@pytest.mark.parametrize("odd", [float("nan"), float("inf"), -float("inf"), 3e38])
@pytest.mark.parametrize("place", [0, 20, 34])
@pytest.mark.parametrize("with_compiler", [True, False])
def test_numbers_without_a_step_are_not_quantized(
    odd: float, place: int, with_compiler: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not with_compiler:
        monkeypatch.setattr(quantized_linear, "kernels", lambda: None)
    numbers = torch.randn(35)
    numbers[place], numbers[10] = odd, -3e38 if odd == 3e38 else 0.0
    assert quantized(numbers) is None
