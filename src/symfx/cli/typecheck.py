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
    stdout_for_json,
)
from symfx.cli.described_inputs import arguments_of
from symfx.cli.loading import load_torch
from symfx.cli.models import load
from symfx.cli.options import (
    AsJson,
    Debug,
    Init,
    Quiet,
    Target,
    Verbose,
    inputs_option,
    where_option,
)
from symfx.cli.steps import progress, progress_of_work
from symfx.collection import uncollected

if TYPE_CHECKING:
    from symfx.static_migration import Migration

__all__ = ["input_types", "typecheck_command"]


def typecheck_command(
    target: Target,
    *,
    inputs: Annotated[
        list[str] | None,
        inputs_option(
            "'x: [batch, 3, h, w]', 'ids: i64[batch, seq]', 'x: Dyn' (any tensor), 'n: int'."
        ),
    ] = None,
    where: Annotated[
        list[str] | None, where_option("The types hold for sizes that satisfy it.")
    ] = None,
    init: Init = None,
    timeout: Annotated[
        float,
        typer.Option(metavar="SECONDS", help="The time that z3 may take for each question."),
    ] = 10.0,
    max_rank: Annotated[
        int,
        typer.Option(
            min=1,
            max=64,
            metavar="N",
            help="The largest rank to try for a tensor of unknown rank.",
        ),
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
            help="Refuse a program with a warning, or with a condition that excludes sizes which "
            "you declared.",
        ),
    ] = False,
    loss: Annotated[
        str | None,
        typer.Option(
            "--loss",
            metavar="TARGET",
            help="A loss to check with the model: torch.nn:CrossEntropyLoss, "
            "'torch.nn:CrossEntropyLoss(ignore_index=0)', or a function. It takes the result, and "
            "the inputs that the model does not take.",
            show_default=False,
        ),
    ] = None,
    last_batch: Annotated[
        list[str] | None,
        typer.Option(
            "--last-batch",
            metavar="SIZE|INPUT",
            help="Check the last, smaller batch too: its size, or an input of it: "
            "'x: [17, 3, 32, 32]'. Repeatable.",
            show_default=False,
        ),
    ] = None,
    train: Annotated[
        bool,
        typer.Option("--train", help="Check the model in training mode. The default is eval mode."),
    ] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """Find the most precise shapes of a program without running it, or say why it has none.

    Examples:
        symfx typecheck torch.nn:Conv2d --init in_channels=3 \\
            --init out_channels=8 --init kernel_size=3 \\
            -i "input: [batch, 3, h, w]" --where "h == w"

    Exit codes: 0 well-typed; 1 ill-typed, or a name is fixed; 2 the command or the model cannot be
    used; 3 undecided within the time that z3 may take; 70 symfx itself failed. Under --strict,
    excluded sizes and warnings end with 1 too.
    """
    with clear_errors(debug, verbose):
        with stdout_for_json(as_json), uncollected():
            found = _migrate(
                target,
                inputs or [],
                where or [],
                init or [],
                timeout,
                max_rank,
                loss=loss,
                last_batch=last_batch or [],
                train=train,
                allow_pinned=allow_pinned,
            )
        if as_json:
            print_json("symfx typecheck", _as_data(found))
        else:
            print_lines([Text(line) for line in str(found).splitlines()[: 1 if quiet else None]])
        refused = _refuse(found, allow_pinned=allow_pinned, strict=strict)
    if found.verdict != "well-typed":
        raise typer.Exit(FAILED if found.verdict == "ill-typed" else UNDECIDED)
    if refused:
        raise typer.Exit(FAILED)


def _refuse(found: Migration, *, allow_pinned: bool, strict: bool) -> bool:
    """Print an error for each name that is fixed and for each condition that excludes sizes.

    Under --strict there is an error for the warnings too, which are printed with the types.
    """
    fixed = [] if allow_pinned else found.fixed
    for name in fixed:
        print_error(
            str(name),
            fix=_with_hint(
                name.hint, f"write {name.value} for {name.name} in --input, or pass --allow-pinned"
            ),
        )
    excluded = found.excluded if strict else []
    for sizes in excluded:
        print_error(
            str(sizes), fix=_with_hint(sizes.hint, f"declare it: --where '{sizes.condition}'")
        )
    warned = found.warnings if strict else []
    if warned:
        print_error(
            f"--strict refuses {len(warned)} warning{'s' if len(warned) > 1 else ''}",
            fix="correct the line that the warning names",
        )
    return bool(fixed or excluded or warned)


def _with_hint(hint: str, otherwise: str) -> str:
    return f"{hint} Or {otherwise}" if hint else otherwise


def _migrate(
    target: str,
    inputs: list[str],
    where: list[str],
    init: list[str],
    timeout: float,
    rank_bound: int,
    *,
    loss: str | None,
    last_batch: list[str],
    train: bool,
    allow_pinned: bool,
) -> Migration:
    load_torch(to_trace=False)
    with progress("loading symfx"):
        import torch

        from symfx.shape_rules import max_rank
        from symfx.static_migration import typecheck
        from symfx.static_migration.light_models import without_weights

    types = input_types(inputs, "--input")
    smaller: Any = None
    if len(last_batch) == 1 and last_batch[0].strip().isdigit():
        smaller = int(last_batch[0])
    elif last_batch:
        smaller = input_types(last_batch, "--last-batch")
    with without_weights():
        model: Any = load(target, init)
        of_loss: Any = None if loss is None else load(loss, option="--loss")
    for part in (model, of_loss):
        if isinstance(part, torch.nn.Module):
            part.train(train)
    with max_rank(rank_bound), progress_of_work("checking the types"):
        return typecheck(
            model,
            types,
            where,
            loss=of_loss,
            last_batch=smaller,
            timeout=timeout,
            allow_pinned=allow_pinned,
        )


def input_types(texts: list[str], option: str) -> dict[str, Any]:
    """The types of the inputs, by name."""
    from symfx.shape_language import parse_input
    from symfx.static_migration.conditions import InputType, type_of

    def whole(argument: Any) -> InputType:
        if isinstance(argument, InputType):
            return argument
        if isinstance(argument, dict):
            return InputType("dict", parts=tuple((k, whole(v)) for k, v in argument.items()))
        kind = "tuple" if isinstance(argument, tuple) else "list"
        return InputType(kind, parts=tuple((i, whole(v)) for i, v in enumerate(argument)))

    described = arguments_of([parse_input(text, option) for text in texts], type_of, option)
    return {name: whole(argument) for name, argument in described.items()}


def _as_data(found: Migration) -> dict[str, Any]:
    data: dict[str, Any] = {
        "verdict": found.verdict,
        "inputs": found.inputs,
        "shapes": {node.name: shape for node, shape in found.shapes.items()},
        "where": found.conditions,
        "fixed": [vars(name) for name in found.fixed],
        "excluded": [vars(sizes) for sizes in found.excluded],
        "warnings": found.warnings,
        "unknown_operators": sorted(set(found.unknown_operators.values())),
    }
    if found.leading:
        data["leading"] = [
            {"dimensions": count, "where": list(where)} for count, where in found.leading.items()
        ]
    if found.paths:
        data["paths"] = [{"branches": path.branches, **_as_data(path)} for path in found.paths]
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
            "hint": conflict.hint,
            "example": conflict.example and {k: list(v) for k, v in conflict.example.items()},
        }
    return data
