"""``symfx explain TARGET --dim seq``: why a dimension, a guard or a node is what it is."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from symfx.cli.console import (
    FAILED,
    clear_errors,
    print_json,
    print_lines,
    stdout_for_json,
)
from symfx.cli.example_calls import example_call, inputs_are_options
from symfx.cli.fitting_sizes import telling_sizes
from symfx.cli.options import (
    AsJson,
    Debug,
    Init,
    ModelOrFile,
    Quiet,
    Seed,
    Verbose,
    inputs_option,
    where_option,
)
from symfx.cli.saved_traces import Libraries, is_saved, load_trace, refuse_for_saved
from symfx.cli.steps import tracing
from symfx.errors import SpecError

if TYPE_CHECKING:
    from symfx.explanation import Explanation, Rejection
    from symfx.tracing import Trace

__all__ = ["explain_command"]


def _asked(flag: str, metavar: str, help_: str) -> typer.models.OptionInfo:
    option: typer.models.OptionInfo = typer.Option(
        flag, metavar=metavar, help=f"{help_} Repeatable.", show_default=False
    )
    return option


def explain_command(
    target: ModelOrFile,
    *,
    inputs: Annotated[
        list[str] | None,
        inputs_option("'x: f32[batch, seq=7, 64]', as for symfx trace. For a model only."),
    ] = None,
    where: Annotated[
        list[str] | None, where_option("The trace relies on it, and checks it of inputs.")
    ] = None,
    init: Init = None,
    dims: Annotated[
        list[str] | None, _asked("--dim", "DIM", "A dimension to explain: 'seq', 'x.shape[1]'.")
    ] = None,
    guards: Annotated[
        list[str] | None,
        _asked("--guard", "CONDITION", "A guard to explain, or another condition: 'seq >= 4'."),
    ] = None,
    nodes: Annotated[
        list[str] | None,
        _asked("--node", "NODE", "A node to explain, by its name: 'relu'."),
    ] = None,
    rejected: Annotated[
        list[str] | None,
        _asked(
            "--why-not",
            "INPUT",
            "An input, such as 'x: f32[3, 7]'; given for every input. The answer is why such "
            "inputs do not fit, and which nearest ones do.",
        ),
    ] = None,
    seed: Seed = 0,
    libraries: Libraries = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """Explain a dimension, a guard, a node, an error, or why inputs do not fit.

    Examples:
        symfx explain torch.nn:AvgPool1d \\
            --init kernel_size=4 -i "input: f32[c, n=9]" --dim n
        symfx explain linear.symfx \\
            --why-not "input: f32[9, 8]"

    The answer names the fewest facts that give it, the operators that asked for them, and the
    lines of the program. Without a subject, it is all that is notable in the trace.

    Exit codes: 0 explained; 1 the model cannot be traced, or the inputs of --why-not do not fit; 2
    the command, the inputs or the model cannot be used; 70 symfx itself failed.
    """
    with clear_errors(debug, verbose):
        with stdout_for_json(as_json):
            t = _trace(target, inputs or [], init or [], where or [], seed, libraries or [])
            answers, rejection = _answers(t, dims or [], guards or [], nodes or [], rejected or [])
        if as_json:
            data = {
                "model": getattr(t, "name", target),
                "traced": not isinstance(t, Exception),
                "answers": [answer.as_data() for answer in answers],
                "rejection": None if rejection is None else rejection.as_data(),
            }
            print_json("symfx explain", data)
        else:
            shown = [answer.describe() for answer in answers]
            shown += [] if rejection is None else [rejection.describe()]
            for i, lines in enumerate(shown):
                print_lines(lines[:1] if quiet else [Text(), *lines] if i else lines)
    if isinstance(t, Exception) or rejection:
        raise typer.Exit(FAILED)


def _answers(
    t: Trace | Exception,
    dims: Sequence[str],
    guards: Sequence[str],
    nodes: Sequence[str],
    rejected: Sequence[str],
) -> tuple[list[Explanation], Rejection | None]:
    """The answers about a trace, or about the error that stopped it."""
    from symfx.explanation import explain

    if isinstance(t, Exception):
        return [explain(t)], None
    with _at("--dim"):
        answers = [t.explain(text, kind="dimension") for text in dims]
    with _at("--guard"):
        answers += [t.explain(text, kind="guard") for text in guards]
    with _at("--node"):
        answers += [t.explain(text, kind="node") for text in nodes]
    with _at("--why-not"):
        rejection = t.why_not(*rejected) if rejected else None
    return answers or ([t.explain()] if rejection is None else []), rejection


@contextlib.contextmanager
def _at(option: str) -> Iterator[None]:
    """Let an error about the text of an option name the option."""
    try:
        yield
    except SpecError as error:
        place = (error.where or "").partition("(")[2].partition(")")[2]
        raise SpecError(error.what, where=option + place, fix=error.fix) from None


def _trace(
    target: str,
    inputs: Sequence[str],
    init: Sequence[str],
    where: Sequence[str],
    seed: int,
    libraries: Sequence[str],
) -> Trace | Exception:
    """The trace of a model or of a file; the exception of a model that cannot be traced.

    A dimension that the model pins is no error: the answer is about it.
    """
    if is_saved(target):
        refuse_for_saved(target, {"--input": inputs, "--init": init, "--where": where})
        return load_trace(Path(target), libraries)
    call = example_call(target, init, inputs, seed, where)
    from symfx.errors import TracingError
    from symfx.symbolic_shapes import GuardOnDataDependentSymNode
    from symfx.tracing import trace

    try:
        with telling_sizes(call, seed), tracing(call.model), inputs_are_options():
            return trace(
                call.model,
                call.args,
                call.kwargs,
                dynamic=call.dynamic,
                where=call.stated,
                strict=False,
            )
    except (TracingError, GuardOnDataDependentSymNode) as error:
        return error
