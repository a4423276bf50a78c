"""``python -m benchmarks``: run the benchmarks, print the tables, write the JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console

from benchmarks.algebra import WORKS, AlgebraResult, run_algebra
from benchmarks.memory import NAME as MEMORY
from benchmarks.memory import measure_memory
from benchmarks.models import WORKLOADS
from benchmarks.reasoning import REASONING
from benchmarks.report import algebra_table, as_json, goals_table, memory_table, models_table
from benchmarks.tracing import Metadata, ModelResult, Parameters, trace_models

LATEST = Path(__file__).parent / "results" / "latest.json"
FAILED = 1
ALGEBRA = WORKS | REASONING
NAMES = (*WORKLOADS, MEMORY, *ALGEBRA)


def _chosen(only: list[str]) -> list[str]:
    unknown = [name for name in only if name not in NAMES]
    if unknown:
        raise typer.BadParameter(
            f"no benchmark has the name {unknown[0]!r}; the names are: {', '.join(NAMES)}",
            param_hint="--only",
        )
    return [name for name in NAMES if not only or name in only]


def main(
    only: Annotated[
        list[str] | None,
        typer.Option(help=f"Run this benchmark alone (repeatable): {', '.join(NAMES)}."),
    ] = None,
    repeat: Annotated[
        int | None,
        typer.Option(min=1, help="Timed rounds of each benchmark; 7 by default, 3 with --quick."),
    ] = None,
    json_path: Annotated[
        Path, typer.Option("--json", help="The JSON file for the measurements.")
    ] = LATEST,
    quick: Annotated[
        bool, typer.Option("--quick", help="Fewer rounds and smaller algebra sizes.")
    ] = False,
    parameters: Annotated[
        Parameters,
        typer.Option(help="The models' parameters: dynamic inputs, or constants as in a module."),
    ] = Parameters.CONSTANTS,
    metadata: Annotated[
        Metadata,
        typer.Option(help="The metadata of nodes: torch's default, or all that torch can record."),
    ] = Metadata.DEFAULT,
    budget: Annotated[
        float, typer.Option(help="Seconds that a peer may take for one piece of algebra.")
    ] = 20.0,
) -> None:
    """Time stock torch and symfx in turn on the same work, in this one process.

    Trust the ratios, not the seconds: both peers run on the same machine under the same load.
    The exit code is 1 if a peer failed at some work.
    """
    console = Console()
    progress = Console(stderr=True)
    chosen = _chosen(only or [])
    rounds = repeat or (3 if quick else 7)
    failures: list[str] = []

    def model_done(result: ModelResult) -> None:
        progress.print(f"[dim]{result.name}: done[/]")
        failures.extend(f"{result.name}, {peer}: {e}" for peer, e in result.timings.errors.items())

    def algebra_done(result: AlgebraResult) -> None:
        progress.print(f"[dim]{result.work.name}: done[/]")
        for n, timings in result.timings.items():
            failures.extend(
                f"{result.work.name} at {n}, {peer}: {e}" for peer, e in timings.errors.items()
            )

    models = trace_models(
        [name for name in chosen if name in WORKLOADS], rounds, parameters, model_done, metadata
    )
    memory = measure_memory() if MEMORY in chosen else {}
    algebra = run_algebra(
        [ALGEBRA[name] for name in chosen if name in ALGEBRA],
        rounds,
        quick=quick,
        budget=budget,
        done=algebra_done,
    )
    console.print(f"torch {torch.__version__}", markup=False, highlight=False)
    if models:
        console.print(models_table(models, parameters, metadata))
    if memory:
        console.print(memory_table(memory))
    if algebra:
        console.print(algebra_table(algebra))
        console.print(goals_table(algebra))
        for result in algebra:
            for n, timings in result.timings.items():
                for peer, why in timings.skipped.items():
                    console.print(f"{result.work.name}, n = {n}, {peer}: {why}", markup=False)

    options: dict[str, Any] = {
        "only": only,
        "repeat": rounds,
        "quick": quick,
        "budget": budget,
        "parameters": parameters.value,
        "metadata": metadata.value,
    }
    json_path.parent.mkdir(parents=True, exist_ok=True)
    json_path.write_text(json.dumps(as_json(models, algebra, options, memory), indent=1) + "\n")
    console.print(f"written to {json_path}", markup=False, soft_wrap=True)
    for failure in failures:
        progress.print(f"failed: {failure}", style="red", markup=False)
    if failures:
        raise typer.Exit(FAILED)


if __name__ == "__main__":
    typer.run(main)
