"""Tuning: each fused operator is timed in several ways, and the fastest is kept."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor, fx

from symfx.optimization.checking import Trials, copy_inputs
from symfx.optimization.clock import now
from symfx.optimization.report import Report
from symfx.optimization.runtime.conv_kernels import (
    BFLOAT16,
    BLOCKED,
    COMPILED_WAYS,
    DEPTHWISE,
    DIRECT,
    GATHERED,
    POINTWISE,
    TILES_OF_2,
    TILES_OF_4,
    WINOGRAD,
)
from symfx.optimization.runtime.fused_conv import FusedConv
from symfx.optimization.runtime.fused_linear import FusedLinear
from symfx.optimization.runtime.linear_kernels import COMPILED, CONVOLUTION, MKL, ONEDNN
from symfx.optimization.runtime.quantized_linear import INT8
from symfx.work import counted

__all__ = ["lower_precision", "tune"]

#: Tuning takes this many times as long as a run of the model, or so many seconds if that is longer.
#: The operators with the most to win come first; those that are not reached stay unchanged.
_SHARE, _LEAST = 3.0, 0.3
#: The share of an operator's time that a way is expected to save; it decides the order of trials.
_SAVES = {
    BLOCKED: 0.5,
    DEPTHWISE: 0.5,
    POINTWISE: 0.2,
    WINOGRAD: 0.2,
    GATHERED: 0.1,
    TILES_OF_2: 0.4,
    TILES_OF_4: 0.5,
    COMPILED: 0.3,
    ONEDNN: 0.3,
    CONVOLUTION: 0.1,
    MKL: 0.1,
}
#: Operators that take less than this share of the model's time are not tried.
_MATTERS = 0.005
#: An operator is tried on all rows for which the way is chosen, unless the ordinary way would take
#: more seconds than this; then fewer rows stand for all.
_LONG = 0.02
#: The largest number of timed runs of two ways, and the seconds after which no further run starts.
_RUNS, _ENOUGH = 5, 0.04
#: The share of the champion's time that a challenger must stay below.
_CLEARLY = 0.97
#: The ways that can run in one call with the kernels around them, which saves time that a duel does
#: not show (see `symfx.optimization.runtime.kernel_chain`), and the shares of the champion's time
#: that such a challenger must stay below, and another one against such a champion. Beside a
#: convolution of each channel the gain is largest, since the values between them stay in the cache.
_CHAINED = (COMPILED, *COMPILED_WAYS)
_NEARLY, _BY_FAR, _BESIDE = 1.15, 0.88, 1.8
#: A way that is so many times as fast as `DIRECT` is taken, and no further way is timed.
_SUFFICES = 1.5
#: A challenger that takes this many times as long as it may in its first run is not run again, nor
#: is one that still takes too long after its second run; one that takes less than the inverse of
#: the champion's time has won.
_FAR = 1.15
#: A challenger that takes less than this share of the champion's time in its first run has won.
_WON = 0.7
#: The largest difference of another way's result, relative to the largest value: a tenth of the
#: check's tolerance for float32.
_CLOSE = 1e-5

#: The way to compute in another dtype, and the same difference for it: a few of its steps.
_PRECISIONS = {torch.int8: (INT8, 0.1), torch.bfloat16: (BFLOAT16, 0.05)}

#: The seconds that no run is shorter than.
_TICK = 1e-9

Fused = FusedConv | FusedLinear


@dataclass
class _Alike:
    """Operators of the same sizes that are given inputs of one shape.

    Attributes:
        x: the input of the first of them.
        paths: their paths in the graph.
        adds: one of them adds a second argument.
        seconds: the time that they took together.
        least: the time of the fastest of them.
    """

    x: Tensor
    paths: list[str] = field(default_factory=list)
    adds: bool = False
    seconds: float = 0.0
    least: float = math.inf

    def rows(self, times: Fraction) -> Tensor:
        """The input repeated to this many times as many rows, or to fewer; see `_LONG`."""
        if self.least * times > _LONG:
            times = Fraction(max(1, int(_LONG / self.least)))
        whole = self.x.shape[0] * times
        return torch.cat([self.x] * math.ceil(times))[: int(whole)] if times > 1 else self.x


def tune(
    module: fx.GraphModule,
    twin: fx.GraphModule,
    trials: Trials,
    report: Report,
) -> None:
    """Choose the fastest way for each fused operator of a graph, for the shapes of the example.

    Operators that are alike are timed once. Other shapes are computed in the ordinary way.

    Args:
        module: the graph.
        twin: the module that is run to see the shapes: the graph, or a copy if it keeps a state.
        trials: the runs of the model.
        report: gets the choices.
    """
    groups, whole, times = _seen(module, twin, trials)
    worthwhile = [group for group in groups if group.seconds >= _MATTERS * whole]
    started = now()

    def hope(group: _Alike) -> float:
        fused: Fused = module.get_submodule(group.paths[0])  # type: ignore[assignment]
        return group.seconds * max(map(_SAVES.__getitem__, fused.other_ways(group.x)), default=0)

    beside_depthwise = _beside_depthwise(module)
    known = _Known()
    waiting = sorted(filter(hope, worthwhile), key=hope, reverse=True)
    small = [group for group in groups if group.seconds < _MATTERS * whole]
    for group in counted(waiting[:]):
        if now() - started > max(_LEAST, _SHARE * whole * times):
            report.notes.append("stopped timing algorithms: the time for it was used up")
            break
        waiting.remove(group)
        first: Fused = module.get_submodule(group.paths[0])  # type: ignore[assignment]
        tried = group.rows(times)
        sure = known.sure_way(first, tried)
        if sure is not None:
            _choose(module, group, sure, times)
            report.rewrote(f"{sure} for {tuple(tried.shape)}, not timed", group.paths, None)
            continue
        beside = not beside_depthwise.isdisjoint(group.paths)
        chosen, gain = _fastest(first.trials(tried, group.adds), beside)
        known.note(first, tried, chosen)
        if chosen != DIRECT:
            _choose(module, group, chosen, times)
            change = f"{chosen} for {tuple(tried.shape)}, {gain:.2f} times as fast as {DIRECT}"
            report.rewrote(change, group.paths, None)
    for group in (*waiting, *small):
        fused: Fused = module.get_submodule(group.paths[0])  # type: ignore[assignment]
        ways = fused.other_ways(group.rows(times))
        usual = [way for way in ways if way in _CHAINED and known.won.get(way, 0) > 0]
        if usual:
            _choose(module, group, usual[0], times)
            change = f"{usual[0]} for {tuple(group.rows(times).shape)}, not timed"
            report.rewrote(change, group.paths, None)


def _seen(
    module: fx.GraphModule, twin: fx.GraphModule, trials: Trials
) -> tuple[list[_Alike], float, Fraction]:
    """The fused operators, the seconds of the run, and how many times more rows the example has.

    One row shows the shapes for all rows, if each operator runs for it, and if the first size of
    the operator's input is that of the rows.
    """
    fused = [part for part in twin.modules() if isinstance(part, FusedConv | FusedLinear)]
    runs = [(trials.args, trials.kwargs, trials.rows)]
    if trials.row is not None:
        runs.insert(0, (*trials.row, 1))
    for *given, rows in runs:
        args, kwargs = copy_inputs(given)
        started = now()
        groups = _groups(module, twin, args, kwargs)
        seconds = now() - started
        all_run = sum(len(group.paths) for group in groups) >= len(fused)
        if all_run and all(group.x.shape[0] == rows for group in groups):
            break
    return groups, seconds, Fraction(trials.size, rows) if trials.size and rows else Fraction(1)


class _Known:
    """The trials so far.

    Attributes:
        won: for each way, how many more trials it has won than lost.
    """

    def __init__(self) -> None:
        self.won: dict[str, int] = {}
        self._lost: set[str] = set()
        self._least: dict[str, float] = {}  # the least expected gain with which a way has won

    def note(self, fused: Fused, x: Tensor, chosen: str) -> None:
        """Take the result of a trial into account."""
        for way in fused.other_ways(x):
            self.won[way] = self.won.get(way, 0) + (1 if way == chosen else -1)
            gain = fused.expected_gain(way, x)
            if way == chosen and gain is not None:
                self._least[way] = min(gain, self._least.get(way, gain))
            if way == chosen:
                return  # the ways behind it may not have been tried
            self._lost.add(way)

    def sure_way(self, fused: Fused, x: Tensor) -> str | None:
        """The way that needs no trial: it won each of its trials, with no more to gain there."""
        for way in fused.other_ways(x):
            gain = fused.expected_gain(way, x)
            if gain is None or way not in self._least or way in self._lost:
                continue
            if gain >= min(self._least[way], _SUFFICES):
                return way
        return None


def _beside_depthwise(module: fx.GraphModule) -> set[str]:
    """The paths of the convolutions in front of one of each channel alone, and behind it."""
    modules = dict(module.named_modules())

    def convolution(node: fx.Node) -> FusedConv | None:
        called = modules.get(str(node.target)) if node.op == "call_module" else None
        return called if isinstance(called, FusedConv) else None

    found: set[str] = set()
    for node in module.graph.nodes:
        fused = convolution(node)
        if fused is not None and 1 < fused.groups == fused.channels:
            found.update(str(each.target) for each in (*node.all_input_nodes, *node.users))
    return found


def _choose(module: fx.GraphModule, group: _Alike, way: str, times: Fraction) -> None:
    """Let alike operators compute the example's inputs in one way."""
    shape = group.x.shape
    larger = torch.Size([int(shape[0] * times), *shape[1:]])
    for path in group.paths:
        member: Fused = module.get_submodule(path)  # type: ignore[assignment]
        for each in {shape, larger}:
            if way in member.other_ways(group.x.new_empty(each)):
                member.choose(each, way)
        # Otherwise its first run would include the packing.
        member.get_ready(group.x.new_empty(larger))


