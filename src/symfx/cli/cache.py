"""``symfx cache info`` and ``symfx cache clear``: the cache of traces."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from symfx.cli.console import clear_errors, print_json, print_lines
from symfx.cli.help_pages import PlainCommand, PlainGroup
from symfx.cli.options import AsJson, Debug, Quiet, Verbose

__all__ = ["cache_commands"]

cache_commands = typer.Typer(
    help="The cache of symfx.trace(..., cache=True): its size, and how to clear it.\n\n"
    "Examples:\n    symfx cache info\n    symfx cache clear --directory my-cache",
    cls=PlainGroup,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
Directory = Annotated[
    Path | None,
    typer.Option(
        "--directory",
        metavar="DIRECTORY",
        help="The directory of the cache. Default: SYMFX_CACHE_DIR, or ~/.cache/symfx.",
        show_default=False,
    ),
]


@cache_commands.command("info", cls=PlainCommand)
def info_command(
    directory: Directory = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """Print where the cache is, how many traces it has, and their size.

    Examples:
        symfx cache info

    Exit codes: 0 printed, 2 the directory cannot be read, 70 symfx itself failed.
    """
    with clear_errors(debug, verbose):
        from symfx.cache import info

        found = info(directory)
        data = {
            "directory": str(found.directory),
            "entries": found.entries,
            "size": found.size,
            "limit": found.limit,
        }
        if as_json:
            print_json("symfx cache", data)
            return
        if quiet:
            print_lines([Text(f"{_traces(found.entries)}, {_size(found.size)}")])
            return
        print_lines(
            [
                Text(f"directory: {found.directory}"),
                Text(f"traces:    {found.entries}"),
                Text(f"size:      {_size(found.size)} of at most {_size(found.limit)}"),
            ]
        )


@cache_commands.command("clear", cls=PlainCommand)
def clear_command(
    directory: Directory = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """Remove all traces from the cache; other files in its directory stay.

    Examples:
        symfx cache clear --directory my-cache

    Exit codes: 0 removed, 2 the directory cannot be written, 70 symfx itself failed.
    """
    del quiet  # the text is one line anyway
    with clear_errors(debug, verbose):
        from symfx.cache import clear

        before = clear(directory)
        if as_json:
            data = {
                "directory": str(before.directory),
                "removed_entries": before.entries,
                "removed_size": before.size,
            }
            print_json("symfx cache clear", data)
            return
        removed = f"removed {_traces(before.entries)} ({_size(before.size)})"
        print_lines([Text(f"{removed} from {before.directory}")])


def _traces(count: int) -> str:
    return "1 trace" if count == 1 else f"{count} traces"


def _size(count: int) -> str:
    size = float(count)
    for unit in ("bytes", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"
