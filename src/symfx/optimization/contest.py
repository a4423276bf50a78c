"""The forms of an optimized model, timed against each other and against the model."""

from __future__ import annotations

import statistics
from collections.abc import Mapping

import torch
from torch import fx, nn

from symfx.optimization.checking import Trials, copy_inputs
from symfx.optimization.clock import now
from symfx.optimization.graphs.aliases import keeps_no_state
from symfx.optimization.graphs.capture import copy_of
from symfx.optimization.report import Report

__all__ = ["fastest_form", "median_seconds", "runnable"]

#: Timing the forms against each other takes this many seconds, and at most so many rounds.
_BUDGET, _ROUNDS = 0.4, 8
#: If the fused form takes less than this share of the original's time, no other form is timed.
_CLEARLY = 0.9
#: If it takes less than this share of the original's first run, the original is not run again,
#: where it takes so many seconds. Shorter runs are timed in turn: the first run of a short model
#: is untypical.
_OBVIOUSLY = ((0.8, 0.2), (0.6, 0.05))
#: The timing ends where the fused form takes less than this share of the original's time in two
#: rounds, or in one of so many seconds.
_FAR, _WHOLE_ROUND = 0.7, 0.05
#: The original is returned if it takes less than this share of the fastest form's time, so often
#: in a row.
_NOISE, _CONFIRMATIONS = 0.95, 3


def fastest_form(
    forms: Mapping[str, fx.GraphModule],
    trials: Trials,
    seconds: float | None,
    report: Report,
) -> str:
    """The name of the fastest form. The folded one is timed only where the fused one gains little.

    It is ``"original"`` where the model is clearly faster than each form.

    Args:
        forms: of the model, by name.
        trials: the runs of the original.
        seconds: the time of the fused form's run in the check; None if it has not run.
        report: gets the times.
    """
    fused = runnable(forms["fused"], trials)
    for share, enough in _OBVIOUSLY:
        if trials.seconds <= enough:
            continue
        if seconds is None or seconds >= share * trials.seconds:
            seconds = _seconds(fused, trials)  # the run of the check may have made programs
        if seconds < share * trials.seconds:
            report.timings.update({"original": trials.seconds, "fused": seconds})
            return "fused"
    original = trials.original
    if not (trials.changes_nothing or keeps_no_state(forms["folded"])):
        original = copy_of(original)
    contestants = {"original": original, "fused": fused}
    medians = median_seconds(contestants, trials)
    if medians["fused"] > _CLEARLY * medians["original"]:
        folded = runnable(forms["folded"], trials)
        medians |= median_seconds({**contestants, "folded": folded}, trials)
    report.timings.update(medians)
    fastest = min((name for name in forms if name in medians), key=medians.__getitem__)
    for _ in range(_CONFIRMATIONS):
        if medians["original"] >= _NOISE * medians[fastest]:
            return fastest
        medians = median_seconds(
            {"original": original, fastest: runnable(forms[fastest], trials)}, trials
        )
    return "original"


def median_seconds(contestants: Mapping[str, nn.Module], trials: Trials) -> dict[str, float]:
    """The median seconds of one run of each contestant; they run in turn."""
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    started = now()
    for _ in range(_ROUNDS):
        for name, contestant in contestants.items():
            seconds[name].append(_seconds(contestant, trials))
        if now() - started > _BUDGET or _is_clear(seconds):
            break
    # The first round warms up, and counts only if it is the only one.
    return {name: statistics.median(runs[1:] or runs) for name, runs in seconds.items()}


def _seconds(contestant: nn.Module, trials: Trials) -> float:
    """The seconds of one run."""
    args, kwargs = copy_inputs((trials.args, trials.kwargs))
    start = now()
    with torch.set_grad_enabled(trials.gradients):
        contestant(*args, **kwargs)
    return now() - start


def _is_clear(seconds: Mapping[str, list[float]]) -> bool:
    """Whether the fused form was far faster than the original in the last rounds."""
    if seconds.keys() != {"original", "fused"}:
        return False
    rounds = list(zip(seconds["original"], seconds["fused"], strict=True))
    enough = len(rounds) > 1 or sum(rounds[0]) > _WHOLE_ROUND
    return enough and all(fused < _FAR * original for original, fused in rounds[-2:])


def runnable(module: fx.GraphModule, trials: Trials) -> fx.GraphModule:
    """The module, a form of the model of these trials, or a copy if a run may change it."""
    return module if trials.changes_nothing or keeps_no_state(module) else copy_of(module)
