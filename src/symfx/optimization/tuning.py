"""Which way of computing each fused operator is the fastest here: they are tried and timed."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, fx

from symfx.optimization.fused import FusedConv, FusedLinear
from symfx.optimization.kernels import DIRECT
from symfx.optimization.log import Report

__all__ = ["tune"]

#: What is spent in all, in seconds; what is not reached by then stays as it is.
_BUDGET = 4.0
#: Timed runs of each way, while they take no more than this many seconds for one operator.
_RUNS, _ENOUGH = 5, 0.1
#: The share of the ordinary way's time that another must stay below.
_CLEARLY = 0.96
#: How far another way's result may be off, relative to the largest value: a tenth of what the
#: check of the whole model grants float32.
_CLOSE = 1e-5

Fused = FusedConv | FusedLinear


def tune(
    module: fx.GraphModule,
    twin: fx.GraphModule,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    report: Report,
) -> None:
    """Choose the fastest way for each fused operator of a graph, for the shapes that come.

    Operators that are alike are timed once. Other shapes are computed in the ordinary way.

    Args:
        module: the graph.
        twin: what is run once to see the shapes: the graph, or a copy if it keeps a state.
        args: the positional arguments to run it on.
        kwargs: the keyword arguments.
        report: what is chosen is noted in it.
    """
    alike: dict[Any, list[tuple[str, Fused, bool]]] = {}
    for path, (shape, adds) in _uses(twin, args, kwargs).items():
        fused: Any = module.get_submodule(path)
        kind = tuple(fused.weight.shape), fused.kind_of_trial, shape
        alike.setdefault(kind, []).append((path, fused, adds))
    started = time.perf_counter()
    for (*_, shape), members in alike.items():
        if time.perf_counter() - started > _BUDGET:
            report.notes.append(f"stopped choosing between algorithms after {_BUDGET:g} s")
            return
        ways = members[0][1].trials(shape, any(adds for *_, adds in members))
        chosen, gain = _fastest(ways)
        if chosen != DIRECT:
            for _, fused, _ in members:
                fused.choose(shape, chosen)
            paths = [path for path, *_ in members]
            what = f"{chosen} for {tuple(shape)}, {gain:.2f} times as fast as {DIRECT}"
            report.rewrote(what, paths, None)


def _uses(
    module: fx.GraphModule, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> dict[str, tuple[torch.Size, bool]]:
    """Of each fused operator the shape of what it is given, and whether something is added."""
    found: dict[str, tuple[torch.Size, bool]] = {}

    def note(path: str) -> Callable[[Any, tuple[Any, ...], Any], None]:
        def hook(fused: Fused, given: tuple[Any, ...], result: Any) -> None:
            x, *rest = given
            if x.is_floating_point() and x.numel():
                found[path] = x.shape, bool(rest)

        return hook

    parts = [
        (path, part)
        for path, part in module.named_modules()
        if isinstance(part, FusedConv | FusedLinear)
    ]
    handles = [part.register_forward_hook(note(path)) for path, part in parts]
    try:
        # Whether it can run on these inputs is for the check to say, which knows the original.
        with contextlib.suppress(Exception):
            module(*args, **kwargs)
    finally:
        for handle in handles:
            handle.remove()
    return found


def _fastest(ways: Mapping[str, Callable[[], Tensor]]) -> tuple[str, float]:
    """The name of the fastest way that computes what the ordinary one does; how much faster."""
    if len(ways) < 2:
        return DIRECT, 1.0
    for run in ways.values():
        run()  # what is done once is done now
    best = dict.fromkeys(ways, math.inf)
    results: dict[str, Tensor] = {}
    right = dict(ways)
    started = time.perf_counter()
    for turn in range(_RUNS):
        for name, run in right.items():
            start = time.perf_counter()
            results[name] = run()
            best[name] = min(best[name], time.perf_counter() - start)
        # What is wrong or far behind need not be tried again.
        least = min(best.values())
        scale = float(results[DIRECT].abs().max())
        right = {
            name: run
            for name, run in right.items()
            if name == DIRECT
            or (best[name] < 1.2 * least and _distance(results, name) <= _CLOSE * scale)
        }
        best = {name: best[name] for name in right}
        if len(right) < 2 or (turn and time.perf_counter() - started > _ENOUGH):
            break
    chosen = min(best, key=best.__getitem__)
    if best[chosen] > _CLEARLY * best[DIRECT]:
        return DIRECT, 1.0
    return chosen, best[DIRECT] / best[chosen]


def _distance(results: Mapping[str, Tensor], name: str) -> float:
    return float((results[name] - results[DIRECT]).abs().max())
