"""``symfx run script.py``: a user's program with symfx installed in torch."""

from __future__ import annotations

import importlib.util
import os
import runpy
import sys
from pathlib import Path
from types import TracebackType
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
    sys.path.insert(0, os.getcwd() if module else str(Path(program).resolve().parent))
    missing = _missing(program, module)
    if missing is not None:
        typer.echo(str(missing), err=True)
        raise typer.Exit(2)

    from symfx.installation import install, installed_report

    os.environ["SYMFX_INSTALL"] = "1"
    install()
    if report:
        typer.echo(str(installed_report()), err=True)
    sys.argv = [program, *context.args]
    try:
        if module:
            runpy.run_module(program, run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(program, run_name="__main__")
    except Exception as raised:  # noqa: BLE001  the program may raise anything
        # As Python shows it for a program of its own: without the frames that started it.
        error = raised.with_traceback(_from_program(raised.__traceback__))
        sys.excepthook(type(error), error, error.__traceback__)
        raise typer.Exit(1) from None


def _missing(program: str, module: bool) -> TargetError | None:
    """The error that there is no such program; None if there is one."""
    if not module:
        if Path(program).exists():
            return None
        return TargetError(f"there is no file {program}", fix="name a Python file, or use -m")
    try:
        found = importlib.util.find_spec(program)
    except ModuleNotFoundError:  # the package around the module is missing
        found = None
    if found is not None:
        return None
    return TargetError(f"there is no module {program}", fix="name an installed module, or a file")


def _from_program(trace: TracebackType | None) -> TracebackType | None:
    """The frames of a traceback from the first one of the program on."""
    starters = {__file__, runpy.__file__, "<frozen runpy>"}
    while trace is not None and trace.tb_frame.f_code.co_filename in starters:
        trace = trace.tb_next
    return trace
