"""``symfx sweep MODELS``: many models in one run, with one summary."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from symfx.cli.console import FAILED, clear_errors, print_lines
from symfx.cli.options import AsJson, Debug, Quiet, Verbose
from symfx.cli.sweep_model import models_of_file
from symfx.errors import SpecError
from symfx.sweep.jobs import Job, Result
from symfx.sweep.model_lists import (
    Options,
    jobs_of_patterns,
    jobs_of_toml,
    read_size,
    read_steps,
)
from symfx.whole_files import written_whole

if TYPE_CHECKING:
    from symfx.sweep.places import Place

__all__ = ["sweep_command"]


def sweep_command(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODELS...",
            help="A TOML file, a Python file that yields models (file.py or file.py:function), or "
            "patterns of architectures such as 'transformers:bert*'.",
            show_default=False,
        ),
    ],
    steps: Annotated[
        list[str] | None,
        typer.Option(
            "--steps",
            "-s",
            metavar="STEPS",
            help="The steps, separated by commas: trace, verify, typecheck, optimize, export. "
            "Default: those of the file, otherwise trace,verify.",
            show_default=False,
        ),
    ] = None,
    processes: Annotated[
        int,
        typer.Option(
            "--jobs", "-j", min=1, max=1024, metavar="N", help="How many models run at a time."
        ),
    ] = 1,
    dask: Annotated[
        list[str] | None,
        typer.Option(
            "--dask",
            metavar="ADDRESS",
            help="Run on an existing Dask cluster, tcp://host:port; needs symfx[dask]. Repeatable.",
            show_default=False,
        ),
    ] = None,
    time_limit: Annotated[
        float | None,
        typer.Option(
            min=0.1,
            metavar="SECONDS",
            help="The time of a model. Default: 600.",
            show_default=False,
        ),
    ] = None,
    memory_limit: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE",
            help="The memory of a model, such as 4G. Default: 8G.",
            show_default=False,
        ),
    ] = None,
    directory: Annotated[
        Path | None,
        typer.Option(
            "--directory",
            "-d",
            metavar="DIRECTORY",
            file_okay=False,
            help="Where the journal, summary.json and summary.html go. Default: NAME.sweep, for "
            "the file NAME.toml, or symfx.sweep.",
            show_default=False,
        ),
    ] = None,
    fresh: Annotated[
        bool,
        typer.Option(
            "--fresh/--resume",
            help="Run all models again, or only those that have no result in the journal.",
        ),
    ] = False,
    retry: Annotated[
        bool, typer.Option("--retry", help="Run the models again that were not ok.")
    ] = False,
    list_only: Annotated[bool, typer.Option("--list", help="Print the models and end.")] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """Trace, verify, typecheck, optimize or export many models, and print one summary.

    Each model has a process of its own, with a limit of time and of memory. A model that fails
    does not end the sweep. A sweep that was ended goes on where it was: results are kept in a
    journal as they come.

    Examples:
        symfx sweep models.toml -j 4
        symfx sweep 'transformers:bert*' \\
            --steps trace,verify,export
        symfx sweep models.toml --dask tcp://host:8786

    Exit codes: 0 all models are ok, 1 some are not, 2 the command or a file cannot be used, 70
    symfx itself failed.
    """
    with clear_errors(debug, verbose):
        limit = None if memory_limit is None else read_size(memory_limit, "--memory-limit")
        words = [word.strip() for text in steps or [] for word in text.split(",")]
        options = Options(read_steps(words, "--steps") if steps else None, time_limit, limit)
        jobs = [options.applied(job) for job in _jobs(models)]
        if list_only:
            print_lines([Text(job.name) for job in jobs])
            return
        where = _directory(models, directory)
        results = _run(jobs, where, processes, dask or [], fresh=fresh, retry=retry, told=not quiet)
        _summarize(results, where, as_json=as_json, quiet=quiet)
    if any(result.outcome != "ok" for result in results):
        raise typer.Exit(FAILED)


def _jobs(models: Sequence[str]) -> list[Job]:
    """The jobs of all files and patterns."""
    found: dict[str, Job] = {}
    for job in (job for text in models for job in _jobs_of(text)):
        if job.name in found and found[job.name] != job:
            raise SpecError(
                f"two models have the name {job.name!r}", where="MODELS", fix="sweep them apart"
            )
        found[job.name] = job
    return list(found.values())


def _jobs_of(text: str) -> Iterator[Job]:
    if text.startswith("transformers:"):
        yield from jobs_of_patterns([text])
        return
    path = Path(text.partition(":")[0] if ".py" in text else text).expanduser()
    if not path.is_file():
        raise SpecError(
            f"there is no file {path}",
            where="MODELS",
            fix="name a TOML file, a Python file, or a pattern such as 'transformers:bert*'",
        )
    if path.suffix == ".py":
        for model in models_of_file(text):
            yield Job(model.name, "file", text, directory=os.getcwd())
        return
    if path.suffix != ".toml":
        raise SpecError(
            f"{path} is neither TOML nor Python", where="MODELS", fix="name it .toml or .py"
        )
    yield from jobs_of_toml(path)


def _directory(models: Sequence[str], directory: Path | None) -> Path:
    if directory is not None:
        return directory
    first = models[0].partition(":")[0]
    stem = Path(first).stem if first.endswith((".toml", ".py")) else "symfx"
    return Path(f"{stem}.sweep")


def _places(processes: int, addresses: Sequence[str]) -> list[Place]:
    from symfx.sweep.places import Cluster, LocalProcesses

    places: list[Place] = []
    try:
        for address in addresses:
            places.append(Cluster(address))
    except BaseException:
        for place in places:
            place.close(killed=True)
        raise
    return places or [LocalProcesses(processes)]


def _run(
    jobs: Sequence[Job],
    directory: Path,
    processes: int,
    addresses: Sequence[str],
    *,
    fresh: bool,
    retry: bool,
    told: bool,
) -> list[Result]:
    from symfx.cli.sweep_progress import progress_table
    from symfx.sweep.journal import Journal
    from symfx.sweep.runner import run_sweep

    with Journal(directory / "journal.jsonl", fresh=fresh) as journal:
        if retry:
            journal.forget_failures()
        places = _places(processes, addresses)
        killed = True
        try:
            with progress_table(len(jobs), told=told) as table:
                results = run_sweep(
                    jobs, places, journal, started=table.started, finished=table.finished
                )
            killed = False
        finally:
            for place in places:
                place.close(killed=killed)
    return results


def _summarize(results: Sequence[Result], directory: Path, *, as_json: bool, quiet: bool) -> None:
    from symfx.sweep.summary import as_data, as_html, describe

    text = json.dumps(as_data(results), indent=2, ensure_ascii=False)
    _write(directory / "summary.json", text + "\n")
    page = as_html(results, f"symfx sweep: {directory.name}")
    _write(directory / "summary.html", page)
    if as_json:
        typer.echo(text)
        return
    lines = describe(results)
    if quiet:
        lines = lines[-1:]
    else:
        lines.append(Text(f"{directory}/summary.html, {directory}/summary.json", "dim"))
    print_lines(lines)


def _write(path: Path, text: str) -> None:
    with written_whole(path) as file:
        file.write(text.encode())
