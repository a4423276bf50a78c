"""``symfx verify FILE TARGET``: a saved trace compared with its model."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.text import Text

from symfx.cli.console import FAILED, clear_errors, print_json, print_lines, stdout_for_json
from symfx.cli.loading import load_torch
from symfx.cli.models import load
from symfx.cli.options import (
    AsJson,
    Debug,
    Init,
    Quiet,
    Seed,
    Shapes,
    Target,
    Tolerance,
    Verbose,
    where_option,
)
from symfx.cli.saved_traces import File, Libraries, load_trace
from symfx.cli.steps import progress

__all__ = ["verify_command"]


def verify_command(
    file: File,
    target: Target,
    *,
    where: Annotated[
        list[str] | None, where_option("The shapes beside the example's satisfy it.")
    ] = None,
    init: Init = None,
    shapes: Shapes = 5,
    tolerance: Tolerance = None,
    seed: Seed = 0,
    libraries: Libraries = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """Run a saved trace and its model at several shapes, and compare their results.

    The graph uses the parameters of the model, which is put into the mode in which it was traced:
    train mode or eval mode.

    Examples:
        symfx verify linear.symfx torch.nn:Linear \\
            --init in_features=8 --init out_features=4 \\
            --where "batch in {1, 64, 1000}"

    Exit codes: 0 verified, 1 a result differs, 2 the file, the model or a condition cannot be
    used, 70 symfx itself failed.
    """
    with clear_errors(debug, verbose):
        with stdout_for_json(as_json):
            load_torch()
            import torch

            torch.manual_seed(seed)
            model = load(target, init or [])
            t = load_trace(file, libraries or [], model)
            if isinstance(model, torch.nn.Module):
                model.train(t.graph_module.training)
            with progress("verifying", shapes + 1) as done:
                found = t.verify(
                    shapes=shapes,
                    seed=seed,
                    tolerance=tolerance,
                    where=where,
                    on_run=lambda _: done(),
                )
        from symfx.tracing.report import verification_data
        from symfx.tracing.verification import describe_verification, verdict

        if as_json:
            print_json("symfx verify", {"name": t.name, **verification_data(found)})
        elif quiet:
            print_lines([Text(f"{t.name}: {verdict(found)}")])
        else:
            print_lines(describe_verification(found))
    if not found:
        raise typer.Exit(FAILED)
