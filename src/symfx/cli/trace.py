"""``symfx trace TARGET --input "x: f32[batch, seq, 64]"``: a graph, its guards, its check."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from symfx.cli.console import (
    FAILED,
    clear_errors,
    print_error,
    print_json,
    print_lines,
    stdout_for_json,
)
from symfx.cli.example_calls import example_call, traced_call
from symfx.cli.fitting_sizes import telling_sizes
from symfx.cli.handing_on import hand_on
from symfx.cli.options import (
    AsJson,
    Debug,
    Init,
    Lines,
    MaxNodes,
    Quiet,
    Seed,
    Shapes,
    Target,
    Tolerance,
    Train,
    Verbose,
    inputs_option,
    refuse_unwritable,
    where_option,
)
from symfx.cli.steps import progress, progress_of_work, tracing

if TYPE_CHECKING:
    from symfx.tracing import Trace, Verification

__all__ = ["trace_command"]


def _written(what: str) -> typer.models.OptionInfo:
    """An option that names a file to write."""
    option: typer.models.OptionInfo = typer.Option(
        metavar="FILE",
        dir_okay=False,
        help=f"Write {what}. The trace is then one above autograd.",
        show_default=False,
    )
    return option


def trace_command(
    target: Target,
    *,
    inputs: Annotated[
        list[str] | None,
        inputs_option(
            "'x: f32[batch, seq=7, 64]', 'ids: i64[batch, seq] < 100', 'n: int=5', "
            "'flag: bool=true', 'batch.ids: i64[8*n]'. A named dimension is dynamic, a number is "
            "a static size."
        ),
    ] = None,
    where: Annotated[
        list[str] | None, where_option("The trace relies on it, and checks it of inputs.")
    ] = None,
    init: Init = None,
    train: Train = None,
    verify: Annotated[
        bool,
        typer.Option(
            "--verify/--no-verify", help="Run the graph and the model, and compare their results."
        ),
    ] = True,
    shapes: Shapes = 5,
    tolerance: Tolerance = None,
    seed: Seed = 0,
    allow_pinned: Annotated[
        bool,
        typer.Option(
            "--allow-pinned",
            help="Accept a graph that holds for one size of a named dimension alone, because the "
            "model pins it. By default this is an error.",
        ),
    ] = False,
    graph: Annotated[bool, typer.Option("--graph/--no-graph", help="Print the graph.")] = True,
    lines: Lines = False,
    max_nodes: MaxNodes = None,
    record: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            dir_okay=False,
            help="Write the event log of the symbolic shapes to this file, for symfx replay.",
            show_default=False,
        ),
    ] = None,
    save: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            dir_okay=False,
            help="Write the trace to this file, for symfx run, check and show, and symfx.load.",
            show_default=False,
        ),
    ] = None,
    onnx: Annotated[Path | None, _written("an ONNX model; needs symfx[onnx]")] = None,
    pt2: Annotated[Path | None, _written("a program for torch.export.load")] = None,
    aoti: Annotated[
        Path | None, _written("a package compiled by Inductor, whose name ends in .pt2")
    ] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """Trace a model with symbolic shapes, print its guards, and verify the graph against eager.

    Examples:
        symfx trace torch.nn:LSTM --init input_size=8 \\
            --init hidden_size=16 -i "input: f32[seq, batch, 8]"
        symfx trace torch.nn:Linear --init in_features=8 \\
            --init out_features=4 -i "input: f32[batch, 8]" \\
            --save linear.symfx --quiet

    Exit codes: 0 traced and verified, 1 verification failed, 2 the command, the inputs or the
    model cannot be used, 70 symfx itself failed.
    """
    with clear_errors(debug, verbose):
        refuse_unwritable(record, "--record")
        refuse_unwritable(save, "--save")
        for path, option in ((onnx, "--onnx"), (pt2, "--pt2"), (aoti, "--aoti")):
            refuse_unwritable(path, option)
        handed_on = (onnx, pt2, aoti) != (None, None, None)
        with stdout_for_json(as_json):
            call = example_call(target, init or [], inputs or [], seed, where or [], train)
            with telling_sizes(call, seed), tracing(call.model), _recorded(record):
                traced = traced_call(call, strict=not allow_pinned, pre_dispatch=handed_on)
            verification = None
            if verify:
                with telling_sizes(call, seed), progress("verifying", shapes + 1) as done:
                    verification = traced.verify(
                        shapes=shapes, seed=seed, tolerance=tolerance, on_run=lambda _: done()
                    )
            if save is not None:
                with progress_of_work(f"writing {save}"):
                    traced.save(save)
            if handed_on:
                hand_on(traced, onnx, pt2, aoti)
        if as_json:
            _print_json(traced, verification)
        elif quiet:
            _print_summary(traced, verification)
        else:
            _print_report(traced, verification, graph, lines=lines, max_nodes=max_nodes)
    if verification is not None and not verification:
        raise typer.Exit(FAILED)


@contextlib.contextmanager
def _recorded(path: Path | None) -> Iterator[None]:
    """Write the event log of the first ShapeEnv that is made inside to a file, if one is named."""
    if path is None:
        yield
        return
    from symfx.recording import EventLog, recording_shape_envs

    with recording_shape_envs() as environments:
        failed: Exception | None = None
        try:
            yield
        except Exception as error:  # noqa: BLE001 - raised again
            failed = error
        # The log is written for a trace that fails too: it helps to find the cause.
        for env in environments[:1]:
            EventLog.of(env, failed=failed is not None).save(path)
        if failed is not None:
            raise failed


def _print_json(traced: Trace, verification: Verification | None) -> None:
    from symfx.tracing.report import as_data

    print_json("symfx trace", as_data(traced, verification))


def _print_summary(traced: Trace, verification: Verification | None) -> None:
    from symfx.tracing.report import headline
    from symfx.tracing.verification import sizes_in_words, verdict

    outcome = f"; {verdict(verification)}" if verification is not None else ""
    print_lines([Text(headline(traced) + outcome)])
    for run in verification.runs if verification is not None else ():
        if not run.passed:
            print_error(f"at {sizes_in_words(run.sizes)}: {run.failure}")


def _print_report(
    traced: Trace,
    verification: Verification | None,
    graph: bool,
    *,
    lines: bool,
    max_nodes: int | None,
) -> None:
    from symfx.tracing.report import describe_trace
    from symfx.tracing.verification import describe_verification

    shown = describe_trace(traced, graph=graph, lines=lines, max_nodes=max_nodes)
    if verification is not None:
        shown += [Text(), *describe_verification(verification)]
    print_lines(shown)
