"""Tracing the six models: stock with static shapes, stock with symbolic ones, symfx with symbolic.

What a peer may keep from one trace to the next counts too. Stock torch's fake mode keeps, for the
life of the process, a cache of operators called with static shapes; so it is timed twice: as a
second trace finds it ("stock fake", the harder mark for us) and emptied ("stock fake, emptied").
Stock's symbolic traces keep nothing, and neither do symfx's: each has an environment of its own.
So the medians are those of a warm second trace of the same model. The first traces, in a process
that has traced another program before, are compared with one another ("first / first").

A model's parameters are either *inputs*, so that in a symbolic trace each of their dimensions is
dynamic too (a convolution's kernel size among them), or *constants*, with the shapes they have, as
when one traces a module.
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
"""What symfx is divided by."""
FIRST = (SYMFX, STOCK_FAKE_EMPTIED)
"""Whose first traces of a model are compared."""


class Parameters(enum.StrEnum):
    """What a model's parameters and buffers are to the traced function."""

    INPUTS = "inputs"
    CONSTANTS = "constants"


class Metadata(enum.StrEnum):
    """What nodes remember beside their operator."""

    DEFAULT = "default"
    ALL = "all"


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
    """What every peer traces before the first model, so that imports are not counted as its."""
    return (x @ x.t()).softmax(-1) + x.sum()


def trace_models(
    names: Sequence[str],
    repeat: int,
    parameters: Parameters,
    done: Callable[[ModelResult], object],
    metadata: Metadata = Metadata.DEFAULT,
) -> list[ModelResult]:
    """Time the named workloads, calling ``done`` with each result as it comes."""
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
    """symfx over each of :data:`RATIOS`, and of first traces ("first"), over the models.

    None unless every model ran.
    """

    def mean(ratios: Sequence[float | None]) -> float | None:
        known = [ratio for ratio in ratios if ratio is not None]
        return geometric_mean(known) if len(known) == len(ratios) else None

    means = {to: mean([r.timings.ratio(SYMFX, to) for r in results]) for to in RATIOS}
    means["first"] = mean([r.timings.first_ratio(*FIRST) for r in results])
    return means
