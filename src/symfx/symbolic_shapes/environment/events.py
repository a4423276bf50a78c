"""Events: the calls that changed a ShapeEnv, as they are recorded and as they are replayed.

An environment that does not record has its plain methods: nothing stands between a caller and
them. One that does has, for each method of `RECORDED`, an attribute of its own of that name,
which notes the call and then makes it.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import torch

from symfx import config
from symfx.algebra import Term
from symfx.algebra.terms.portable import carry
from symfx.errors import SymfxError
from symfx.sym_node import SymNode, SymTypes
from symfx.symbolic_shapes.environment.held_terms import HeldTerm, term_for

if TYPE_CHECKING:
    from symfx.symbolic_shapes import ShapeEnv

__all__ = [
    "ALSO_CALLED",
    "RECORDED",
    "THE_ENVIRONMENT",
    "FakeTensorMeta",
    "Recording",
    "RecordingError",
    "ShapeEnvEvent",
    "record_shapeenv_event",
    "recording_shape_envs",
    "replay_shape_env_events",
    "start_recording",
]

_P = ParamSpec("_P")
_R = TypeVar("_R")

# The methods of a ShapeEnv that change what it knows, and whether the inputs are noted too.
# Those that only call others of them are left out, and so are those that only ask.
RECORDED: dict[str, bool] = {
    "name_dimension": False,
    "create_symbol": False,
    "create_unspecified_symbol": False,
    "create_symintnode": False,
    "create_symfloatnode": False,
    "create_symboolnode": False,
    "create_unspecified_symint_and_symbol": False,
    "create_unbacked_symint": False,
    "create_unbacked_symfloat": False,
    "create_unbacked_symbool": False,
    "_create_symbolic_sizes_strides_storage_offset": False,
    "_constrain_range_for_size": False,
    "_constrain_range": False,
    "_constrain_is_bounded": False,
    "_constrain_unify": False,
    "constrain_symbol_range": False,
    "constrain_range": False,
    "_eliminate_unbacked": False,
    "_rename_unbacked_to": False,
    "_set_replacement": False,
    "_record_exclusion_constraint": False,
    "set_real_tensor_prop_unbacked_vals": False,
    "add_backed_var_to_val": False,
    "register_symbol": False,
    "evaluate_sym_node": True,
    "evaluate_expr": True,
    "evaluate_term": True,
    "guard_or_defer_runtime_assert": True,
    "expect": True,
    "freeze": False,
    "freeze_runtime_asserts": False,
}
# symfx's own questions go by the names of the stock ones that they answer.
ALSO_CALLED = {
    "evaluate_term": "evaluate_expr",
    "evaluate_sym_node": "evaluate_expr",
    "expect": "guard_or_defer_runtime_assert",
}


class RecordingError(SymfxError, AssertionError):
    """An event or a decorator used for what it is not; torch's own raise AssertionError here."""


class _TheEnvironment:
    """Stands for the environment in the arguments of an event that came out of a file."""

    def __repr__(self) -> str:
        return "<the environment>"


THE_ENVIRONMENT = _TheEnvironment()


@dataclass
class FakeTensorMeta:
    """The sizes of a fake tensor, without the tensor.

    Attributes:
        tensor_size: its sizes.
        tensor_stride: its strides.
        tensor_storage_offset: where its elements begin.
        is_nested: whether it is a nested tensor.

    Example:
        >>> FakeTensorMeta.from_fake(torch.empty(2, 3)).stride()
        (3, 1)
    """

    tensor_size: tuple[int | torch.SymInt, ...]
    tensor_stride: tuple[int | torch.SymInt, ...]
    tensor_storage_offset: int | torch.SymInt
    is_nested: bool

    def size(self) -> tuple[int | torch.SymInt, ...]:
        """The sizes."""
        return self.tensor_size

    def stride(self) -> tuple[int | torch.SymInt, ...]:
        """The strides."""
        return self.tensor_stride

    def storage_offset(self) -> int | torch.SymInt:
        """Where the elements begin in the storage."""
        return self.tensor_storage_offset

    def dim(self) -> int:
        """The number of dimensions."""
        return len(self.tensor_size)

    @staticmethod
    def from_fake(fake: torch.Tensor) -> FakeTensorMeta:
        """The sizes of a tensor."""
        return FakeTensorMeta(
            fake.size(), tuple(fake.stride()), fake.storage_offset(), fake.is_nested
        )


