"""The run of a sweep: jobs go to places that have room, and results to the journal."""

from __future__ import annotations

import queue
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from symfx.sweep.jobs import Job, Result, StepResult
from symfx.sweep.journal import Journal
from symfx.sweep.places import Place

__all__ = ["run_sweep"]

#: How often a job is given to another place when its place was lost.
_TRIES = 3
#: The seconds between two looks at how many jobs the places take.
_LOOK = 1.0


def run_sweep(
    jobs: Sequence[Job],
    places: Sequence[Place],
    journal: Journal,
    *,
    started: Callable[[Job], None],
    finished: Callable[[Job, Result], None],
) -> list[Result]:
    """Run all jobs that the journal has no result of.

    A failure of a model is a result. A place that is lost gives its jobs to the others.

    Args:
        jobs: the jobs.
        places: where they may run.
        journal: the results so far; new ones are added as they come.
        started: called when a job is given to a place.
        finished: called with each result, also with those of the journal.

    Returns:
        The results in the order of the jobs.
    """
    keys = {job.name: job.key() for job in jobs}
    pending: deque[Job] = deque()
    for job in jobs:
        known = journal.results.get(keys[job.name])
        if known is None:
            pending.append(job)
        else:
            finished(job, known)
    ended: queue.SimpleQueue[tuple[int, Job, Any, BaseException | None]] = queue.SimpleQueue()
    running, tries = [0] * len(places), dict.fromkeys(keys, 0)

    def give(number: int, job: Job) -> None:
        started(job)
        running[number] += 1
        tries[job.name] += 1
        places[number].submit(job, lambda data, error: ended.put((number, job, data, error)))

    def done(job: Job, result: Result) -> None:
        journal.add(result)
        finished(job, result)

    while pending or any(running):
        slots = [place.slots for place in places]
        for number, free in enumerate(slots):
            while pending and running[number] < free:
                give(number, pending.popleft())
        if pending and not any(slots) and not any(running):
            for job in pending:
                done(job, _lost(job, keys[job.name], "no place is left to run it"))
            break
        try:
            number, job, data, error = ended.get(timeout=_LOOK)
        except queue.Empty:
            continue
        running[number] -= 1
        if error is None:
            # A worker may have other releases of packages than this machine.
            result = Result.from_data({**data, "key": keys[job.name]})
            done(job, result)
        elif tries[job.name] < _TRIES:
            pending.appendleft(job)
        else:
            done(job, _lost(job, keys[job.name], f"{type(error).__name__}: {error}"))
    return [journal.results[keys[job.name]] for job in jobs]


def _lost(job: Job, key: str, message: str) -> Result:
    lines = message.strip().splitlines() or ["no message"]
    steps = (
        StepResult(job.steps[0], "crash", 0.0, lines[0][:300]),
        *(StepResult(step, "skipped") for step in job.steps[1:]),
    )
    return Result(job.name, key, steps, 0.0)
