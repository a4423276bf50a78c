"""``symfx typecheck TARGET --input "x: [batch, 3, h, w]" --where "h == w"``: precise shapes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from symfx.cli.console import (
    FAILED,
    UNDECIDED,
    clear_errors,
    print_error,
    print_json,
    print_lines,
    progress,
    stdout_for_json,
)
from symfx.cli.models import load, uncollected
from symfx.cli.options import AsJson, Debug, Init, Target, inputs_option
from symfx.errors import SpecError

if TYPE_CHECKING:
    from symfx.static_migration import Migration

__all__ = ["typecheck_command"]


def typecheck_command(
    target: Target,
    *,
    inputs: Annotated[
        list[str] | None,
        inputs_option(
            "'x: \\[batch, 3, h, w]', 'ids: i64\\[batch, seq]', 'x: Dyn' (any tensor), 'n: int'."
        ),
    ] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(
            "--where",
            "-w",
            help="A condition on the named sizes: 'batch % 8 == 0', 'h == w'. Repeatable.",
            show_default=False,
        ),
    ] = None,
    init: Init = None,
    timeout: Annotated[
        float, typer.Option(help="The seconds that z3 may take for each question.")
    ] = 10.0,
    max_rank: Annotated[
        int,
        typer.Option(min=1, max=64, help="The largest rank to try for a tensor of unknown rank."),
    ] = 8,
    allow_pinned: Annotated[
        bool,
        typer.Option(
            "--allow-pinned",
            help="Accept a program that fixes a named size. By default a name stands for all "
            "sizes, and such a program is an error.",
        ),
    ] = False,
    strict: Annotated[
        bool,
        typer.Option(
            "--strict",
            help="Refuse a program with a condition that excludes sizes which you declared.",
        ),
    ] = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Find the most precise shapes of a program without running it, or say why it has none.

    Exit codes: 0 well-typed, 1 ill-typed, or a name is fixed, or sizes are excluded under --strict,
    2 the command or the model cannot be used, 3 undecided within the time that z3 may take,
    70 symfx itself failed.
    """
    with clear_errors(debug):
        with stdout_for_json(as_json), uncollected():
            found = _migrate(
                target,
                inputs or [],
                where or [],
                init or [],
                timeout,
                max_rank,
                allow_pinned=allow_pinned,
            )
        if as_json:
            print_json("symfx typecheck", _as_data(found))
        else:
            print_lines([Text(line) for line in str(found).splitlines()])
        refused = _refuse(found, allow_pinned=allow_pinned, strict=strict)
    if found.verdict != "well-typed":
        raise typer.Exit(FAILED if found.verdict == "ill-typed" else UNDECIDED)
    if refused:
        raise typer.Exit(FAILED)


def _refuse(found: Migration, *, allow_pinned: bool, strict: bool) -> bool:
    """Print an error for each name that is fixed and for each condition that excludes sizes."""
    fixed = [] if allow_pinned else found.fixed
    for name in fixed:
        print_error(
            str(name),
            fix=f"write {name.value} for {name.name} in --input, or pass --allow-pinned",
        )
    excluded = found.excluded if strict else []
    for sizes in excluded:
        print_error(str(sizes), fix=f"declare it: --where '{sizes.condition}'")
    return bool(fixed or excluded)


def _migrate(
    target: str,
    inputs: list[str],
    where: list[str],
    init: list[str],
    timeout: float,
    rank_bound: int,
    *,
    allow_pinned: bool,
) -> Migration:
    with progress("loading torch"):
        import torch

        from symfx.shape_rules import max_rank
        from symfx.static_migration import typecheck
        from symfx.static_migration.conditions import parse_input
        from symfx.static_migration.light_models import without_weights

    types = {}
    for text in inputs:
        name, given = parse_input(text)
        if name in types:
            raise SpecError(f"the input {name} is given twice", where="--input", fix="give it once")
        types[name] = given
    with without_weights():
        model: Any = load(target, init)
    if not isinstance(model, torch.nn.Module):
        raise SpecError(
            f"{target} is not a module",
            where="TARGET",
            fix="name a torch.nn.Module, or a function that builds one, with --init or ()",
        )
    with max_rank(rank_bound):
        model.eval()
        return typecheck(model, types, where, timeout=timeout, allow_pinned=allow_pinned)


def _as_data(found: Migration) -> dict[str, Any]:
    data: dict[str, Any] = {
        "verdict": found.verdict,
        "inputs": found.inputs,
        "shapes": {node.name: shape for node, shape in found.shapes.items()},
        "where": found.conditions,
        "fixed": [vars(name) for name in found.fixed],
        "excluded": [vars(sizes) for sizes in found.excluded],
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
