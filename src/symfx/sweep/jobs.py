"""One model of a sweep: what is to be done with it, as data that other processes read."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from hashlib import blake2b
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from symfx._version import newest_change

__all__ = ["STEPS", "Job", "Result", "StepResult", "SweepModel"]

STEPS = ("trace", "verify", "typecheck", "optimize", "export")
"""What a sweep can do with a model, in this order."""

#: The packages whose release changes what a step gives.
_PACKAGES = ("symfx", "torch", "transformers")


@dataclass(frozen=True)
class Job:
    """A model, and the steps to take with it.

    Attributes:
        name: the model's name in tables; no two of a sweep have the same.
        kind: where the model comes from: "target", a module and an attribute as on the command
            line; "architecture", one of `symfx.sweep.architectures`; "file", a Python file that
            yields it.
        target: the target, the architecture, or the file and the function that yields.
        init: arguments for building the model, each ``name=value``.
        inputs: its inputs in the shape language.
        where: conditions on their dimensions.
        train: whether the model is in train mode; None for the mode in which it was built.
        allow_pinned: whether a dimension may be pinned.
        shapes: the number of shapes to verify at beside the example's.
        seed: the seed of weights and inputs.
        steps: the steps, of `STEPS`.
        time_limit: the seconds that the model may take in all.
        memory_limit: the bytes that its process may have.
        directory: the directory that the steps run in.
    """

    name: str
    kind: str
    target: str
    init: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()
    where: tuple[str, ...] = ()
    train: bool | None = None
    allow_pinned: bool = True
    shapes: int = 4
    seed: int = 0
    steps: tuple[str, ...] = ("trace", "verify")
    time_limit: float = 600.0
    memory_limit: int = 8 << 30
    directory: str = "."

    def key(self) -> str:
        """A digest of the job, of the file that it names, and of the packages that it uses.

        A result belongs to this digest: a sweep that is resumed takes it from the journal.
        """
        content = b""
        path = Path(self.directory, self.target.partition(":")[0])
        if path.suffix == ".py" and path.is_file():
            content = path.read_bytes()
        releases = [_release(package) for package in _PACKAGES]
        text = json.dumps([asdict(self), releases, newest_change()], sort_keys=True)
        return blake2b(text.encode() + content, digest_size=16).hexdigest()

    def to_json(self) -> str:
        """The job as JSON, on one line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Job:
        """The job that `to_json` wrote."""
        data = json.loads(text)
        for name in ("init", "inputs", "where", "steps"):
            data[name] = tuple(data[name])
        return cls(**data)


def _release(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


@dataclass(frozen=True)
class StepResult:
    """What a step gave.

    Attributes:
        step: one of `STEPS`.
        outcome: "ok"; "failed", the model or the graph is wrong; "timeout", "memory" or "crash",
            the process was ended; "skipped", the step needs one that failed.
        seconds: the time that it took.
        message: what went wrong, in a few lines; None if nothing did.
        facts: figures and texts about the result; docs/sweep.md lists them.
    """

    step: str
    outcome: str
    seconds: float = 0.0
    message: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Result:
    """What a sweep found out about a model.

    Attributes:
        name: the model.
        key: the key of its job.
        steps: the results of its steps, in their order.
        seconds: the time of its process.
        peak_memory: the most bytes that its process had; None where the system does not tell.
    """

    name: str
    key: str
    steps: tuple[StepResult, ...]
    seconds: float
    peak_memory: int | None = None

    @property
    def outcome(self) -> str:
        """The worst outcome of its steps: "ok" if none of them went wrong."""
        bad = [s.outcome for s in self.steps if s.outcome not in ("ok", "skipped")]
        return bad[0] if bad else "ok"

    @property
    def message(self) -> str | None:
        """The message of the first step that went wrong."""
        return next((s.message for s in self.steps if s.outcome not in ("ok", "skipped")), None)

    def as_data(self) -> dict[str, Any]:
        """The result as JSON has it."""
        return {"outcome": self.outcome, **asdict(self)}

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Result:
        """The result that `as_data` wrote."""
        steps = tuple(StepResult(**step) for step in data["steps"])
        return cls(data["name"], data["key"], steps, data["seconds"], data["peak_memory"])


@dataclass(frozen=True)
class SweepModel:
    """A model that a Python file yields for a sweep.

    Attributes:
        name: its name in tables.
        model: the model; or a function that can be called without arguments, and makes it.
        args: the positional arguments of an example call.
        kwargs: its keyword arguments.
        dynamic: the dynamic dimensions, as `symfx.trace` takes them.
        where: conditions on them.

    Example:
        >>> import torch
        >>> SweepModel("linear", torch.nn.Linear(2, 3), (torch.ones(1, 2),)).name
        'linear'
    """

    name: str
    model: Any
    args: Sequence[Any] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    dynamic: Any = None
    where: Sequence[str] = ()
