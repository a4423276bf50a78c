"""The command line: ``symfx trace TARGET --input "x: f32[batch, seq, 64]"``, ``symfx replay``."""

from __future__ import annotations

import atexit
import contextlib
import gc
import json
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from symfx._version import __version__
from symfx.cli.optimize import optimize_command
from symfx.cli.options import AsJson, Debug, Init, Quiet, inputs_option
from symfx.cli.typecheck import typecheck_command
from symfx.errors import SpecError, SymfxError

if TYPE_CHECKING:
    from symfx.tracing import Trace
    from symfx.tracing.verification import Verification

__all__ = ["app", "main"]

#: Exit codes beside 0. The last is that of a fault in symfx itself (EX_SOFTWARE).
FAILED, MISTAKE, FAULT = 1, 2, 70
#: How far the rest of a line that a terminal has to wrap is moved in.
_HANGING = 8


class GuardLanguage(Enum):
    """What guards can be printed in."""

    PYTHON = "python"
    C = "c"
    SMTLIB = "smtlib"


app = typer.Typer(
    name="symfx",
    help="Symbolic shapes and tracing for PyTorch.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and leave the interpreter with its exit code.

    Args:
        arguments: the words after ``symfx``; those of the process by default.
    """
    # Importing torch and a model's library makes millions of objects, nearly all of which stay:
    # looking for garbage among them as often as Python does by default takes a second or two.
    gc.set_threshold(100_000, 50, 100)
    atexit.register(gc.freeze)  # nor is anything looked through when the interpreter leaves
    app(args=None if arguments is None else list(arguments), prog_name="symfx")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"symfx {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and leave."
        ),
    ] = False,
) -> None:
    """Symbolic shapes and tracing for PyTorch."""


@app.command("trace")
def trace_command(
    target: Annotated[
        str,
        typer.Argument(
            metavar="TARGET",
            help="The model: module:attribute or file.py:attribute. A class is built with --init; "
            "so is a function if --init is given or the target ends with ().",
            show_default=False,
        ),
    ],
    *,
    inputs: Annotated[
        list[str] | None,
        inputs_option(
            "'x: f32\\[batch, seq=7, 64]', 'ids: i64\\[batch, seq] < 100', 'n: int=5', "
            "'flag: bool=true'. A named dimension is dynamic, a number is static."
        ),
    ] = None,
    init: Init = None,
    train: Annotated[
        bool | None,
        typer.Option(
            "--train/--eval",
            help="Put a module in train or eval mode; without either it stays as it was built, "
            "which for torch's own modules is train mode.",
            show_default=False,
        ),
    ] = None,
    verify: Annotated[
        bool, typer.Option("--verify/--no-verify", help="Run the graph against eager.")
    ] = True,
    shapes: Annotated[
        int, typer.Option(min=0, help="At how many shapes to verify beside the example's.")
    ] = 5,
    tolerance: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="How far results may differ, absolutely and relatively; by default what "
            "torch.testing grants the dtype.",
            show_default=False,
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Where weights, inputs and shapes are drawn from.")] = 0,
    graph: Annotated[bool, typer.Option("--graph/--no-graph", help="Print the graph.")] = True,
    record: Annotated[
        Path | None,
        typer.Option(
            dir_okay=False,
            help="Write the event log of the symbolic shapes to this file, for symfx replay.",
            show_default=False,
        ),
    ] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Trace a model with symbolic shapes, print what it relies on, and verify it against eager.

    Exit codes: 0 traced and verified, 1 verification failed, 2 a mistake in the command, the
    inputs or the model, 70 a fault in symfx itself.
    """
    with clear_errors(debug):
        # What the user's model prints must not get between the JSON.
        aside = contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext()
        with aside:
            traced = _trace(target, inputs or [], init or [], train, seed, record)
            verification = None
            if verify:
                with _progress("verifying"):
                    verification = traced.verify(shapes=shapes, seed=seed, tolerance=tolerance)
        if as_json:
            _print_json(traced, verification)
        elif quiet:
            _print_summary(traced, verification)
        else:
            _print_report(traced, verification, graph)
    if verification is not None and not verification:
        raise typer.Exit(FAILED)


@app.command("replay")
def replay_command(
    log: Annotated[
        Path,
        typer.Argument(
            metavar="LOG",
            exists=True,
            dir_okay=False,
            help="A file that EventLog.save wrote.",
            show_default=False,
        ),
    ],
    *,
    guards: Annotated[
        GuardLanguage | None,
        typer.Option(help="Print the guards as a program, and nothing else.", show_default=False),
    ] = None,
    events: Annotated[bool, typer.Option("--events/--no-events", help="List the events.")] = True,
    debug: Debug = False,
) -> None:
    """Replay the event log of a ShapeEnv and print what it knows at the end.

    Exit codes: 0 replayed, 2 the file is no log, or an event of it fails, 70 a fault in symfx
    itself.
    """
    with clear_errors(debug):
        with _progress("loading torch"):
            from symfx.recording import EventLog
            from symfx.recording.report import describe_replay
        loaded = EventLog.load(log)
        env = loaded.replay()
        if guards is None:
            _print_lines([Text(line) for line in describe_replay(loaded, env, events=events)])
            return
        program = env.guard_program()
        write = {"python": lambda: program.source, "c": program.to_c, "smtlib": program.to_smtlib}
        typer.echo(write[guards.value](), nl=False)


app.command("typecheck")(typecheck_command)
app.command("optimize")(optimize_command)


def _trace(
    target: str,
    inputs: Sequence[str],
    init: Sequence[str],
    train: bool | None,
    seed: int,
    record: Path | None,
) -> Trace:
    from symfx.cli.inputs import arrange, make_inputs, parse
    from symfx.cli.models import load

    parsed = [parse(text) for text in inputs]  # first what needs no torch, hence no wait
    with _progress("loading torch"):
        import torch

        from symfx.tracing import trace
    torch.manual_seed(seed)
    model = load(target, init)
    if train is not None:
        if not isinstance(model, torch.nn.Module):
            raise SpecError(
                f"{target} is no module, and has no train and eval modes",
                where="--train" if train else "--eval",
                fix="leave it out",
            )
        model.train(train)
    values, dynamic = make_inputs(parsed, seed)
    args, kwargs = arrange(model, values)
    with _progress("tracing"), _recorded(record):
        return trace(model, args, kwargs, dynamic=_by_place(model, dynamic, values))


@contextlib.contextmanager
def _recorded(path: Path | None) -> Iterator[None]:
    """Write what happens to the first ShapeEnv that is made inside to a file, if one is named."""
    if path is None:
        yield
        return
    from symfx.recording import EventLog, recording_shape_envs

    with recording_shape_envs() as environments:
        try:
            yield
        finally:
            # A trace that failed is the one that somebody wants to look into.
            for env in environments[:1]:
                EventLog.of(env, failed=sys.exc_info()[1] is not None).save(path)


def _by_place(
    model: Callable[..., Any], dynamic: dict[str, Any], values: dict[str, Any]
) -> dict[Any, Any]:
    """What is dynamic, by position where the model tells no names (its inputs are in order)."""
    import inspect

    try:
        inspect.signature(getattr(model, "forward", model))
    except (TypeError, ValueError):
        return {i: dynamic[name] for i, name in enumerate(values) if name in dynamic}
    return dict(dynamic)


@contextlib.contextmanager
def clear_errors(debug: bool) -> Iterator[None]:
    """Turn an error into one message on stderr and an exit code."""
    try:
        yield
    except (typer.Exit, typer.Abort):
        raise
    except SymfxError as error:
        if debug:
            traceback.print_exc()
        notes = [error.where or "", *getattr(error, "__notes__", ())]
        _print_error(error.what, ", ".join(filter(None, notes)), error.fix)
        raise typer.Exit(MISTAKE) from None
    except Exception as error:  # noqa: BLE001 - the last line of defence: no bare traceback
        if debug:
            traceback.print_exc()
        first = (str(error).strip() or "no message").splitlines()[0]
        _print_error(
            f"symfx itself failed: {type(error).__name__}: {first}",
            None,
            "run again with --debug and report what it prints",
        )
        raise typer.Exit(FAULT) from None


def _print_error(what: str, where: str | None, fix: str | None) -> None:
    console = Console(stderr=True, highlight=False)
    message = Text.assemble(("error: ", "bold red"), what)
    if where:
        message.append("\n  at: ", "bold").append(where)
    if fix:
        message.append("\n  to fix: ", "bold").append(fix)
    console.print(message, soft_wrap=True)


@contextlib.contextmanager
def _progress(what: str) -> Iterator[None]:
    """Say what takes long, where a person is looking."""
    console = Console(stderr=True)
    with console.status(f"{what} ...") if console.is_terminal else contextlib.nullcontext():
        yield


def _print_json(traced: Trace, verification: Verification | None) -> None:
    from symfx.tracing.report import as_data

    typer.echo(json.dumps(as_data(traced, verification), indent=2, ensure_ascii=False))


def _print_summary(traced: Trace, verification: Verification | None) -> None:
    from symfx.tracing.report import headline, verdict

    outcome = f"; {verdict(verification)}" if verification is not None else ""
    _print_lines([Text(headline(traced) + outcome)])
    for run in verification.runs if verification is not None else ():
        if not run.passed:
            sizes = ", ".join(f"{name}={size}" for name, size in run.sizes.items())
            _print_error(f"at {sizes or 'the example'}: {run.failure}", None, None)


def _print_report(traced: Trace, verification: Verification | None, graph: bool) -> None:
    from symfx.tracing.report import describe_trace, describe_verification

    lines = describe_trace(traced, graph=graph)
    if verification is not None:
        lines += [Text(), *describe_verification(verification)]
    _print_lines(lines)


def _print_lines(lines: Sequence[Text]) -> None:
    """Whole lines into a pipe or file; on a terminal long ones go on further in."""
    console = Console(highlight=False)
    for line in lines:
        if not console.is_terminal or line.cell_len <= console.width:
            console.print(line, soft_wrap=True)
            continue
        first, *rest = line.wrap(console, console.width - _HANGING)
        console.print(first, soft_wrap=True)
        for part in rest:
            console.print(Text(" " * _HANGING).append_text(part), soft_wrap=True)
