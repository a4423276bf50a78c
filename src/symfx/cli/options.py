"""The arguments and options that several commands share."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from symfx.errors import SpecError

__all__ = [
    "AsJson",
    "Debug",
    "Init",
    "Lines",
    "MaxNodes",
    "ModelOrFile",
    "Quiet",
    "Seed",
    "Shapes",
    "Target",
    "Tolerance",
    "Train",
    "Verbose",
    "inputs_option",
    "refuse_unwritable",
    "where_option",
]

#: Seeds of torch have 64 bits.
_SEEDS = 1 << 63

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
ModelOrFile = Annotated[
    str,
    typer.Argument(
        metavar="TARGET",
        help="The model, module:attribute or file.py:attribute, as for symfx trace; or a file "
        "that symfx trace --save or Trace.save wrote.",
        show_default=False,
    ),
]
Init = Annotated[
    list[str] | None,
    typer.Option(
        "--init",
        metavar="NAME=VALUE",
        help="An argument for building the model. Repeatable.",
        show_default=False,
    ),
]
Train = Annotated[
    bool | None,
    typer.Option(
        "--train/--eval",
        help="Put the module in train mode or in eval mode. By default it stays in the mode "
        "in which it was built: train mode for torch's own modules.",
        show_default=False,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="Print one line; failures go to stderr.")
]
Verbose = Annotated[
    bool,
    typer.Option(
        "--verbose", "-v", help="Also print to stderr each step of the command and its time."
    ),
]
Seed = Annotated[
    int,
    typer.Option(min=-_SEEDS, max=_SEEDS - 1, metavar="N", help="The seed of all random numbers."),
]
Shapes = Annotated[
    int,
    typer.Option(
        min=0, metavar="N", help="The number of shapes to verify at beside the example's."
    ),
]
Tolerance = Annotated[
    float | None,
    typer.Option(
        min=0,
        metavar="X",
        help="The largest difference, absolute and relative, between results that agree. "
        "Default: the tolerance of torch.testing.assert_close for the dtype.",
        show_default=False,
    ),
]
Debug = Annotated[
    bool, typer.Option("--debug", envvar="SYMFX_DEBUG", help="Print the traceback of an error.")
]


def inputs_option(described: str) -> typer.models.OptionInfo:
    """The option ``--input``, which is given once for each input.

    Args:
        described: examples of inputs, and what their sizes mean to the command.
    """
    option: typer.models.OptionInfo = typer.Option(
        "--input",
        "-i",
        metavar="INPUT",
        help=f"An input: {described} Repeatable.",
        show_default=False,
    )
    return option


Lines = Annotated[
    bool, typer.Option("--lines", help="Print the line of the program behind each node.")
]
MaxNodes = Annotated[
    int | None,
    typer.Option(
        "--max-nodes",
        min=1,
        metavar="N",
        help="How many nodes of a longer graph to print: the first ones, and the output.",
        show_default=False,
    ),
]


def where_option(what: str) -> typer.models.OptionInfo:
    """The option ``--where``, which is given once for each condition.

    Args:
        what: what a condition means to the command.
    """
    option: typer.models.OptionInfo = typer.Option(
        "--where",
        "-w",
        metavar="CONDITION",
        help="A condition on the named dimensions: 'seq % 8 == 0', 'w == h', 'h in {224, 256}'. "
        f"{what} Repeatable.",
        show_default=False,
    )
    return option


def refuse_unwritable(path: Path | None, option: str) -> None:
    """Refuse a file that cannot be written, before the work whose result it is to hold.

    Raises:
        SpecError: there is no directory for the file, or it must not be written.
    """
    if path is None:
        return
    folder = path.absolute().parent
    if not folder.is_dir():
        raise SpecError(f"there is no directory {folder}", where=option, fix="make the directory")
    if path.is_dir():
        raise SpecError(f"{path} is a directory", where=option, fix="name a file in it")
    if not os.access(path if path.exists() else folder, os.W_OK):
        raise SpecError(f"{path} cannot be written", where=option, fix="check the permissions")
