"""What the minimiser leaves shows the failure, and nothing of it can be left out."""

from __future__ import annotations

import itertools
import random
from typing import Any

import pytest
import torch
from torch._dynamo.source import LocalSource

from symfx.errors import SymfxError
from symfx.recording import EventLog, ShapeEnvEvent, minimize
from symfx.symbolic_shapes import GuardOnDataDependentSymNode, ShapeEnv


def chain(n: int) -> ShapeEnv:
    """n unbacked symbols in order, and inputs that have nothing to do with them."""
    env = ShapeEnv(should_record_events=True)
    symbols = []
    for i in range(n):
        symbols.append(env.create_unbacked_symint())
        (size,), _, _ = env.create_symbolic_sizes_strides_storage_offset(
            torch.empty(5 + i), LocalSource(f"x{i}")
        )
        bool(size * 3 > 7)
    for a, b in itertools.pairwise(symbols):
        torch._check(a < b)
    return env


def known(env: ShapeEnv, text: str) -> bool:
    a, b = text.split(" < ")
    left, right = (env.table.symbol(name) for name in (a, b))
    if not {left, right} <= env.symbols.records.keys():
        return False
    return env.prover.decide(left < right) is True


def test_a_chain_of_facts() -> None:
    env = chain(8)
    log = minimize(EventLog.of(env), lambda e: known(e, "u2 < u5"))
    assert [str(e) for e in log][:5] == ["ShapeEnv()", *["create_unbacked_symint()"] * 4]
    assert [str(e).partition(",")[0] for e in log][5:] == [
        "expect(u3 > u2",
        "expect(u4 > u3",
        "expect(u5 > u4",
    ]
    assert known(log.replay(), "u2 < u5")
    assert log.minimize(lambda e: known(e, "u2 < u5")) == log


def test_out_of_a_file() -> None:
    log = EventLog.from_json(EventLog.of(chain(5)).to_json())
    small = log.minimize(lambda e: known(e, "u1 < u3"))
    assert len(small) == 6
    again = EventLog.from_json(small.to_json())
    assert known(again.replay(), "u1 < u3")


def test_a_failure_of_the_replay_itself() -> None:
    env = chain(6)
    u = env.wrap(env.table.symbol("u3"))
    with pytest.raises(GuardOnDataDependentSymNode):
        bool(u > 7)

    def depends_on_data(log: EventLog) -> bool:
        try:
            log.replay()
        except GuardOnDataDependentSymNode:
            return True
        return False

    small = minimize(EventLog.of(env, failed=True), depends_on_data, of="log")
    # The symbol keeps its name although those before it are not made any more.
    assert str(small) == "ShapeEnv()\ncreate_unbacked_symint()\nevaluate_term(u3 >= 8)"


def test_what_is_left_is_minimal() -> None:
    """Of random requirements: each event that is left is needed."""

    def make(*_: Any) -> None:
        raise AssertionError("never run")

    for seed in range(30):
        picks = random.Random(seed)
        n = picks.randint(1, 40)
        events = [ShapeEnvEvent(make, [None], {"i": i}) for i in range(n)]
        log = EventLog((ShapeEnvEvent(ShapeEnv, kwargs={}), *events))
        needed = set(picks.sample(range(n), picks.randint(0, min(n, 5))))
        runs = 0

        def shows(candidate: EventLog) -> bool:
            nonlocal runs
            runs += 1
            return needed <= {e.kwargs["i"] for e in candidate.events[1:] if e.kwargs}

        small = minimize(log, shows, of="log")
        assert {e.kwargs["i"] for e in small.events[1:] if e.kwargs} == needed
        assert runs <= n * n + 3 * n + 3


def test_a_failure_that_does_not_show() -> None:
    log = EventLog.of(chain(2))
    with pytest.raises(SymfxError, match="the whole log does not show the failure"):
        minimize(log, lambda env: False)
    with pytest.raises(ZeroDivisionError):
        minimize(log, lambda env: 1 // 0 == 0)
    with pytest.raises(SymfxError, match="minimize has no of='file'"):
        minimize(log, lambda env: True, of="file")


def test_nothing_is_needed() -> None:
    assert len(minimize(EventLog.of(chain(3)), lambda env: True)) == 1