@dataclass
class ShapeEnvEvent:
    """One call that changed a ShapeEnv.

    Attributes:
        f: the method, not bound; the class itself for the event that makes the environment.
        args: the positional arguments, the environment first.
        kwargs: the arguments by name.
        tracked_fakes: the inputs known at that time, if the environment keeps a list of them.
        name: what the call is called, where that is not the name of `f`.
        suppressed: whether the call was made inside `ShapeEnv.suppress_guards`.
        counters: how many names of each kind had been given out before the call, so that its
            symbols get the names they had even where earlier events are left out.
    """

    f: Callable[..., Any]
    args: list[Any] | None = None
    kwargs: dict[str, Any] | None = None
    tracked_fakes: list[Any] | None = None
    name: str | None = None
    suppressed: bool = False
    counters: dict[str, int] = field(default_factory=dict)

    def run(self, shape_env: ShapeEnv | None = None) -> Any:
        """Make the call again.

        Args:
            shape_env: the environment to make it on, which takes the place of the recorded one
                in the arguments; None for the event that makes the environment.

        Raises:
            SymfxError: an argument is about a symbol that the environment does not have.
        """
        if self.makes_environment:
            if shape_env is not None:
                raise RecordingError(
                    "the event makes a ShapeEnv, so it cannot be run on one",
                    fix="call run() without an argument",
                )
            return self.f(**(self.kwargs or {}))
        if shape_env is None:
            raise RecordingError(
                f"{self.method} needs a ShapeEnv to run on", fix="call run(shape_env)"
            )
        args = [translate(a, shape_env) for a in self.args or []]
        kwargs = {k: translate(v, shape_env) for k, v in (self.kwargs or {}).items()}
        raise_counters(shape_env, self.counters)
        with shape_env.suppress_guards() if self.suppressed else contextlib.nullcontext():
            return self.f(*args, **kwargs)

    @property
    def makes_environment(self) -> bool:
        """Whether this is the event that makes the environment."""
        return inspect.isclass(self.f)

    @property
    def method(self) -> str:
        """The name of the method that was called."""
        return self.f.__name__

    def __str__(self) -> str:
        given = [_readable(a) for a in (self.args or [])[1:]]
        kwargs = self.kwargs or {}
        if not self.makes_environment:
            usual = {k: p.default for k, p in inspect.signature(self.f).parameters.items()}
            kwargs = {k: v for k, v in kwargs.items() if v is not usual.get(k, usual)}
        else:
            from symfx.symbolic_shapes import ShapeEnvSettings

            usual = {**vars(ShapeEnvSettings()), "should_record_events": False}
            kwargs = {k: v for k, v in kwargs.items() if v is not usual.get(k)}
        given += [f"{k}={_readable(v)}" for k, v in kwargs.items()]
        suppressed = "  (guards suppressed)" if self.suppressed else ""
        return f"{self.method}({', '.join(given)}){suppressed}"

    def is_evaluate_expr(self) -> bool:
        """Whether the event asked for the value of an expression."""
        return self.name == "evaluate_expr"

    def is_defer_runtime_assert(self) -> bool:
        """Whether the event relied on a condition."""
        return self.name == "guard_or_defer_runtime_assert"

    def is_create_fx_call_function(self) -> bool:
        """Whether the event made a node of a translation validation; symfx has none."""
        return self.name == "_create_fx_call_function"


def _readable(value: Any) -> str:
    if isinstance(value, (Term, HeldTerm, *SymTypes)):
        return str(value)
    if isinstance(value, (list, tuple)):
        inner = ", ".join(map(_readable, value))
        return f"[{inner}]" if isinstance(value, list) else f"({inner}{',' * (len(value) == 1)})"
    name = getattr(value, "name", None)
    return name if isinstance(name, str) else repr(value)


# -- recording --------------------------------------------------------------------------------


def start_recording(env: ShapeEnv, settings: dict[str, Any]) -> None:
    """Note from now on each call of one of the environment's methods that change it.

    Args:
        env: the environment, just made.
        settings: the arguments it was made with.
    """
    cls = _class_of(env)
    env.events = [ShapeEnvEvent(cls, kwargs={**settings, "should_record_events": False})]
    for name, with_fakes in RECORDED.items():
        method = getattr(cls, name)
        noting = functools.partial(_noted, env, method, ALSO_CALLED.get(name, name), with_fakes)
        setattr(env, name, functools.wraps(method)(noting))
    scoped = cls.patch_source_specialization
    setattr(env, scoped.__name__, functools.wraps(scoped)(functools.partial(_unnoted, env, scoped)))


def _noted(
    env: ShapeEnv,
    method: Callable[..., Any],
    name: str,
    with_fakes: bool,
    /,
    *args: Any,
    **kwargs: Any,
) -> Any:
    """Call a method of an environment and note the call, but not the calls that it makes."""
    if env.is_recording or not env.should_record_events:
        return method(env, *args, **kwargs)
    event = ShapeEnvEvent(
        method,
        [env, *map(hold, args)],
        {k: hold(v) for k, v in kwargs.items()},
        env._snapshot_tracked_fakes() if with_fakes else None,
        name,
        env._suppressed.depth > 0,
        name_counters(env),
    )
    # First the event, then the call: a guard's own event comes after the one that caused it.
    env.events.append(event)
    try:
        with env._recording():
            return method(env, *args, **kwargs)
    except BaseException:
        # The call did not do what the event would say it did.
        env.events.remove(event)
        env.failed_event = event
        raise


