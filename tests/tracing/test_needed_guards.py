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


@pytest.mark.parametrize("name", PROGRAMS)
def test_what_torch_export_admits_is_admitted(name: str) -> None:
    program, args, dynamic = PROGRAMS[name]

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
        Wrapped().eval() if isinstance(program, nn.Module) else Wrapped(),
        tuple(args),
        dynamic_shapes={"tensors": tuple(shapes)},
    ).module()
    names = [[getattr(p, "name", p) for p in entry] for entry in dynamic]
    free = sorted({n for entry in names for n in entry if n})
    compared = 0
    for sizes in itertools.product((2, 3, 4, 5, 8, 9, 12), repeat=len(free)):
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
