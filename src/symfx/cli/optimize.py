"""``symfx optimize TARGET --input ... --save out``: a faster model, and how much faster it is."""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from symfx.cli.options import AsJson, Debug, Init, Quiet, inputs_option

if TYPE_CHECKING:
    from symfx.optimization import OptimizedModel

__all__ = ["optimize_command"]

_TYPES = ("float32", "bfloat16")


def optimize_command(
    target: Annotated[
        str,
        typer.Argument(
            metavar="TARGET",
            help="The model: module:attribute or file.py:attribute; see symfx trace.",
            show_default=False,
        ),
    ],
    *,
    inputs: Annotated[
        list[str] | None,
        inputs_option(
            "'x: f32\\[batch=4, 3, 224, 224]'. Named dimensions and numbers alike only give "
            "the sizes to try: the optimised model takes all that the model takes."
        ),
    ] = None,
    init: Init = None,
    save: Annotated[
        Path | None,
        typer.Option(
            help="Write the optimised model to this file: safetensors, with the graph as JSON. "
            "symfx.optimization.load reads it.",
            show_default=False,
        ),
    ] = None,
    dtype: Annotated[
        str, typer.Option(help="float32, or bfloat16 for convolutions and matrix products.")
    ] = "float32",
    tolerance: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="How far results may be off, relative to the largest value in them.",
            show_default=False,
        ),
    ] = None,
    rounds: Annotated[
        int, typer.Option(min=0, help="Timed runs of the model before and after, in turn.")
    ] = 9,
    seed: Annotated[int, typer.Option(help="Where weights and inputs are drawn from.")] = 0,
    as_json: AsJson = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Optimise a model for inference on the CPU, check it, time it before and after, save it.

    The model is put in eval mode. Exit codes: 0 done, 2 a mistake in the command, the inputs or
    the model, or a result that differs from the model's, 70 a fault in symfx itself.
    """
    from symfx.cli.application import _progress, clear_errors
    from symfx.errors import SpecError

    with clear_errors(debug):
        if dtype not in _TYPES:
            raise SpecError(
                f"{dtype!r} is not offered", where="--dtype", fix=f"choose from {', '.join(_TYPES)}"
            )
        if save is not None and not save.absolute().parent.is_dir():
            raise SpecError(
                f"there is no directory {save.absolute().parent}", where="--save", fix="make it"
            )
        aside = contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext()
        with aside:
            model, args, kwargs = _load(target, inputs or [], init or [], seed)
            with _progress("optimising"):
                import torch

                from symfx.optimization import optimize

                fast = optimize(
                    model,
                    args,
                    kwargs,
                    dtype=getattr(torch, dtype),
                    tolerance=tolerance,
                )
            if save is not None:
                fast.save(save)
            with _progress("timing"):
                before, after = _time(model, fast, args, kwargs, rounds)
        if as_json:
            typer.echo(json.dumps(_as_data(fast, before, after, save), indent=2))
            return
        if not quiet:
            typer.echo(str(fast.report))
        typer.echo(_verdict(fast, before, after, save))


def _load(
    target: str, inputs: list[str], init: list[str], seed: int
) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
    from symfx.cli.application import _progress
    from symfx.cli.inputs import arrange, make_inputs, parse
    from symfx.cli.models import load
    from symfx.errors import SpecError, TargetError

    if not inputs:
        raise SpecError(
            "no input is described", where="--input", fix="add --input 'x: f32[4, 3, 224, 224]'"
        )
    parsed = [parse(text) for text in inputs]
    with _progress("loading torch"):
        import torch
    torch.manual_seed(seed)
    model = load(target, init)
    if not isinstance(model, torch.nn.Module):
        raise TargetError(
            f"{target} is a {type(model).__name__}, and only modules can be optimised",
            where="TARGET",
            fix="name a torch.nn.Module, or a function that makes one, with () behind it",
        )
    model.eval()
    values, _ = make_inputs(parsed, seed)
    args, kwargs = arrange(model, values)
    return model, tuple(args), dict(kwargs)


def _time(
    model: Any, fast: OptimizedModel, args: tuple[Any, ...], kwargs: dict[str, Any], rounds: int
) -> tuple[float | None, float | None]:
    """The median seconds of a run of each, in turn, after one to warm up."""
    import statistics
    import time

    import torch

    if not rounds:
        return None, None
    seconds: tuple[list[float], list[float]] = ([], [])
    with torch.no_grad():
        for turn in range(rounds + 1):
            for runs, contestant in zip(seconds, (model, fast), strict=True):
                start = time.perf_counter()
                contestant(*args, **kwargs)
                if turn:
                    runs.append(time.perf_counter() - start)
    return statistics.median(seconds[0]), statistics.median(seconds[1])


def _verdict(
    fast: OptimizedModel, before: float | None, after: float | None, save: Path | None
) -> str:
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
