"""Parts whose code asks for ranks, sizes and dtypes: one graph for inputs like the example's."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import symfx
from symfx.optimization import pipeline
from symfx.optimization.graphs.arguments import bind_arguments
from symfx.optimization.graphs.assumptions import has_assumptions, runs_again
from symfx.optimization.graphs.capture import capture, copy_of
from symfx.optimization.graphs.effects import state_of
from symfx.optimization.graphs.whole_models import is_whole
from symfx.optimization.runtime.assumed import OtherAnswerError
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


class Attention(nn.Module):
    """Attention as models of transformers write it, with questions about its input."""

    def __init__(self, width: int = 16, heads: int = 2) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v = (nn.Linear(width, width) for _ in range(3))
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, mask: Tensor | None = None, **options: Any) -> Tensor:
        leading = x.shape[:-1]
        cut = (*leading, self.heads, -1)
        q, k, v = (each(x).view(cut).transpose(1, 2) for each in (self.q, self.k, self.v))
        causal = q.shape[2] > 1 and mask is None
        if x.dtype == torch.float16:
            x = x.clamp(-1000, 1000)
        if "bias" in options:
            q = q + options["bias"]
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal)
        return self.out(y.transpose(1, 2).reshape(*leading, -1)) + x


class Model(nn.Module):
    """Branches on a number, so that only its parts are graphs."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([Attention(), Attention()])

    def forward(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        if float(x.detach().sum()) > 1e12:
            return x
        for layer in self.layers:
            x = layer(x) if bias is None else layer(x, bias=bias)
        return x


def close(found: Any, expected: Any) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def graph_of(model: nn.Module, *args: Any, **kwargs: Any) -> Any:
    return capture(model, arguments=bind_arguments(model, args, kwargs), assumes=True)


@torch.no_grad()
@pytest.mark.parametrize("kind", [Attention, Model])
def test_calls_with_other_answers_run_the_own_forward(kind: type[nn.Module]) -> None:
    model = kind().eval()
    fast = symfx.optimize(model, torch.randn(3, 5, 16))
    assert any(isinstance(part, FusedLinear) for part in fast.modules())
    for shape in [(3, 5, 16), (1, 5, 16), (3, 9, 16), (2, 1, 16), (1, 1, 16)]:
        x = torch.randn(shape)
        close(fast(x), model(x))
    close(copy_of(fast).double()(x.double()), copy_of(model).double()(x.double()))
    close(copy.deepcopy(fast)(x), model(x))
    close(pickle.loads(pickle.dumps(fast))(x), model(x))
    with torch.autocast("cpu"):
        assert fast(x).dtype == model(x).dtype


@torch.no_grad()
def test_values_among_the_keywords() -> None:
    model = Model().eval()
    x, bias = torch.randn(3, 5, 16), torch.randn(3, 2, 5, 8)
    fast = symfx.optimize(model, x, {"bias": bias})
    other = torch.randn(3, 2, 5, 8)
    close(fast(x, bias=other), model(x, bias=other))
    assert any(isinstance(part, FusedLinear) for part in fast.modules())


class Asks(nn.Module):
    def __init__(self, ask: Any) -> None:
        super().__init__()
        self.ask, self.count = ask, 0

    def forward(self, x: Tensor) -> Any:
        return self.ask(x)


ANSWERED: dict[str, Any] = {
    "rank": lambda x: x * 2 if x.dim() == 3 else x + 1,
    "size": lambda x: x * 2 if x.shape[1] > 4 else x + 1,
    "sizes unpacked": lambda x: x.reshape(*x.shape[:2], 1, -1),
    "length": lambda x: x + len(x.shape),
    "dtype": lambda x: x * 2 if x.dtype is torch.float32 or x.is_floating_point() else x,
    "after a layer": lambda x: x * 2 if F.linear(x, torch.ones(7, 6)).shape[-1] == 7 else x,
    "no such attribute": lambda x: x * 2 if not hasattr(x, "jax") else x.jax(),
    "size of a list": lambda x: torch.cat([*x.unbind(0)]) if x.shape[0] < 9 else x,
}


@torch.no_grad()
@pytest.mark.parametrize("what", ANSWERED)
def test_questions_about_shapes_are_answered(what: str) -> None:
    model = Asks(ANSWERED[what]).eval()
    graph = graph_of(model, torch.randn(3, 5, 6))
    assert not is_whole(graph)
    for shape in [(3, 5, 6), (3, 4, 6), (3, 5), (9, 5, 6), (4, 5, 6)]:
        x = torch.randn(shape)
        try:
            found = graph(x)
        except OtherAnswerError:
            assert has_assumptions(graph)
        except Exception as mine:  # noqa: BLE001 - the model's code may raise anything
            with pytest.raises(type(mine)):
                model(x)
        else:
            close(found, model(x))
    close(graph(torch.ones(3, 5, 6)), model(torch.ones(3, 5, 6)))


UNANSWERED: dict[str, Any] = {
    "sum": lambda x: x * 2 if x.sum() > 0 else x,
    "item": lambda x: x * 2 if x[0, 0, 0].item() > 0 else x,
    "any": lambda x: x * 2 if (x > 0).any() else x,
    "equal": lambda x: x * 2 if torch.equal(x, x) else x,
    "nonzero": lambda x: x * 2 if x.nonzero().shape[0] > 3 else x,
    "rows": lambda x: x + sum(len(row) for row in x[x > 0].unbind()),
}


@pytest.mark.parametrize("what", UNANSWERED)
def test_questions_about_numbers_are_not_answered(what: str) -> None:
    assert is_whole(graph_of(Asks(UNANSWERED[what]), torch.randn(3, 5, 6)))


class Counts(nn.Module):
    """Changes its state, and asks before or afterwards."""

    def __init__(self, first: bool) -> None:
        super().__init__()
        self.first = first
        self.register_buffer("count", torch.zeros(()))
        self.layer = nn.Linear(6, 6)

    count: Tensor

    def forward(self, x: Tensor) -> Tensor:
        if self.first:
            large = x.shape[0] > 2
            x = x + 1 if large else x
        self.count.add_(1)
        if not self.first:
            x = x + 1 if x.shape[0] > 2 else x
        return self.layer(x) + self.count


class Around(nn.Module):
    def __init__(self, first: bool) -> None:
        super().__init__()
        self.inner = Counts(first)

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x) if float(x.sum()) < 1e9 else x