def lower_precision(
    module: fx.GraphModule,
    dtype: torch.dtype,
    twin: fx.GraphModule | None,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    report: Report,
    times: Fraction = Fraction(1),
) -> bool:
    """Compute fused operators in another dtype, where that is faster for the example's shapes.

    Args:
        module: the graph.
        dtype: `torch.int8`, for linear layers, or `torch.bfloat16`, for convolutions too.
        twin: see `tune`; None to time nothing, and to take the dtype wherever it can be taken.
        args: see `tune`.
        kwargs: see `tune`.
        report: gets the layers that change, and those that are left with the reason.
        times: see `tune`.

    Returns:
        whether any operator changes.
    """
    way, close = _PRECISIONS[dtype]
    before = len(report.rewrites)
    if twin is None:
        for path, part in module.named_modules():
            if isinstance(part, FusedConv | FusedLinear) and part.can_compute_in(way):
                part.compute_in(way)
                report.rewrote(f"computed {way}", [path], None)
        return len(report.rewrites) > before
    for group in counted(_groups(module, twin, args, kwargs)):
        members: list[Fused] = [module.get_submodule(path) for path in group.paths]  # type: ignore[misc]
        if not members[0].can_compute_in(way):
            continue
        tried = group.rows(times)
        plain, challenger = members[0].trial_of(way, tried, group.adds)
        ratio = _duel(plain, challenger, close)
        if ratio >= _CLEARLY:
            why = "not faster" if ratio < math.inf else "too inexact"
            for path in group.paths:
                report.leave(path, f"{way} it is {why} for {tuple(tried.shape)}")
            continue
        for member in members:
            member.compute_in(way)
            member.get_ready(group.x)
        change = f"{way} for {tuple(tried.shape)}, {1 / ratio:.2f} times as fast as in float32"
        report.rewrote(f"computed {change}", group.paths, None)
    return len(report.rewrites) > before


