"""Tensors that depend on sizes alone: computed once for equal sizes, and right at all times."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import symfx
from symfx.optimization import load
from symfx.optimization.passes.keep_values import compute_each_time, keep_values
from symfx.optimization.report import Report
from symfx.optimization.runtime.assumed import OtherAnswerError, assumed_truth
from symfx.optimization.runtime.kept_values import KeptValues


class Positions(nn.Module):
    """Adds rows of a table of positions and a causal mask, as language models do."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(32, 8)
        self.up = nn.Linear(8, 8)
        self.register_buffer("slope", torch.rand(1))

    def forward(self, x):
        at = torch.arange(x.shape[1], device=x.device)
        mask = (at[:, None] >= at[None]).to(x.dtype) * self.slope
        h = self.up(x + self.table(at))
        return torch.matmul(mask, h), h


def kept_in(module):
    return [part for part in module.modules() if isinstance(part, KeptValues)]


def graph_of(function, **attributes):
    """The graph of a function, with kept values where it has any."""

    class Owner(nn.Module):
        def forward(self, x):
            return function(self, x)

    owner = Owner()
    for name, value in attributes.items():
        if isinstance(value, nn.Parameter):
            setattr(owner, name, value)
        else:
            owner.register_buffer(name, value)
    return owner, keep_values(torch.fx.symbolic_trace(copy.deepcopy(owner)), Report())


@pytest.fixture
def pair():
    torch.manual_seed(0)
    model = Positions().eval()
    fast = symfx.optimize(model, torch.randn(2, 5, 8), measure=False)
    (kept,) = kept_in(fast)
    return model, fast, kept


def agree(model, fast, *inputs):
    with torch.no_grad():
        expected, found = model(*inputs), fast(*inputs)
    torch.testing.assert_close(found, expected)


def test_values_are_computed_once_for_equal_sizes(pair, monkeypatch):
    model, fast, kept = pair
    runs = []
    forward = kept.graph_module.forward
    monkeypatch.setattr(
        kept.graph_module, "forward", lambda *given: (runs.append(1), forward(*given))[1]
    )
    for length in (7, 7, 9, 7, 9):
        agree(model, fast, torch.randn(3, length, 8))
    assert len(runs) == 2
    agree(model, fast, torch.randn(2, 9, 8))  # all sizes count, also those that no value has
    assert len(runs) == 3
    for length in range(2, 12):
        agree(model, fast, torch.randn(3, length, 8))
    assert len(kept._kept) <= 4


def test_constants_that_change_are_seen(pair):
    _, fast, _ = pair
    x = torch.randn(2, 5, 8)
    with torch.no_grad():
        before, _ = fast(x)
        slope = next(b for name, b in fast.named_buffers() if "slope" in name)
        slope.mul_(2)
        torch.testing.assert_close(fast(x)[0], 2 * before)
        table = next(p for name, p in fast.named_parameters() if "table" in name)
        table.data = torch.zeros_like(table)
        doubled = fast(x)[1]
        table.data = torch.ones_like(table)
        assert not torch.equal(fast(x)[1], doubled)


def test_gradients_modes_and_dtypes(pair):
    model, fast, _ = pair
    x = torch.randn(2, 5, 8)
    agree(model, fast, x)
    _, kept = graph_of(
        lambda self, x: x + F.embedding(torch.arange(x.shape[1]), self.table),
        table=nn.Parameter(torch.randn(8, 4)),
    )
    assert kept_in(kept)
    for _ in range(2):
        with torch.no_grad():
            kept(torch.randn(4, 4))
        kept(torch.randn(4, 4)).sum().backward()
        assert kept.table.grad is not None and bool(kept.table.grad.any())
        kept.table.grad = None
    with torch.inference_mode():
        kept(torch.randn(4, 4))
    with torch.no_grad():
        assert not kept(torch.randn(4, 4)).is_inference()
    ones, plain = graph_of(lambda self, x: x + torch.ones(x.shape[0]) / 3)
    y = torch.zeros(3, dtype=torch.float64)
    assert plain(y).sum() != 1.0
    torch.set_default_dtype(torch.float64)
    try:
        assert torch.equal(plain(y), ones(y)) and plain(y)[0] == 1 / 3
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(plain(y), ones(y))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(fast(x)[1], copy.deepcopy(fast)(x)[1])


