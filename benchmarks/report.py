"""The results of benchmarks as tables for people and as JSON for programs."""

from __future__ import annotations

import dataclasses
import datetime
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.box import SIMPLE_HEAD
from rich.table import Table

from benchmarks.algebra import CONTESTANTS, AlgebraResult
from benchmarks.goals import Finding
from benchmarks.memory import Peak
from benchmarks.timing import Timings
from benchmarks.tracing import (
    COLUMNS,
    FIRST,
    RATIOS,
    SYMFX,
    Metadata,
    ModelResult,
    Parameters,
    geometric_means,
)

__all__ = ["algebra_table", "as_json", "goals_table", "memory_table", "models_table"]

SCHEMA = 2


def _seconds(value: float | None) -> str:
    if value is None:
        return "-"
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if value >= scale:
            return f"{value / scale:.3g} {unit}"
    return f"{value / 1e-9:.3g} ns"


def _times(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}x"


def _cell(timings: Timings, name: str) -> str:
    if name in timings.errors:
        return "failed"
    return "skipped" if name in timings.skipped else _seconds(timings.median(name))


def models_table(
    results: Sequence[ModelResult], parameters: Parameters, metadata: Metadata
) -> Table:
    """The medians and ratios of tracing, a row for each model, with geometric means below."""
    setting = f"parameters as {parameters}, {metadata} metadata"
    title = f"Tracing again, {setting}: medians, and symfx / stock"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=0)
    table.add_column("model", no_wrap=True)
    for column in COLUMNS:
        table.add_column(column, justify="right")
    for to in RATIOS:
        table.add_column(f"/ {to.removeprefix('stock ')}", justify="right")
    table.add_column("first / first", justify="right")
    for result in results:
        table.add_row(
            result.name,
            *(_cell(result.timings, column) for column in COLUMNS),
            *(_times(result.timings.ratio(SYMFX, to)) for to in RATIOS),
            _times(result.timings.first_ratio(*FIRST)),
        )
    if len(results) > 1:
        means = geometric_means(results)
        table.add_section()
        table.add_row("geo. mean", *("" for _ in COLUMNS), *map(_times, means.values()))
    return table


def memory_table(peaks: Mapping[str, Peak]) -> Table:
    """The peaks of memory, and symfx's peaks divided by each."""
    table = Table(
        title="Memory: tracing GPT-2 with 24 layers, peak above the memory in use before",
        title_justify="left",
        box=SIMPLE_HEAD,
    )
    table.add_column("peer")
    for column in ("Python", "symfx / peer", "process", "symfx / peer"):
        table.add_column(column, justify="right")
    symfx = peaks[SYMFX]
    for name, peak in peaks.items():
        of_process = symfx.process / peak.process if symfx.process and peak.process else None
        table.add_row(
            name,
            _megabytes(peak.python),
            _times(symfx.python / peak.python),
            _megabytes(peak.process),
            _times(of_process),
        )
    return table


def _megabytes(value: int | None) -> str:
    return "-" if value is None else f"{value / 1e6:.1f} MB"


def algebra_table(results: Sequence[AlgebraResult]) -> Table:
    """The medians of the algebra works, with their growth or the time of one item."""
    table = Table(
        title="Algebra: medians of CPU time, through torch.SymInt",
        title_justify="left",
        box=SIMPLE_HEAD,
    )
    for column in ("work", "n"):
        table.add_column(column)
    for column in (*CONTESTANTS, "symfx / stock", "/ jax"):
        table.add_column(column, justify="right")
    for result in results:
        work = result.work
        for n, timings in result.timings.items():
            table.add_row(
                work.name,
                str(n),
                *(_cell(timings, peer) for peer in CONTESTANTS),
                _times(timings.ratio("symfx", "stock")),
                _times(timings.ratio("symfx", "jax")),
            )
        if work.per_item:
            medians = {peer: result.medians(peer) for peer in CONTESTANTS}
            each = (min((t / n for n, t in medians[p].items()), default=None) for p in CONTESTANTS)
            table.add_row("", "each", *map(_seconds, each), "", "")
        else:
            table.add_row("", "grows as", *map(result.growth, CONTESTANTS), "", "")
    return table


def _findings(results: Sequence[AlgebraResult]) -> list[Finding]:
    return [finding for result in results for finding in result.findings()]


def goals_table(results: Sequence[AlgebraResult]) -> Table:
    """The goals of each piece of work, the measured figures, and whether they meet the goals."""
    table = Table(title="Goals", title_justify="left", box=SIMPLE_HEAD)
    for column in ("work", "figure"):
        table.add_column(column)
    for column in ("at most", "measured", "met"):
        table.add_column(column, justify="right")
    for found in _findings(results):
        table.add_row(
            found.work,
            found.figure,
            f"{found.most:.3g}",
            "-" if found.measured is None else f"{found.measured:.3f}",
            {None: "not measured", True: "yes", False: "NO"}[found.met],
        )
    return table


def _commit() -> str | None:
    here = Path(__file__).parent
    try:
        found = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"],
            cwd=here,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None  # a copy without its history
    return found.stdout.strip()


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass  # not Linux
    return platform.processor() or platform.machine()


def _timings(timings: Timings) -> dict[str, Any]:
    medians = {name: timings.median(name) for name in timings.seconds}
    return {**dataclasses.asdict(timings), "medians": medians}


def as_json(
    models: Sequence[ModelResult],
    algebra: Sequence[AlgebraResult],
    options: Mapping[str, Any],
    memory: Mapping[str, Peak] | None = None,
) -> dict[str, Any]:
    """All measurements as JSON, with the versions and the machine that they come from."""
    return {
        "schema": SCHEMA,
        "when": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "machine": {
            "processor": _processor(),
            "cores": os.cpu_count(),
            "platform": platform.platform(),
            "load": list(os.getloadavg()) if hasattr(os, "getloadavg") else None,
        },
        "options": dict(options),
        "models": [
            {
                "name": result.name,
                "title": result.title,
                **_timings(result.timings),
                "ratios": {
                    **{to: result.timings.ratio(SYMFX, to) for to in RATIOS},
                    "first": result.timings.first_ratio(*FIRST),
                },
                "graphs": result.sizes,
            }
            for result in models
        ],
        "memory": {name: dataclasses.asdict(peak) for name, peak in (memory or {}).items()},
        "geometric_means": geometric_means(models) if models else {},
        "algebra": [
            {
                "name": result.work.name,
                "title": result.work.title,
                "sizes": {str(n): _timings(timings) for n, timings in result.timings.items()},
                "exponents": {peer: result.exponent(peer) for peer in CONTESTANTS},
            }
            for result in algebra
        ],
        "goals": [{**dataclasses.asdict(f), "met": f.met} for f in _findings(algebra)],
    }
