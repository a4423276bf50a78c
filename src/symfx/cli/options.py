"""The arguments and options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = ["AsJson", "Debug", "Init", "Quiet", "Target", "inputs_option"]

Target = Annotated[
    str,
    typer.Argument(
        metavar="TARGET",
        help="The model: module:attribute or file.py:attribute. A class is built, with the "
        "arguments of --init. A function is the model itself; if --init is given or the target "
        "ends with (), the function is called and returns the model.",
        show_default=False,
    ),
]
Init = Annotated[
    list[str] | None,
    typer.Option(
        "--init",
        help="An argument for building the model: name=value. Repeatable.",
        show_default=False,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="Print one line; failures go to stderr.")
]
Debug = Annotated[
    bool, typer.Option(envvar="SYMFX_DEBUG", help="Print the traceback of an error too.")
]


def inputs_option(described: str) -> typer.models.OptionInfo:
    """The option ``--input``, which is given once for each input.

    Args:
        described: examples of inputs, and what their sizes mean to the command.
    """
    option: typer.models.OptionInfo = typer.Option(
        "--input", "-i", help=f"An input: {described} Repeatable.", show_default=False
    )
    return option