@pytest.mark.parametrize(
    "function",
    [
        # The program writes to the value.
        lambda self, x: torch.ones(x.shape[0]).add_(x),
        lambda self, x: (m := torch.zeros(x.shape[0]) + 1, m.view(-1).mul_(x), m)[2],
        # The caller gets the value, or a view of it.
        lambda self, x: torch.arange(x.shape[0]) + 1,
        lambda self, x: (x, (torch.arange(x.shape[0]) * 2)[1:]),
        # The sizes are those before and after a write.
        lambda self, x: (y := x * 1, y.unsqueeze_(0), y + torch.ones(y.shape[-1]))[2],
        # Numbers are drawn, and data decides.
        lambda self, x: x + torch.rand(x.shape[0]),
        lambda self, x: x + torch.arange(x.shape[0]) * x.sum(),
        # A constant is written to in each run.
        lambda self, x: (self.count.add_(1), x + self.count * torch.ones(x.shape[0]))[1],
    ],
)
def test_what_must_be_computed_each_time_is(function):
    owner, kept = graph_of(function, count=nn.Parameter(torch.zeros(1), requires_grad=False))
    for size in (4, 4, 6, 4):
        x = torch.randn(size)
        torch.manual_seed(1)
        expected = owner(x.clone())
        torch.manual_seed(1)
        found = kept(x.clone())
        torch.testing.assert_close(found, expected)
        for value in found if isinstance(found, tuple) else (found,):
            value.add_(1)  # it is the caller's


def test_values_that_are_used_before_other_sizes_are_known():
    def function(self, x):
        h = x + torch.arange(x.shape[0]).sin()
        h = torch.cat([h, h * torch.ones(x.shape[0]).cumsum(0)])
        return h * torch.arange(h.shape[0]).cos()

    owner, kept = graph_of(function)
    assert len(kept_in(kept)) == 2
    for size in (3, 3, 5, 3):
        x = torch.randn(size)
        torch.testing.assert_close(kept(x), owner(x))
    inlined = compute_each_time(kept)
    assert not kept_in(inlined)
    torch.testing.assert_close(inlined(x), owner(x))


def test_values_wait_for_the_checks_in_front_of_them():
    def function(self, x):
        assumed_truth(x.shape[0] <= 3, True)
        return x + torch.ones(3 - x.shape[0]).sum()

    owner, kept = graph_of(function)
    assert kept_in(kept)
    for size in (3, 2, 3):
        x = torch.randn(size)
        torch.testing.assert_close(kept(x), owner(x))
    with pytest.raises(OtherAnswerError):
        kept(torch.randn(4))


def test_copies_files_and_traces(pair, tmp_path):
    model, fast, _ = pair
    x = torch.randn(3, 6, 8)
    agree(model, fast, x)
    for other in (copy.deepcopy(fast), pickle.loads(pickle.dumps(fast))):
        (again,) = kept_in(other)
        assert not again._kept
        agree(model, other, x)
    assert not any("kept" in name for name in fast.state_dict())
    fast.save(tmp_path / "fast.safetensors")
    assert b"KeptValues" not in (tmp_path / "fast.safetensors").read_bytes()
    loaded = load(tmp_path / "fast.safetensors")
    assert kept_in(loaded)
    agree(model, loaded, x)
    traced = symfx.trace(fast.graph_module, x, dynamic=[("b", "n", None)])
    agree(model, traced.graph_module, torch.randn(5, 9, 8))
    agree(model, torch.fx.symbolic_trace(fast.graph_module), torch.randn(5, 9, 8))
    agree(model, torch.compile(fast.graph_module, backend="eager"), torch.randn(5, 9, 8))
    vmapped = torch.func.vmap(fast.graph_module)(torch.stack([x, x + 1]))
    agree(model, lambda y: tuple(part[1] for part in vmapped), x + 1)
