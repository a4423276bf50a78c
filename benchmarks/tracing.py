"""Tracing the six models: stock with static and with symbolic shapes, symfx with symbolic shapes.

Stock torch's fake mode keeps a cache of operators on static shapes for the life of the process. So
stock's static tracing is timed twice: with the cache of the trace before ("stock fake", the harder
mark for symfx) and with an empty cache ("stock fake, emptied"). Symbolic traces of stock and of
symfx keep nothing, because each has an environment of its own. The medians are therefore those of a
second trace of the same model. The column "first / first" compares the first traces of a model, in
a process that has traced another program before.

A model's parameters are either *inputs* or *constants*. As inputs, each of their dimensions is
dynamic in a symbolic trace, such as the size of a convolution's kernel. As constants, they keep
their shapes, as in the trace of a module.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from benchmarks.models import Workload, build
from benchmarks.peers import MODES, PEERS, TracingMode
from benchmarks.timing import Contestant, Timings, geometric_mean, measure

__all__ = [
    "COLUMNS",
    "FIRST",
    "RATIOS",
    "SYMFX",
    "Metadata",
    "ModelResult",
    "Parameters",
    "geometric_means",
    "trace_models",
]

STOCK_FAKE, STOCK_FAKE_EMPTIED = "stock fake", "stock fake, emptied"
STOCK_SYMBOLIC, SYMFX = "stock symbolic", "symfx symbolic"
COLUMNS = (STOCK_FAKE, STOCK_FAKE_EMPTIED, STOCK_SYMBOLIC, SYMFX)
RATIOS = COLUMNS[:-1]
"""The columns by which symfx's times are divided."""
FIRST = (SYMFX, STOCK_FAKE_EMPTIED)
"""The columns whose first traces of a model are compared."""


class Parameters(enum.StrEnum):
    """The role of a model's parameters and buffers in the traced function."""

    INPUTS = "inputs"
    CONSTANTS = "constants"


class Metadata(enum.StrEnum):
    """The metadata that nodes get."""

    DEFAULT = "default"
    ALL = "all"


@dataclass(frozen=True)
class ModelResult:
    """The timings of one model.

    Attributes:
        name: the workload's name.
        title: the workload's title.
        timings: the seconds of each contestant.
        sizes: the numbers of nodes and guards of the graphs, by contestant.
    """

    name: str
    title: str
    timings: Timings
    sizes: dict[str, dict[str, int]]


def _empty_stock_cache() -> None:
    from torch._subclasses.fake_tensor import FakeTensorMode

    FakeTensorMode.cache_clear()


def _contestants(
    workload: Workload,
    parameters: Parameters,
    metadata: Metadata,
    sizes: dict[str, dict[str, int]],
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
            graph_module: Any = PEERS[peer].trace(
                function, args, mode, all_metadata=metadata is Metadata.ALL
            )
            if column not in sizes:  # counted once, in the first run
                sizes[column] = {"nodes": len(graph_module.graph.nodes)}
                if mode == "symbolic":
                    sizes[column]["guards"] = len(graph_module.shape_env.guards)

        return Contestant(column, run, prepare)

    return [
        contestant(STOCK_FAKE_EMPTIED, "stock", "fake", _empty_stock_cache),
        contestant(STOCK_FAKE, "stock", "fake"),
        contestant(SYMFX, "symfx", "symbolic"),
        contestant(STOCK_SYMBOLIC, "stock", "symbolic"),
    ]


def _another_program(x: torch.Tensor) -> torch.Tensor:
    """A program that every peer traces first, so that no model pays for imports."""
    return (x @ x.t()).softmax(-1) + x.sum()


def trace_models(
    names: Sequence[str],
    repeat: int,
    parameters: Parameters,
    done: Callable[[ModelResult], object],
    metadata: Metadata = Metadata.DEFAULT,
) -> list[ModelResult]:
    """Time the named workloads, and call ``done`` with each result at once."""
    results = []
    for peer in PEERS.values() if names else ():
        for mode in MODES:
            peer.trace(_another_program, (torch.ones(2, 3),), mode)
    for name in names:
        workload = build(name)
        sizes: dict[str, dict[str, int]] = {}
        timings = measure(_contestants(workload, parameters, metadata, sizes), repeat)
        results.append(ModelResult(name, workload.title, timings, sizes))
        done(results[-1])
    return results


def geometric_means(results: Sequence[ModelResult]) -> dict[str, float | None]:
    """The means over the models: symfx divided by each of `RATIOS`, and of first traces ("first").

    A mean is None if a model did not run.
    """

    def mean(ratios: Sequence[float | None]) -> float | None:
        known = [ratio for ratio in ratios if ratio is not None]
        return geometric_mean(known) if len(known) == len(ratios) else None

    means = {to: mean([r.timings.ratio(SYMFX, to) for r in results]) for to in RATIOS}
    means["first"] = mean([r.timings.first_ratio(*FIRST) for r in results])
    return means
