"""`symfx.optimize`: folding, fusing, the report, the check, and errors."""

from __future__ import annotations

import concurrent.futures
import copy
import dataclasses
import functools
import io
import math
import pickle
import subprocess
import sys
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import symfx
from symfx import optimization
from symfx.errors import InputMismatchError, OptimizationError
from symfx.optimization import optimize_for_inference, pipeline
from symfx.optimization.contest import fastest_form
from symfx.optimization.graphs import effects
from symfx.optimization.reference import first_use
from symfx.optimization.runtime import layers
from symfx.optimization.runtime.fused_conv import FusedConv
from symfx.optimization.runtime.leaf_calls import Effect


def trained(model: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias)
    return model.eval()


def kinds(model: symfx.OptimizedModel) -> list[str]:
    graph = model.graph_module
    return [
        type(graph.get_submodule(n.target)).__name__ if n.op == "call_module" else str(n.target)
        for n in graph.graph.nodes
        if n.op.startswith("call")
    ]


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.bn = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.b, self.bn2 = nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.drop, self.head = nn.Dropout(), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn(self.a(x)), inplace=True)
        z = self.bn2(self.b(y))
        z += y
        z = F.relu(z, inplace=True)
        return self.head(self.drop(z.mean((2, 3))))


@torch.no_grad()
def test_a_residual_network_becomes_two_fused_operators() -> None:
    model = trained(Residual())
    fast = symfx.optimize(model, torch.randn(2, 3, 8, 8), measure=False)
    assert kinds(fast)[1:5] == ["FusedConv", "FusedConv", "mean", "Linear"]
    first, second = (m for m in fast.modules() if isinstance(m, FusedConv))
    # The second takes what it adds, so that the sum must not be written over it.
    assert (first.adds, second.adds, second.accumulates) == (False, True, False)
    assert first.post.name == second.post.name == "relu"
    for shape in [(2, 3, 8, 8), (1, 3, 8, 8), (7, 3, 5, 11), (0, 3, 8, 8)]:
        x = torch.randn(shape)
        torch.testing.assert_close(fast(x), model(x), rtol=1e-4, atol=1e-5)


def test_the_report(monkeypatch: pytest.MonkeyPatch) -> None:
    def timed(*given: Any) -> str:
        fastest_form(*given)
        return "fused"  # whatever is faster here

    monkeypatch.setattr(pipeline, "fastest_form", timed)
    model = trained(nn.Sequential(Residual(), nn.BatchNorm1d(5)))
    model.append(nn.Dropout().train())
    fast = symfx.optimize(model, torch.randn(3, 3, 8, 8), patience=math.inf)
    report = fast.report
    folded = [r for r in report.rewrites if r.what.startswith("folded")]
    assert [(r.what, len(r.nodes)) for r in folded] == [
        ("folded BatchNorm2d into Conv2d", 2),
        ("folded BatchNorm2d into Conv2d", 2),
        ("folded BatchNorm1d into Linear", 2),
    ]
    assert any("drops at random" in entry.why for entry in report.left_alone)
    assert [check.batch for check in report.checks] == [3, 1]
    assert all(check.passed and 0 <= check.relative < 1e-4 for check in report.checks)
    assert {"capture", "folding", "check"} <= set(report.seconds)
    text = str(report)
    for piece in ("left alone", "checked against the original", "batch 3", "check:", "ms"):
        assert piece in text
    assert {"original", "fused"} <= set(report.timings) <= {"original", "folded", "fused"}


