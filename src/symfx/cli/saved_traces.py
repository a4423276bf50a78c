"""``symfx show``, ``check`` and ``run``: the commands on a trace that was saved."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from symfx.cli.console import FAILED, clear_errors, print_error, print_json, print_lines
from symfx.cli.input_files import read_inputs, write_results
from symfx.cli.loading import load_torch
from symfx.cli.options import (
    AsJson,
    Debug,
    Lines,
    MaxNodes,
    Quiet,
    Seed,
    Verbose,
    refuse_unwritable,
)
from symfx.cli.steps import progress, progress_of_work
from symfx.errors import SpecError

if TYPE_CHECKING:
    from symfx.tracing import Trace

__all__ = [
    "File",
    "Libraries",
    "check_command",
    "is_saved",
    "load_trace",
    "refuse_for_saved",
    "run_command",
    "show_command",
]

File = Annotated[
    Path,
    typer.Argument(
        metavar="FILE",
        exists=True,
        dir_okay=False,
        help="A file that symfx trace --save or Trace.save wrote.",
        show_default=False,
    ),
]
_Inputs = Annotated[
    list[str] | None,
    typer.Option(
        "--input",
        "-i",
        metavar="INPUT",
        help="A file with inputs by name (.pt, .npz, .safetensors), name=FILE for a file with one "
        "tensor, or a description such as 'x: f32[batch=7, 64]' to draw one. Repeatable.",
        show_default=False,
    ),
]
Libraries = Annotated[
    list[str] | None,
    typer.Option(
        "--library",
        metavar="MODULE",
        help="A Python module to import, whose operators the graph may call. Repeatable.",
        show_default=False,
    ),
]


class Format(StrEnum):
    """The ways in which ``symfx show`` prints a graph."""

    TEXT = "text"
    MODEL_EXPLORER = "model-explorer"
    MERMAID = "mermaid"
    DOT = "dot"


def show_command(
    file: File,
    *,
    format_: Annotated[
        Format,
        typer.Option(
            "--format",
            metavar="FORMAT",
            help="text; or the graph for another program: model-explorer (the JSON of Google's "
            "Model Explorer), mermaid (a flowchart for Markdown), dot (for Graphviz).",
        ),
    ] = Format.TEXT,
    graph: Annotated[bool, typer.Option("--graph/--no-graph", help="Print the graph.")] = True,
    lines: Lines = False,
    max_nodes: MaxNodes = None,
    libraries: Libraries = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """Print a saved trace: its graph, its symbols, its guards, and its last verification.

    Examples:
        symfx show linear.symfx
        symfx show linear.symfx --format mermaid

    Exit codes: 0 printed, 2 the file is no saved trace, 70 symfx itself failed.
    """
    with clear_errors(debug, verbose):
        t = load_trace(file, libraries or [])
        if format_ is not Format.TEXT:
            if as_json:
                raise SpecError(
                    f"--json and --format {format_} cannot be used together",
                    where="--format",
                    fix="leave one of them out",
                )
            typer.echo(_drawn(t, format_), nl=False)
            return
        from symfx.tracing.report import as_data, describe_trace, headline
        from symfx.tracing.verification import describe_verification

        if as_json:
            print_json("symfx trace", as_data(t, t.verification))
            return
        if quiet:
            print_lines([Text(headline(t))])
            return
        shown = describe_trace(t, graph=graph, lines=lines, max_nodes=max_nodes)
        if t.verification is not None:
            shown += [Text(), *describe_verification(t.verification)]
        print_lines(shown)


def _drawn(t: Trace, form: Format) -> str:
    """The graph of a trace as the text of another program."""
    if form is Format.MERMAID:
        return t.to_mermaid()
    if form is Format.DOT:
        return t.to_dot()
    return json.dumps(t.to_model_explorer(), ensure_ascii=False, indent=1) + "\n"


def check_command(
    file: File,
    *,
    inputs: _Inputs = None,
    seed: Seed = 0,
    libraries: Libraries = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """Check whether inputs fit a saved trace, and print the reasons if they do not.

    Examples:
        symfx check linear.symfx -i "input: f32[batch=9, 8]"

    Exit codes: 0 they fit, 1 they do not, 2 the file or the inputs cannot be read, 70 symfx itself
    failed.
    """
    with clear_errors(debug, verbose):
        t = load_trace(file, libraries or [])
        args, kwargs = read_inputs(t, inputs or [], seed)
        result = t.check(*args, **kwargs)
        if as_json:
            print_json("symfx check", {"fits": bool(result), "reasons": list(result.failures)})
        else:
            print_lines([Text(line) for line in str(result).splitlines()[: 1 if quiet else None]])
            if quiet and not result:
                print_error("; ".join(result.failures))
    if not result:
        raise typer.Exit(FAILED)


def run_command(
    file: File,
    *,
    inputs: _Inputs = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            dir_okay=False,
            help="Write the tensors of the result to this file (.pt, .npz, .safetensors).",
            show_default=False,
        ),
    ] = None,
    seed: Seed = 0,
    libraries: Libraries = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """Run a saved trace on inputs that fit it, or a Python program with symfx installed.

    Of the results of a trace, dtype, shape, smallest, largest and mean are printed. A program is a
    file that ends in .py, or -m and the name of a module; the words after it are its own.
    symfx run --report SCRIPT also prints which names of torch are symfx's.

    Examples:
        symfx run linear.symfx -i "input: f32[batch=9, 8]" \\
            --output results.npz
        symfx run train.py --epochs 3

    Exit codes: 0 it ran, 2 the file cannot be read or the inputs do not fit, 70 symfx itself
    failed.
    """
    with clear_errors(debug, verbose):
        refuse_unwritable(output, "--output")
        t = load_trace(file, libraries or [])
        args, kwargs = read_inputs(t, inputs or [], seed)
        import torch

        torch.manual_seed(seed)
        with torch.no_grad(), progress("running"):
            result = t(*args, **kwargs)
        named = _named_leaves(result)
        if output is not None:
            write_results(output, named)
        if as_json:
            print_json("symfx run", {"results": [_as_data(n, v) for n, v in named.items()]})
        else:
            lines = [Text(f"{name:<12}  {_in_words(v)}") for name, v in named.items()]
            print_lines([Text("; ".join(line.plain for line in lines))] if quiet else lines)


def is_saved(target: str) -> bool:
    """Whether a target names the file of a saved trace, not a model."""
    return zipfile.is_zipfile(target) or target.endswith(".symfx")


def refuse_for_saved(target: str, given: Mapping[str, object]) -> None:
    """Refuse options about a model that is to be traced.

    Args:
        target: the file of a saved trace.
        given: the values of each option.

    Raises:
        SpecError: one was given.
    """
    for option, value in given.items():
        if value:
            raise SpecError(
                f"{target} is a saved trace, and has its inputs and conditions",
                where=option,
                fix="leave the option out",
            )


def load_trace(
    file: Path, libraries: Sequence[str], model: Callable[..., Any] | None = None
) -> Trace:
    """Read a saved trace, with its model if given, after the libraries whose operators it calls."""
    from importlib import import_module

    load_torch()
    for library in libraries:
        try:
            import_module(library)
        except ImportError as error:
            raise SpecError(
                f"the module {library} cannot be imported: {error}",
                where="--library",
                fix="name an installed module",
            ) from None
    from symfx.tracing import load

    with progress_of_work(f"reading {file}"):
        return load(file, libraries=libraries, model=model)


def _named_leaves(result: Any) -> dict[str, Any]:
    """The leaves of a result, by the Python that reads each from it."""
    from torch.utils import _pytree as pytree

    leaves, _ = pytree.tree_flatten_with_path(result)
    return {f"result{pytree.keystr(path)}": value for path, value in leaves}


def _in_words(value: Any) -> str:
    import torch

    from symfx.dtypes import short_name

    if not isinstance(value, torch.Tensor):
        return repr(value)
    form = f"{short_name(value.dtype)}[{', '.join(map(str, value.shape))}]"
    if value.numel() == 0 or value.is_complex():
        return form
    low, high = value.min().item(), value.max().item()
    if value.dtype is torch.bool:
        return f"{form}  {int(value.sum())} true"
    mean = value.double().mean().item()
    return f"{form}  from {low:.6g} to {high:.6g}, mean {mean:.6g}"


def _as_data(name: str, value: Any) -> dict[str, Any]:
    import torch

    if not isinstance(value, torch.Tensor):
        plain = isinstance(value, bool | int | float | str | None)
        return {"name": name, "value": value if plain else repr(value)}
    dtype = str(value.dtype).removeprefix("torch.")
    return {"name": name, "dtype": dtype, "shape": list(value.shape)}
