"""The command ``symfx typecheck TARGET --input "x: [batch, 3, h, w]" --where "batch % 8 == 0"``."""

from __future__ import annotations

import contextlib
import json
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from symfx.cli.models import uncollected
from symfx.cli.options import AsJson, Debug, Init, inputs_option
from symfx.errors import SpecError

if TYPE_CHECKING:
    from symfx.static_migration import Migration

__all__ = ["typecheck_command"]

#: Exit codes beside 0, as `symfx.cli` has them: ill-typed, and undecided in the time given.
ILL_TYPED, UNDECIDED = 1, 3


def typecheck_command(
    target: Annotated[
        str,
        typer.Argument(
            metavar="TARGET",
            help="The model: module:attribute or file.py:attribute, as symfx trace takes it.",
            show_default=False,
        ),
    ],
    *,
    inputs: Annotated[
        list[str] | None,
        inputs_option("'x: \\[batch, 3, h, w]', 'ids: i64\\[batch, seq]', 'x: Dyn', 'n: int'."),
    ] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(
            "--where",
            "-w",
            help="A condition on the named sizes: 'batch % 8 == 0', 'h == w'. Repeat it.",
            show_default=False,
        ),
    ] = None,
    init: Init = None,
    timeout: Annotated[
        float, typer.Option(help="Seconds that z3 may take for each question.")
    ] = 10.0,
    max_rank: Annotated[
        int, typer.Option(min=1, max=64, help="The most dimensions of a tensor of unknown rank.")
    ] = 8,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Find the most precise shapes of a program without running it, or why it has none.

    Exit codes: 0 well-typed, 1 ill-typed, 2 a mistake in the command or the model, 3 undecided
    within the time budget, 70 a fault in symfx itself.
    """
    from symfx.cli.application import clear_errors

    with clear_errors(debug):
        aside = contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext()
        with aside, uncollected():
            found = _found(target, inputs or [], where or [], init or [], timeout, max_rank)
        if as_json:
            typer.echo(json.dumps(_as_data(found), indent=2, ensure_ascii=False))
        else:
            console = Console(highlight=False)
            for line in str(found).splitlines():
                console.print(line, soft_wrap=True, markup=False)
    if found.verdict != "well-typed":
        raise typer.Exit(ILL_TYPED if found.verdict == "ill-typed" else UNDECIDED)


def _found(
    target: str,
    inputs: list[str],
    where: list[str],
    init: list[str],
    timeout: float,
    rank_bound: int,
) -> Migration:
    from symfx.static_migration.conditions import parse_input

    types = {}
    for text in inputs:  # before torch is loaded
        name, given = parse_input(text)
        if name in types:
            raise SpecError(f"the input {name} is given twice", where="--input")
        types[name] = given
    import torch

    from symfx.cli.models import load
    from symfx.shape_rules import max_rank
    from symfx.static_migration import migrate, program_graph
    from symfx.static_migration.light_models import without_weights

    with without_weights():
        model: Any = load(target, init)
    if not isinstance(model, torch.nn.Module):
        raise SpecError(
            f"{target} is no module",
            where="TARGET",
            fix="name a torch.nn.Module, or a function that builds one, with --init or ()",
        )
    with max_rank(rank_bound):
        model.eval()
        traced = program_graph(model, types, where, timeout)
        return migrate(traced, types, where, timeout=timeout)


def _as_data(found: Migration) -> dict[str, Any]:
    data: dict[str, Any] = {
        "verdict": found.verdict,
        "inputs": found.inputs,
        "shapes": {node.name: shape for node, shape in found.shapes.items()},
        "where": found.conditions,
        "unknown_operators": sorted(set(found.unknown_operators.values())),
    }
    if found.verdict == "unknown":
        data["timeout"] = found.timeout
    if found.conflict is not None:
        conflict = found.conflict
        data["conflict"] = {
            "message": conflict.message,
            "nodes": [node.name for node in conflict.nodes],
            "lines": list(conflict.lines),
            "conditions": list(conflict.conditions),
            "no_sizes_work": conflict.hopeless,
            "example": conflict.example and {k: list(v) for k, v in conflict.example.items()},
        }
    return data
