"""``symfx report TARGET --input "x: f32[batch, 64]" -o report.html``: a trace as a page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from symfx.cli.console import (
    FAILED,
    clear_errors,
    print_json,
    print_lines,
    stdout_for_json,
)
from symfx.cli.example_calls import example_call, traced_call
from symfx.cli.fitting_sizes import telling_sizes
from symfx.cli.options import (
    AsJson,
    Debug,
    Init,
    ModelOrFile,
    Quiet,
    Seed,
    Train,
    Verbose,
    inputs_option,
    refuse_unwritable,
    where_option,
)
from symfx.cli.saved_traces import Libraries, is_saved, load_trace, refuse_for_saved
from symfx.cli.steps import progress, progress_of_work, tracing

if TYPE_CHECKING:
    from symfx.tracing import Trace

__all__ = ["report_command"]


def report_command(
    target: ModelOrFile,
    *,
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", metavar="FILE", dir_okay=False, help="The HTML file to write."
        ),
    ] = Path("report.html"),
    inputs: Annotated[
        list[str] | None,
        inputs_option("'x: f32[batch, seq, 64]'. A named dimension is dynamic."),
    ] = None,
    where: Annotated[list[str] | None, where_option("The trace relies on it.")] = None,
    init: Init = None,
    train: Train = None,
    verify: Annotated[
        bool,
        typer.Option(
            "--verify/--no-verify", help="Run the graph and the model, and compare their results."
        ),
    ] = True,
    libraries: Libraries = None,
    seed: Seed = 0,
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """Write a report of a trace: one HTML file that opens in a browser, without a network.

    Examples:
        symfx report torch.nn:Linear --init in_features=8 \\
            --init out_features=4 -i "input: f32[batch, 8]"
        symfx report linear.symfx -o linear.html

    The report has the graph, folded by modules; the dynamic dimensions; what the model pinned, in
    red; the guards with their lines and proofs; the verification; and the cost of each module.

    Exit codes: 0 written, 1 written and the verification failed, 2 the command, the inputs or the
    model cannot be used, 70 symfx itself failed.
    """
    with clear_errors(debug, verbose):
        refuse_unwritable(output, "--output")
        with stdout_for_json(as_json):
            if is_saved(target):
                refuse_for_saved(target, {"--input": inputs, "--init": init, "--where": where})
                refuse_for_saved(target, {"--train": train, "--eval": train is False})
                trace = load_trace(Path(target), libraries or [])
            else:
                trace = _traced(target, inputs or [], where or [], init or [], train, seed, verify)
            with progress_of_work("writing the report"):
                trace.report(output, verify=False)
        if as_json:
            print_json("symfx report", _as_data(trace, output))
        else:
            from symfx.tracing.report import headline

            lines = [f"{output}: {_outcome(trace)}"]
            print_lines([Text(line) for line in (lines if quiet else [headline(trace), *lines])])
    if trace.verification is not None and not trace.verification:
        raise typer.Exit(FAILED)


def _traced(
    target: str,
    inputs: Sequence[str],
    where: Sequence[str],
    init: Sequence[str],
    train: bool | None,
    seed: int,
    verify: bool,
) -> Trace:
    """The trace of a model, verified if that is wanted; a pinned dimension is no error here."""
    call = example_call(target, init, inputs, seed, where, train)
    with telling_sizes(call, seed), tracing(call.model):
        trace = traced_call(call, strict=False)
    if verify:
        shapes = 5
        with telling_sizes(call, seed), progress("verifying", shapes + 1) as done:
            trace.verify(shapes=shapes, seed=seed, on_run=lambda _: done())
    return trace


def _outcome(trace: Trace) -> str:
    from symfx.tracing.verification import verdict

    return "not verified" if trace.verification is None else verdict(trace.verification)


def _as_data(trace: Trace, output: Path) -> dict[str, Any]:
    verification = trace.verification
    return {
        "report": str(output),
        "model": trace.name,
        "pinned": {record.symbol_name: record.value for record in trace.specializations},
        "verified": None if verification is None else bool(verification),
        "verdict": _outcome(trace),
    }
