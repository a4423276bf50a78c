"""``symfx replay LOG``: the symbols and guards of a ShapeEnv whose events were recorded."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from symfx.cli.console import clear_errors, print_json, print_lines
from symfx.cli.loading import load_torch
from symfx.cli.options import AsJson, Debug, Quiet, Verbose
from symfx.cli.steps import progress_of_work
from symfx.untrusted import Source

__all__ = ["GuardLanguage", "replay_command"]


class GuardLanguage(Enum):
    """The languages in which guards can be printed."""

    PYTHON = "python"
    C = "c"
    SMTLIB = "smtlib"


def replay_command(
    log: Annotated[
        Path,
        typer.Argument(
            metavar="LOG",
            exists=True,
            dir_okay=False,
            help="A file that symfx trace --record or EventLog.save wrote.",
            show_default=False,
        ),
    ],
    *,
    guards: Annotated[
        GuardLanguage | None,
        typer.Option(
            metavar="python|c|smtlib",
            help="Print the guards as a program in this language, and nothing else.",
            show_default=False,
        ),
    ] = None,
    events: Annotated[bool, typer.Option("--events/--no-events", help="List the events.")] = True,
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """Replay the event log of a ShapeEnv, and print its symbols and guards at the end.

    Examples:
        symfx trace torch.nn:Linear --init in_features=8 \\
            --init out_features=4 -i "input: f32[batch, 8]" \\
            --record events.json --quiet
        symfx replay events.json
        symfx replay events.json --guards c

    Exit codes: 0 replayed, 2 the file is not an event log, or an event in it fails, 70 symfx
    itself failed.
    """
    with clear_errors(debug, verbose):
        load_torch(to_trace=False)
        from symfx.recording import EventLog, EventLogError
        from symfx.recording.report import describe_replay, replay_data

        loaded = EventLog.load(log)
        with progress_of_work("replaying"):
            env = loaded.replay()
        source = Source(str(log), EventLogError, "replay a log that EventLog.save wrote")
        if guards is None and as_json:
            with source.guarding("the replayed environment cannot be described"):
                data = replay_data(loaded, env, events=events)
            print_json("symfx replay", data)
            return
        if guards is None:
            with source.guarding("the replayed environment cannot be described"):
                lines = [*describe_replay(loaded, env, events=events)]
            if quiet:
                lines = [", ".join(line for line in lines if not line.startswith(" "))]
            print_lines([Text(line) for line in lines])
            return
        with source.guarding("the guards of the replayed environment cannot be written"):
            program = env.guard_program()
            write = {
                "python": lambda: program.source,
                "c": program.to_c,
                "smtlib": program.to_smtlib,
            }
            text = write[guards.value]()
        if as_json:
            print_json("symfx replay", {"language": guards.value, "program": text})
        else:
            typer.echo(text, nl=False)
