"""Timing in fair turns: contestants run one after the other, round by round, in one process."""

from __future__ import annotations

import contextlib
import gc
import math
import signal
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

__all__ = ["Contestant", "Timings", "fitted_exponent", "geometric_mean", "measure"]


@dataclass(frozen=True)
class Contestant:
    """Work to time, in one column.

    Attributes:
        name: its column.
        run: the timed work.
        prepare: work before each run that is not timed; ``run`` sees its effects by closure.
    """

    name: str
    run: Callable[[], object]
    prepare: Callable[[], object] | None = None


@dataclass
class Timings:
    """The results of `measure`, by contestant.

    Attributes:
        seconds: the seconds of each round.
        first: the seconds of the run before the rounds.
        skipped: the reason in words why a contestant was skipped: it was too slow for the budget.
        errors: the error that a contestant raised.
    """

    seconds: dict[str, list[float]] = field(default_factory=dict)
    first: dict[str, float] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)

    def median(self, name: str) -> float | None:
        """The median seconds of a contestant, or None if it did not run."""
        rounds = self.seconds.get(name)
        return statistics.median(rounds) if rounds else None

    def ratio(self, name: str, to: str) -> float | None:
        """The median of ``name`` divided by that of ``to``, or None if one of them did not run."""
        mine, theirs = self.median(name), self.median(to)
        return None if mine is None or theirs is None else mine / theirs

    def first_ratio(self, name: str, to: str) -> float | None:
        """The same ratio of the first runs."""
        mine, theirs = self.first.get(name), self.first.get(to)
        return None if mine is None or theirs is None else mine / theirs


class _OverBudget(BaseException):
    """The end of the budget: no Exception, so that no handler in the timed work catches it."""


@contextlib.contextmanager
def _deadline(budget: float | None) -> Iterator[None]:
    """Interrupt the body after ``budget`` seconds, if the system has timer signals."""
    if budget is None or not hasattr(signal, "setitimer"):
        yield
        return

    def ring(signum: int, frame: object) -> None:
        raise _OverBudget

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, budget)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _timed(contestant: Contestant, budget: float | None, clock: Callable[[], float]) -> float:
    if contestant.prepare is not None:
        contestant.prepare()
    gc.collect()
    gc.disable()
    try:
        with _deadline(budget):
            start = clock()
            contestant.run()
            return clock() - start
    finally:
        gc.enable()


def measure(
    contestants: Sequence[Contestant],
    repeat: int,
    budget: float | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Timings:
    """Time the contestants in turn for ``repeat`` rounds, in reversed order every other round.

    Each contestant runs once before the rounds, so that no round pays for imports and torch's
    registries. A contestant that raises drops out, and the result holds its error.

    Args:
        contestants: the contestants, in the order of the first round.
        repeat: the number of timed rounds.
        budget: the seconds that a contestant may take for one run. A contestant that takes more
            drops out, and one whose runs together take more runs no further round.
        clock: the function that tells the seconds. For work on one thread that waits for nothing,
            `time.process_time` leaves out the time that a busy machine gives to other processes.
    """
    timings = Timings()
    spent: dict[str, float] = {}
    for contestant in contestants:
        name = contestant.name
        try:
            spent[name] = _timed(contestant, budget, clock)
        except _OverBudget:
            timings.skipped[name] = f"took more than {budget:g} s"
        # An error of a peer is a result of the comparison, so it is reported.
        except Exception as error:  # noqa: BLE001
            timings.errors[name] = f"{type(error).__name__}: {error}"
        else:
            timings.seconds[name] = []
            timings.first[name] = spent[name]
    running = [contestant for contestant in contestants if contestant.name in spent]
    for turn in range(repeat):
        for contestant in running if turn % 2 == 0 else reversed(running):
            name = contestant.name
            rounds = timings.seconds[name]
            if rounds and budget is not None and spent[name] > budget:
                continue
            try:
                rounds.append(_timed(contestant, budget, clock))
            except _OverBudget:
                rounds.append(
                    float(budget or 0)
                )  # at least the budget; the first run was within it
            spent[name] += rounds[-1]
    return timings


def geometric_mean(ratios: Iterable[float]) -> float | None:
    """The geometric mean, or None if there are no ratios."""
    logs = [math.log(ratio) for ratio in ratios]
    return math.exp(statistics.fmean(logs)) if logs else None


def fitted_exponent(seconds: dict[int, float]) -> float | None:
    """The ``k`` of ``time ~ n**k`` by least squares on logarithms, or None below two sizes.

    >>> round(fitted_exponent({10: 1.0, 20: 4.0, 40: 16.0}), 6)
    2.0
    """
    if len(seconds) < 2:
        return None
    slope, _ = statistics.linear_regression(
        [math.log(n) for n in seconds], [math.log(t) for t in seconds.values()]
    )
    return slope
