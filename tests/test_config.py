"""Each switch of symfx.config has its effect."""

import logging

import pytest
import torch
from torch._dynamo.source import LocalSource
from torch._subclasses.fake_tensor import FakeTensorMode

from symfx import config
from symfx.errors import SymfxError
from symfx.symbolic_shapes import (
    DimDynamic,
    PendingUnbackedSymbolNotFound,
    ShapeEnv,
    StatelessSymbolicContext,
    ValidationError,
    compute_unbacked_bindings,
    guard_or_false,
    guard_or_true,
    guard_size_oblivious,
    statically_known_true,
)
from symfx.symbolic_shapes.checks.input_checks import InputChecks


def sizes(env, *real, kind=DimDynamic.DYNAMIC):
    context = StatelessSymbolicContext(dynamic_sizes=[kind] * len(real))
    x = FakeTensorMode(shape_env=env).from_tensor(
        torch.zeros(real), source=LocalSource("x"), symbolic_context=context
    )
    return x, *x.shape


def produce(env, x):
    return env.produce_guards([x], [LocalSource("x")])


@pytest.fixture
def logged(caplog):
    caplog.set_level(logging.INFO, "symfx.symbolic_shapes")
    return caplog


# -- the switches are torch's ------------------------------------------------------------------


def test_one_state_with_torch():
    import symfx._config

    assert symfx._config is config
    with config.patch("use_duck_shape", False):
        assert torch.fx.experimental._config.use_duck_shape is False
    with torch.fx.experimental._config.patch(use_duck_shape=False):
        assert config.use_duck_shape is False
    config.print_specializations = True
    assert torch.fx.experimental._config.print_specializations
    config.print_specializations = False
    assert set(config.SWITCHES) == set(torch.fx.experimental._config.get_config_copy())


@pytest.mark.parametrize("change", [lambda: config.patch(nothing=1), lambda: config.nothing])
def test_there_is_no_other_switch(change):
    with pytest.raises(config.UnknownSwitchError, match="no switch 'nothing'"):
        change()


# -- what they do ------------------------------------------------------------------------------


def test_use_duck_shape():
    with config.patch(use_duck_shape=False):
        env = ShapeEnv()
    _, a, b = sizes(env, 5, 5, kind=DimDynamic.DUCK)
    assert str(a) != str(b)
    assert ShapeEnv().duck_shape and not ShapeEnv(duck_shape=False).duck_shape


def test_backed_size_oblivious():
    with config.patch(backed_size_oblivious=True):
        env = ShapeEnv()
        _, a, b, c = sizes(env, 1, 0, 5)
        assert all(isinstance(n, torch.SymInt) for n in (a, b, c))
        assert not guard_or_false(c == 1) and guard_or_true(c == 1) and guard_or_false(c >= 0)
        assert guard_size_oblivious(a == 1) is False and not env.guards
        assert bool(c > 3) and len(env.guards) == 1
    assert guard_or_false(c == 1) is False and len(env.guards) == 1
    assert sizes(ShapeEnv(), 1, 5)[1] == 1


def test_aggressive_guard_free_semantics():
    for mode in config.AggressiveGuardFreeMode:
        with config.patch(aggressive_guard_free_semantics=mode):
            env = ShapeEnv()
        u = env.create_unbacked_symint()
        torch._check(u >= 4)
        asked = mode < config.AggressiveGuardFreeMode.SKIP_RANGE_ANALYSIS
        assert guard_or_false(u > 3) == asked and guard_or_true(u < 3) != asked
        assert guard_or_false(sizes(env, 5)[1] > 3)  # has a value: a guard is right


def test_symbol_guard_limit_before_specialize(logged):
    with config.patch(symbol_guard_limit_before_specialize=2):
        _, s = sizes(env := ShapeEnv(), 50)
    assert s > 3 and s > 4
    assert env.facts.resolve(s.node._origin).op == "symbol"
    assert s > 5
    assert s.node.maybe_as_int() == 50 and "more than 2 guards" in logged.text


def test_soft_pending_unbacked_not_found_error(logged):
    env = ShapeEnv()
    env.create_unbacked_symint()
    with config.patch(soft_pending_unbacked_not_found_error=True):
        compute_unbacked_bindings(env, 3)
    assert "the operator made u0" in logged.text
    env.create_unbacked_symint()
    with pytest.raises(PendingUnbackedSymbolNotFound):
        compute_unbacked_bindings(env, 3)


def test_print_specializations(logged):
    _, s = sizes(ShapeEnv(), 7)
    with config.patch(print_specializations=True):
        assert int(s) == 7
    assert "Specializing L['x'].size()[0] to 7" in logged.text