_observed: ContextVar[list[ShapeEnv] | None] = ContextVar("symfx_observed", default=None)


@contextlib.contextmanager
def recording_shape_envs() -> Iterator[list[ShapeEnv]]:
    """Environments that are made inside record their events, whoever makes them.

    Yields:
        A list, to which each of them is added when it is made.

    Example:
        >>> import symfx
        >>> with recording_shape_envs() as environments:
        ...     traced = symfx.trace(torch.relu, torch.randn(3, 4), dynamic=[True])
        >>> (env,) = environments
        >>> len(env.events) > 1
        True
    """
    made: list[ShapeEnv] = []
    before = _observed.set(made)
    try:
        yield made
    finally:
        _observed.reset(before)


@contextlib.contextmanager
def _unnoted(
    env: ShapeEnv, scope: Callable[..., Any], /, *args: Any, **kwargs: Any
) -> Iterator[None]:
    """A scope after which nothing is left of what happened inside."""
    with env._recording(), scope(env, *args, **kwargs):
        yield


def record_shapeenv_event(
    *, save_tracked_fakes: bool = False, name: str | None = None
) -> Callable[[Callable[_P, _R]], Callable[_P, _R]]:
    """Decorate a method of a subclass of ShapeEnv so that its calls are events.

    The methods of ShapeEnv itself need no decorating: an environment made with
    ``should_record_events=True`` notes them by itself.

    Args:
        save_tracked_fakes: note the inputs known at the time of the call.
        name: what the event is called; the method's name where not given.

    Raises:
        RecordingError: what is decorated is no method: its first parameter is not ``self``.

    Example:
        >>> from symfx.symbolic_shapes import ShapeEnv
        >>> class Counting(ShapeEnv):
        ...     seen = 0
        ...     @record_shapeenv_event()
        ...     def see(self, n):
        ...         self.seen += n
        >>> env = Counting(should_record_events=True)
        >>> env.see(3)
        >>> replay_shape_env_events(env.events).seen
        3
    """

    def decorate(function: Callable[_P, _R]) -> Callable[_P, _R]:
        parameters = inspect.getfullargspec(function).args if callable(function) else []
        if not parameters or parameters[0] != "self":
            raise RecordingError(
                f"record_shapeenv_event decorates methods of a ShapeEnv, and {function!r} is none",
                fix="make it a method, with self as its first parameter",
            )
        called = name or function.__name__

        @functools.wraps(function)
        def noting(*args: _P.args, **kwargs: _P.kwargs) -> _R:
            from symfx.symbolic_shapes import ShapeEnv

            env = args[0]
            if not isinstance(env, ShapeEnv):
                raise RecordingError(
                    f"{called} was called on {type(env).__name__}, which is no ShapeEnv",
                    fix="call it on a symfx ShapeEnv",
                )
            result: _R = _noted(env, function, called, save_tracked_fakes, *args[1:], **kwargs)
            return result

        return noting

    return decorate


def _class_of(env: Any) -> Any:
    # `env.__class__` answers torch's class, for torch.
    return type(env)


# -- replaying --------------------------------------------------------------------------------


def replay_shape_env_events(events: Iterable[ShapeEnvEvent]) -> ShapeEnv:
    """A new environment on which the events were run one after the other.

    Args:
        events: what was recorded; the first makes the environment.

    Raises:
        RecordingError: the first event does not make an environment.

    Example:
        >>> from symfx.symbolic_shapes import ShapeEnv
        >>> env = ShapeEnv(should_record_events=True)
        >>> u = env.create_unbacked_symint()
        >>> torch._check(u >= 4)
        >>> env.check_equal(replay_shape_env_events(env.events))
    """
    steps = list(events)
    if not steps or not steps[0].makes_environment:
        raise RecordingError(
            "the first event of a log makes the ShapeEnv, and this log starts with "
            f"{steps[0].method if steps else 'nothing'}",
            fix="replay all of env.events of a ShapeEnv(should_record_events=True)",
        )
    env: ShapeEnv = steps[0].run()
    for event in steps[1:]:
        try:
            event.run(env)
        except Exception as error:
            error.add_note(f"while replaying {event}")
            raise
    return env


