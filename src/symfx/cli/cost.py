"""``symfx cost TARGET --input "x: f32[batch, 64]"``: operations and memory as polynomials."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from symfx.cli.console import clear_errors, print_json, print_lines, stdout_for_json
from symfx.cli.example_calls import example_call, traced_call
from symfx.cli.fitting_sizes import telling_sizes
from symfx.cli.options import (
    AsJson,
    Debug,
    Init,
    Quiet,
    Seed,
    Target,
    Verbose,
    inputs_option,
    where_option,
)
from symfx.cli.steps import tracing
from symfx.errors import SpecError

if TYPE_CHECKING:
    from symfx.tracing.cost import Cost

__all__ = ["cost_command"]


def cost_command(
    target: Target,
    *,
    inputs: Annotated[
        list[str] | None,
        inputs_option("'x: f32[batch, seq, 64]'. The cost depends on the named dimensions."),
    ] = None,
    where: Annotated[list[str] | None, where_option("The trace relies on it.")] = None,
    init: Init = None,
    at: Annotated[
        list[str] | None,
        typer.Option(
            "--at",
            metavar="NAME=SIZE",
            help="A size to compute the cost at, such as batch=8: the table then has numbers, and "
            "the peak of memory. Repeatable.",
            show_default=False,
        ),
    ] = None,
    depth: Annotated[
        int | None,
        typer.Option(
            min=0,
            metavar="N",
            help="Print modules down to this depth: 0 is the whole model, 1 its own submodules.",
            show_default=False,
        ),
    ] = None,
    seed: Seed = 0,
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """Count the operations, the parameters and the memory of a model, per module.

    Examples:
        symfx cost torch.nn:Linear --init in_features=8 \\
            --init out_features=4 -i "input: f32[batch, 8]"
        symfx cost torch.nn:Linear --init in_features=8 \\
            --init out_features=4 -i "input: f32[batch, 8]" \\
            --at batch=32

    The counts are polynomials in the named dimensions. Exit codes: 0 counted, 2 the command, the
    inputs or the model cannot be used, 70 symfx itself failed.
    """
    with clear_errors(debug, verbose):
        sizes = _sizes(at or [])
        with stdout_for_json(as_json):
            call = example_call(target, init or [], inputs or [], seed, where or [])
            with telling_sizes(call, seed), tracing(call.model):
                from symfx.tracing.cost import describe_cost

                traced = traced_call(call, strict=False)
            cost = traced.cost()
            peak = cost.peak(**sizes) if sizes else None
            cost = cost.at(**sizes) if sizes else cost
        if as_json:
            print_json("symfx cost", _as_data(cost, peak, sizes))
            return
        if quiet:
            print_lines([Text(_summary(cost, peak))])
            return
        print_lines(describe_cost(cost, depth))
        if peak is not None:
            typer.echo(f"  at most {peak:,} bytes at once, beside parameters and buffers")


def _summary(cost: Cost, peak: int | None) -> str:
    """The cost of the whole model in one line."""
    at_once = "" if peak is None else f", at most {peak:,} bytes at once"
    return f"{cost.parameters:,} parameters, {cost.flops} operations, {cost.memory} bytes{at_once}"


def _sizes(texts: list[str]) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for text in texts:
        name, _, size = text.partition("=")
        name = name.strip()
        if not name.isidentifier() or not size.strip().isdecimal() or len(size) > 18:
            raise SpecError(
                f"{text!r} is not a size", where="--at", fix="write a name and a number: batch=8"
            )
        if name in sizes:
            raise SpecError(f"{name} is given twice", where="--at", fix="give it once")
        sizes[name] = int(size)
    return sizes


def _as_data(cost: Cost, peak: int | None, sizes: dict[str, int]) -> dict[str, Any]:
    def number(term: Any) -> Any:
        return str(term) if term.value is None else int(term.value)

    return {
        "sizes": sizes,
        "peak_bytes": peak,
        "modules": [
            {
                "path": module.path,
                "class": module.kind,
                "parameters": module.parameters,
                "operations": number(module.flops),
                "bytes": number(module.memory),
            }
            for module in cost.modules
        ],
        "notes": list(cost.notes),
    }
