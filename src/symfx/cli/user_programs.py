"""``symfx run script.py``: a user's program with symfx installed in torch."""

from __future__ import annotations

import os
import runpy
import sys
from pathlib import Path
from typing import Annotated

import typer

from symfx.errors import TargetError

__all__ = ["is_user_program", "run_program_command"]


def is_user_program(words: list[str]) -> bool:
    """Whether the words of a command line are `symfx run` of a program, not of a saved trace.

    Example:
        >>> is_user_program(["run", "train.py"]), is_user_program(["run", "encoder.symfx"])
        (True, False)
    """
    first = next((word for word in words[1:] if word != "--report"), "")
    return words[:1] == ["run"] and (first == "-m" or first.endswith(".py"))


def run_program_command(
    context: typer.Context,
    program: Annotated[
        str,
        typer.Argument(
            metavar="SCRIPT",
            help="A Python file, or with -m the name of a module. The words after it are its own.",
            show_default=False,
        ),
    ],
    module: Annotated[
        bool, typer.Option("-m", help="SCRIPT is the name of a module, as for python -m.")
    ] = False,
    report: Annotated[
        bool,
        typer.Option("--report", help="First print to stderr which names of torch are symfx's."),
    ] = False,
) -> None:
    """Run a Python program whose torch.export and torch.compile use symfx.

    Processes that the program starts and that import symfx use symfx too, because the variable
    SYMFX_INSTALL is set for them. The exit code is that of the program; 2 means that there is no
    such program.
    """
    if not module and not Path(program).exists():
        error = TargetError(f"there is no file {program}", fix="name a Python file, or use -m")
        typer.echo(str(error), err=True)
        raise typer.Exit(2)

    from symfx.installation import install, installed_report

    os.environ["SYMFX_INSTALL"] = "1"
    install()
    if report:
        typer.echo(str(installed_report()), err=True)
    sys.argv = [program, *context.args]
    if module:
        sys.path.insert(0, os.getcwd())
        runpy.run_module(program, run_name="__main__", alter_sys=True)
    else:
        sys.path.insert(0, str(Path(program).resolve().parent))
        runpy.run_path(program, run_name="__main__")
