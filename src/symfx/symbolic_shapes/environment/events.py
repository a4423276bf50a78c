"""Events: calls that changed a ShapeEnv, and that can be made again on another one."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import torch

from symfx.errors import SymfxError
from symfx.symbolic_shapes.environment.event_arguments import argument_in_words, translate
from symfx.symbolic_shapes.settings import ShapeEnvSettings
from symfx.work import counted

if TYPE_CHECKING:
    from symfx.symbolic_shapes.shape_env import ShapeEnv

__all__ = [
    "FakeTensorMeta",
    "RecordingError",
    "ShapeEnvEvent",
    "name_counters",
    "replay_shape_env_events",
]

_Size: TypeAlias = int | torch.SymInt

# The attributes of an environment that number the names of unbacked symbols.
_COUNTERS = ("unbacked_symint_counter", "unbacked_symfloat_counter")


class RecordingError(SymfxError, AssertionError):
    """An event or a decorator was misused; torch's own raise AssertionError here."""


@dataclass
class FakeTensorMeta:
    """The sizes of a fake tensor, without the tensor.

    Attributes:
        tensor_size: its sizes.
        tensor_stride: its strides.
        tensor_storage_offset: the offset of its first element in the storage.
        is_nested: whether it is a nested tensor.

    Example:
        >>> FakeTensorMeta.from_fake(torch.empty(2, 3)).stride()
        (3, 1)
    """

    tensor_size: tuple[_Size, ...]
    tensor_stride: tuple[_Size, ...]
    tensor_storage_offset: _Size
    is_nested: bool

    def size(self) -> tuple[_Size, ...]:
        """The sizes."""
        return self.tensor_size

    def stride(self) -> tuple[_Size, ...]:
        """The strides."""
        return self.tensor_stride

    def storage_offset(self) -> _Size:
        """The offset of the first element in the storage."""
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
        name: the name of the event, where that is not the name of `f`.
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
            SymfxError: the environment lacks a symbol of an argument.
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
        _raise_counters(shape_env, self.counters)
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
        given = [argument_in_words(a) for a in (self.args or [])[1:]]
        kwargs = self.kwargs or {}
        if not self.makes_environment:
            usual = {k: p.default for k, p in inspect.signature(self.f).parameters.items()}
            kwargs = {k: v for k, v in kwargs.items() if v is not usual.get(k, usual)}
        else:
            usual = {**vars(ShapeEnvSettings()), "should_record_events": False}
            kwargs = {k: v for k, v in kwargs.items() if v is not usual.get(k)}
        given += [f"{k}={argument_in_words(v)}" for k, v in kwargs.items()]
        suppressed = "  (guards suppressed)" if self.suppressed else ""
        return f"{self.method}({', '.join(given)}){suppressed}"

    def is_evaluate_expr(self) -> bool:
        """Whether the event asked for the value of an expression."""
        return self.name == "evaluate_expr"

    def is_defer_runtime_assert(self) -> bool:
        """Whether the event relied on a condition."""
        return self.name == "guard_or_defer_runtime_assert"

    def is_create_fx_call_function(self) -> bool:
        """Whether the event made a node of a translation validation; symfx has no such events."""
        return self.name == "_create_fx_call_function"


def replay_shape_env_events(events: Iterable[ShapeEnvEvent]) -> ShapeEnv:
    """A new environment on which the events were run one after the other.

    Args:
        events: the recorded events; the first makes the environment.

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
    for event in counted(steps[1:]):
        try:
            event.run(env)
        except Exception as error:
            error.add_note(f"while replaying {event}")
            raise
    return env


def name_counters(env: ShapeEnv) -> dict[str, int]:
    """How many names of each kind of unbacked symbol the environment has given out.

    The symbols of inputs need no counter: they are named after the inputs.
    """
    return {name: getattr(env, name) for name in _COUNTERS}


def _raise_counters(env: ShapeEnv, counters: dict[str, int]) -> None:
    """Make the environment skip the names that were given out before an event."""
    for name in _COUNTERS:
        setattr(env, name, max(getattr(env, name), counters.get(name, 0)))
