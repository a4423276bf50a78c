"""Fair turns: contestants run one after the other, round by round, in one process."""

from __future__ import annotations

import gc
import math
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

__all__ = ["Contestant", "Timings", "fitted_exponent", "geometric_mean", "measure"]


@dataclass(frozen=True)
class Contestant:
    """Something to time.

    Attributes:
        name: its column.
        run: the work.
        prepare: done before each run, outside the timing; what it returns is given to ``run``'s
            closure by the caller, so it takes and returns nothing.
    """

    name: str
    run: Callable[[], object]
    prepare: Callable[[], object] | None = None


@dataclass
class Timings:
    """What :func:`measure` found: seconds of each round, or why a contestant could not run."""

    seconds: dict[str, list[float]] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)

    def median(self, name: str) -> float | None:
        """The median seconds of a contestant, or None when it did not run."""
        rounds = self.seconds.get(name)
        return statistics.median(rounds) if rounds else None

    def ratio(self, name: str, to: str) -> float | None:
        """How many times ``to``'s median ``name`` takes, or None when either did not run."""
        mine, theirs = self.median(name), self.median(to)
        return None if mine is None or theirs is None else mine / theirs


def _timed(contestant: Contestant) -> float:
    if contestant.prepare is not None:
        contestant.prepare()
    gc.collect()
    gc.disable()
    try:
        start = time.perf_counter()
        contestant.run()
        return time.perf_counter() - start
    finally:
        gc.enable()


def measure(contestants: Sequence[Contestant], repeat: int) -> Timings:
    """Time the contestants in turn, ``repeat`` rounds, the order turned round each time.

    Each runs once untimed before, so that imports and torch's registries are paid by nobody. A
    contestant that raises drops out, and its error stands in the result in place of its seconds.
    """
    timings = Timings()
    running: list[Contestant] = []
    for contestant in contestants:
        try:
            _timed(contestant)
        # Whatever a peer raises is a result of the comparison: it is reported, not hidden.
        except Exception as error:  # noqa: BLE001
            timings.errors[contestant.name] = f"{type(error).__name__}: {error}"
        else:
            timings.seconds[contestant.name] = []
            running.append(contestant)
    for turn in range(repeat):
        for contestant in running if turn % 2 == 0 else reversed(running):
            timings.seconds[contestant.name].append(_timed(contestant))
    return timings


def geometric_mean(ratios: Iterable[float]) -> float | None:
    """The geometric mean, or None of nothing."""
    logs = [math.log(ratio) for ratio in ratios]
    return math.exp(statistics.fmean(logs)) if logs else None


def fitted_exponent(seconds: dict[int, float]) -> float | None:
    """The ``k`` of ``time ~ n**k``, by least squares on the logarithms; None below two sizes.

    >>> round(fitted_exponent({10: 1.0, 20: 4.0, 40: 16.0}), 6)
    2.0
    """
    if len(seconds) < 2:
        return None
    slope, _ = statistics.linear_regression(
        [math.log(n) for n in seconds], [math.log(t) for t in seconds.values()]
    )
    return slope
