"""Recording the calls that change a ShapeEnv.

An environment that does not record has its plain methods: nothing stands between a caller and
them. An environment that records has, for each method of `RECORDED`, an attribute of the same
name, which notes the call and then makes it.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from symfx import config
from symfx.sym_node import SymTypes
from symfx.symbolic_shapes.environment.event_arguments import hold
from symfx.symbolic_shapes.environment.events import (
    FakeTensorMeta,
    RecordingError,
    ShapeEnvEvent,
    name_counters,
)

if TYPE_CHECKING:
    from symfx.symbolic_shapes.shape_env import ShapeEnv

__all__ = [
    "ALSO_CALLED",
    "RECORDED",
    "Recorder",
    "record_shapeenv_event",
    "recording_shape_envs",
]

_P = ParamSpec("_P")
_R = TypeVar("_R")

# The methods of a ShapeEnv that change its state, and whether their events keep the inputs too.
# Methods that only call others of these are left out, and so are methods that change nothing.
RECORDED: dict[str, bool] = {
    "name_dimension": False,
    "state_condition": False,
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
# Events of symfx's own questions bear the names of the stock questions that they answer.
ALSO_CALLED = {
    "evaluate_term": "evaluate_expr",
    "evaluate_sym_node": "evaluate_expr",
    "expect": "guard_or_defer_runtime_assert",
}

_observed: ContextVar[list[ShapeEnv] | None] = ContextVar("symfx_observed", default=None)


@contextlib.contextmanager
def recording_shape_envs() -> Iterator[list[ShapeEnv]]:
    """Make every environment that is made inside record its events.

    Yields:
        A list, to which each environment is added when it is made.

    Example:
        >>> import symfx
        >>> import torch
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


class Recorder:
    """Records the calls that change one environment.

    Args:
        env: the environment, just made.
        should_record: whether to record; None records inside `recording_shape_envs`, and where
            translation validation needs the log for its report.
        settings: the arguments that the environment was made with.

    Attributes:
        on: whether the calls are recorded.
        checks_replay: whether the events are replayed, and the result compared, before guards
            are produced.
        busy: whether a recorded call is under way.
        events: the recorded calls; the first makes the environment.
        failed: the last call that raised; it is not among the events.
    """

    def __init__(self, env: ShapeEnv, should_record: bool | None, settings: dict[str, Any]) -> None:
        self._env = env
        observed = _observed.get()
        if should_record is None:
            validated = config.translation_validation and not (
                config.translation_validation_no_bisect
            )
            should_record = observed is not None or validated
            if observed is not None:
                observed.append(env)
        self.on = bool(should_record)
        self.checks_replay = self.on and config.check_shape_env_recorded_events
        self.busy = False
        self.events: list[ShapeEnvEvent] = []
        self.failed: ShapeEnvEvent | None = None
        if self.on:
            self._start(settings)

    def _start(self, settings: dict[str, Any]) -> None:
        """Put a method that notes the call in front of each method of `RECORDED`."""
        env = self._env
        cls: Any = type(env)  # `env.__class__` is torch's class
        self.events.append(ShapeEnvEvent(cls, kwargs={**settings, "should_record_events": False}))
        for name, with_inputs in RECORDED.items():
            method = getattr(cls, name)
            noting = functools.partial(self.call, method, ALSO_CALLED.get(name, name), with_inputs)
            setattr(env, name, functools.wraps(method)(noting))
        scope = cls.patch_source_specialization
        unnoted = functools.partial(self._scope_without_events, scope)
        setattr(env, scope.__name__, functools.wraps(scope)(unnoted))

    def call(
        self,
        method: Callable[..., Any],
        name: str,
        with_inputs: bool,
        /,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        """Call a method of the environment and note the call, but no call that it makes.

        Args:
            method: the method, not bound.
            name: the name of the event.
            with_inputs: whether the event keeps the sizes that the inputs have now.
            args: the arguments after the environment.
            kwargs: the arguments by name.
        """
        env = self._env
        if self.busy or not self.on:
            return method(env, *args, **kwargs)
        event = ShapeEnvEvent(
            method,
            [env, *map(hold, args)],
            {k: hold(v) for k, v in kwargs.items()},
            self._inputs_now() if with_inputs else None,
            name,
            env._suppress_guards_tls(),
            name_counters(env),
        )
        # The event comes before the call: a guard's own event follows the one that caused it.
        self.events.append(event)
        try:
            with self._marked_busy():
                return method(env, *args, **kwargs)
        except BaseException:
            # The call failed, so its event must not be replayed.
            self.events.remove(event)
            self.failed = event
            raise

    @contextlib.contextmanager
    def _scope_without_events(
        self, scope: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> Iterator[None]:
        """Enter a scope whose changes are undone at its end, so its calls are not noted."""
        with self._marked_busy(), scope(self._env, *args, **kwargs):
            yield

    @contextlib.contextmanager
    def _marked_busy(self) -> Iterator[None]:
        before, self.busy = self.busy, True
        try:
            yield
        finally:
            self.busy = before

    def _inputs_now(self) -> list[Any] | None:
        """The sizes that the inputs have now, without the tensors."""
        inputs = self._env.tracked_fakes
        if inputs is None:
            return None
        return [
            type(tracked)(
                fake if isinstance(fake, SymTypes) else FakeTensorMeta.from_fake(fake),
                tracked.source,
                tracked.symbolic_context,
            )
            for tracked in inputs
            for fake in [tracked.fake]
        ]


def record_shapeenv_event(
    *, save_tracked_fakes: bool = False, name: str | None = None
) -> Callable[[Callable[_P, _R]], Callable[_P, _R]]:
    """Decorate a method of a subclass of ShapeEnv so that its calls are events.

    The methods of ShapeEnv itself need no decorator: an environment made with
    ``should_record_events=True`` records them.

    Args:
        save_tracked_fakes: note the inputs known at the time of the call.
        name: the name of the event; the method's name where not given.

    Raises:
        RecordingError: the decorated function is no method: its first parameter is not ``self``.

    Example:
        >>> from symfx.recording import replay_shape_env_events
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
            recorder = getattr(args[0], "recorder", None)
            if not isinstance(recorder, Recorder):
                raise RecordingError(
                    f"{called} was called on {type(args[0]).__name__}, which is no ShapeEnv",
                    fix="call it on a symfx ShapeEnv",
                )
            result: _R = recorder.call(function, called, save_tracked_fakes, *args[1:], **kwargs)
            return result

        return noting

    return decorate
