"""Event logs as files: JSON with a version and a schema, and nothing in it that is run."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from symfx._version import __version__
from symfx.algebra import Table
from symfx.errors import SymfxError
from symfx.recording.call_arguments import check_arguments
from symfx.recording.codec import EventLogError, decode, encode, encode_new_symbol
from symfx.recording.minimizing import fewest_events
from symfx.symbolic_shapes.environment.event_arguments import THE_ENVIRONMENT
from symfx.symbolic_shapes.environment.events import ShapeEnvEvent, replay_shape_env_events
from symfx.symbolic_shapes.environment.recorder import ALSO_CALLED, RECORDED
from symfx.symbolic_shapes.settings import ShapeEnvSettings
from symfx.symbolic_shapes.shape_env import ShapeEnv
from symfx.untrusted import Source, parse, read_text, shown
from symfx.whole_files import written_whole

__all__ = ["SCHEMA", "EventLog", "EventLogError", "minimize"]

FORMAT, VERSION = "symfx event log", 1
# More than a trace of the largest models has.
_EVENTS = 100_000
# The longest time that a file may let z3 think about one question.
_BUDGET_MS = 5_000
_FIX = "load what EventLog.save wrote"

SCHEMA: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "The events of a symfx ShapeEnv",
    "type": "object",
    "required": ["format", "version", "events"],
    "additionalProperties": False,
    "properties": {
        "format": {"const": FORMAT},
        "version": {"const": VERSION},
        "symfx": {"type": "string"},
        "torch": {"type": "string"},
        "settings": {"type": "object"},
        "events": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["call"],
                "additionalProperties": False,
                "properties": {
                    "call": {"enum": sorted(RECORDED)},
                    "args": {"type": "array"},
                    "kwargs": {"type": "object"},
                    "tracked_fakes": {"type": ["array", "null"]},
                    "suppressed": {"type": "boolean"},
                    "counters": {"type": "object", "additionalProperties": {"type": "integer"}},
                },
            },
        },
    },
}
"""The JSON Schema of the file: ``settings`` are the settings of the ShapeEnv, ``events`` the calls.
Expressions are lists of parts (`symfx.algebra.terms.portable.pack`)."""


@dataclass(frozen=True)
class EventLog:
    """The events of a ShapeEnv, to be saved, replayed, and minimized.

    Attributes:
        events: the calls; the first makes the environment.

    Example:
        >>> from symfx.symbolic_shapes import ShapeEnv
        >>> env = ShapeEnv(should_record_events=True)
        >>> u = env.create_unbacked_symint()
        >>> torch._check(u >= 4)
        >>> log = EventLog.of(env)
        >>> print(log)  # doctest: +ELLIPSIS
        ShapeEnv()
        create_unbacked_symint()
        expect(u0 >= 4, ...)
        >>> EventLog.from_json(log.to_json()).replay().check_equal(env)
    """

    events: tuple[ShapeEnvEvent, ...]

    @classmethod
    def of(cls, env: ShapeEnv, *, failed: bool = False) -> EventLog:
        """The log of an environment.

        Args:
            env: an environment made with ``should_record_events=True``.
            failed: append the last call that raised, which is not among the events.

        Raises:
            EventLogError: the environment does not record.
        """
        if not env.events:
            raise EventLogError(
                "the ShapeEnv has no events: it does not record",
                fix="make it by ShapeEnv(should_record_events=True)",
            )
        last = [env.failed_event] if failed and env.failed_event is not None else []
        return cls((*env.events, *last))

    def __len__(self) -> int:
        return len(self.events)

    def __iter__(self) -> Iterator[ShapeEnvEvent]:
        return iter(self.events)

    def __str__(self) -> str:
        return "\n".join(map(str, self.events))

    def replay(self) -> ShapeEnv:
        """A new environment on which the events were run; see `replay_shape_env_events`.

        Raises:
            SymfxError: an event fails. An error of another class, which an argument causes that
                no method of ShapeEnv expects, is the cause of an EventLogError.
        """
        with _REPLAYED.guarding("an event of the log cannot be replayed"):
            return replay_shape_env_events(self.events)

    def minimize(self, shows: Callable[[Any], bool], *, of: str = "env") -> EventLog:
        """The fewest events that still show a failure; see `symfx.recording.minimize`."""
        return minimize(self, shows, of=of)

    # -- files -----------------------------------------------------------------------------------

    def to_json(self) -> str:
        """The log as JSON text, in the form of `SCHEMA`.

        Raises:
            EventLogError: an argument of an event is of a kind that cannot be saved.
        """
        first, *rest = self.events
        data: dict[str, Any] = {
            "format": FORMAT,
            "version": VERSION,
            "symfx": __version__,
            "torch": torch.__version__,
            "settings": _encode_kwargs(first, _no_expressions),
        }
        # One event a line, for people and for diffs. Python writes no text of huge numbers.
        with _WRITTEN.guarding("the log cannot be written"):
            events = ",\n  ".join(json.dumps(_encode_event(e), allow_nan=False) for e in rest)
            head = ",\n ".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in data.items())
        text = f'{{{head},\n "events": [\n  {events}\n ]}}\n'
        parse(text, _WRITTEN)  # a log that cannot be read again is not written
        return text

    @classmethod
    def from_json(cls, text: str) -> EventLog:
        """The log that a text of `to_json` describes. Nothing in the text is run.

        Raises:
            EventLogError: the text is no such log, is of another version, or has a call, a
                record or a setting in it that symfx does not know; the message names it.
        """
        return cls._read(text, Source("the text", EventLogError, _FIX))

    @classmethod
    def _read(cls, text: str, source: Source) -> EventLog:
        data = parse(text, source).value
        if not isinstance(data, dict) or data.get("format") != FORMAT:
            raise EventLogError("this JSON is no event log of symfx", fix=_FIX)
        if data.get("version") != VERSION:
            raise EventLogError(
                f"the log has version {shown(data.get('version'))}, and this symfx reads {VERSION}",
                fix="use the release of symfx that wrote it"
                + (f": {shown(data['symfx'])}" if "symfx" in data else ""),
            )
        _refuse_others(data, SCHEMA["properties"], "a log")
        events = data.get("events")
        if not isinstance(events, list):
            raise EventLogError("the log's events are no list")
        if len(events) > _EVENTS:
            raise EventLogError(f"the log has {len(events)} events; the limit is {_EVENTS}")
        table = Table()
        with source.guarding("the settings cannot be read", "settings"):
            made = [_decode_settings(data.get("settings", {}), table)]
        for number, event in enumerate(events):
            with source.guarding("the event cannot be read", f"events[{number}]"):
                made.append(_decode_event(event, table))
        return cls(tuple(made))

    def save(self, path: str | Path) -> None:
        """Write the log to a file, as JSON; the file appears when it is complete."""
        with written_whole(Path(path)) as file:
            file.write(self.to_json().encode())

    @classmethod
    def load(cls, path: str | Path) -> EventLog:
        """Read a log from a file.

        Raises:
            EventLogError: see `from_json`.
            OSError: the file cannot be read.
        """
        source = Source(str(path), EventLogError, _FIX)
        return cls._read(read_text(Path(path), source), source)


_WRITTEN = Source("the log", EventLogError, "save a shorter log; EventLog.minimize makes one")
_REPLAYED = Source(
    "the log", EventLogError, "leave the event out, or replay a log that EventLog.save wrote"
)


def minimize(log: EventLog, shows: Callable[[Any], bool], *, of: str = "env") -> EventLog:
    """A log without the events that a failure does not need.

    The event that makes the environment stays. Fewer events may contradict each other (a guard
    about a symbol that no event makes): such a log does not count as showing the failure.

    Args:
        log: a log that shows the failure.
        shows: tells whether the failure shows. Where it, or the replay, raises for fewer
            events, those do not show the failure.
        of: ``"env"`` passes the replayed ShapeEnv to `shows`; ``"log"`` passes the shorter log,
            for failures that show while it is replayed.

    Raises:
        SymfxError: the whole log does not show the failure.

    Example:
        >>> import torch
        >>> from symfx.symbolic_shapes import ShapeEnv
        >>> env = ShapeEnv(should_record_events=True)
        >>> u = [env.create_unbacked_symint() for _ in range(8)]
        >>> for i in range(7):
        ...     torch._check(u[i] < u[i + 1])
        >>> def broken(env):
        ...     return any(str(a.term) == "u4 > u3" for a in env.deferred_asserts())
        >>> print(minimize(EventLog.of(env), broken))  # doctest: +ELLIPSIS
        ShapeEnv()
        create_unbacked_symint()
        create_unbacked_symint()
        expect(u4 > u3, ...)
    """
    if of not in ("env", "log"):
        raise SymfxError(f"minimize has no of={of!r}", fix="use of='env' or of='log'")

    def fails(candidate: EventLog) -> bool:
        return bool(shows(candidate.replay() if of == "env" else candidate))

    def fewer_fail(events: Sequence[ShapeEnvEvent]) -> bool:
        try:
            return fails(EventLog(tuple(events)))
        except Exception:  # noqa: BLE001 - a log with events left out may raise any error
            return False

    if not fails(log):
        raise SymfxError(
            "the whole log does not show the failure, so it cannot be minimized",
            fix="try the predicate on log.replay() (or with of='log', on the log)",
        )
    return EventLog(tuple(fewest_events(log.events, fewer_fail)))


def _no_expressions(expr: Any) -> Any:
    raise EventLogError(f"a ShapeEnv cannot have the setting {expr}")


def _encode_kwargs(event: ShapeEnvEvent, read: Callable[[Any], Any]) -> dict[str, Any]:
    return {name: encode(value, read) for name, value in (event.kwargs or {}).items()}


def _encode_event(event: ShapeEnvEvent) -> dict[str, Any]:
    args = list(event.args or [])
    env = args.pop(0) if args else None
    env = None if env is THE_ENVIRONMENT else env
    if event.method not in RECORDED:
        raise EventLogError(
            f"{event.method} is no method of ShapeEnv, so a log of it cannot be read elsewhere",
            fix="save logs of a plain ShapeEnv",
        )

    def read(expr: Any) -> Any:
        if env is None:
            raise EventLogError(f"{expr} belongs to no environment")
        return env.symbols.reader.read(expr)

    data: dict[str, Any] = {"call": event.method}
    if event.method == "register_symbol":
        data["args"] = [encode_new_symbol(args.pop(0)), *(encode(a, read) for a in args)]
    elif args:
        data["args"] = [encode(a, read) for a in args]
    if event.kwargs:
        data["kwargs"] = _encode_kwargs(event, read)
    if event.tracked_fakes is not None:
        data["tracked_fakes"] = [encode(t, read) for t in event.tracked_fakes]
    if event.suppressed:
        data["suppressed"] = True
    if event.counters:
        data["counters"] = event.counters
    return data


def _refuse_others(data: dict[str, Any], known: Iterable[str], where: str) -> None:
    strange = sorted(data.keys() - set(known))
    if strange:
        raise EventLogError(f"{where} has no {', '.join(map(shown, strange[:5]))}")


def _decode_settings(data: Any, table: Table) -> ShapeEnvEvent:
    if not isinstance(data, dict):
        raise EventLogError("the log's settings are no object")
    known = {*ShapeEnvSettings.__dataclass_fields__, "should_record_events"}
    _refuse_others(data, known, "a ShapeEnv")
    settings = {name: decode(value, table) for name, value in data.items()}
    usual = vars(ShapeEnvSettings())
    for name, value in settings.items():
        if isinstance(usual.get(name), bool) and not isinstance(value, bool):
            raise EventLogError(f"the setting {name} is true or false, not {shown(value)}")
    if settings.get("prover_budget_ms", 0) > _BUDGET_MS:
        raise EventLogError(f"a log may give z3 at most {_BUDGET_MS} milliseconds for a question")
    return ShapeEnvEvent(ShapeEnv, kwargs={**settings, "should_record_events": False})


def _decode_event(data: Any, table: Table) -> ShapeEnvEvent:
    shape = SCHEMA["properties"]["events"]["items"]["properties"]
    if not isinstance(data, dict) or not isinstance(data.get("call"), str):
        raise EventLogError(f"{data!r:.100} is not an event: it has no text under 'call'")
    _refuse_others(data, shape, "an event")
    call = data["call"]
    method = getattr(ShapeEnv, call, None) if call in RECORDED else None
    if method is None:
        raise EventLogError(
            f"no event of a ShapeEnv is called {shown(call)}",
            fix=f"use one of {', '.join(sorted(n for n in RECORDED if hasattr(ShapeEnv, n)))}",
        )
    args, kwargs = data.get("args", []), data.get("kwargs", {})
    counters, fakes = data.get("counters", {}), data.get("tracked_fakes")
    if not (
        isinstance(args, list)
        and isinstance(kwargs, dict)
        and isinstance(counters, dict)
        and all(type(n) is int for n in counters.values())
        and isinstance(fakes, list | None)
        and isinstance(data.get("suppressed", False), bool)
    ):
        raise EventLogError(f"the event {call!r} has a field of a wrong type")
    positional = [decode(a, table) for a in args]
    by_name = {name: decode(value, table) for name, value in kwargs.items()}
    check_arguments(method, positional, by_name)
    return ShapeEnvEvent(
        method,
        [THE_ENVIRONMENT, *positional],
        by_name,
        None if fakes is None else [decode(f, table) for f in fakes],
        ALSO_CALLED.get(call, call),
        data.get("suppressed", False),
        counters,
    )
