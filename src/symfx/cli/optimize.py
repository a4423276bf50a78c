"""``symfx optimize TARGET --input ... --save out``: a faster model, checked and timed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from symfx.cli.console import clear_errors, print_json, stdout_for_json
from symfx.cli.example_calls import ExampleCall, example_call
from symfx.cli.options import (
    AsJson,
    Debug,
    Init,
    Quiet,
    Seed,
    Target,
    Verbose,
    inputs_option,
    refuse_unwritable,
    where_option,
)
from symfx.cli.steps import progress, progress_of_work
from symfx.errors import SpecError, TargetError

if TYPE_CHECKING:
    from symfx.optimization import OptimizedModel

__all__ = ["optimize_command"]

_DTYPES = ("float32", "bfloat16", "int8")


def optimize_command(
    target: Target,
    *,
    inputs: Annotated[
        list[str] | None,
        inputs_option(
            "'x: f32[batch=4, 3, 224, 224]'. Named dimensions and numbers alike give the sizes "
            "to check and to time; the optimized model takes every size that the model takes."
        ),
    ] = None,
    where: Annotated[
        list[str] | None, where_option("The sizes to check and to time satisfy it.")
    ] = None,
    init: Init = None,
    save: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write the optimized model to this file: safetensors, with the graph as JSON. "
            "symfx.optimization.load reads it.",
            show_default=False,
        ),
    ] = None,
    dtype: Annotated[
        str,
        typer.Option(
            metavar="DTYPE",
            help="The dtype of convolutions and matrix products: float32, bfloat16, or int8 for "
            "the dynamic quantization of linear layers.",
        ),
    ] = "float32",
    tolerance: Annotated[
        float | None,
        typer.Option(
            min=0,
            metavar="X",
            help="The largest difference between results that agree, relative to the largest "
            "value in them.",
            show_default=False,
        ),
    ] = None,
    rounds: Annotated[
        int,
        typer.Option(
            min=0,
            metavar="N",
            help="The number of timed runs of each model; the two take turns.",
        ),
    ] = 9,
    seed: Seed = 0,
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """Optimize a model for inference on the CPU, check it, time it before and after, save it.

    Examples:
        symfx optimize torch.nn:Linear --init in_features=8 \\
            --init out_features=4 -i "input: f32[4, 8]" \\
            --save fast.safetensors

    The model is put in eval mode. Exit codes: 0 optimized, 2 the command, the inputs or the model
    cannot be used, or a result differs from the model's, 70 symfx itself failed.
    """
    with clear_errors(debug, verbose):
        _refuse_options(dtype, save)
        with stdout_for_json(as_json):
            call = _load(target, inputs or [], init or [], seed, where or [])
            with progress_of_work("optimizing"):
                import torch

                from symfx.optimization import optimize

                fast = optimize(
                    call.model,
                    call.args,
                    call.kwargs,
                    dtype=getattr(torch, dtype),
                    tolerance=tolerance,
                )
            if save is not None:
                with progress_of_work(f"writing {save}"):
                    fast.save(save)
            with progress("timing", rounds + 1) as done:
                before, after = _time(call, fast, rounds, done)
        if as_json:
            print_json("symfx optimize", _as_data(fast, before, after, save))
            return
        if not quiet:
            import dataclasses

            # The last line has the times that this command has measured.
            typer.echo(str(dataclasses.replace(fast.report, timings={})))
        typer.echo(_summary(fast, before, after, save))


def _refuse_options(dtype: str, save: Path | None) -> None:
    if dtype not in _DTYPES:
        raise SpecError(
            f"symfx optimize cannot use {dtype!r}",
            where="--dtype",
            fix=f"choose from {', '.join(_DTYPES)}",
        )
    refuse_unwritable(save, "--save")


def _load(
    target: str, inputs: list[str], init: list[str], seed: int, where: list[str]
) -> ExampleCall:
    if not inputs:
        raise SpecError(
            "no input is described", where="--input", fix="add --input 'x: f32[4, 3, 224, 224]'"
        )
    call = example_call(target, init, inputs, seed, where)
    import torch

    if not isinstance(call.model, torch.nn.Module):
        raise TargetError(
            f"{target} is a {type(call.model).__name__}, and only modules can be optimized",
            where="TARGET",
            fix="name a torch.nn.Module, or a function that makes one, with () after its name",
        )
    call.model.eval()
    return call


def _time(
    call: ExampleCall, fast: OptimizedModel, rounds: int, done: Callable[[], None]
) -> tuple[float | None, float | None]:
    """The median seconds of a run of the model and of the optimized one.

    The two run in turn; the first run of each warms up and is not counted.
    """
    import statistics
    import time

    import torch

    if not rounds:
        return None, None
    seconds: tuple[list[float], list[float]] = ([], [])
    with torch.no_grad():
        for turn in range(rounds + 1):
            for runs, model in zip(seconds, (call.model, fast), strict=True):
                start = time.perf_counter()
                model(*call.args, **call.kwargs)
                if turn:
                    runs.append(time.perf_counter() - start)
            done()
    return statistics.median(seconds[0]), statistics.median(seconds[1])


def _summary(
    fast: OptimizedModel, before: float | None, after: float | None, save: Path | None
) -> str:
    """The last line of the output: rewrites, difference, times, file."""
    parts = [f"{len(fast.report.rewrites)} rewrites"]
    if fast.report.checks:
        parts.append(f"off by at most {max(c.relative for c in fast.report.checks):.2g}")
    if before is not None and after:
        parts.append(
            f"{1e3 * before:.3g} ms before, {1e3 * after:.3g} ms after ({before / after:.2f}x)"
        )
    if save is not None:
        parts.append(f"saved to {save}")
    return "; ".join(parts)


def _as_data(
    fast: OptimizedModel, before: float | None, after: float | None, save: Path | None
) -> dict[str, Any]:
    import dataclasses

    return {
        **dataclasses.asdict(fast.report),
        "before_seconds": before,
        "after_seconds": after,
        "saved": None if save is None else str(save),
    }
