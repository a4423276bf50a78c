"""A replayed log as text and as data: its events, the symbols and guards of the environment."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from symfx.recording.log import EventLog
from symfx.untrusted import printable

if TYPE_CHECKING:
    from symfx.symbolic_shapes import ShapeEnv

__all__ = ["describe_replay", "replay_data"]


def describe_replay(log: EventLog, env: ShapeEnv, *, events: bool = True) -> Iterator[str]:
    """Describe a log and the environment to which it was replayed, line by line.

    A character that a terminal does not print is escaped, for the log may come from anywhere.

    Args:
        log: the log.
        env: the environment from `EventLog.replay`.
        events: list the events too.
    """
    return map(printable, _lines(log, env, events))


def replay_data(log: EventLog, env: ShapeEnv, *, events: bool = True) -> dict[str, Any]:
    """What `describe_replay` says, as data for JSON.

    Args:
        log: the log.
        env: the environment from `EventLog.replay`.
        events: the events too.
    """
    data: dict[str, Any] = {"events": [str(event) for event in log]} if events else {}
    data["symbols"] = [
        {
            "name": info.name,
            "lower": info.lower,
            "upper": info.upper,
            "example": None if info.unbacked else info.hint,
            "unbacked": info.unbacked,
            "sources": [*info.sources],
        }
        for info in env.symbol_table()
    ]
    data["replacements"] = {str(symbol): str(by) for symbol, by in env.facts.replacements.items()}
    data["guards"] = [str(guard.term) for guard in env.guards]
    data["runtime_asserts"] = [str(record.term) for record in env.deferred_asserts()]
    return data


def _lines(log: EventLog, env: ShapeEnv, events: bool) -> Iterator[str]:
    if events:
        yield _count(len(log), "event")
        yield from (f"  {number:>3}  {event}" for number, event in enumerate(log))
    symbols = env.symbol_table()
    yield _count(len(symbols), "symbol")
    for info in symbols:
        low = "-oo" if info.lower is None else info.lower
        high = "oo" if info.upper is None else info.upper
        about = [f"{info.name} in [{low}, {high}]"] if info.term.sort == "int" else [info.name]
        about.append("known at run time only" if info.unbacked else f"{info.hint} at tracing")
        about += [f"from {', '.join(info.sources)}"] if info.sources else []
        yield "  " + ", ".join(about)
    for symbol, by in env.facts.replacements.items():
        yield f"  {symbol} = {by}"
    yield _count(len(env.guards), "guard")
    yield from (f"  {guard.term}" for guard in env.guards)
    asserts = env.deferred_asserts()
    if asserts:
        yield f"{_count(len(asserts), 'condition')} to check at run time"
        yield from (f"  {record.term}" for record in asserts)


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"