@torch.no_grad()
def test_gradients_autocast_doubles_and_export_take_the_plain_way() -> None:
    model = trained(Residual())
    fast = symfx.optimize(model, torch.randn(2, 3, 8, 8), measure=False)
    x = torch.randn(2, 3, 8, 8)
    with torch.enable_grad():
        (mine,) = torch.autograd.grad(fast(leaf := x.clone().requires_grad_()).sum(), leaf)
        (theirs,) = torch.autograd.grad(model(leaf := x.clone().requires_grad_()).sum(), leaf)
    torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-4)
    with torch.autocast("cpu"):
        assert fast(x).dtype == model(x).dtype == torch.bfloat16
    torch.testing.assert_close(
        copy.deepcopy(fast).double()(x.double()),
        copy.deepcopy(model).double()(x.double()),
        rtol=1e-4,
        atol=1e-5,
    )
    exported = torch.export.export(fast.graph_module, (x,)).module()
    torch.testing.assert_close(exported(x), model(x), rtol=1e-4, atol=1e-5)
    mapped = torch.vmap(fast, in_dims=0)(x[:, None])
    torch.testing.assert_close(mapped[:, 0], model(x), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(copy.deepcopy(fast)(x), fast(x))


@torch.no_grad()
@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("relu", nn.ReLU()),
        ("sigmoid", nn.Sigmoid()),
        ("tanh", nn.Tanh()),
        ("swish", nn.SiLU(inplace=True)),
        ("hardswish", nn.Hardswish()),
        ("hardsigmoid", nn.Hardsigmoid()),
        ("hardtanh", nn.ReLU6()),
        ("hardtanh", nn.Hardtanh(-2, 0.5)),
        ("leaky_relu", nn.LeakyReLU(0.3)),
        ("gelu", nn.GELU()),
        ("gelu", nn.GELU("tanh")),
    ],
    ids=str,
)
@pytest.mark.parametrize("layer", [nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d])
def test_activations_are_fused(name: str, function: nn.Module, layer: Any) -> None:
    model = nn.Sequential(layer(4, 6, 3, stride=2, padding=1, groups=2), function).eval()
    x = 3 * torch.randn(2, 4, *[7] * (3 if layer is nn.Conv3d else 2))
    fast = symfx.optimize(model, x, measure=False)
    torch.testing.assert_close(fast(x), model(x), rtol=1e-4, atol=1e-5)
    fused = [m for m in fast.modules() if isinstance(m, FusedConv)]
    if torch.backends.mkldnn.is_available():
        assert [m.post.name for m in fused] == [name]


class Cleanup(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(6, 6))
        self.norm = nn.LayerNorm(6)

    def forward(self, x: Tensor) -> Tensor:
        y = F.linear(x, (self.weight * 2).t().contiguous())  # a constant
        a, b = torch.sigmoid(y) + 1, torch.sigmoid(y) + 1.0  # not the same: 1 and 1.0
        c = torch.sigmoid(y) + 1
        d = (a * c + b).transpose(0, 1).transpose(1, 0).permute(1, 2, 0).permute(2, 0, 1)
        e = d.reshape(-1, 6).view(x.shape[0], -1).contiguous().contiguous()
        return e.flatten(0).reshape(3, -1)


@torch.no_grad()
def test_constants_duplicates_and_reshapes() -> None:
    model = Cleanup().eval()
    x = torch.randn(3, 4, 6)
    fast = symfx.optimize(model, x, measure=False)
    torch.testing.assert_close(fast(x), model(x))
    names = kinds(fast)
    assert sum("sigmoid" in name for name in names) == 1
    assert not {"transpose", "permute", "t"} & set(names)
    assert sum(name in ("reshape", "view") for name in names) == 1
    what = {rewrite.what for rewrite in fast.report.rewrites}
    assert {"computed ahead", "computed once", "joined"} <= what


