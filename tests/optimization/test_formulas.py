"""Products with constants, written-out GELU, rotary positions and norms, joined projections."""

from __future__ import annotations

import dataclasses
import math
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import symfx
from symfx.optimization import OptimizedModel, pipeline
from symfx.optimization.runtime.fused_linear import FusedLinear


@pytest.fixture(autouse=True)
def whatever_is_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fused form is taken, whatever this machine finds faster at these sizes."""
    monkeypatch.setattr(pipeline, "fastest_form", lambda *given: "fused")
    monkeypatch.setattr(
        "symfx.optimization.tuning._fastest", lambda ways, *rest: (list(ways)[-1], 1.0)
    )
    monkeypatch.setattr("symfx.optimization.tuning._MATTERS", 0.0)
    torch.manual_seed(0)


class Formula(nn.Module):
    def __init__(self, formula: Callable[..., Tensor]) -> None:
        super().__init__()
        self.formula = formula
        self.w = nn.Parameter(torch.randn(6, 8))
        self.b, self.scale = nn.Parameter(torch.randn(8)), nn.Parameter(torch.randn(6))
        self.square = nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        return self.formula(self, x)


def conv1d(m: Any, x: Tensor) -> Tensor:
    """`transformers.pytorch_utils.Conv1D`."""
    size = x.size()[:-1] + (8,)  # noqa: RUF005 - as transformers writes it
    return torch.addmm(m.b, x.view(-1, x.size(-1)), m.w).view(size)


def new_gelu(x: Tensor) -> Tensor:
    return 0.5 * x * (1.0 + torch.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x.pow(3.0))))


PRODUCTS: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "addmm": lambda m, x: torch.addmm(m.b, x[0], m.w),
    "addmm method": lambda m, x: m.b.addmm(x[0], m.w),
    "keywords": lambda m, x: torch.addmm(input=m.b, mat2=m.w, mat1=x[0]),
    "mm": lambda m, x: torch.mm(x[0], m.w),
    "mm method": lambda m, x: x[0].mm(m.w),
    "matmul": lambda m, x: torch.matmul(x, m.w),
    "matmul method": lambda m, x: x.matmul(m.w) + m.b,
    "@": lambda m, x: torch.relu(x @ m.w),
    "linear": lambda m, x: F.linear(weight=m.w.t(), input=x, bias=m.b),
    "Conv1D": conv1d,
    "Conv1D, gelu": lambda m, x: new_gelu(conv1d(m, x)),
    "Conv1D of a copy": lambda m, x: conv1d(m, x.transpose(0, 1).contiguous()),
}


@torch.no_grad()
@pytest.mark.parametrize("name", PRODUCTS)
def test_products_with_a_constant_are_linear_layers(name: str) -> None:
    model = Formula(PRODUCTS[name]).eval()
    fast = symfx.optimize(model, torch.randn(3, 5, 6))
    layers = [part for part in fast.modules() if isinstance(part, FusedLinear)]
    assert len(layers) == 1
    for shape in ((3, 5, 6), (2, 7, 6), (1, 1, 6)):
        x = torch.randn(shape)
        torch.testing.assert_close(fast(x), model(x), rtol=1e-4, atol=1e-5)
    if name == "Conv1D, gelu":
        assert layers[0].post.name == "gelu" and layers[0].post.algorithm == "tanh"


OTHERS: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "beta": lambda m, x: torch.addmm(m.b, x[0], m.w, beta=2),
    "alpha": lambda m, x: torch.addmm(m.b, x[0], m.w, alpha=0.5),
    "constant first": lambda m, x: m.w.t() @ x[0].t(),
    "two values": lambda m, x: x @ x.mT,
    "a bias for each row": lambda m, x: torch.addmm(x[0, :, :1], x[0], m.w),
    "another shape behind": lambda m, x: torch.addmm(m.b, x.view(-1, 6), m.w).view(-1),
    "another constant": lambda m, x: 0.4 * x * (1 + torch.tanh(x)),
    "another cube": lambda m, x: (
        0.5 * x * (1.0 + torch.tanh(math.sqrt(2.0 / math.pi) * (x + 0.05 * torch.pow(x, 3.0))))
    ),
    "gelu of a value": lambda m, x: new_gelu(x),
    "gelu of another value": lambda m, x: (
        0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x.exp() + 0.044715 * x.pow(3))))
    ),
}


@torch.no_grad()
@pytest.mark.parametrize("name", OTHERS)
def test_other_formulas_compute_what_they_say(name: str) -> None:
    model = Formula(OTHERS[name]).eval()
    fast = symfx.optimize(model, torch.randn(3, 5, 6))
    x = torch.randn(4, 2, 6)
    torch.testing.assert_close(fast(x), model(x), rtol=1e-4, atol=1e-5)


def what(fast: OptimizedModel) -> list[str]:
    return [rewrite.what for rewrite in fast.report.rewrites]


def llama_norm(m: Any, x: Tensor) -> Tensor:
    wide = x.to(torch.float32)
    wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + 1e-6)
    return m.scale * wide.to(x.dtype)


@dataclasses.dataclass
class Rows(OrderedDict):  # type: ignore[type-arg]
    """As outputs of `transformers` are."""

    rows: Tensor

    def __post_init__(self) -> None:
        self.update(vars(self))


@torch.no_grad()
def test_norms_are_computed_in_one_pass() -> None:
    model = Formula(lambda m, x: m.square(llama_norm(m, m.square(x)))).eval()
    fast = symfx.optimize(model, torch.randn(3, 5, 6))
    assert "rms_norm by a compiled kernel" in what(fast)
    x = torch.randn(2, 5, 6)
    torch.testing.assert_close(fast(x), model(x), rtol=1e-4, atol=1e-5)
    # The last norm of a model of transformers goes to the class of its result.
    model = Formula(lambda m, x: Rows(rows=llama_norm(m, m.square(x)))).eval()
    fast = symfx.optimize(model, torch.randn(3, 5, 6))
    assert "rms_norm by a compiled kernel" in what(fast)
    torch.testing.assert_close(fast(x)["rows"], model(x)["rows"], rtol=1e-4, atol=1e-5)
    layers = nn.Sequential(nn.Linear(6, 6), nn.LayerNorm(6), nn.Linear(6, 6)).eval()
    fast = symfx.optimize(layers, torch.randn(3, 5, 6))
    assert "layer_norm by a compiled kernel" in what(fast)
    torch.testing.assert_close(fast(x), layers(x), rtol=1e-4, atol=1e-5)


class Rotary(nn.Module):
    """Attention with rotary positions, as in LLaMA."""

    def __init__(self, heads: int, shared: int, swapped: bool = False) -> None:
        super().__init__()
        self.heads, self.shared, self.swapped = heads, shared, swapped
        self.q = nn.Linear(16, heads * 8, bias=False)
        self.k, self.v = nn.Linear(16, shared * 8, bias=False), nn.Linear(16, shared * 8)

    def turned(self, x: Tensor) -> Tensor:
        one, two = x[..., : x.shape[-1] // 2], x[..., x.shape[-1] // 2 :]
        return torch.cat((two, -one) if self.swapped else (-two, one), dim=-1)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        batch, length, _ = x.shape
        q = self.q(x).view(batch, length, self.heads, 8).transpose(1, 2)
        k = self.k(x).view(batch, length, self.shared, 8).transpose(1, 2)
        v = self.v(x).view(batch, length, self.shared, 8).transpose(1, 2)
        q, k = (y * cos + self.turned(y) * sin for y in (q, k))
        gqa = self.heads != self.shared
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=gqa)
        return y.transpose(1, 2).reshape(batch, length, -1)


@torch.no_grad()
@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize(("heads", "shared"), [(2, 2), (4, 2)])
def test_rotary_positions_and_joined_projections(heads: int, shared: int, swapped: bool) -> None:
    model = Rotary(heads, shared, swapped).eval()

    def inputs(batch: int, length: int) -> tuple[Tensor, Tensor, Tensor]:
        cos, sin = torch.randn(2, 1, 1, length, 8)
        return torch.randn(batch, length, 16), cos, sin

    fast = symfx.optimize(model, inputs(3, 5))
    assert ("rotated by a compiled kernel" in what(fast)) is not swapped
    assert ("joined projections" in what(fast)) is not swapped
    assert sum(isinstance(part, FusedLinear) for part in fast.modules()) == (3 if swapped else 1)
    for batch, length in ((3, 5), (1, 9), (2, 1)):
        given = inputs(batch, length)
        found, expected = fast(*given), model(*given)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
        assert found.stride() == expected.stride()


class Seen(nn.Module):
    """Projections of one input whose results other operators see too."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how
        self.q, self.k, self.v = (nn.Linear(16, 16) for _ in range(3))

    def forward(self, x: Tensor) -> Any:
        q, k, v = self.q(x), self.k(x), self.v(x)
        if self.how == "flat":
            q = q.view(-1).sin().view(x.shape)
        parts = [y.view(x.shape[0], x.shape[1], 2, 8).transpose(1, 2) for y in (q, k, v)]
        y = F.scaled_dot_product_attention(*parts)
        return (y, k) if self.how == "returned" else y


