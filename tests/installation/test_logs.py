"""The logs of torch under symfx: TORCH_LOGS=dynamic has torch's lines."""

from __future__ import annotations

import logging

import pytest
import torch

import symfx


@pytest.fixture(autouse=True)
def _installed():
    torch._dynamo.reset()
    with symfx.installed():
        yield
    torch._dynamo.reset()


def lines_of(run, caplog) -> list[str]:
    name = "torch.fx.experimental.symbolic_shapes"
    logger = logging.getLogger(name)
    before = logger.propagate
    logger.addHandler(caplog.handler)
    logger.propagate = False
    try:
        with caplog.at_level(logging.INFO, logger=name):
            run()
    finally:
        logger.removeHandler(caplog.handler)
        logger.propagate = before
    return [record.getMessage() for record in caplog.records if record.name == name]


def test_torch_logs_dynamic_has_symbols_guards_and_assertions(caplog) -> None:
    def f(x, n):
        k = n.item()
        torch._check(k < 9)
        return x.view(-1, 2) + torch.zeros(k).sum() if x.shape[0] > 2 else x

    lines = lines_of(
        lambda: torch.export.export(
            Of(f), (torch.ones(4), torch.tensor(3)), dynamic_shapes=({0: torch.export.Dim.AUTO}, {})
        ),
        caplog,
    )
    assert lines[0] == "create_env"
    (symbol,) = [line for line in lines if line.startswith("create_symbol")]
    assert " = 4 for L['x'].size()[0] [2, int_oo]" in symbol
    assert 'for more info run with TORCHDYNAMO_EXTENDED_DEBUG_CREATE_SYMBOL="' in symbol
    (guard,) = [line for line in lines if line.startswith("eval Eq(Mod(")]
    assert "[guard added]" in guard and "x.view(-1, 2)" in guard and " in f" in guard
    assert any(line.startswith("create_unbacked_symbol u0 [-int_oo, int_oo]") for line in lines)
    assert any(line.startswith("runtime_assert u0 < 9 [guard added]") for line in lines)
    assert "produce_guards" in lines


class Of(torch.nn.Module):
    def __init__(self, function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x, n):
        return self.function(x, n)


def test_the_variable_that_a_line_names_shows_the_stack(caplog, monkeypatch) -> None:
    monkeypatch.setenv("TORCHDYNAMO_EXTENDED_DEBUG_GUARD_ADDED", "s77 > 2")

    def run() -> None:
        f = torch.compile(lambda x: x + 1 if x.shape[0] > 2 else x, backend="eager", dynamic=True)
        f(torch.ones(4))

    lines = lines_of(run, caplog)
    assert any(line.startswith("eval s77 > 2 [guard added]") for line in lines)
    (record,) = [r for r in caplog.records if r.getMessage().startswith("eval s77 > 2")]
    assert record.stack_info and "for more info" not in record.getMessage()
