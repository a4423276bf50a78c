"""The application: its commands under one name, and the function that runs it."""

from __future__ import annotations

import atexit
import gc
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from symfx._version import __version__
from symfx.cli.console import print_errors_as_json
from symfx.cli.cost import cost_command
from symfx.cli.doctor import doctor_command
from symfx.cli.optimize import optimize_command
from symfx.cli.replay import replay_command
from symfx.cli.saved_traces import check_command, run_command, show_command
from symfx.cli.trace import trace_command
from symfx.cli.typecheck import typecheck_command
from symfx.cli.user_programs import is_user_program, run_program_command

__all__ = ["app", "main"]

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
    words = list(sys.argv[1:] if arguments is None else arguments)
    if is_user_program(words):
        words[0] = "run-program"
    else:  # a user's program has Python's settings
        # Importing torch and a model's library makes millions of objects that stay alive. Python's
        # default thresholds would search them for garbage so often that it takes a second or two.
        gc.set_threshold(100_000, 50, 100)
        atexit.register(_end_without_search)
    app(args=words, prog_name="symfx")


def _end_without_search() -> None:
    """Keep the interpreter from searching all objects for garbage when it ends.

    Not with triton: it would report the objects that are still there as leaks.
    """
    if "triton" not in sys.modules:
        gc.freeze()


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"symfx {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
    json_errors: Annotated[
        bool,
        typer.Option(
            "--json-errors", help="Print errors and warnings to stderr as JSON, one a line."
        ),
    ] = False,
) -> None:
    """Symbolic shapes and tracing for PyTorch."""
    print_errors_as_json(json_errors)


app.command("trace")(trace_command)
app.command("show")(show_command)
app.command("check")(check_command)
app.command("run")(run_command)
app.command("cost")(cost_command)
app.command("replay")(replay_command)
app.command("typecheck")(typecheck_command)
app.command("optimize")(optimize_command)
app.command(
    "run-program",
    hidden=True,  # `symfx run` of a Python file
    context_settings={
        "allow_extra_args": True,
        "allow_interspersed_args": False,
        "ignore_unknown_options": True,
    },
)(run_program_command)
app.command("doctor")(doctor_command)
