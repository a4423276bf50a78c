"""The fewest events that still show a failure: delta debugging.

The algorithm is ddmin of A. Zeller and R. Hildebrandt, "Simplifying and Isolating
Failure-Inducing Input", IEEE Transactions on Software Engineering 28(2), 2002. Its result is
1-minimal: without any one of the events the failure is gone.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import TypeVar

__all__ = ["fewest_events"]

_Event = TypeVar("_Event")


def fewest_events(
    events: Sequence[_Event], shows: Callable[[Sequence[_Event]], bool]
) -> list[_Event]:
    """The events without those that a failure does not need.

    Args:
        events: events that show the failure; the first, which makes the environment, stays.
        shows: tells whether fewer events show the failure. It is asked once for each choice of
            events, and not for all of them.

    Example:
        >>> fewest_events([0, 1, 2, 3, 4, 5, 6], lambda events: {2, 5} <= set(events))
        [0, 2, 5]
    """
    first, *rest = events
    tried: dict[tuple[int, ...], bool] = {}

    def chosen(kept: Sequence[int]) -> list[_Event]:
        return [first, *(rest[i] for i in kept)]

    def fails(kept: Sequence[int]) -> bool:
        key = tuple(kept)
        if key not in tried:
            tried[key] = shows(chosen(kept))
        return tried[key]

    kept = list(range(len(rest)))
    if fails(()):
        return [first]
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
    return chosen(kept)


def _split(items: Sequence[int], parts: int) -> list[list[int]]:
    """The items in runs of nearly equal length.

    Args:
        items: the items.
        parts: the number of runs.
    """
    ends = [len(items) * k // parts for k in range(parts + 1)]
    return [list(items[a:b]) for a, b in itertools.pairwise(ends) if a < b]