def _groups(
    module: fx.GraphModule,
    twin: fx.GraphModule,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
) -> list[_Alike]:
    """The fused operators that run on these arguments, grouped by size and shape of input."""
    found: dict[Any, _Alike] = {}
    since: dict[str, float] = {}

    def begin(path: str) -> Callable[[Any, tuple[Any, ...]], None]:
        def hook(fused: Fused, given: tuple[Any, ...]) -> None:
            fused.get_ready(given[0])
            since[path] = now()

        return hook

    def end(path: str) -> Callable[[Any, tuple[Any, ...], Any], None]:
        fused: Fused = module.get_submodule(path)  # type: ignore[assignment]

        def hook(_: Fused, given: tuple[Any, ...], result: Any) -> None:
            seconds = now() - since[path]
            x, *rest = given
            if not (x.is_floating_point() and x.numel() and x.dim()):
                return
            key = tuple(fused.weight.shape), fused.kind_of_trial, x.shape
            group = found.setdefault(key, _Alike(x))
            group.adds |= bool(rest)
            group.seconds += seconds
            group.least = min(group.least, seconds)
            if path not in group.paths:
                # The first is tried for all, and only one that adds can be tried with a sum.
                group.paths.insert(0 if rest else len(group.paths), path)

        return hook

    handles = []
    for path, part in twin.named_modules():
        if isinstance(part, FusedConv | FusedLinear):
            handles.append(part.register_forward_pre_hook(begin(path)))
            handles.append(part.register_forward_hook(end(path)))
    try:
        # If the run fails, the check reports it, which also runs the original.
        with contextlib.suppress(Exception):
            twin(*args, **kwargs)
    finally:
        for handle in handles:
            handle.remove()
    return list(found.values())


def _fastest(
    ways: Mapping[str, Callable[[], Tensor]], beside_depthwise: bool = False
) -> tuple[str, float]:
    """The name of the fastest way with the right result, and its speed relative to `DIRECT`."""
    champion, gain = DIRECT, 1.0
    for name in ways:
        if name == DIRECT:
            continue
        if gain > _SUFFICES:
            break
        limit = _BY_FAR if champion in _CHAINED else _CLEARLY
        if name in _CHAINED and name != POINTWISE:
            limit = _NEARLY
        if name == POINTWISE and beside_depthwise:
            limit = _BESIDE
        ratio = _duel(ways[champion], ways[name], limit=limit)
        if ratio < limit:
            champion, gain = name, gain / ratio
    return champion, gain


def _duel(
    champion: Callable[[], Tensor],
    challenger: Callable[[], Tensor],
    close: float = _CLOSE,
    limit: float = 1.0,
) -> float:
    """The ratio of the challenger's time to the champion's; infinity if its result is wrong."""
    expected, found = champion(), challenger()  # also packs the weights, ahead of the timing
    if float((found - expected).abs().max()) > close * float(expected.abs().max()):
        return math.inf
    del expected, found
    least = [math.inf, math.inf]
    started = now()
    for turn in range(_RUNS):
        for index, run in enumerate((champion, challenger)):
            start = now()
            run()
            least[index] = min(least[index], now() - start)
        ratio = least[1] / max(least[0], _TICK)
        clear = not _WON < ratio < _FAR * limit if turn == 0 else not limit / _FAR < ratio < limit
        if clear or (turn and now() - started > _ENOUGH):
            break
    return ratio
