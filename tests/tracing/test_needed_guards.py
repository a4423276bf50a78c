"""The guards that a trace shows: none follows from the others, and each refuses some inputs."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import symfx
from symfx import Dim
from symfx.algebra import Term, evaluate

torch.manual_seed(0)
r = torch.randn


def several_conditions(x: torch.Tensor) -> torch.Tensor:
    if x.shape[1] != 1:
        x = x * 2
    if x.shape[1] >= 3:
        x = x + 1
    return x[:, :2] if x.shape[1] > 4 else x


PROGRAMS: dict[str, tuple[Callable[..., Any], list[torch.Tensor], Any]] = {
    "conditions": (several_conditions, [r(2, 9)], [("b", Dim("n", min=0))]),
    "divisible": (lambda x: x.view(-1, 4).view(-1, 8), [r(2, 16)], [("b", "n")]),
    "equal": (lambda x, y: x + y, [r(4, 3), r(4, 3)], [("a", None), ("b", None)]),
    "chain": (lambda x, y: x[: y.shape[0]] + y, [r(6, 3), r(4, 3)], [("a", None), ("b", None)]),
    "conv": (nn.Conv2d(2, 3, 3, stride=2), [r(2, 2, 8, 9)], [("b", None, "h", "w")]),
    "pool": (
        lambda x: F.max_pool2d(F.avg_pool2d(x, 2), 2),
        [r(2, 2, 8, 9)],
        [(None, None, "h", "w")],
    ),
    "rnn": (nn.GRU(3, 4, batch_first=True), [r(2, 5, 3)], [("b", "s", None)]),
    "encoder": (
        nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval(),
        [r(2, 5, 8)],
        [("b", "s", None)],
    ),
    "chunks": (lambda x: torch.cat(x.chunk(3, 1)[::-1], 1), [r(2, 9)], [("b", "n")]),
    "unshuffle": (lambda x: F.pixel_unshuffle(x, 2), [r(2, 2, 8, 8)], [("b", None, "h", "w")]),
}


class Tokens(nn.Module):
    """Patches of an image as tokens, with attention between them, and back to an image."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(2, 8, 2, stride=2)
        self.block = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.patch(x)
        b, c, h, w = y.shape
        tokens = self.block(y.flatten(2).transpose(1, 2))
        return tokens.transpose(1, 2).reshape(b, c, h, w)


