"""The application: the table of its commands, and the function that runs it.

A command is imported when it is called, so that ``symfx --help`` and completion are quick.
"""

from __future__ import annotations

import contextlib
import gc
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Annotated, Any

import typer
import typer.core

from symfx._version import __version__
from symfx.cli.console import CLOSED_PIPE, clear_errors, drop_output, print_errors_as_json
from symfx.cli.endings import end_quickly, leave_on_interrupt
from symfx.cli.help_pages import PlainCommand, print_page
from symfx.cli.user_programs import is_user_program

__all__ = ["COMMANDS", "Command", "app", "main"]


@dataclass(frozen=True)
class Command:
    """A command of symfx.

    Attributes:
        place: the module of the command and its function, or its typer application.
        summary: the first sentence of the function's docstring.
        group: the title of its group in ``symfx --help``; without one the command is not listed.
        settings: the settings of its context.
    """

    place: str
    summary: str
    group: str = ""
    settings: dict[str, Any] = field(default_factory=dict)

    def load(self, name: str) -> Any:
        """The command, as typer runs it."""
        module, _, attribute = self.place.partition(":")
        found = getattr(import_module(f"symfx.cli.{module}"), attribute)
        if not isinstance(found, typer.Typer):
            single = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
            settings = {"help_option_names": ["-h", "--help"], **self.settings}
            single.command(name, cls=PlainCommand, context_settings=settings)(found)
            found = single
        command = typer.main.get_command(found)
        command.name = name
        return command


_MODELS, _SAVED, _SYMFX = "Models", "Saved traces and logs", "This installation"

COMMANDS = {
    "trace": Command(
        "trace:trace_command",
        "Trace a model with symbolic shapes, print its guards, and verify the graph against eager.",
        _MODELS,
    ),
    "explain": Command(
        "explain:explain_command",
        "Explain a dimension, a guard, a node, an error, or why inputs do not fit.",
        _MODELS,
    ),
    "report": Command(
        "report:report_command",
        "Write a report of a trace: one HTML file that opens in a browser, without a network.",
        _MODELS,
    ),
    "cost": Command(
        "cost:cost_command",
        "Count the operations, the parameters and the memory of a model, per module.",
        _MODELS,
    ),
    "typecheck": Command(
        "typecheck:typecheck_command",
        "Find the most precise shapes of a program without running it, or say why it has none.",
        _MODELS,
    ),
    "optimize": Command(
        "optimize:optimize_command",
        "Optimize a model for inference on the CPU, check it, time it before and after, save it.",
        _MODELS,
    ),
    "sweep": Command(
        "sweep:sweep_command",
        "Trace, verify, typecheck, optimize or export many models, and print one summary.",
        _MODELS,
    ),
    "show": Command(
        "saved_traces:show_command",
        "Print a saved trace: its graph, its symbols, its guards, and its last verification.",
        _SAVED,
    ),
    "check": Command(
        "saved_traces:check_command",
        "Check whether inputs fit a saved trace, and print the reasons if they do not.",
        _SAVED,
    ),
    "run": Command(
        "saved_traces:run_command",
        "Run a saved trace on inputs that fit it, or a Python program with symfx installed.",
        _SAVED,
    ),
    "verify": Command(
        "verify:verify_command",
        "Run a saved trace and its model at several shapes, and compare their results.",
        _SAVED,
    ),
    "replay": Command(
        "replay:replay_command",
        "Replay the event log of a ShapeEnv, and print its symbols and guards at the end.",
        _SAVED,
    ),
    "cache": Command(
        "cache:cache_commands",
        "The cache of symfx.trace(..., cache=True): its size, and how to clear it.",
        _SYMFX,
    ),
    "doctor": Command(
        "doctor:doctor_command",
        "Print the versions that symfx runs with, and which parts of it lack a package.",
        _SYMFX,
    ),
    # The process of one model of a sweep.
    "sweep-model": Command(
        "sweep_model:sweep_model_command",
        "Take the steps of a sweep with the model whose job stands on stdin.",
    ),
    # `symfx run` of a Python file.
    "run-program": Command(
        "user_programs:run_program_command",
        "Run a Python program whose torch.export and torch.compile use symfx.",
        settings={
            "allow_extra_args": True,
            "allow_interspersed_args": False,
            "ignore_unknown_options": True,
        },
    ),
}


class _Commands(typer.core.TyperGroup):
    """The commands of the table. Before one is called, a stand-in has its name and its sentence."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands = {
            name: PlainCommand(name, help=entry.summary, hidden=not entry.group)
            for name, entry in COMMANDS.items()
        }

    def list_commands(self, ctx: Any) -> list[str]:
        """The names of the commands, in the order of the table; click calls this."""
        return list(COMMANDS)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command that is called; click calls this."""
        name, command, rest = super().resolve_command(ctx, args)
        return name, COMMANDS[name].load(name) if name in COMMANDS else command, rest

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Print the page of ``symfx --help``; click calls this."""
        groups: dict[str, dict[str, str]] = {}
        for name, entry in COMMANDS.items():
            if entry.group:
                groups.setdefault(entry.group, {})[name] = entry.summary
        print_page(self, ctx, groups)


app = typer.Typer(
    name="symfx",
    cls=_Commands,
    no_args_is_help=True,
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
        app(args=words, prog_name="symfx")
    with contextlib.ExitStack() as stack:
        if arguments is None:
            leave_on_interrupt()
            stack.enter_context(end_quickly())
        # Importing torch and a model's library makes millions of objects that stay alive. Python's
        # default thresholds would search them for garbage so often that it takes a second or two.
        gc.set_threshold(100_000, 50, 100)
        try:
            app(args=words, prog_name="symfx")
        except BrokenPipeError:
            drop_output()
            sys.exit(CLOSED_PIPE)


def _print_version(wanted: bool) -> None:
    if wanted:
        with clear_errors(debug=False):
            typer.echo(f"symfx {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            "-V",
            callback=_print_version,
            is_eager=True,
            help="Print the version and exit.",
        ),
    ] = False,
    json_errors: Annotated[
        bool,
        typer.Option(
            "--json-errors", help="Print errors and warnings to stderr as JSON, one a line."
        ),
    ] = False,
) -> None:
    """Symbolic shapes and tracing for PyTorch.

    Examples:
        symfx trace torch.nn:LSTM --init input_size=8 \\
            --init hidden_size=16 -i "input: f32[seq, batch, 8]"
        symfx COMMAND --help

    Options of every command: -q prints one line. -v also prints to stderr each step and its time.
    --debug prints the traceback of an error. Most commands have --json too, which prints one JSON
    document.
    """
    print_errors_as_json(json_errors)