@torch.no_grad()
@pytest.mark.parametrize("how", ["flat", "returned"])
def test_projections_that_others_see_are_not_joined(how: str) -> None:
    model = Seen(how).eval()
    fast = symfx.optimize(model, torch.randn(3, 5, 16))
    x = torch.randn(2, 4, 16)
    found, expected = fast(x), model(x)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    pairs = zip(found, expected, strict=True) if how == "returned" else [(found, expected)]
    assert all(mine.stride() == theirs.stride() for mine, theirs in pairs)
    joined = [len(r.nodes) for r in fast.report.rewrites if r.what == "joined projections"]
    assert joined == [2]


class Residuals(nn.Module):
    """Residuals with the strides of an image that is turned."""

    def __init__(self, first: bool, shown: bool) -> None:
        super().__init__()
        self.first, self.shown = first, shown
        self.one, self.two, self.norm = nn.Linear(6, 6), nn.Linear(6, 6), nn.LayerNorm(6)

    def forward(self, image: Tensor) -> Tensor:
        x = image.flatten(2).transpose(1, 2)
        for layer in (self.one, self.two):
            x = x + layer(x) if self.first else layer(x) + x
        return x if self.shown else self.norm(x)


@torch.no_grad()
@pytest.mark.parametrize("shown", [False, True])
@pytest.mark.parametrize("first", [False, True])
def test_residuals_have_the_strides_of_the_model_s(first: bool, shown: bool) -> None:
    model = Residuals(first, shown).eval()
    fast = symfx.optimize(model, torch.randn(2, 6, 3, 4))
    for shape in ((2, 6, 3, 4), (1, 6, 3, 4), (2, 6, 1, 1), (3, 6, 1, 5)):
        x = torch.randn(shape)
        found, expected = fast(x), model(x)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
        assert found.stride() == expected.stride()
    turned = sum(n.target == "contiguous" for n in fast.graph_module.graph.nodes)
    assert turned == (first and not shown)
