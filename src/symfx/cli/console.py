"""The output of every command: errors, exit codes, colored lines, JSON."""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
import traceback
from collections.abc import Iterator, Sequence
from typing import Any

import typer
from rich.console import Console
from rich.text import Text

from symfx.errors import SymfxError

__all__ = [
    "CLOSED_PIPE",
    "FAILED",
    "FAULT",
    "MISTAKE",
    "UNDECIDED",
    "clear_errors",
    "console_for",
    "drop_output",
    "print_error",
    "print_errors_as_json",
    "print_json",
    "print_lines",
    "print_step",
    "print_warning",
    "stdout_for_json",
]

#: Exit codes; 0 is success. FAILED: the command ran, and the graph or the program is wrong.
#: MISTAKE: the command, the inputs or the model cannot be used. UNDECIDED: time ran out.
#: FAULT: symfx itself failed (EX_SOFTWARE of sysexits.h). CLOSED_PIPE: the reader of the output
#: has left, as a shell reports it (128 and the number of SIGPIPE).
FAILED, MISTAKE, UNDECIDED, FAULT, CLOSED_PIPE = 1, 2, 3, 70, 141
#: The version of the JSON documents that commands print. It grows when a field goes or changes.
_VERSION = 1
_errors_as_json = False
_verbose = False
#: torch's words for an allocation that failed.
_OUT_OF_MEMORY = re.compile(r"can't allocate memory|not enough memory|out of memory", re.I)
#: How many columns the continuation of a wrapped line is indented.
_INDENT = 8


@contextlib.contextmanager
def clear_errors(debug: bool, verbose: bool = False) -> Iterator[None]:
    """Turn an exception into one message on stderr and an exit code.

    Args:
        debug: whether the traceback is printed too.
        verbose: whether the steps that run inside are told on stderr, with their times.
    """
    global _verbose  # noqa: PLW0603 - set once, when a command begins
    _verbose = verbose
    try:
        yield
        sys.stdout.flush()  # a pipe that is closed shows itself here at the latest
    except (typer.Exit, typer.Abort):
        raise
    except BrokenPipeError:
        drop_output()
        raise typer.Exit(CLOSED_PIPE) from None
    except SymfxError as error:
        if isinstance(error.__cause__, BrokenPipeError):  # the model prints
            drop_output()
            raise typer.Exit(CLOSED_PIPE) from None
        if debug:
            traceback.print_exc()
        print_error(error.what, error.where, error.fix, getattr(error, "__notes__", ()))
        raise typer.Exit(MISTAKE) from None
    except OSError as error:
        if debug:
            traceback.print_exc()
        print_error(
            f"{error.strerror or error}" + (f": {error.filename}" if error.filename else ""),
            fix="check the path, its permissions, and the free space",
        )
        raise typer.Exit(MISTAKE) from None
    except (MemoryError, RuntimeError) as error:
        if debug:
            traceback.print_exc()
        first = (str(error).strip() or "the memory is used up").splitlines()[0]
        if isinstance(error, RuntimeError) and not _OUT_OF_MEMORY.search(first):
            _print_fault(error)
            raise typer.Exit(FAULT) from None
        print_error(f"there is not enough memory: {first}", fix="use smaller sizes")
        raise typer.Exit(MISTAKE) from None
    except Exception as error:  # noqa: BLE001 - the outermost handler: no exception goes past it
        if debug:
            traceback.print_exc()
        _print_fault(error)
        raise typer.Exit(FAULT) from None


def drop_output() -> None:
    """Drop all further output: its reader, such as ``head``, has left."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _print_fault(error: Exception) -> None:
    first = (str(error).strip() or "no message").splitlines()[0]
    print_error(
        f"symfx itself failed: {type(error).__name__}: {first}",
        fix="run again with --debug and report the traceback",
    )


def print_error(
    what: str, where: str | None = None, fix: str | None = None, notes: Sequence[str] = ()
) -> None:
    """Print an error to stderr.

    Args:
        what: what went wrong.
        where: the place, if known.
        fix: what to do about it, if known.
        notes: more about the circumstances, a sentence each.
    """
    if _errors_as_json:
        _print_as_json("error", what=what, where=where, fix=fix, notes=list(notes))
        return
    console = Console(stderr=True, highlight=False)
    message = Text.assemble(("error: ", "bold red"), what)
    if where:
        message.append("\n  at: ", "bold").append(where)
    for note in notes:
        message.append("\n  note: ", "bold").append(note)
    if fix:
        message.append("\n  to fix: ", "bold").append(fix)
    console.print(message, soft_wrap=True)


def print_warning(what: str, where: str) -> None:
    """Print a warning to stderr: what the user has to know, and the place that caused it."""
    if _errors_as_json:
        _print_as_json("warning", what=what, where=where, fix=None, notes=[])
        return
    console = Console(stderr=True, highlight=False)
    message = Text.assemble(("warning: ", "bold yellow"), what, ("\n  at: ", "bold"), where)
    console.print(message, soft_wrap=True)


def print_step(step: str, seconds: float) -> None:
    """With --verbose, print to stderr that a step of the command has ended, and its time."""
    if not _verbose:
        return
    if _errors_as_json:
        _print_as_json("step", what=step, seconds=seconds)
        return
    line = Text(f"{step}: {seconds:.2f} s", style="dim")
    Console(stderr=True, highlight=False).print(line, soft_wrap=True)


def stdout_for_json(as_json: bool) -> contextlib.AbstractContextManager[object]:
    """Send what the user's model prints to stderr if stdout is to hold JSON alone."""
    return contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext()


def print_json(schema: str, data: dict[str, Any]) -> None:
    """Print a JSON document.

    Args:
        schema: the kind of the document, such as ``symfx trace``; its first field.
        data: the other fields.
    """
    typer.echo(json.dumps(_document(schema, data), indent=2, ensure_ascii=False))


def _document(schema: str, data: dict[str, Any]) -> dict[str, Any]:
    return {"schema": schema, "version": _VERSION, **data}


def print_errors_as_json(wanted: bool) -> None:
    """Choose how errors and warnings are printed to stderr: as text, or as JSON, one a line."""
    global _errors_as_json  # noqa: PLW0603 - set once, when the words of the command line are read
    _errors_as_json = wanted


def _print_as_json(kind: str, **fields: Any) -> None:
    typer.echo(json.dumps(_document(f"symfx {kind}", fields), ensure_ascii=False), err=True)


class _Console(Console):
    """A console that leaves it to the caller what a closed pipe means."""

    def on_broken_pipe(self) -> None:
        """Called by rich where the reader of the output has left."""
        raise BrokenPipeError


def console_for(widest: int) -> Console:
    """A console for text of at most so many columns."""
    console = _Console(highlight=False)
    console.width = min(console.width, widest)
    return console


def print_lines(lines: Sequence[Text]) -> None:
    """Print lines: whole into a pipe or a file, wrapped and indented on a terminal."""
    console = _Console(highlight=False)
    for line in lines:
        if not console.is_terminal or line.cell_len <= console.width:
            console.print(line, soft_wrap=True)
            continue
        first, *rest = line.wrap(console, console.width - _INDENT)
        console.print(first, soft_wrap=True)
        for part in rest:
            console.print(Text(" " * _INDENT).append_text(part), soft_wrap=True)
