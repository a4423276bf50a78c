"""symfx.recording beside stock torch's: both get the same calls."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, fields
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch._dynamo.source import ConstantSource, LocalSource
from torch._subclasses.fake_tensor import FakeTensorMode
from torch_releases import ERROR_OF_EVENTS_WITHOUT_SHAPE_ENV


@dataclass
class Peer:
    name: str
    prefix: str

    @property
    def recording(self) -> Any:
        return import_module(f"{self.prefix}.recording")

    @property
    def shapes(self) -> Any:
        return import_module(f"{self.prefix}.symbolic_shapes")

    def env(self, **settings: Any) -> Any:
        return self.shapes.ShapeEnv(should_record_events=True, **settings)


STOCK, SYMFX = Peer("stock", "torch.fx.experimental"), Peer("symfx", "symfx")
both = pytest.mark.parametrize("peer", [STOCK, SYMFX], ids=lambda p: p.name)


def test_each_name_is_there_and_takes_the_same() -> None:
    stock, ours = STOCK.recording, SYMFX.recording
    for name in stock.__all__:
        assert hasattr(ours, name), name
    for name in ("record_shapeenv_event", "replay_shape_env_events", "shape_env_check_state_equal"):
        theirs = inspect.signature(getattr(stock, name)).parameters
        mine = inspect.signature(getattr(ours, name)).parameters
        assert [(p.name, p.kind, p.default) for p in mine.values()] == [
            (p.name, p.kind, p.default) for p in theirs.values()
        ]
    for name in ("ShapeEnvEvent", "FakeTensorMeta"):
        theirs = [f.name for f in fields(getattr(stock, name))]
        assert [f.name for f in fields(getattr(ours, name))][: len(theirs)] == theirs
    for method in vars(stock.ShapeEnvEvent):
        assert method.startswith("__") or hasattr(ours.ShapeEnvEvent, method) or method == "_"


@both
def test_settings_of_the_environment(peer: Peer) -> None:
    env = peer.env(duck_shape=False)
    assert env.should_record_events is True
    assert env.is_recording is False
    assert env.tracked_fakes is None
    assert len(env.events) == 1
    assert env.events[0].f is peer.shapes.ShapeEnv
    assert env.events[0].args is None
    assert env.events[0].kwargs == {"duck_shape": False, "should_record_events": False}
    off = peer.shapes.ShapeEnv(should_record_events=False)
    off.create_unbacked_symint()
    assert off.events == []
    assert off.should_record_events is False


def fake(env: Any, *shape: int, name: str = "x") -> torch.Tensor:
    mode = FakeTensorMode(shape_env=env)
    return mode.from_tensor(torch.empty(shape), source=LocalSource(name))


@both
def test_recorded_events(peer: Peer) -> None:
    env = peer.env()
    x = fake(env, 5, 7)
    assert "_create_symbolic_sizes_strides_storage_offset" in [e.name for e in env.events]
    before = len(env.events)
    assert x.size(0) + x.size(1) > 10
    u = env.create_unbacked_symint()
    torch._check(u >= 2)
    env.freeze()
    names = [e.name for e in env.events[before:]]
    kept = [
        "evaluate_expr",
        "create_unbacked_symint",
        "guard_or_defer_runtime_assert",
        "freeze",
    ]
    assert [n for n in names if n in kept] == kept
    asked = env.events[before + names.index("evaluate_expr")]
    assert asked.is_evaluate_expr()
    assert not asked.is_defer_runtime_assert()
    assert asked.args[0] is env
    said = env.events[before + names.index("guard_or_defer_runtime_assert")]
    assert said.is_defer_runtime_assert()
    assert not said.is_create_fx_call_function()


@both
def test_replay(peer: Peer) -> None:
    env = peer.env(specialize_zero_one=True)
    x, y = fake(env, 5, 7), fake(env, 5, 3, name="y")
    assert x.size(0) == y.size(0)
    assert x.size(1) % 7 == 0
    u = env.create_unbacked_symint()
    torch._check(u <= 10)
    replayed = peer.recording.replay_shape_env_events(env.events)
    env.check_equal(replayed)
    replayed.check_equal(env)
    assert [str(g.expr) for g in replayed.guards] == [str(g.expr) for g in env.guards]
    assert replayed.should_record_events is False
    replayed.create_unbacked_symint()
    with pytest.raises(peer.recording.NotEqualError, match="ShapeEnv not equal"):
        env.check_equal(replayed)


@both
def test_every_prefix_can_be_replayed(peer: Peer) -> None:
    env = peer.env()
    x = fake(env, 6, 4)
    assert x.size(0) * 2 > x.size(1)
    assert x.size(0) > 3
    guards = []
    for n in range(1, len(env.events) + 1):
        replayed = peer.recording.replay_shape_env_events(env.events[:n])
        guards.append(len(replayed.guards))
    assert guards == sorted(guards)
    assert guards[0] == 0
    assert guards[-1] == len(env.guards)


@both
def test_a_log_starts_with_the_constructor(peer: Peer) -> None:
    env = peer.env()
    env.create_unbacked_symint()
    with pytest.raises(AssertionError):
        peer.recording.replay_shape_env_events(env.events[1:])


@both
def test_a_failing_call_is_no_event(peer: Peer) -> None:
    env = peer.env()
    u = env.create_unbacked_symint()
    questions = sum(e.is_evaluate_expr() for e in env.events)
    with pytest.raises(peer.shapes.GuardOnDataDependentSymNode):
        bool(u > 3)
    assert sum(e.is_evaluate_expr() for e in env.events) == questions
    assert env.is_recording is False


@both
def test_constructors_that_differ(peer: Peer) -> None:
    main = peer.shapes.ShapeEnv(allow_scalar_outputs=False)
    other = peer.shapes.ShapeEnv()
    with pytest.raises(peer.recording.NotEqualError) as caught:
        main.check_equal(other)
    lines = str(caught.value).splitlines()
    assert lines[0] == "ShapeEnv not equal: field values don't match:"
    assert lines[2] == "==> settings: values don't match."
    assert lines[3].startswith("  >  Left: ")
    assert lines[4].startswith("  > Right: ")


@both
def test_unbacked_symbols_that_differ(peer: Peer) -> None:
    main, other = peer.shapes.ShapeEnv(), peer.shapes.ShapeEnv()
    main.create_unbacked_symint()
    main.create_unbacked_symfloat()
    main.create_unbacked_symbool()
    with pytest.raises(peer.recording.NotEqualError) as caught:
        main.check_equal(other)
    assert "==> var_to_range: values don't match." in str(caught.value)
    other.create_unbacked_symint()
    other.create_unbacked_symfloat()
    other.create_unbacked_symbool()
    main.check_equal(other)


@both
def test_guards_that_differ(peer: Peer) -> None:
    main, other = peer.shapes.ShapeEnv(), peer.shapes.ShapeEnv()
    for env in (main, other):
        x = fake(env, 3, 8)
        if env is main:
            assert x.size(1) % 4 == 0
    with pytest.raises(peer.recording.NotEqualError) as caught:
        main.check_equal(other)
    assert "==> guards: values don't match." in str(caught.value)


# -- the comparison by itself --------------------------------------------------------------------


def compared(
    peer: Peer, left: Any, right: Any, without: Any = (), change: Any = None
) -> str | None:
    try:
        peer.recording.shape_env_check_state_equal(
            left, right, without, change or (lambda name, value: value)
        )
    except peer.recording.NotEqualError as error:
        return str(error)
    return None


@pytest.mark.parametrize(
    ("left", "right", "without"),
    [
        ({"a": 1}, {"a": 1}, ()),
        ({"a": 1}, {"a": 2}, ()),
        ({"a": 1}, {"a": 2}, ("a",)),
        ({"a": 1, "b": 2, "c": 3}, {"c": 3, "b": 1, "a": 0}, ("b",)),
        ({"a": 1, "x": 2}, {"a": 1, "y": 2}, ()),
        ({"a": 1, "x": 2}, {"a": 1, "y": 2}, ("x", "y", "z")),
        ({"a": {"k": 1, "j": [2]}}, {"a": {"j": [2]}}, ()),
        ({"a": {1, 3, 2}}, {"a": {1}}, ()),
        ({"a": "text", "b": None}, {"a": None, "b": "text"}, ()),
        ({}, {}, ()),
    ],
)
def test_messages_are_the_same(left: Any, right: Any, without: Any) -> None:
    pair = SimpleNamespace(**left), SimpleNamespace(**right)
    assert compared(SYMFX, *pair, without) == compared(STOCK, *pair, without)


def test_values_are_mapped_by_both() -> None:
    pair = SimpleNamespace(a=[1, 2], b=7), SimpleNamespace(a=[2, 1], b=8)
    seen: dict[str, list[Any]] = {}

    for peer in (STOCK, SYMFX):

        def change(name: str, value: Any, peer: Peer = peer) -> Any:
            seen.setdefault(peer.name, []).append((name, value))
            return sorted(value) if name == "a" else value

        seen[f"{peer.name} said"] = [compared(peer, *pair, (), change)]
    assert seen["stock"] == seen["symfx"]
    assert seen["stock said"] == seen["symfx said"]


@pytest.mark.parametrize(
    "mismatched", [[], [("a", "1", "2")], [("a", "1", "2"), ("b", "", "x\ny")]]
)
def test_the_error_by_itself(mismatched: Any) -> None:
    messages = {
        str(p.recording.NotEqualError("for no reason:", mismatched)) for p in (STOCK, SYMFX)
    }
    assert len(messages) == 1


@both
def test_the_measures_of_a_fake(peer: Peer) -> None:
    meta = peer.recording.FakeTensorMeta.from_fake(torch.empty(4, 5)[:, 1:])
    assert tuple(meta.size()) == (4, 4)
    assert tuple(meta.stride()) == (5, 1)
    assert meta.storage_offset() == 1
    assert meta.dim() == 2
    assert meta.is_nested is False
    assert meta.tensor_size == meta.size()
    assert meta.tensor_stride == meta.stride()
    assert meta.tensor_storage_offset == 1


# -- the decorator ---------------------------------------------------------------------------------


def counting(peer: Peer) -> Any:
    record = peer.recording.record_shapeenv_event

    class Counting(peer.shapes.ShapeEnv):  # type: ignore[name-defined, misc]
        seen = 0

        @record()
        def see(self, n: int, times: int = 1) -> int:
            self.seen += n * times
            return self.seen

        @record(name="twice")
        def see_twice(self, n: int) -> int:
            return self.see(n) + self.see(n)

        @record()
        def fail(self) -> None:
            raise KeyError("gone")

    return Counting


@both
def test_decorated_methods(peer: Peer) -> None:
    env = counting(peer)(should_record_events=True)
    assert env.see(2, times=3) == 6
    assert env.see_twice(1) == 7 + 8
    with pytest.raises(KeyError, match="gone"):
        env.fail()
    mine = [e for e in env.events[1:] if e.name in ("see", "twice", "fail")]
    assert [e.name for e in mine] == ["see", "twice"]
    assert mine[0].args == [env, 2]
    assert mine[0].kwargs == {"times": 3}
    assert mine[0].tracked_fakes is None
    other = counting(peer)()
    for event in mine:
        event.run(other)
    assert other.seen == env.seen
    assert other.events == []
    assert env.see.__name__ == "see"


@both
def test_functions_that_are_no_methods(peer: Peer) -> None:
    with pytest.raises(AssertionError):

        @peer.recording.record_shapeenv_event()
        def free(env: Any) -> None: ...

    @peer.recording.record_shapeenv_event()
    def loose(self: Any) -> None: ...

    expected = ERROR_OF_EVENTS_WITHOUT_SHAPE_ENV if peer is STOCK else AssertionError
    with pytest.raises(expected):
        loose(3)


@both
def test_symbols_in_the_arguments_move_over(peer: Peer) -> None:
    """Symbols inside of collections move over too."""
    record = peer.recording.record_shapeenv_event

    class Keeping(peer.shapes.ShapeEnv):  # type: ignore[name-defined, misc]
        @record()
        def keep(self, numbers: Any) -> None:
            self.kept_env = {n.node.shape_env for n in numbers}

    env = Keeping(should_record_events=True)
    numbers = [env.create_unbacked_symint(), env.create_unbacked_symint() + 1]
    env.keep(numbers)
    assert env.kept_env == {env}
    other = Keeping()
    for event in env.events[1:]:
        event.run(other)
    assert other.kept_env == {other}


@both
def test_the_tracked_inputs(peer: Peer) -> None:
    inputs: list[Any] = []
    env = peer.env(tracked_fakes=inputs)
    x = fake(env, 4, 6)
    inputs.append(peer.shapes.TrackedFake(x, ConstantSource("x"), None))
    assert x.size(0) > 3
    event = [e for e in env.events if e.name == "evaluate_expr"][-1]
    (noted,) = event.tracked_fakes
    assert type(noted.fake) is peer.recording.FakeTensorMeta
    assert [str(n) for n in noted.fake.size()] == [str(n) for n in x.size()]
    assert noted.source.name == "x"
    assert env.create_unbacked_symint() is not None
    assert env.events[-1].tracked_fakes is None
