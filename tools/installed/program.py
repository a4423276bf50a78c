"""A program that torch.export or torch.compile takes, with inputs of an example and of others."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

__all__ = ["PROGRAMS", "Program", "ints", "program", "t"]

#: Ways that an ordinary program is taken.
ORDINARY = ("export", "strict", "aot_eager")


@dataclass(frozen=True)
class Program:
    """One program.

    Attributes:
        name: its name in the table.
        build: makes the program: a module, or a function of tensors.
        inputs: the arguments at some sizes.
        sizes: the sizes of the example, and then those of three other runs.
        dims: the ``dynamic_shapes`` of `torch.export.export`; None for those that ``AUTO`` gives
            to each dimension of each tensor.
        ways: the ways that it is taken: see `tools.installed.ways`.
        refused: by way, a part of the message of the error that stock torch and symfx raise.
        exact_guards: whether symfx may add no guard that stock does not have.
        atol: how far results may be from those of eager.
    """

    name: str
    build: Callable[[], Callable[..., Any]]
    inputs: Callable[..., tuple[Any, ...]]
    sizes: Sequence[tuple[int, ...]]
    dims: Callable[[], Any] | None = None
    ways: tuple[str, ...] = ORDINARY
    refused: Mapping[str, str] = field(default_factory=dict)
    atol: float = 1e-4


PROGRAMS: dict[str, Program] = {}


def program(
    inputs: Callable[..., tuple[Any, ...]],
    sizes: Sequence[tuple[int, ...]],
    dims: Callable[[], Any] | None = None,
    **options: Any,
) -> Callable[[Callable[[], Callable[..., Any]]], Callable[[], Callable[..., Any]]]:
    """Register the function below, which makes a program, under its name."""

    def register(build: Callable[[], Callable[..., Any]]) -> Callable[[], Callable[..., Any]]:
        name = build.__name__
        assert name not in PROGRAMS, f"two programs are called {name}"
        PROGRAMS[name] = Program(name, build, inputs, tuple(sizes), dims, **options)
        return build

    return register


def t(*shape: int) -> torch.Tensor:
    """A tensor of a shape, with values that differ."""
    count = max(1, torch.Size(shape).numel())
    return torch.linspace(-1.0, 1.3, count).reshape(shape) if 0 not in shape else torch.ones(shape)


def ints(*shape: int, below: int = 7) -> torch.Tensor:
    """Integers of a shape, from 0 up to a bound."""
    return (torch.arange(torch.Size(shape).numel()) % below).reshape(shape)