class Affine(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        self.gain = nn.Parameter(torch.randn(4, 1, 1))
        self.fc, self.row = nn.Linear(4, 4), nn.Parameter(torch.randn(4))

    def forward(self, x: Tensor) -> Tensor:
        x = (x / 0.5 - 1.25) * 2
        y = 3 - self.bn(self.conv(x)) * self.gain / 2 + 1
        return torch.mul(self.fc(y.mean((2, 3))), self.row) - self.row


@torch.no_grad()
def test_chains_of_scalings_are_one_layer() -> None:
    model = trained(Affine())
    x = torch.randn(2, 3, 8, 8)
    fast = symfx.optimize(model, x, fuse=False)
    torch.testing.assert_close(fast(x), model(x), rtol=1e-4, atol=1e-4)
    assert kinds(fast) == ["Conv2d", "mean", "Linear"]


@torch.no_grad()
def test_scalings_that_are_left_alone() -> None:
    class Left(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 8, 3, padding=1)
            self.wide = nn.Parameter(torch.randn(8).double())

        def forward(self, x: Tensor) -> Tensor:
            y = self.conv(x + 1)  # the padding's zeros are not shifted
            return y * self.wide  # for the last dimension, and of another dtype

    model = Left().eval()
    x = torch.randn(2, 3, 8, 8)
    fast = symfx.optimize(model, x, fuse=False)
    torch.testing.assert_close(fast(x), model(x))
    reasons = " ".join(entry.why for entry in fast.report.left_alone)
    assert "pads with are not shifted" in reasons and "another dtype" in reasons


class Optional_(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)

    def forward(self, x: Tensor, mask: Tensor | None = None, *, scale: float = 2.0) -> Tensor:
        y = self.fc(x) * scale
        return y if mask is None else y.masked_fill(mask, 0.0)


@torch.no_grad()
def test_arguments_left_at_their_defaults() -> None:
    model, x = Optional_().eval(), torch.randn(3, 4)
    mask = torch.rand(3, 4) > 0.5
    fast = symfx.optimize(model, x)
    torch.testing.assert_close(fast(x), model(x))
    torch.testing.assert_close(fast(x, None, scale=2.0), model(x))
    with pytest.raises(InputMismatchError, match=r"without mask, which is a bool tensor"):
        fast(x, mask)
    with pytest.raises(InputMismatchError, match=r"without scale, which is 3.0"):
        fast(x, scale=3.0)
    masked = symfx.optimize(model, {"x": x, "mask": mask})
    torch.testing.assert_close(masked(x=x, mask=~mask), model(x, ~mask))
    both = symfx.optimize(model, (x,), {"mask": mask, "scale": 3.0})
    torch.testing.assert_close(both(x, mask, scale=5.0), model(x, mask, scale=5.0))


@torch.no_grad()
def test_at_first_use() -> None:
    model, x = trained(Residual()), torch.randn(2, 3, 8, 8)
    fast = symfx.optimize(model)
    assert fast.graph_module is None
    torch.testing.assert_close(fast(x), model(x), rtol=1e-4, atol=1e-5)
    assert fast.graph_module is not None and len(fast.report.checks) == 2


WRONG_BY = 0.01


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rewrite that is wrong by a little."""
    build = layers.Layer.build

    def off(self: Any, weight: Tensor, bias: Tensor | None) -> nn.Module:
        return build(self, weight * (1 + WRONG_BY), bias)

    monkeypatch.setattr(layers.Layer, "build", off)


@torch.no_grad()
@pytest.mark.usefixtures("broken")
def test_a_wrong_result_is_not_handed_over() -> None:
    model, x = trained(Residual()), torch.randn(2, 3, 8, 8)
    with pytest.raises(OptimizationError, match=r"differs from the original, at batch 2: largest"):
        symfx.optimize(model, x)
    symfx.optimize(model, x, tolerance=0.5)
    symfx.optimize(model, x, check=False)
    lazy = symfx.optimize(model)
    for _ in range(2):
        with pytest.raises(OptimizationError, match="differs"):
            lazy(x)
    stock_like = optimize_for_inference(model)
    for _ in range(2):
        with pytest.raises(OptimizationError, match="differs"):
            stock_like(x)


@torch.no_grad()
def test_optimize_for_inference_is_checked_once_at_first_use(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, x = trained(Residual()), torch.randn(2, 3, 8, 8)
    calls: list[int] = []
    real = first_use.Trials
    monkeypatch.setattr(first_use, "Trials", lambda *a: (calls.append(1), real(*a))[1])
    fast = optimize_for_inference(model)
    twin = copy.deepcopy(fast)
    for _ in range(2):
        torch.testing.assert_close(fast(x), model(x), rtol=1e-4, atol=1e-5)
    assert len(calls) == 1 and not fast._forward_pre_hooks
    twin(x)
    assert len(calls) == 2 and not twin._forward_pre_hooks


def test_mistakes() -> None:
    with pytest.raises(OptimizationError, match=r"only a torch.nn.Module .* not a function"):
        symfx.optimize(lambda x: x, torch.ones(1))  # type: ignore[arg-type]
    with pytest.raises(InputMismatchError, match="does not take these example inputs"):
        symfx.optimize(nn.Linear(2, 2), (torch.ones(1), torch.ones(1)))
    with pytest.raises(OptimizationError, match="cannot run on these inputs"):
        symfx.optimize(nn.Linear(2, 2), torch.ones(1, 3))
    with pytest.raises(OptimizationError, match="float64 is not supported"):
        symfx.optimize(nn.Linear(2, 2), torch.ones(1, 2), dtype=torch.float64)
    with pytest.raises(OptimizationError, match="example_inputs is a str"):
        symfx.optimize(nn.Linear(2, 2), "x")
    uncopied = nn.Linear(2, 2)
    uncopied.lock = __import__("threading").Lock()
    with pytest.raises(symfx.TracingError, match="Linear cannot be copied"):
        symfx.optimize(uncopied, torch.ones(1, 2))


@torch.no_grad()
def test_sizes_that_keep_changing_are_remembered_within_bounds() -> None:
    model = nn.Sequential(nn.Conv2d(4, 8, 3), nn.ReLU()).eval()
    fast = symfx.optimize(model, torch.randn(1, 4, 8, 8), measure=False)
    (fused,) = (m for m in fast.modules() if isinstance(m, FusedConv))
    for size in range(5, 80):
        x = torch.randn(1, 4, size, size)
        torch.testing.assert_close(fast(x), model(x), rtol=1e-4, atol=1e-5)
    assert len(fused._kernels) <= 64
    assert len({id(kernel.packed) for kernel in fused._kernels.values()}) < 20


def test_channels_last_inputs_and_results() -> None:
    model, x = trained(Residual()), torch.randn(2, 3, 8, 8)
    fast = symfx.optimize(model, x, measure=False)
    torch.testing.assert_close(
        fast(x.contiguous(memory_format=torch.channels_last)), model(x), rtol=1e-4, atol=1e-5
    )


class Turned(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 1)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        y = torch.relu(self.one(x))
        z = self.two(y) + y
        last = z.permute(0, 2, 3, 1)
        found = [torch.relu(last), last * 2, F.linear(last, self.two.weight[:, :, 0, 0])]
        found += [F.layer_norm(last, (4,)), z.flatten(2).transpose(1, 2) + 1]
        return [y, z, last, z[:, 1:], z.flatten(2).transpose(1, 2), z.mean(1), *found]


@torch.no_grad()
@pytest.mark.parametrize("weights", [torch.contiguous_format, torch.channels_last])
def test_results_are_laid_out_as_eager_does(weights: torch.memory_format) -> None:
    model = trained(Turned()).to(memory_format=weights)
    x = torch.randn(2, 3, 8, 8)
    fast = symfx.optimize(model, x, measure=False)
    for given in (x, x.contiguous(memory_format=torch.channels_last), x[:, :, ::2], x[:0]):
        found, expected = fast(given), model(given)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
        assert [t.stride() for t in found] == [t.stride() for t in expected]


@pytest.mark.parametrize(
    ("function", "effect"),
    [
        (lambda x: torch.relu(x), Effect.FRESH),
        (lambda x: F.relu(x, inplace=True), Effect.WRITES),
        (lambda x: F.relu(x, True), Effect.WRITES),
        (lambda x: x.view(-1), Effect.VIEW),
        (lambda x: x[0], Effect.VIEW),
        (lambda x: x.to(torch.float64), Effect.VIEW),
        (lambda x: x.add_(1), Effect.WRITES),
        (lambda x: x.normal_(), Effect.UNKNOWN),
        # Names of TorchScript, and of its namespace, that are no operators on tensors.
        (lambda x: x.append(1), Effect.UNKNOWN),
        (lambda x: x.pop(), Effect.UNKNOWN),
        (lambda x: x.name(), Effect.UNKNOWN),
        (lambda x: F.dropout(x, training=False), Effect.VIEW),
        (lambda x: F.dropout(x), Effect.RANDOM),
        (lambda x: torch.bernoulli(x), Effect.RANDOM),
        (lambda x: F.batch_norm(x, None, None, training=True), Effect.UNKNOWN),
        (lambda x: torch.broadcast_tensors(x, x), Effect.VIEW),
        (lambda x: torch.einsum("ij->ji", x), Effect.VIEW),
        (lambda x: torch.add(x, x, out=x), Effect.UNKNOWN),
        (lambda x: torch.sort(x), Effect.FRESH),
        (lambda x: x.shape, Effect.FRESH),
        (lambda x: x.data, Effect.VIEW),
    ],
)
def test_effects(function: Any, effect: Effect) -> None:
    graph = torch.fx.symbolic_trace(function).graph
    call = next(node for node in graph.nodes if node.op.startswith("call"))
    assert effects.effect_of(call, {}) is effect


def test_copies_of_all_kinds() -> None:
    """Pickled and copied; by the first a `torch.fx.GraphModule` is traced again."""
    model = trained(nn.Sequential(Turned(), Parts()))
    x = torch.randn(2, 3, 8, 8)
    bad = x.clone()
    bad[0, 0, 3, 3] = float("nan")
    fast = symfx.optimize(model, x, measure=False)
    stored = io.BytesIO()
    torch.save(fast, stored)
    stored.seek(0)
    copies = [
        pickle.loads(pickle.dumps(fast)),
        torch.load(stored, weights_only=False),
        copy.deepcopy(fast),
    ]
    fast.train()
    fast.eval()
    for each in (fast, *copies):
        with torch.no_grad():
            for given in (x, bad, x.contiguous(memory_format=torch.channels_last)):
                found, expected = each(given), model(given)
                torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5, equal_nan=True)
                assert [t.stride() for t in found] == [t.stride() for t in expected]


class Parts(nn.Module):
    def forward(self, values: list[torch.Tensor], other: Any = None) -> list[torch.Tensor]:
        y, z, *rest = values
        y += 1
        return [F.gelu(y), F.relu6(z), *rest]


@dataclasses.dataclass
class Result:
    value: torch.Tensor
    times: int


class Structured(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x: torch.Tensor) -> dict[str, Any]:
        y = torch.relu(self.conv(x))
        return {"result": Result(2 * y, 2), "list": [y, x], "twice": (y, y)}


@torch.no_grad()
def test_results_with_a_structure_and_with_shared_memory() -> None:
    model, x = trained(Structured()), torch.randn(2, 3, 8, 8)
    fast = symfx.optimize(model, x, measure=False)
    found, expected = fast(x), model(x)
    assert type(found["result"]) is Result and found["result"].times == 2
    torch.testing.assert_close(found["result"].value, expected["result"].value)
    assert found["list"][1] is x and found["twice"][0] is found["twice"][1] is found["list"][0]


@torch.no_grad()
def test_threads() -> None:
    model = trained(Residual())
    fast = symfx.optimize(model, torch.randn(2, 3, 8, 8), measure=False)

    def works(seed: int) -> bool:
        sizes = [(1 + (seed + i) % 3, 3, 6 + i % 4, 8) for i in range(12)]
        given = [torch.randn(size) for size in sizes]
        return all(torch.allclose(fast(x), model(x), rtol=1e-4, atol=1e-5) for x in given)

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        assert all(pool.map(works, range(4)))


def test_pickle_of_the_result_is_up_to_the_user_but_works() -> None:
    model, x = trained(Residual()), torch.randn(2, 3, 8, 8)
    fast = optimize_for_inference(model, {"mkldnn_layout_optimize": False})
    fast(x)
    again = pickle.loads(pickle.dumps(fast))
    torch.testing.assert_close(again(x), model(x), rtol=1e-4, atol=1e-5)


def wholes(fast: symfx.OptimizedModel, x: Tensor) -> dict[str, Any]:
    """The model as others make it anew: traced, copied, stored, exported, loaded into."""
    stored = io.BytesIO()
    torch.save(fast, stored)
    stored.seek(0)
    loaded = copy.deepcopy(fast)
    with torch.no_grad():
        loaded(x)  # which packs the weights that then change
        for tensor in loaded.state_dict().values():
            if tensor.is_floating_point():
                tensor.zero_()
    loaded.load_state_dict(fast.state_dict())
    return {
        "symbolic_trace": torch.fx.symbolic_trace(fast),
        "symbolic_trace of the graph": torch.fx.symbolic_trace(fast.graph_module),
        "symbolic_trace inside": torch.fx.symbolic_trace(nn.Sequential(fast, nn.Identity())),
        "twice": torch.fx.symbolic_trace(torch.fx.symbolic_trace(fast)),
        "deepcopy": copy.deepcopy(fast),
        "pickle": pickle.loads(pickle.dumps(fast)),
        "torch.load": torch.load(stored, weights_only=False),
        "load_state_dict": loaded,
        "export": torch.export.export(fast, (x,)).module(),
        "optimized again": symfx.optimize(fast, x, measure=False),
    }


@torch.no_grad()
@pytest.mark.parametrize("measure", [False, True])
def test_an_optimized_model_can_be_made_anew(measure: bool) -> None:
    heads = nn.Sequential(nn.Linear(5, 5), nn.BatchNorm1d(5), nn.BatchNorm1d(5))
    model = trained(nn.Sequential(nn.BatchNorm2d(3), nn.ReLU(), Residual(), heads))
    x = torch.randn(2, 3, 8, 8)
    fast = symfx.optimize(model, x, measure=measure)
    for how, made in wholes(fast, x).items():
        torch.testing.assert_close(made(x), model(x), rtol=1e-4, atol=1e-5, msg=how)
        if how != "export":
            other = torch.randn(3, 3, 9, 7)
            torch.testing.assert_close(made(other), model(other), rtol=1e-4, atol=1e-5, msg=how)


@torch.no_grad()
def test_a_traced_optimized_model_takes_the_same_calls() -> None:
    model = Optional_().eval()
    x, mask = torch.randn(2, 4), torch.ones(2, 4, dtype=torch.bool)
    traced = torch.fx.symbolic_trace(symfx.optimize(model, (x,), {"mask": mask}, measure=False))
    for args, kwargs in (((x, mask), {}), ((x,), {"mask": mask}), ((), {"mask": mask, "x": x})):
        torch.testing.assert_close(traced(*args, **kwargs), model(*args, **kwargs))
    for args, kwargs in (((), {}), ((x, mask, 2.0, 1), {}), ((x,), {"x": x}), ((x,), {"y": x})):
        with pytest.raises(InputMismatchError):
            traced(*args, **kwargs)


@torch.no_grad()
def test_other_weights_are_packed_anew() -> None:
    model, x = trained(Residual()), torch.randn(2, 3, 8, 8)
    fast = symfx.optimize(model, x, measure=False)
    expected = fast(x)
    halves = {name: tensor / 2 for name, tensor in fast.state_dict().items()}
    found = torch.func.functional_call(fast, halves, (x,))
    copied = copy.deepcopy(fast)
    copied.load_state_dict(halves)
    torch.testing.assert_close(found, copied(x), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(found, expected)
    assert torch.equal(fast(x), expected)


def test_weights_put_in_place_get_their_gradients() -> None:
    class Lines(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.up, self.down = nn.Conv2d(3, 4, 3), nn.Linear(4, 6), nn.Linear(6, 4)

        def forward(self, x: Tensor) -> Tensor:
            x = torch.relu(self.conv(x)).mean((2, 3))
            return x + self.down(nn.functional.gelu(self.up(x)))

    x = torch.randn(2, 3, 8, 8)
    fast = symfx.optimize(Lines().eval(), x)

    def loss(weights: dict[str, Tensor]) -> Tensor:
        found: Tensor = torch.func.functional_call(fast, weights, (x,)).square().sum()
        return found

    weights = {name: tensor.clone().requires_grad_() for name, tensor in fast.state_dict().items()}
    loss(weights).backward()
    expected = torch.func.grad(loss)({name: w.detach() for name, w in weights.items()})
    for name, weight in weights.items():
        torch.testing.assert_close(weight.grad, expected[name], rtol=1e-4, atol=1e-5)


@dataclasses.dataclass
class Named(OrderedDict):  # type: ignore[type-arg]
    """As outputs of `transformers` are: fields that are set are entries too."""

    first: Tensor | None = None
    second: Tensor | None = None

    def __post_init__(self) -> None:
        self.update({k: v for k, v in vars(self).items() if v is not None})


class Other(dict[str, Tensor]):
    """A dictionary whose constructor is not known."""


@torch.no_grad()
@pytest.mark.parametrize("kind", [dict, OrderedDict, Named, Other])
def test_dictionaries_keep_their_class(kind: Callable[..., Any]) -> None:
    class Pair(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.bn = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)

        def forward(self, x: Tensor) -> Any:
            y = self.bn(self.conv(x))
            return (kind(first=y), [kind(second=y + 1, first=y)])

    model, x = trained(Pair()), torch.randn(2, 3, 5, 5)
    fast = symfx.optimize(model, x, measure=False)
    folded = any(rewrite.what.startswith("folded") for rewrite in fast.report.rewrites)
    assert folded is (kind is not Other)  # of which the parts alone are optimized
    first, (second,) = model(x)
    forms = [fast, copy.deepcopy(fast)]
    if kind is not Other:  # whose model is kept whole, and is of no class that pickle finds
        forms.append(pickle.loads(pickle.dumps(fast)))
    for form in forms:
        one, (two,) = form(x)
        for mine, theirs in ((one, first), (two, second)):
            assert type(mine) is type(theirs) is kind
            assert list(mine) == list(theirs)
            for name in theirs:
                torch.testing.assert_close(mine[name], theirs[name], rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_what_cannot_be_traced_is_called_as_before() -> None:
    def with_default(forward: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(forward)
        def wrapped(self: Any, *args: Any, **kwargs: Any) -> Any:
            if kwargs.get("twice") is None:
                kwargs["twice"] = True
            return forward(self, *args, **kwargs)

        return wrapped

    class Decorated(nn.Module):
        @with_default
        def forward(
            self, x: Tensor, mask: Tensor | None = None, twice: bool | None = None, **more: Any
        ) -> Tensor:
            y = x * 2 if twice and x.sum() > -1e9 else x
            return (y if mask is None else y * mask) + more.get("shift", 0)

    class Starred(nn.Module):
        def forward(
            self, x: Tensor, by: float = 2.0, *rest: Tensor, last: float = 1.0, **more: Tensor
        ) -> Tensor:
            if x.sum() > -1e9:
                x = x * by
            return sum((*rest, *more.values()), x) * last

    class Hooked(nn.Module):
        def forward(self, x: Tensor, by: Tensor | None = None) -> Tensor:
            return x if by is None else x * by

    x, y = torch.randn(2, 3), torch.randn(2, 3)
    hooked = Hooked()
    hooked.register_forward_pre_hook(
        lambda _, args: (args[0] + 1, *(3 * a for a in args[1:] if a is not None))
    )
    calls: list[tuple[nn.Module, list[tuple[Any, Any]]]] = [
        (Decorated(), [((x,), {}), ((x, y), {}), ((x,), {"twice": False, "shift": 3})]),
        (hooked, [((x,), {}), ((x, y), {})]),
        (Starred(), [((x,), {}), ((x, 3.0, y, y), {"last": 2.0, "z": y}), ((x,), {"last": 3.0})]),
    ]
    for model, ways in calls:
        fast = symfx.optimize(model, (x,), measure=False)
        for args, kwargs in ways:
            torch.testing.assert_close(fast(*args, **kwargs), model(*args, **kwargs))


@torch.no_grad()
def test_complex_numbers_are_left_alone() -> None:
    class Waves(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(2, 4, 3, dtype=torch.complex64)
            self.line = nn.Conv1d(4, 4, 1, dtype=torch.complex64)
            self.head = nn.Linear(6, 5, dtype=torch.complex64)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            y = self.head(self.conv(x) * 2.0 + 1.0) * (1 + 2j)
            z = self.line(y.flatten(2)) * 0.5
            return z, torch.relu(z.real) + z.imag * 2

    model, x = Waves().eval(), torch.randn(2, 2, 8, 8, dtype=torch.complex64)
    for measure in (False, True):
        fast = symfx.optimize(model, x, measure=measure)
        for given in (x, x[:1], torch.randn(3, 2, 9, 8, dtype=torch.complex64)):
            for mine, theirs in zip(fast(given), model(given), strict=True):
                torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-6)
        assert not any("folded" in rewrite.what for rewrite in fast.report.rewrites)


def test_the_import_warns_of_nothing() -> None:
    command = [sys.executable, "-W", "error", "-c", "import symfx.optimization"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


class Reasons(nn.Module):
    def __init__(self, layer: nn.Module, before: Callable[..., Any] = torch.relu) -> None:
        super().__init__()
        self.layer, self.before = layer, before

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(self.before(x))


@torch.no_grad()
def test_reasons_are_true(tmp_path: Path) -> None:
    x = torch.randn(2, 3, 8, 8)

    def optimized(layer: nn.Module, before: Callable[..., Any] = torch.relu) -> Any:
        model = trained(Reasons(layer, before))
        fast = symfx.optimize(model, x, measure=False)
        torch.testing.assert_close(fast(x), model(x), rtol=1e-4, atol=1e-5)
        return fast

    for before in (torch.max, torch.maximum, torch.min):
        fast = optimized(nn.Conv2d(3, 4, 3), lambda v, f=before: f(v, 2 * v))
        assert [r.what for r in fast.report.rewrites] == ["fused Conv2d by oneDNN"]
        assert not fast.report.left_alone
    norm = optimized(nn.Sequential(nn.Conv2d(3, 4, 3), nn.SyncBatchNorm(4)))
    assert norm.report.rewrites[0].what == "folded SyncBatchNorm into Conv2d"
    weighted = torch.nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 4, 3))
    left = optimized(weighted).report.left_alone
    assert any("weight is computed by a parametrization" in entry.why for entry in left)
    huge = optimized(nn.Conv2d(3, 4, 1, dilation=2**33))
    assert "its dilation is larger than 2147483647" in huge.report.left_alone[0].why
    huge.save(tmp_path / "huge")
    assert torch.equal(optimization.load(tmp_path / "huge")(x), huge(x))


@torch.no_grad()
def test_a_shift_before_a_linear_layer_is_folded() -> None:
    class Shifted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(6, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x * 2 + 1)

    model, x = Shifted().eval(), torch.randn(4, 6)
    fast = symfx.optimize(model, x, measure=False)
    assert sum(rewrite.what.startswith("folded") for rewrite in fast.report.rewrites) == 2
    torch.testing.assert_close(fast(x), model(x), rtol=1e-4, atol=1e-5)