def test_extended_debug(logged):
    env = ShapeEnv()
    with config.patch(extended_debug_create_symbol="u7,u1", extended_debug_guard_added="s77 > 3"):
        env.create_unbacked_symint()
        env.create_unbacked_symint()
        _, s = sizes(env, 5)
        assert s > 3 and s > 4
    stacks = {r.getMessage().split("  #")[0]: r.stack_info for r in logged.records}
    assert not stacks["symbol u0 made"] and "test_config.py" in stacks["symbol u1 made"]
    with_stack = [r.getMessage() for r in logged.records if r.stack_info]
    assert len(with_stack) == 2 and "guard s77 >= 4" in with_stack[1]
    with config.patch(extended_debug_create_symbol="u2", extended_debug_cpp=True):
        env.create_unbacked_symint()
    assert "C++ stack trace" in logged.text


def test_validate_shape_env_version_key():
    with config.patch(validate_shape_env_version_key=True):
        env = ShapeEnv()
    _, s = sizes(env, 5)
    assert s > 3 and s > 4 and s > 3
    env.facts.known[env.table.eq(env.read(s), env.table.const(9))] = True  # behind its back
    with pytest.raises(SymfxError, match="its version has not"):
        bool(s < 7)
    env._update_version_counter()
    assert s < 7


# -- recorded events ---------------------------------------------------------------------------


def test_check_shape_env_recorded_events():
    with config.patch(check_shape_env_recorded_events=True):
        env = ShapeEnv(should_record_events=True)
        assert not ShapeEnv().check_recorded_events
    x, s = sizes(env, 5)
    assert s > 3 and produce(env, x)
    del env.events[-1]  # the guard
    with pytest.raises(SymfxError, match="guards: values don't match"):
        produce(env, x)


# -- translation validation --------------------------------------------------------------------


def test_what_symfx_produces_is_valid():
    with config.patch(translation_validation=True):
        env = ShapeEnv()
        assert env.validator is not None and env.should_record_events
        x, a, b, c = sizes(env, 6, 4, 6, kind=DimDynamic.DUCK)
        u = env.create_unbacked_symint()
        assert 2 * a > b and a % 3 == 0 and a + b == 10 and a // 2 == 3 and a == c
        torch._check(u >= 3)
        torch._check(u == a)
        assert statically_known_true(u >= 2) and bool(torch.sym_max(a, b) < 9)
        assert produce(env, x)
        assert env.validator.validate(*InputChecks(env, [x], [LocalSource("x")]).claims())


def test_a_lost_guard_is_found():
    with config.patch(translation_validation=True, translation_validation_no_bisect=True):
        env = ShapeEnv()
        assert not env.should_record_events
        x, a, b = sizes(env, 6, 4)
        assert a > b
        env.guards.clear()
        with pytest.raises(ValidationError, match="relied on: s77 > s27") as caught:
            produce(env, x)
    model = caught.value.model
    assert model["L['x'].size()[0]"] <= model["L['x'].size()[1]"]


def test_a_wrong_answer_of_the_prover_is_found(monkeypatch):
    with config.patch(translation_validation=True):
        env = ShapeEnv()
        x, a, b = sizes(env, 6, 4)
        decide = env.prover.decide
        wrong = env.table.lt(env.read(b), env.read(a))
        monkeypatch.setattr(env.prover, "decide", lambda c: True if c is wrong else decide(c))
        assert a > b and not env.guards
        with pytest.raises(ValidationError, match=r"test_config\.py"):
            produce(env, x)


def test_guards_the_wrong_way_round_are_found():
    switches = {"translation_validation": True,
                "inject_EVALUATE_EXPR_flip_equality_TESTING_ONLY": True}  # fmt: skip
    with config.patch(switches):
        env = ShapeEnv()
        x, a, b = sizes(env, 6, 4)
        assert a != b
        with pytest.raises(ValidationError):
            produce(env, x)


def test_what_z3_cannot_do_is_no_failure(logged):
    with config.patch(translation_validation=True):
        env = ShapeEnv()
        x, a, b = sizes(env, 6, 4)
        assert (a / b) * 3.0 > 1.5  # doubles are numbers of which z3 is told nothing
        assert produce(env, x)
    with config.patch(translation_validation=True, translation_validation_timeout=1):
        env = ShapeEnv()
        x, a, b = sizes(env, 6, 4)
        assert a * a * b % 7 != 9 + b * b % 5
        produce(env, x)
