"""``symfx sweep-model``: the process of one model of a sweep, which `symfx sweep` starts."""

from __future__ import annotations

import inspect
import json
import logging
import os
import sys
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from symfx.cli.console import clear_errors
from symfx.cli.example_calls import example_call
from symfx.cli.models import load
from symfx.errors import SpecError, describe

if TYPE_CHECKING:
    from symfx.sweep.jobs import Job, SweepModel
    from symfx.sweep.steps import Subject

__all__ = ["models_of_file", "sweep_model_command"]


def sweep_model_command(
    results: Annotated[Path, typer.Argument(metavar="FILE", help="The file for the results.")],
    parent: Annotated[int, typer.Argument(metavar="PID", help="The process that waits for it.")],
) -> None:
    """Take the steps of a sweep with the model whose job stands on stdin.

    A line of JSON for each step is added to FILE when the step is done.
    """
    from symfx.sweep.child import end_with_parent
    from symfx.sweep.jobs import Job, StepResult

    end_with_parent(parent)
    with clear_errors(debug=False):
        job = Job.from_json(sys.stdin.read())
        # Models, and torch's fake kernels, warn and log about their own affairs.
        logging.disable(logging.ERROR)
        warnings.simplefilter("ignore")
        with results.open("ab", buffering=0) as file:

            def tell(result: StepResult) -> None:
                file.write(json.dumps(asdict(result)).encode() + b"\n")

            try:
                subject = _subject(job)
            except Exception as error:  # noqa: BLE001 - a model that cannot be built is a finding
                first = (str(error).strip() or "no message").splitlines()[0]
                message = f"the model cannot be built: {type(error).__name__}: {first:.300}"
                tell(StepResult(job.steps[0], "failed", 0.0, message))
                for step in job.steps[1:]:
                    tell(StepResult(step, "skipped"))
            else:
                from symfx.sweep.steps import run_steps

                for result in run_steps(subject, job.steps):
                    tell(result)
    sys.stdout.flush()
    os._exit(0)  # what a model has started, such as threads, does not matter any more


def _subject(job: Job) -> Subject:
    import torch

    torch.manual_seed(job.seed)
    made = {"architecture": _of_architecture, "target": _of_target, "file": _of_file}[job.kind](job)
    made.allow_pinned, made.shapes, made.seed = job.allow_pinned, job.shapes, job.seed
    return made


def _of_architecture(job: Job) -> Subject:
    from symfx.sweep.architectures import ARCHITECTURES, subject

    found = ARCHITECTURES[job.target]
    made = subject(found)
    if "typecheck" in job.steps:
        made.types = _types(found.descriptions())
    return made


def _of_target(job: Job) -> Subject:
    import torch

    from symfx.sweep.steps import Subject

    call = example_call(job.target, job.init, job.inputs, job.seed, job.where)
    if job.train is not None and isinstance(call.model, torch.nn.Module):
        call.model.train(job.train)
    types = _types(job.inputs) if "typecheck" in job.steps else None
    return Subject(call.model, call.args, call.kwargs, call.dynamic, call.stated, types)


def _of_file(job: Job) -> Subject:
    import torch

    from symfx.sweep.steps import Subject

    found = {model.name: model for model in models_of_file(job.target)}
    model = found[job.name]
    made = model.model
    if not isinstance(made, torch.nn.Module) and _takes_nothing(made):
        made = made()
    return Subject(made, model.args, model.kwargs, model.dynamic, model.where)


def _takes_nothing(function: Any) -> bool:
    """Whether a function can be called without arguments."""
    try:
        inspect.signature(function).bind()
    except (TypeError, ValueError):
        return False
    return True


def models_of_file(target: str) -> list[SweepModel]:
    """The models that a function of a Python file yields.

    Args:
        target: ``file.py`` or ``file.py:function``; the function is ``models`` by default.

    Raises:
        TargetError: the file or the function cannot be used.
        SpecError: the function yields something else, or two models of one name.
    """
    from symfx.sweep.jobs import SweepModel

    place, colon, name = target.rpartition(":")
    if not colon:
        place, name = target, "models"
    function = load(f"{place}:{name}")
    found: dict[str, SweepModel] = {}
    for model in function():
        if not isinstance(model, SweepModel):
            raise SpecError(
                f"{name} yields {describe(model)}",
                where=place,
                fix="yield symfx.sweep.SweepModel(name, model, args, kwargs, dynamic)",
            )
        if model.name in found:
            raise SpecError(
                f"two models have the name {model.name!r}",
                where=place,
                fix="give each a name of its own",
            )
        found[model.name] = model
    return list(found.values())


def _types(inputs: Any) -> dict[str, Any]:
    from symfx.cli.typecheck import input_types

    return input_types(list(inputs), "--input")
