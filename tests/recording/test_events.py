"""A recorded environment, replayed in memory or out of a file, knows what the first one knew."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
import sympy
import torch
from torch._dynamo.source import (
    AttrSource,
    ConstantSource,
    LocalSource,
    TensorProperty,
    TensorPropertySource,
)
from torch._subclasses.fake_tensor import FakeTensorMode

import symfx
from symfx.errors import ExpressionError, SymfxError
from symfx.recording import (
    SCHEMA,
    EventLog,
    EventLogError,
    FakeTensorMeta,
    NotEqualError,
    ShapeEnvEvent,
    record_shapeenv_event,
    recording_shape_envs,
    replay_shape_env_events,
    shape_env_check_state_equal,
)
from symfx.symbolic_shapes import Dim, DimDynamic, ShapeEnv, StatelessSymbolicContext
from symfx.symbolic_shapes.environment.ledger import Ledger


def sizes(env: ShapeEnv, shape: tuple[int, ...], name: str, **kwargs: Any) -> Any:
    found, _, _ = env.create_symbolic_sizes_strides_storage_offset(
        torch.empty(shape), LocalSource(name), **kwargs
    )
    return found


def both_ways(env: ShapeEnv) -> ShapeEnv:
    """The environment replayed in memory and out of JSON; both must equal it."""
    replayed = replay_shape_env_events(env.events)
    env.check_equal(replayed)
    log = EventLog.of(env)
    text = log.to_json()
    loaded = EventLog.from_json(text)
    env.check_equal(loaded.replay())
    assert [e.method for e in loaded] == [e.method for e in log]
    env.check_equal(EventLog.from_json(loaded.to_json()).replay())
    return replayed


def busy(env: ShapeEnv) -> None:
    """Something of everything."""
    a, b = sizes(env, (8, 6), "x")
    env.name_dimension("y", 0, Dim("batch", max=64))
    c, _ = sizes(env, (8, 1), "y")
    assert a + b > 10
    assert a * b % 4 == 0
    assert c == a
    u = env.create_unbacked_symint()
    f = env.create_unbacked_symfloat()
    p = env.create_unbacked_symbool()
    torch._check(u <= a + 1)
    torch._check(u >= 2, lambda: "too few")
    torch._check(f > 0.5)
    torch._check(p)
    env.constrain_symbol_range(u.node.expr, 0, 100)
    env._constrain_range_for_size(env.create_unbacked_symint().node.expr)
    with env.suppress_guards():
        assert a * 3 < 30
    n = env.create_symintnode(env.create_unspecified_symbol(-3, LocalSource("n")), hint=-3)
    assert n // 2 == -2
    env.evaluate_expr(sympy.Eq(b.node.expr, 6))
    env.guard_or_defer_runtime_assert(sympy.Lt(u.node.expr, 50), "few")
    env.freeze()


def test_everything_is_replayed() -> None:
    env = ShapeEnv(should_record_events=True)
    busy(env)
    replayed = both_ways(env)
    assert [str(g.term) for g in replayed.guards] == [str(g.term) for g in env.guards]
    assert replayed.frozen
    assert not replayed.should_record_events
    assert {e.name for e in env.events[1:]} >= {
        "create_unbacked_symint",
        "_create_symbolic_sizes_strides_storage_offset",
        "evaluate_expr",
        "guard_or_defer_runtime_assert",
        "freeze",
    }


@pytest.mark.parametrize(
    "settings",
    [
        {"specialize_zero_one": False},
        {"duck_shape": False},
        {"assume_static_by_default": True},
        {"prefer_deferred_runtime_asserts_over_guards": True},
        {"allow_scalar_outputs": False, "allow_dynamic_output_shape_ops": False},
    ],
)
def test_settings_are_replayed(settings: dict[str, bool]) -> None:
    env = ShapeEnv(should_record_events=True, **settings)
    x = FakeTensorMode(shape_env=env).from_tensor(torch.empty(5, 5, 1), source=LocalSource("x"))
    if x.size(0) * 2 > 4:
        pass
    both_ways(env)


def test_a_trace_is_replayed() -> None:
    """Through symfx.trace, as users get their environments."""

    def model(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        chosen = x[x.sum(1) > 0]
        if x.shape[0] * x.shape[1] > 12:
            return chosen @ y
        return torch.cat([chosen, x]) @ y

    with recording_shape_envs() as recorded:
        symfx.trace(model, (torch.randn(4, 6), torch.randn(6, 3)), dynamic=[True, True])
    (env,) = recorded
    assert len(env.guards) >= 1
    assert len(env.events) > 4
    text = EventLog.of(env).to_json().replace
    log = EventLog.from_json(text("", ""))
    replayed = log.replay()
    assert type(replayed) is ShapeEnv
    env.check_equal(replayed)


def random_history(seed: int) -> ShapeEnv:
    picks = random.Random(seed)
    env = ShapeEnv(should_record_events=True, duck_shape=picks.random() < 0.5)
    numbers: list[Any] = list(sizes(env, (7, 7, 5), "x"))
    for step in range(14):
        kind = picks.randrange(8)
        if kind == 0:
            numbers.append(env.create_unbacked_symint())
        elif kind == 1:
            numbers += sizes(env, (picks.randint(2, 9),), f"y{step}")
        a, b, c = (picks.choice(numbers) for _ in range(3))
        k = picks.randint(1, 4)
        value = picks.choice(
            [
                lambda: a + b,
                lambda: a * b - c,
                lambda: (a + k) // k,
                lambda: b % (k + 1),
                lambda: a - b,
            ]
        )()
        condition = picks.choice(
            [lambda: value > c, lambda: value == b + k, lambda: a * k != value]
        )()
        try:
            if kind < 5:
                torch._check(condition)
            else:
                bool(condition)
        except RuntimeError:
            pass  # contradicts what was said, or depends on data
    return env


@pytest.mark.parametrize("seed", range(12))
def test_random_histories(seed: int) -> None:
    """Arithmetic between the events, which no event tells of, makes no difference."""
    env = random_history(seed)
    assert len(env.events) > 5
    both_ways(env)


def test_nothing_is_recorded_when_off() -> None:
    """Nothing stands before the methods of an environment that does not record."""
    env = ShapeEnv()
    assert not env.should_record_events
    busy(env)
    assert env.events == []
    assert not any(callable(value) for value in vars(env).values() if hasattr(value, "__wrapped__"))
    assert env.evaluate_term.__func__ is Ledger.value_of  # type: ignore[attr-defined]
    assert env.expect.__func__ is ShapeEnv.expect  # type: ignore[attr-defined]
    assert not hasattr(ShapeEnv.evaluate_term, "__wrapped__")


def test_a_call_that_raises_is_no_event() -> None:
    env = ShapeEnv(should_record_events=True)
    u = env.create_unbacked_symint()
    before = list(env.events)
    with pytest.raises(Exception, match="data-dependent"):
        bool(u > 3)
    assert env.events == before
    assert env.failed_event is not None
    assert str(env.failed_event) == "evaluate_term(u0 >= 4)"
    assert not env.is_recording
    with_it = EventLog.of(env, failed=True)
    assert len(with_it) == len(before) + 1
    with pytest.raises(Exception, match="data-dependent") as caught:
        EventLog.from_json(with_it.to_json()).replay()
    assert "while replaying evaluate_term(u0 >= 4)" in caught.value.__notes__


def test_events_inside_events_are_not_recorded() -> None:
    env = ShapeEnv(should_record_events=True)
    env.create_unspecified_symint_and_symbol(5, LocalSource("n"), DimDynamic.DYNAMIC)
    assert [e.name for e in env.events[1:]] == ["create_unspecified_symint_and_symbol"]


def test_the_inputs_known_at_a_guard() -> None:
    class Tracked:
        def __init__(self, fake: Any, source: Any, symbolic_context: Any) -> None:
            self.fake, self.source, self.symbolic_context = fake, source, symbolic_context

    inputs: list[Any] = []
    env = ShapeEnv(should_record_events=True, tracked_fakes=inputs)
    mode = FakeTensorMode(shape_env=env)
    x = mode.from_tensor(torch.empty(4, 6), source=LocalSource("x"))
    inputs.append(Tracked(x, LocalSource("x"), None))
    assert x.size(0) > 3
    (noted,) = env.events[-1].tracked_fakes or ()
    assert isinstance(noted, Tracked)
    assert isinstance(noted.fake, FakeTensorMeta)
    assert tuple(noted.fake.size()) == tuple(x.size())
    assert noted.fake.dim() == 2
    assert noted.fake.stride()[1] == 1
    assert noted.fake.storage_offset() == 0
    assert not noted.fake.is_nested
    env.check_equal(replay_shape_env_events(env.events))


def test_a_method_of_a_subclass() -> None:
    class Shared(ShapeEnv):
        @record_shapeenv_event(name="tie")
        def tie(self, a: Any, b: Any) -> Any:
            torch._check(a == b)
            return a

        @record_shapeenv_event()
        def fail(self) -> None:
            raise ValueError("no")

    env = Shared(should_record_events=True)
    u, v = env.create_unbacked_symint(), env.create_unbacked_symint()
    assert env.tie(u, b=v) is u
    with pytest.raises(ValueError, match="no"):
        env.fail()
    assert [e.name for e in env.events[3:]] == ["tie"]
    replayed = replay_shape_env_events(env.events)
    assert type(replayed) is Shared
    env.check_equal(replayed)
    silent = Shared()
    silent.tie(silent.create_unbacked_symint(), 3)
    assert silent.events == []
    with pytest.raises(EventLogError, match="tie is no method of ShapeEnv"):
        EventLog.of(env).to_json()


def test_what_is_no_method_is_not_decorated() -> None:
    with pytest.raises(SymfxError, match="decorates methods"):

        @record_shapeenv_event()
        def free(env: ShapeEnv) -> None: ...

    @record_shapeenv_event()
    def loose(self: Any) -> None: ...

    with pytest.raises(SymfxError, match="no ShapeEnv"):
        loose(3)


def test_a_log_starts_with_the_environment() -> None:
    env = ShapeEnv(should_record_events=True)
    env.create_unbacked_symint()
    with pytest.raises(SymfxError, match="starts with create_unbacked_symint"):
        replay_shape_env_events(env.events[1:])
    with pytest.raises(SymfxError, match="starts with nothing"):
        replay_shape_env_events([])
    with pytest.raises(SymfxError, match="needs a ShapeEnv"):
        env.events[1].run()
    with pytest.raises(SymfxError, match="cannot be run on one"):
        env.events[0].run(env)
    with pytest.raises(EventLogError, match="does not record"):
        EventLog.of(ShapeEnv())


# -- comparing ---------------------------------------------------------------------------------


def difference(change: Any) -> str:
    left, right = ShapeEnv(), ShapeEnv()
    for env in (left, right):
        sizes(env, (8, 6), "x")
        env.create_unbacked_symint()
    left.check_equal(right)
    change(left)
    with pytest.raises(NotEqualError) as caught:
        left.check_equal(right)
    with pytest.raises(NotEqualError):
        right.check_equal(left)
    assert "ShapeEnv not equal: field values don't match:" in str(caught.value)
    return str(caught.value)


def test_each_difference_is_found() -> None:
    def symbols(env: ShapeEnv) -> list[Any]:
        return [env.wrap(info.term) for info in env.symbol_table()]

    assert "==> guards: values don't match." in difference(lambda e: bool(symbols(e)[0] > 5))
    assert "==> deferred_runtime_asserts" in difference(lambda e: torch._check(symbols(e)[2] > 5))
    assert "==> var_to_range" in difference(
        lambda e: e.constrain_range(symbols(e)[2].node.term, 3, 9)
    )
    assert "==> replacements" in difference(lambda e: torch._check(symbols(e)[2] == 3))
    assert "==> frozen: values don't match.\n  >  Left: True" in difference(lambda e: e.freeze())
    assert "==> symbols" in difference(lambda e: e.create_unbacked_symint())
    assert "==> dimensions" in difference(lambda e: e.name_dimension("z", 0, Dim("n")))
    assert "==> source_to_var" in difference(lambda e: sizes(e, (8,), "z"))
    with pytest.raises(NotEqualError, match="==> settings"):
        ShapeEnv().check_equal(ShapeEnv(duck_shape=False))


def test_equality_does_not_depend_on_what_was_computed_first() -> None:
    def make(flip: bool) -> ShapeEnv:
        env = ShapeEnv()
        a, b = sizes(env, (8, 6), "x")
        if flip:
            b * b, a * b, b // 3, b * a // 5
        assert a * b != a // 2 + b // 3
        return env

    make(False).check_equal(make(True))


class Box:
    def __init__(self, **attributes: Any) -> None:
        vars(self).update(attributes)


def test_any_objects_are_compared_by_their_attributes() -> None:
    def same(name: str, value: Any) -> Any:
        return value

    one, two = Box(a=1, b={2, 1}, log=object()), Box(a=1, b={1, 2}, log=object())
    shape_env_check_state_equal(one, two, ("log", "missing"), same)
    with pytest.raises(NotEqualError, match="==> log: values don't match"):
        shape_env_check_state_equal(one, two, (), same)
    shape_env_check_state_equal(one, two, (), lambda name, value: None if name == "log" else value)
    with pytest.raises(NotEqualError, match="field set mismatch") as caught:
        shape_env_check_state_equal(Box(a=1, c=2), Box(a=1, b=3), (), same)
    assert "==> found unique fields:\n  >  Left: ['c']\n  > Right: ['b']" in str(caught.value)
    with pytest.raises(NotEqualError) as caught:
        shape_env_check_state_equal(Box(d={"b": 1, "a": 2}), Box(d={}), (), same)
    assert "  >  Left: {a: 2, b: 1}\n  > Right: {}" in str(caught.value)


def test_fields_can_be_left_out() -> None:
    left, right = ShapeEnv(), ShapeEnv()
    left.freeze()
    shape_env_check_state_equal(left, right, ("frozen",), lambda name, value: value)


# -- files -------------------------------------------------------------------------------------


def test_a_log_is_saved_and_loaded(tmp_path: Path) -> None:
    env = ShapeEnv(should_record_events=True)
    busy(env)
    log = EventLog.of(env)
    log.save(tmp_path / "log.json")
    loaded = EventLog.load(tmp_path / "log.json")
    env.check_equal(loaded.replay())
    data = json.loads((tmp_path / "log.json").read_text())
    assert (data["format"], data["version"]) == ("symfx event log", 1)
    assert data["torch"] == torch.__version__
    assert str(loaded).count("\n") == str(log).count("\n")
    assert "guard_or_defer_runtime_assert(u0 <= 49, 'few')" in str(loaded)


def test_arguments_of_every_kind() -> None:
    env = ShapeEnv(should_record_events=True)
    source = AttrSource(LocalSource("m"), "weight")
    context = StatelessSymbolicContext([DimDynamic.DYNAMIC, DimDynamic.STATIC])
    env.create_symbolic_sizes_strides_storage_offset(
        torch.empty(4, 3), source, symbolic_context=context
    )
    env.create_symbol(7, TensorPropertySource(ConstantSource("z"), TensorProperty.SIZE, 0))
    env.create_symbol(0.5, ConstantSource("f"), DimDynamic.DYNAMIC)
    u = env.create_unbacked_symint(ConstantSource("n"))
    env.constrain_symbol_range(u.node.expr, 0, sympy.oo)
    env.evaluate_sym_node(env.wrap(env.symbol_table()[0].term * 2).node)
    both_ways(env)


def edited(change: Any) -> str:
    env = ShapeEnv(should_record_events=True)
    busy(env)
    data = json.loads(EventLog.of(env).to_json())
    change(data)
    return json.dumps(data)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.update(format="pickle"), "no event log"),
        (lambda d: d.update(version=2), "version 2, and this symfx reads 1"),
        (lambda d: d.update(code="print()"), "a log has no 'code'"),
        (lambda d: d["settings"].update(run=True), "a ShapeEnv has no 'run'"),
        (lambda d: d.update(events={}), "no list"),
        (lambda d: d["events"].append({"call": "__init__"}), "called '__init__'"),
        (lambda d: d["events"].append({"call": "cleanup"}), "called 'cleanup'"),
        (lambda d: d["events"].append({"call": "freeze", "eval": "1"}), "an event has no 'eval'"),
        (lambda d: d["events"].append({"call": "freeze", "args": {}}), "a field of a wrong type"),
        (lambda d: d["events"].append(7), "7 is not an event"),
        (
            lambda d: d["events"].append(
                {"call": "create_unbacked_symint", "args": [{"record": "Popen", "fields": {}}]}
            ),
            "no record of a log is called 'Popen'",
        ),
        (
            lambda d: d["events"].append(
                {"call": "expect", "args": [{"enum": "Signals", "member": "SIGINT"}]}
            ),
            "no enumeration of a log is called 'Signals'",
        ),
        (
            lambda d: d["events"].append(
                {
                    "call": "create_unbacked_symint",
                    "args": [{"record": "LocalSource", "fields": {"name": "x"}}],
                }
            ),
            "LocalSource has no field 'name'",
        ),
        (
            lambda d: d["events"].append({"call": "expect", "args": [{"pickle": "gASV"}]}),
            "no argument that a log can have",
        ),
    ],
)
def test_what_is_not_known_is_refused_by_name(change: Any, message: str) -> None:
    with pytest.raises(EventLogError, match=message):
        EventLog.from_json(edited(change))


def test_what_is_no_log_at_all(tmp_path: Path) -> None:
    for text in ("", "[1]", "{", "3"):
        with pytest.raises(EventLogError):
            EventLog.from_json(text)
    (tmp_path / "binary").write_bytes(b"\x80\x04\xff")
    with pytest.raises(EventLogError, match="not text"):
        EventLog.load(tmp_path / "binary")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 1_000_000, "nested more than 100 deep"),
        ("[" * 400 + "]" * 400, "nested more than 100 deep"),
        ('{"a":' * 400 + "1" + "}" * 400, "nested more than 100 deep"),
        ("9" * 5_000, "more than 1000 digits"),
        ("0." + "9" * 5_000, "more than 1000 digits"),
        ("[" + "1," * 3_000_000 + "1]", "more than 2000000 values"),
        ('"' + "x" * (33 << 20) + '"', "longer than"),
    ],
    ids=["open", "lists", "objects", "integer", "decimal", "many", "long"],
)
def test_what_asks_for_too_much(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(EventLogError, match=message):
        EventLog.from_json(text)
    path = tmp_path / "log.json"
    path.write_text(text)
    with pytest.raises(EventLogError, match=r"longer than|log\.json"):
        EventLog.load(path)


def test_arguments_that_an_event_nests_too_deeply() -> None:
    inner: Any = 1
    for _ in range(60):
        inner = {"tuple": [inner]}
    text = edited(lambda d: d["events"].append({"call": "expect", "args": [inner]}))
    with pytest.raises(EventLogError, match="nested more than 100 deep"):
        EventLog.from_json(text)


@pytest.mark.parametrize(("digits", "message"), [(2_000, "more than 1000"), (6_000, "4300 digits")])
def test_a_log_that_could_not_be_read_again_is_not_written(digits: int, message: str) -> None:
    event = ShapeEnvEvent(ShapeEnv.create_unbacked_symint, [ShapeEnv()], {"n": 10**digits})
    log = EventLog((ShapeEnvEvent(ShapeEnv, kwargs={}), event))
    with pytest.raises(EventLogError, match=message):
        log.to_json()


@pytest.mark.parametrize(
    "parts",
    [
        [],
        [["system", 0]],
        [["const", "rm"]],
        [["symbol", "s", "str"]],
        [["const", 1], ["floordiv", 0, 7]],
        [["const", 1], ["floordiv", 0]],
        [["const", True], ["sum", 1, [2, 0, 0]]],
        [["const", 1.5], ["and", 0, 0]],
        [3],
        ["const"],
    ],
)
def test_broken_expressions_are_refused(parts: Any) -> None:
    text = edited(lambda d: d["events"].append({"call": "expect", "args": [{"term": parts}]}))
    with pytest.raises((ExpressionError, EventLogError)):
        EventLog.from_json(text)


def test_a_symbol_that_nothing_makes() -> None:
    term = [["symbol", "s99", "int"], ["ge", 0]]
    text = edited(lambda d: d["events"].append({"call": "expect", "args": [{"term": term}]}))
    log = EventLog.from_json(text)
    with pytest.raises(SymfxError, match="no event before this one made a symbol s99"):
        log.replay()


def test_what_cannot_be_saved_is_named() -> None:
    env = ShapeEnv(should_record_events=True)
    u = env.create_unbacked_symint()
    env.expect(u.node.term >= 0, message=lambda: "text")  # type: ignore[arg-type]
    with pytest.raises(EventLogError, match=r"an argument of type builtins\.function"):
        EventLog.of(env).to_json()


def test_the_schema_is_the_files() -> None:
    """Checked by hand here, so that the tests need no library for it."""
    env = ShapeEnv(should_record_events=True)
    busy(env)
    data = json.loads(EventLog.of(env).to_json())
    properties = SCHEMA["properties"]
    assert set(SCHEMA["required"]) <= data.keys() <= properties.keys()
    event_schema = properties["events"]["items"]
    for event in data["events"]:
        assert set(event_schema["required"]) <= event.keys() <= event_schema["properties"].keys()
        assert event["call"] in event_schema["properties"]["call"]["enum"]


def test_an_event_by_hand() -> None:
    env = ShapeEnv()
    event = ShapeEnvEvent(ShapeEnv.create_unbacked_symint, [env], {}, name="create_unbacked_symint")
    other = ShapeEnv()
    event.run(other)
    assert [info.name for info in other.symbol_table()] == ["u0"]
    assert not env.symbol_table()
    assert not (event.is_evaluate_expr() or event.is_defer_runtime_assert())
    assert not event.is_create_fx_call_function()