def translate(value: Any, env: ShapeEnv) -> Any:
    """An argument of an event as an argument for another environment.

    Raises:
        SymfxError: it is about a symbol that the environment does not have.
    """
    if isinstance(value, (bool, int, float, str, type(None))):
        return value
    if isinstance(value, HeldTerm):
        return value.placed(env)
    if isinstance(value, Term):
        return carry(value, env.table, functools.partial(term_for, env))
    if value is THE_ENVIRONMENT or _is_environment(value):
        return env
    if isinstance(value, torch.fx.Node):
        return None  # of a graph that the other environment knows nothing of
    return _within(value, lambda v: translate(v, env))


def hold(value: Any) -> Any:
    """An argument of a call, to be kept in its event."""
    if isinstance(value, (bool, int, float, str, type(None), Term)):
        return value
    if isinstance(value, SymTypes):
        node = value.node
        return HeldTerm(node.term, "number") if type(node) is SymNode else value
    if type(value) is SymNode:
        return HeldTerm(value.term, "node")
    return _within(value, hold)


def _within(value: Any, change: Callable[[Any], Any]) -> Any:
    """A collection or record with everything in it changed; anything else as it is."""
    if type(value) in (list, tuple, set, frozenset):
        return type(value)(change(v) for v in value)
    if isinstance(value, torch.Size):
        return tuple(change(v) for v in value)
    if type(value) is dict:
        return {change(k): change(v) for k, v in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        parts = {f.name: getattr(value, f.name) for f in fields(value) if f.init}
        changed = {name: change(v) for name, v in parts.items()}
        if any(changed[name] is not v for name, v in parts.items() if _symbolic(v)):
            return replace(value, **changed)
    return value


def _symbolic(value: Any) -> bool:
    parts = value if isinstance(value, (list, tuple)) else [value]
    return any(isinstance(v, (Term, HeldTerm, SymNode, *SymTypes)) for v in parts)


def _is_environment(value: Any) -> bool:
    from symfx.symbolic_shapes import ShapeEnv

    return issubclass(_class_of(value), ShapeEnv)


# What the names of unbacked symbols are numbered by.
_COUNTERS = ("unbacked_symint_counter", "unbacked_symfloat_counter")


def name_counters(env: ShapeEnv) -> dict[str, int]:
    """How many names of each kind were given out; names of inputs' symbols come from the inputs."""
    return {name: getattr(env, name) for name in _COUNTERS}


def raise_counters(env: ShapeEnv, counters: dict[str, int]) -> None:
    """Give out no names that were given out before."""
    for name in _COUNTERS:
        setattr(env, name, max(getattr(env, name), counters.get(name, 0)))


class Recording:
    """What a ShapeEnv has for its recording; one of its bases.

    Attributes:
        should_record_events: whether calls that change the environment are noted.
        check_recorded_events: whether the calls are made again, and the result compared, before
            guards are produced.
        is_recording: whether a call that is being noted is under way.
        events: the calls, the first being the one that made the environment.
        failed_event: the last call that raised; it is not among the events.
        tracked_fakes: the inputs, where whoever traces keeps a list of them.
    """

    should_record_events: bool
    check_recorded_events: bool
    is_recording: bool
    events: list[ShapeEnvEvent]
    failed_event: ShapeEnvEvent | None
    tracked_fakes: list[Any] | None

    def _set_up_recording(
        self, should_record_events: bool | None, settings: dict[str, Any]
    ) -> None:
        observed = _observed.get()
        if should_record_events is None:
            # The log of an environment that fails validation is what its report needs.
            validated = config.translation_validation and not (
                config.translation_validation_no_bisect
            )
            should_record_events = observed is not None or validated
            if observed is not None:
                observed.append(self)  # type: ignore[arg-type]
        self.should_record_events = bool(should_record_events)
        self.check_recorded_events = (
            self.should_record_events and config.check_shape_env_recorded_events
        )
        self.is_recording = False
        self.events = []
        self.failed_event = None
        if self.should_record_events:
            start_recording(self, settings)  # type: ignore[arg-type]

    @contextlib.contextmanager
    def _recording(self) -> Iterator[None]:
        before, self.is_recording = self.is_recording, True
        try:
            yield
        finally:
            self.is_recording = before

    def _last_event_index(self) -> int:
        return len(self.events) - 1

    def _snapshot_tracked_fakes(self) -> list[Any] | None:
        """The inputs as they are now: their sizes, without the tensors."""
        if self.tracked_fakes is None:
            return None
        return [
            type(tracked)(
                fake if isinstance(fake, SymTypes) else FakeTensorMeta.from_fake(fake),
                tracked.source,
                tracked.symbolic_context,
            )
            for tracked in self.tracked_fakes
            for fake in [tracked.fake]
        ]

    def check_equal(self, other: ShapeEnv) -> None:
        """Whether another environment knows the same and would issue the same guards.

        Raises:
            NotEqualError: it does not; the message says in what they differ.
        """
        from symfx.symbolic_shapes.environment.comparison import shape_env_check_state_equal

        shape_env_check_state_equal(self, other, (), lambda name, value: value)
