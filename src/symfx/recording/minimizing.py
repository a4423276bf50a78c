"""The fewest events of a log that still show a failure: delta debugging.

The algorithm is ddmin of A. Zeller and R. Hildebrandt, "Simplifying and Isolating
Failure-Inducing Input", IEEE Transactions on Software Engineering 28(2), 2002. What it leaves
is 1-minimal: without any one of the events the failure is gone.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

from symfx.errors import SymfxError
from symfx.recording.log import EventLog

__all__ = ["minimize"]


def minimize(log: EventLog, shows: Callable[[Any], bool], *, of: str = "env") -> EventLog:
    """Leave out every event that a failure does not need.

    The event that makes the environment stays. Fewer events may not make sense together (a
    guard about a symbol that nothing makes): such a log does not count as showing the failure.

    Args:
        log: a log that shows the failure.
        shows: tells whether the failure shows. Where it, or the replay, raises for fewer
            events, that counts as no.
        of: ``"env"`` gives `shows` the replayed ShapeEnv; ``"log"`` gives it the shorter log
            as it is, for failures that show while it is replayed.

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
        raise SymfxError(f"of={of!r} says nothing", fix="give 'env' or 'log'")
    first, *rest = log.events
    tried: dict[tuple[int, ...], bool] = {}

    def fails(kept: Sequence[int]) -> bool:
        key = tuple(kept)
        if key not in tried:
            tried[key] = _shows(EventLog((first, *(rest[i] for i in kept))), shows, of)
        return tried[key]

    kept = list(range(len(rest)))
    if not shows(log.replay() if of == "env" else log):
        raise SymfxError(
            "the whole log does not show the failure, so there is nothing to shrink",
            fix="try the predicate on log.replay() (or with of='log', on the log)",
        )
    if fails(()):
        return EventLog((first,))
    parts = 2
    while len(kept) > 1:
        chunks = _split(kept, parts)
        smaller = next((c for c in chunks if fails(c)), None)
        if smaller is not None:
            kept, parts = smaller, 2
            continue
        rests = [[i for i in kept if i not in set(c)] for c in chunks]
        smaller = next((r for r in rests if fails(r)), None) if parts > 2 else None
        if smaller is not None:
            kept, parts = smaller, max(parts - 1, 2)
        elif parts < len(kept):
            parts = min(2 * parts, len(kept))
        else:
            break
    return EventLog((first, *(rest[i] for i in kept)))


def _split(items: Sequence[int], parts: int) -> list[list[int]]:
    """The items in so many runs, as equal in length as can be."""
    ends = [len(items) * k // parts for k in range(parts + 1)]
    return [list(items[a:b]) for a, b in itertools.pairwise(ends) if a < b]


def _shows(log: EventLog, shows: Callable[[Any], bool], of: str) -> bool:
    try:
        return bool(shows(log.replay() if of == "env" else log))
    except Exception:  # noqa: BLE001 - a log cut in two may raise whatever it likes
        return False
