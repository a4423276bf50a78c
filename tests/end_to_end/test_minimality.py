"""The search for guards that could be left out."""

from __future__ import annotations

from typing import Any

import torch
from tools.zoo.minimality import needless

import symfx
from symfx.symbolic_shapes import ShapeGuard


def trace(f: Any, *sizes: int) -> symfx.Trace:
    dims = tuple(symfx.Dim(name, min=1) for name, _ in zip("abc", sizes, strict=False))
    return symfx.trace(f, torch.randn(sizes), dynamic=[dims])


def test_guards_that_a_program_needs_have_witnesses() -> None:
    def program(x: torch.Tensor) -> torch.Tensor:
        y = x + 1 if x.shape[0] * x.shape[1] > 1000 else x - 1
        return y.view(-1, 4).sum(0) * (2 if x.shape[1] % 3 == 1 else 3)

    t = trace(program, 100, 13)
    assert len(t.guards) == 3
    assert needless(t) == []


def test_a_guard_that_the_others_imply_is_found(monkeypatch: Any) -> None:
    t = trace(lambda x: x * 2 if x.shape[0] > 5 else x, 8, 4)
    table = t.shape_env.table
    a = table.symbol("a")
    guards = [ShapeGuard(table.le(table.const(n), a), t.guards[0].provenance) for n in (3, 6)]
    monkeypatch.setattr(type(t), "guards", property(lambda self: tuple(guards)))
    assert [str(term) for term in needless(t)] == ["a >= 3"]