@torch.no_grad()
@pytest.mark.parametrize("first", [True, False])
def test_no_effect_takes_place_twice(first: bool) -> None:
    assert runs_again(graph_of(Counts(first), torch.randn(3, 6))) is first
    model = Around(first).eval()
    fast, twin = symfx.optimize(model, torch.randn(3, 6)), copy_of(model)
    for rows in (3, 2, 3, 1):
        x = torch.randn(rows, 6)
        close(fast(x), twin(x))


def test_each_change_of_a_model_is_seen() -> None:
    model = Attention()
    model.register_buffer("count", torch.zeros(2))
    model.log, model.step, model.mean = [], 1, torch.zeros(2)  # type: ignore[assignment]

    def unchanged() -> None:
        model(torch.randn(2, 3, 16))

    def count() -> None:
        model.count.add_(1)  # type: ignore[operator]

    changes = [
        count,
        lambda: model.log.append(1),  # type: ignore[operator]
        lambda: setattr(model, "step", 2),
        lambda: setattr(model, "step", 2.0),
        lambda: setattr(model, "mean", torch.zeros(2)),
        lambda: setattr(model, "more", 1),
        lambda: setattr(model.q, "weight", nn.Parameter(model.q.weight.detach().clone())),
    ]
    with torch.no_grad():
        for change in changes:
            before = state_of(model)
            unchanged()
            assert state_of(model) == before
            change()
            assert state_of(model) != before
