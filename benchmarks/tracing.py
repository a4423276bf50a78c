"""Tracing the six models: stock with static shapes, stock with symbolic ones, symfx with symbolic.

What a peer may keep from one trace to the next counts too. Stock torch's fake mode keeps, for the
life of the process, a cache of operators called with static shapes; so it is timed twice: as a
second trace finds it ("stock fake", the harder mark for us) and emptied ("first").
Stock's symbolic traces keep nothing, and neither do symfx's: each has an environment of its own.

A model's parameters are either *inputs*, so that in a symbolic trace each of their dimensions is
dynamic too (a convolution's kernel size among them), or *constants*, with the shapes they have, as
when one traces a module.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.models import Workload, build
from benchmarks.peers import PEERS, TracingMode
from benchmarks.timing import Contestant, Timings, geometric_mean, measure

__all__ = [
    "COLUMNS",
    "RATIOS",
    "SYMFX",
    "ModelResult",
    "Parameters",
    "geometric_means",
    "trace_models",
]

STOCK_FAKE, STOCK_FAKE_FIRST = "stock fake", "stock fake, first"
STOCK_SYMBOLIC, SYMFX = "stock symbolic", "symfx symbolic"
COLUMNS = (STOCK_FAKE, STOCK_FAKE_FIRST, STOCK_SYMBOLIC, SYMFX)
RATIOS = COLUMNS[:-1]
"""What symfx is divided by."""


class Parameters(enum.StrEnum):
    """What a model's parameters and buffers are to the traced function."""

    INPUTS = "inputs"
    CONSTANTS = "constants"


@dataclass(frozen=True)
class ModelResult:
    """The timings of one model.

    Attributes:
        name: the workload's name.
        title: the workload's title.
        timings: the seconds of each contestant.
        sizes: nodes and guards of the graphs, by contestant.
    """

    name: str
    title: str
    timings: Timings
    sizes: dict[str, dict[str, int]]


def _empty_stock_cache() -> None:
    from torch._subclasses.fake_tensor import FakeTensorMode

    FakeTensorMode.cache_clear()


def _contestants(
    workload: Workload, parameters: Parameters, sizes: dict[str, dict[str, int]]
) -> list[Contestant]:
    function, args = workload.function, workload.arguments()
    if parameters is Parameters.CONSTANTS:
        function, args = workload.closed()

    def contestant(
        column: str,
        peer: str,
        mode: TracingMode,
        prepare: Callable[[], object] | None = None,
    ) -> Contestant:
        def run() -> None:
            graph_module: Any = PEERS[peer].trace(function, args, mode)
            if column not in sizes:  # counted once, in the untimed round
                sizes[column] = {"nodes": len(graph_module.graph.nodes)}
                if mode == "symbolic":
                    sizes[column]["guards"] = len(graph_module.shape_env.guards)

        return Contestant(column, run, prepare)

    return [
        contestant(STOCK_FAKE_FIRST, "stock", "fake", _empty_stock_cache),
        contestant(STOCK_FAKE, "stock", "fake"),
        contestant(SYMFX, "symfx", "symbolic"),
        contestant(STOCK_SYMBOLIC, "stock", "symbolic"),
    ]


def trace_models(
    names: Sequence[str],
    repeat: int,
    parameters: Parameters,
    done: Callable[[ModelResult], object],
) -> list[ModelResult]:
    """Time the named workloads, calling ``done`` with each result as it comes."""
    results = []
    for name in names:
        workload = build(name)
        sizes: dict[str, dict[str, int]] = {}
        timings = measure(_contestants(workload, parameters, sizes), repeat)
        results.append(ModelResult(name, workload.title, timings, sizes))
        done(results[-1])
    return results


def geometric_means(results: Sequence[ModelResult]) -> dict[str, float | None]:
    """symfx over each of :data:`RATIOS`, over the models; None unless every model ran."""
    means: dict[str, float | None] = {}
    for to in RATIOS:
        ratios = [result.timings.ratio(SYMFX, to) for result in results]
        known = [ratio for ratio in ratios if ratio is not None]
        means[to] = geometric_mean(known) if len(known) == len(ratios) else None
    return means