class Residual(nn.Module):
    """A block of a residual network."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(2, 2, 3, padding=1), nn.Conv2d(2, 2, 3, padding=1)
        self.norm = nn.BatchNorm2d(2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.second(self.norm(self.first(x)).relu())


def up_and_down(x: torch.Tensor) -> torch.Tensor:
    low = F.interpolate(F.avg_pool2d(x, 2), size=x.shape[-2:], mode="bilinear")
    return torch.cat([x, low], 1)


def heads(x: torch.Tensor) -> torch.Tensor:
    b, s, _ = x.shape
    q = x.view(b, s, 2, -1).transpose(1, 2)
    return F.scaled_dot_product_attention(q, q, q, is_causal=True).transpose(1, 2).reshape(b, s, -1)


def rotary(x: torch.Tensor) -> torch.Tensor:
    angle = torch.outer(torch.arange(x.shape[1]).float(), torch.ones(4))
    a, b = x.chunk(2, -1)
    return torch.cat([a * angle.cos() - b * angle.sin(), a * angle.sin() + b * angle.cos()], -1)


B_S, IMAGES = [("b", "s", None)], [("b", None, "h", "w")]
MODELS: dict[str, tuple[Callable[..., Any], list[torch.Tensor], Any]] = {
    "perceptron": (nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 2)), [r(4, 5, 8)], B_S),
    "lstm": (nn.LSTM(3, 4, batch_first=True), [r(2, 5, 3)], B_S),
    "tokens": (Tokens().eval(), [r(2, 2, 8, 12)], IMAGES),
    "residual": (Residual().eval(), [r(2, 2, 8, 9)], IMAGES),
    "residual, training": (Residual(), [r(2, 2, 8, 9)], IMAGES),
    "up and down": (up_and_down, [r(2, 2, 8, 10)], IMAGES),
    "heads": (heads, [r(2, 5, 8)], B_S),
    "rotary": (rotary, [r(2, 5, 8)], B_S),
    "depthwise": (nn.Conv2d(2, 4, 3, groups=2, padding=1), [r(2, 2, 8, 9)], IMAGES),
    "transposed": (nn.ConvTranspose2d(2, 3, 3, stride=2), [r(2, 2, 4, 5)], IMAGES),
    "conv1d": (nn.Conv1d(3, 4, 2), [r(2, 3, 9)], [("b", None, "s")]),
    "shuffle": (nn.PixelShuffle(2), [r(2, 4, 3, 5)], IMAGES),
    "upsample": (nn.Upsample(scale_factor=2), [r(2, 3, 4, 5)], IMAGES),
    "global pool": (nn.AdaptiveAvgPool2d(1), [r(2, 3, 4, 5)], IMAGES),
    "instance norm": (nn.InstanceNorm2d(2), [r(2, 2, 4, 5)], IMAGES),
    "group norm": (nn.GroupNorm(2, 4), [r(2, 4, 5)], [("b", None, "s")]),
    "layer norm": (nn.LayerNorm(8), [r(2, 5, 8)], B_S),
    "glu": (nn.GLU(1), [r(2, 6, 3)], B_S),
    "positions": (lambda x: x + torch.arange(x.shape[1]).unsqueeze(-1), [r(2, 5, 3)], B_S),
    "shift": (lambda x: F.pad(x[:, :-1], (0, 0, 1, 0)), [r(2, 5, 3)], B_S),
    "mask": (
        lambda x: (x @ x.mT).masked_fill(torch.ones(x.shape[1], x.shape[1]).triu(1) > 0, -9.0),
        [r(2, 5, 3)],
        B_S,
    ),
    "last step": (lambda x: x[:, -1], [r(2, 5, 3)], B_S),
    "pooled": (lambda x: torch.cat([x.mean(1), x.amax(1)], -1), [r(2, 5, 3)], B_S),
    "einsum": (lambda x: torch.einsum("bsc,btc->bst", x, x).softmax(-1), [r(2, 5, 3)], B_S),
}


def symbols_of(trace: symfx.Trace) -> list[Term]:
    return sorted({s for g in trace.guards for s in g.term.free_symbols}, key=str)


@pytest.mark.parametrize("name", PROGRAMS)
def test_each_guard_alone_refuses_some_sizes(name: str) -> None:
    program, args, dynamic = PROGRAMS[name]
    t = symfx.trace(program, tuple(args), dynamic=dynamic, strict=False)
    symbols = symbols_of(t)
    lows = {s.name: s.lower or 0 for s in t.symbols}
    started = {c.free_symbols: c for c in t.shape_env.knowledge.given}
    terms = [g.term for g in t.guards]
    assert len(set(terms)) == len(terms)
    refused_alone = set()
    for sizes in itertools.product(range(24), repeat=len(symbols)):
        values = dict(zip(symbols, sizes, strict=True))
        if any(
            c.free_symbols <= values.keys() and not evaluate(c, values) for c in started.values()
        ):
            continue
        failing = [term for term in terms if not evaluate(term, values)]
        if len(failing) == 1:
            refused_alone.add(failing[0])
    assert refused_alone == set(terms), (lows, [str(x) for x in terms])


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_same_sizes_are_admitted_as_by_all_recorded_guards(name: str) -> None:
    program, args, dynamic = PROGRAMS[name]
    t = symfx.trace(program, tuple(args), dynamic=dynamic, strict=False)
    symbols = sorted({s for g in t.shape_env.guards for s in g.term.free_symbols}, key=str)
    for sizes in itertools.product(range(2, 20), repeat=len(symbols)):
        values = dict(zip(symbols, sizes, strict=True))
        shown = all(evaluate(g.term, values) for g in t.guards)
        recorded = all(evaluate(g.term, values) for g in t.shape_env.guards)
        assert shown == recorded, values


@pytest.mark.parametrize("name", [*PROGRAMS, *MODELS])
def test_what_torch_export_admits_is_admitted(name: str) -> None:
    program, args, dynamic = {**PROGRAMS, **MODELS}[name]

    class Wrapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.held = program if isinstance(program, nn.Module) else None

        def forward(self, *tensors: torch.Tensor) -> Any:
            return program(*tensors)

    t = symfx.trace(program, tuple(args), dynamic=dynamic, strict=False)
    auto = torch.export.Dim.AUTO
    shapes = [{d: auto for d, part in enumerate(entry) if part} for entry in dynamic]
    exported = torch.export.export(
        Wrapped().train(isinstance(program, nn.Module) and program.training),
        tuple(args),
        dynamic_shapes={"tensors": tuple(shapes)},
    ).module()
    names = [[getattr(p, "name", p) for p in entry] for entry in dynamic]
    free = sorted({n for entry in names for n in entry if n})
    compared = 0
    tried = (2, 3, 4, 5, 8, 9, 12) if name in PROGRAMS else (2, 4, 5, 12)
    for sizes in itertools.product(tried, repeat=len(free)):
        values = dict(zip(free, sizes, strict=True))
        inputs = [
            r(*(values.get(n, size) for n, size in zip(entry, x.shape, strict=True)))
            for entry, x in zip(names, args, strict=True)
        ]
        try:
            exported(*inputs)
            program(*inputs)
        except (AssertionError, RuntimeError, ValueError, IndexError):
            continue
        compared += 1
        assert t.check(*inputs), (values, str(t.check(*inputs)))
    assert compared


def test_minima_are_told_as_orders() -> None:
    t = symfx.trace(lambda x, table: x + table[: x.shape[0]], (r(5), r(16)), dynamic=[("s",), None])
    assert [str(g.term) for g in t.guards] == ["s <= 16"]
    assert "Min" not in str(t)
