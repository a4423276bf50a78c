"""Guards about floats under an installation: sound for NaN and -0.0, and no more than stock's."""

from __future__ import annotations

import math

import pytest
import torch

import symfx


@pytest.fixture(autouse=True)
def _installed():
    torch._dynamo.reset()
    with symfx.installed():
        yield
    torch._dynamo.reset()


def compiled(f):
    """The function compiled, and the guards of its graphs."""
    guards = []

    def backend(gm, inputs):
        env = torch._guards.TracingContext.get().fake_mode.shape_env
        guards.append(env)
        return gm

    return torch.compile(f, backend=backend, dynamic=True), guards


def texts(guards):
    return [str(guard.expr) for env in guards for guard in env.guards]


def test_a_float_that_is_only_used_has_no_guard() -> None:
    function, guards = compiled(lambda x, s: x * s + s)
    x = torch.ones(3)
    for s in (0.3, 0.7, math.inf):
        torch.testing.assert_close(function(x, s), x * s + s)
    assert texts(guards) == []
    assert function(x, math.nan).isnan().all()


def test_a_program_that_asks_for_nan_is_compiled_again_for_it() -> None:
    def f(x, s):
        return x * s if s == s else x - 1

    function, _ = compiled(f)
    x = torch.ones(3)
    for s in (0.3, math.nan, 0.5):
        torch.testing.assert_close(function(x, s), f(x, s), equal_nan=True)


def test_an_equality_answers_later_questions_about_the_float() -> None:
    def f(x, s):
        if s == 0.0:
            if 0.0 <= s <= 1.0 and not s < 0:
                return x + 1
            return x - 1
        return x * s

    function, guards = compiled(f)
    x = torch.ones(3)
    for s in (0.25, 0.0, -0.0, 2.0):
        torch.testing.assert_close(function(x, s), f(x, s))
    zero = [env for env in guards if any("Eq(" in str(g.expr) for g in env.guards)]
    assert all(len(env.guards) == 1 for env in zero), texts(zero)


def test_floats_that_are_equal_share_their_value() -> None:
    env = symfx.symbolic_shapes.ShapeEnv()
    table = env.table
    a, b = table.symbol("zfa", "real"), table.symbol("zfb", "real")
    tenth = table.const(0.1)
    env.facts.assume(table.eq(a, b))
    assert env.prover.real_range(b) is None  # either may be NaN by what the store has bounds for
    env.facts.assume(table.eq(a, tenth))
    assert env.prover.real_range(b) == (0.1, 0.1)
    assert env.decide(table.eq(b, b)) is True
    assert env.decide(table.le(b, table.const(1.0))) is True
