"""The logs of torch under symfx: TORCH_LOGS=dynamic has torch's lines."""

from __future__ import annotations

import logging
import re

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


def guard_lines(f, *args) -> str:
    """The guards on sizes that TORCH_LOGS=guards shows, without places."""
    records: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: records.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("torch._dynamo.guards.__guards")
    torch._logging.set_logs(guards=True)
    logger.addHandler(handler)
    try:
        torch.compile(f, backend="eager", dynamic=True)(*args)
    finally:
        logger.removeHandler(handler)
        torch._logging.set_logs()
    lines = [line for text in records for line in text.split("\n") if "LAMBDA_GUARD: " in line]
    sizes = [line.split("LAMBDA_GUARD: ")[1] for line in lines if "size()" in line]
    return "\n".join(re.sub(r"[^ ]+:\d+ in [^ ]+", "#:# in #", line) for line in sizes)


def test_guards_have_the_line_and_the_place_that_asked() -> None:
    def f(x, y, z):
        x = x * 3
        if x.size(0) % 3 == 0:
            return x + torch.cat([y, z])
        return x * 2

    assert guard_lines(f, torch.ones(6), torch.ones(3), torch.ones(3)) == (
        """\
L['x'].size()[0] == 2*L['y'].size()[0]  # return x + torch.cat([y, z])  # #:# in # #:# in #
L['z'].size()[0] == L['y'].size()[0]  # duck sizing added this equality because these variables \
had the same size 3 (to avoid this specialization, set torch.fx.experimental._config.\
use_duck_shape = False)
((2*L['y'].size()[0]) % 3) == 0  # if x.size(0) % 3 == 0:  # #:# in # #:# in #
2 <= L['y'].size()[0]  # return x + torch.cat([y, z])  # #:# in # (user code shown is first use of \
this value--the guard itself is not due user code but due to 0/1 specialization in the framework; \
to avoid specialization try torch._dynamo.decorators.mark_unbacked(tensor, dim))"""
    )


def test_a_range_has_the_lines_of_both_bounds() -> None:
    def f(x, y):
        torch._check(x.size(0) > 5)
        torch._check(x.size(0) < 30)
        torch._check(x.size(0) == y.size(0) * 2)
        return x + 1

    assert guard_lines(f, torch.ones(6), torch.ones(3)) == (
        """\
L['x'].size()[0] == 2*L['y'].size()[0]  # torch._check(x.size(0) == y.size(0) * 2)  \
# #:# in # #:# in #
3 <= L['y'].size()[0] <= 14  # torch._check(x.size(0) > 5)  # #:# in # #:# in # and \
torch._check(x.size(0) < 30)  # #:# in # #:# in #"""
    )
