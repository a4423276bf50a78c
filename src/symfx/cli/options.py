"""Options that several commands share, so that they are one thing under one name."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = ["AsJson", "Debug", "Init", "Quiet", "inputs_option"]

Init = Annotated[
    list[str] | None,
    typer.Option(
        "--init",
        help="An argument for building the model, name=value. Repeat it.",
        show_default=False,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print one line, or what is wrong.")]
Debug = Annotated[bool, typer.Option(envvar="SYMFX_DEBUG", help="Show the traceback of an error.")]


def inputs_option(described: str) -> typer.models.OptionInfo:
    """``--input``, once for each input.

    Args:
        described: what an input looks like to this command, and what its sizes mean.
    """
    option: typer.models.OptionInfo = typer.Option(
        "--input", "-i", help=f"An input: {described} Repeat it.", show_default=False
    )
    return option
