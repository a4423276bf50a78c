"""Which way of computing each fused operator is the fastest here: they are tried and timed."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor, fx

from symfx.optimization.report import Report
from symfx.optimization.runtime.fused_conv import FusedConv
from symfx.optimization.runtime.fused_linear import CONVOLUTION, MKL, FusedLinear
from symfx.optimization.runtime.kernels import BLOCKED, DIRECT, WINOGRAD

__all__ = ["tune"]

#: What is spent in all: this many times as long as the model runs, or so many seconds if that is
#: longer. Those with the most to win come first; what is not reached stays as it is.
_SHARE, _LEAST = 3.0, 0.3
#: The share of an operator's time that a way saves where it is the right one, by rule of thumb.
_SAVES = {BLOCKED: 0.5, WINOGRAD: 0.2, CONVOLUTION: 0.1, MKL: 0.1}
#: Operators that take less than this share of the model's time are not worth a trial.
_MATTERS = 0.005
#: An operator is tried on as many rows as the choice is for, unless the ordinary way would take
#: more seconds than this; what is faster on fewer rows is faster on more.
_LONG = 0.02
#: Timed runs of two ways at most, while they take no more than this many seconds together.
_RUNS, _ENOUGH = 5, 0.06
#: The share of the champion's time that a challenger must stay below.
_CLEARLY = 0.97
#: A challenger that takes this many times as long is not run again, nor is one that is still
#: behind after its second run; one that takes less than the inverse has won.
_FAR = 1.15
#: How far another way's result may be off, relative to the largest value: a tenth of what the
#: check of the whole model grants float32.
_CLOSE = 1e-5

Fused = FusedConv | FusedLinear


@dataclass
class _Alike:
    """Operators of the same sizes that are given inputs of one shape.

    Attributes:
        x: what the first of them was given.
        paths: where they are.
        adds: is something added in any of them?
        seconds: what they took together.
        least: what the fastest of them took.
    """

    x: Tensor
    paths: list[str] = field(default_factory=list)
    adds: bool = False
    seconds: float = 0.0
    least: float = math.inf

    def rows(self, times: Fraction) -> Tensor:
        """Up to so many times as many rows of the same numbers."""
        if self.least * times > _LONG:
            times = Fraction(max(1, int(_LONG / self.least)))
        whole = self.x.shape[0] * times
        return torch.cat([self.x] * math.ceil(times))[: int(whole)] if times > 1 else self.x


def tune(
    module: fx.GraphModule,
    twin: fx.GraphModule,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    report: Report,
    times: Fraction = Fraction(1),
) -> None:
    """Choose the fastest way for each fused operator of a graph, for the shapes that come.

    Operators that are alike are timed once. Other shapes are computed in the ordinary way.

    Args:
        module: the graph.
        twin: what is run once to see the shapes: the graph, or a copy if it keeps a state.
        args: the positional arguments to run it on.
        kwargs: the keyword arguments.
        report: what is chosen is noted in it.
        times: how many times as many rows the inputs have that the choice is for.
    """
    started = time.perf_counter()
    groups = _groups(module, twin, args, kwargs)
    whole = time.perf_counter() - started
    worthwhile = [group for group in groups if group.seconds >= _MATTERS * whole]
    started = time.perf_counter()

    def hope(group: _Alike) -> float:
        fused: Fused = module.get_submodule(group.paths[0])  # type: ignore[assignment]
        return group.seconds * max(map(_SAVES.__getitem__, fused.other_ways(group.x)), default=0)

    for group in sorted(filter(hope, worthwhile), key=hope, reverse=True):
        if time.perf_counter() - started > max(_LEAST, _SHARE * whole):
            report.notes.append("stopped choosing between algorithms: it took too long")
            return
        members: list[Fused] = [module.get_submodule(path) for path in group.paths]  # type: ignore[misc]
        tried = group.rows(times)
        chosen, gain = _fastest(members[0].trials(tried, group.adds))
        if chosen == DIRECT:
            continue
        shape = group.x.shape
        larger = torch.Size([int(shape[0] * times), *shape[1:]])
        for member in members:
            for each in {shape, larger}:
                member.choose(each, chosen)
            member.get_ready(group.x)  # else its first run would look slow
        what = f"{chosen} for {tuple(tried.shape)}, {gain:.2f} times as fast as {DIRECT}"
        report.rewrote(what, group.paths, None)


def _groups(
    module: fx.GraphModule,
    twin: fx.GraphModule,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
) -> list[_Alike]:
    """The fused operators that are used, those that are alike together."""
    found: dict[Any, _Alike] = {}
    since: dict[str, float] = {}

    def begin(path: str) -> Callable[[Any, tuple[Any, ...]], None]:
        def hook(fused: Fused, given: tuple[Any, ...]) -> None:
            fused.get_ready(given[0])
            since[path] = time.perf_counter()

        return hook

    def end(path: str) -> Callable[[Any, tuple[Any, ...], Any], None]:
        fused: Fused = module.get_submodule(path)  # type: ignore[assignment]

        def hook(_: Fused, given: tuple[Any, ...], result: Any) -> None:
            seconds = time.perf_counter() - since[path]
            x, *rest = given
            if not (x.is_floating_point() and x.numel() and x.dim()):
                return
            key = tuple(fused.weight.shape), fused.kind_of_trial, x.shape
            group = found.setdefault(key, _Alike(x))
            group.adds |= bool(rest)
            group.seconds += seconds
            group.least = min(group.least, seconds)
            if path not in group.paths:
                group.paths.append(path)

        return hook

    handles = []
    for path, part in twin.named_modules():
        if isinstance(part, FusedConv | FusedLinear):
            handles.append(part.register_forward_pre_hook(begin(path)))
            handles.append(part.register_forward_hook(end(path)))
    try:
        # Whether it can run on these inputs is for the check to say, which knows the original.
        with contextlib.suppress(Exception):
            twin(*args, **kwargs)
    finally:
        for handle in handles:
            handle.remove()
    return list(found.values())


def _fastest(ways: Mapping[str, Callable[[], Tensor]]) -> tuple[str, float]:
    """The name of the fastest way that computes what the ordinary one does; how much faster."""
    champion, gain = DIRECT, 1.0
    for name in ways:
        if name == DIRECT:
            continue
        ratio = _duel(ways[champion], ways[name])
        if ratio < _CLEARLY:
            champion, gain = name, gain / ratio
    return champion, gain


def _duel(champion: Callable[[], Tensor], challenger: Callable[[], Tensor]) -> float:
    """The share of the champion's time that the challenger takes; infinity if it is wrong."""
    expected, found = champion(), challenger()  # what is done once is done now
    if float((found - expected).abs().max()) > _CLOSE * float(expected.abs().max()):
        return math.inf
    del expected, found
    least = [math.inf, math.inf]
    started = time.perf_counter()
    for turn in range(_RUNS):
        for index, run in enumerate((champion, challenger)):
            start = time.perf_counter()
            run()
            least[index] = min(least[index], time.perf_counter() - start)
        ratio = least[1] / least[0]
        clear = ratio > _FAR if turn == 0 else not 1 / _FAR < ratio < 1
        if clear or (turn and time.perf_counter() - started > _ENOUGH):
            break
    return ratio
