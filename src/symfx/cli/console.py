"""The output of every command: errors, exit codes, progress, colored lines, JSON."""

from __future__ import annotations

import contextlib
import json
import sys
import traceback
from collections.abc import Iterator, Sequence
from typing import Any

import typer
from rich.console import Console
from rich.text import Text

from symfx.errors import SymfxError

__all__ = [
    "FAILED",
    "FAULT",
    "MISTAKE",
    "UNDECIDED",
    "clear_errors",
    "print_error",
    "print_json",
    "print_lines",
    "print_warning",
    "progress",
    "stdout_for_json",
]

#: Exit codes; 0 is success. FAILED: the command ran, and the graph or the program is wrong.
#: MISTAKE: the command, the inputs or the model cannot be used. UNDECIDED: time ran out.
#: FAULT: symfx itself failed (EX_SOFTWARE of sysexits.h).
FAILED, MISTAKE, UNDECIDED, FAULT = 1, 2, 3, 70
#: How many columns the continuation of a wrapped line is indented.
_INDENT = 8


@contextlib.contextmanager
def clear_errors(debug: bool) -> Iterator[None]:
    """Turn an exception into one message on stderr and an exit code.

    Args:
        debug: whether the traceback is printed too.
    """
    try:
        yield
    except (typer.Exit, typer.Abort):
        raise
    except SymfxError as error:
        if debug:
            traceback.print_exc()
        notes = [error.where or "", *getattr(error, "__notes__", ())]
        print_error(error.what, ", ".join(filter(None, notes)), error.fix)
        raise typer.Exit(MISTAKE) from None
    except Exception as error:  # noqa: BLE001 - the outermost handler: no exception goes past it
        if debug:
            traceback.print_exc()
        first = (str(error).strip() or "no message").splitlines()[0]
        print_error(
            f"symfx itself failed: {type(error).__name__}: {first}",
            fix="run again with --debug and report the traceback",
        )
        raise typer.Exit(FAULT) from None


def print_error(what: str, where: str | None = None, fix: str | None = None) -> None:
    """Print an error to stderr.

    Args:
        what: what went wrong.
        where: the place, if known.
        fix: what to do about it, if known.
    """
    console = Console(stderr=True, highlight=False)
    message = Text.assemble(("error: ", "bold red"), what)
    if where:
        message.append("\n  at: ", "bold").append(where)
    if fix:
        message.append("\n  to fix: ", "bold").append(fix)
    console.print(message, soft_wrap=True)


def print_warning(what: str, where: str) -> None:
    """Print a warning to stderr: what the user has to know, and the place that caused it."""
    console = Console(stderr=True, highlight=False)
    message = Text.assemble(("warning: ", "bold yellow"), what, ("\n  at: ", "bold"), where)
    console.print(message, soft_wrap=True)


@contextlib.contextmanager
def progress(step: str) -> Iterator[None]:
    """Name the step that is running, if stderr is a terminal."""
    console = Console(stderr=True)
    with console.status(f"{step} ...") if console.is_terminal else contextlib.nullcontext():
        yield


def stdout_for_json(as_json: bool) -> contextlib.AbstractContextManager[object]:
    """Send what the user's model prints to stderr if stdout is to hold JSON alone."""
    return contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext()


def print_json(data: Any) -> None:
    """Print a JSON document."""
    typer.echo(json.dumps(data, indent=2, ensure_ascii=False))


def print_lines(lines: Sequence[Text]) -> None:
    """Print lines: whole into a pipe or a file, wrapped and indented on a terminal."""
    console = Console(highlight=False)
    for line in lines:
        if not console.is_terminal or line.cell_len <= console.width:
            console.print(line, soft_wrap=True)
            continue
        first, *rest = line.wrap(console, console.width - _INDENT)
        console.print(first, soft_wrap=True)
        for part in rest:
            console.print(Text(" " * _INDENT).append_text(part), soft_wrap=True)
