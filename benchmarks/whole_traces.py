"""The cost of `symfx.trace` around make_fx: ``python -m benchmarks.whole_traces``.

`symfx.trace` finds the user's functions and gives them other code, remembers the model's state,
and makes the checks of other inputs. Each column is the median of its rounds, in milliseconds:

- make_fx: the graph of the model as a function of its inputs alone, with the same named dimensions;
- symfx.trace: the whole; torch.export: stock's `torch.export.export` of the same model, not strict;
- functions: the part in which the user's functions are found and changed, and changed back;
- first: the same part in the first trace of the model.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.table import Table as Grid

import symfx
from benchmarks.models import ResNet
from benchmarks.timing import Contestant, Timings, measure
from examples.encoder import EncoderStack
from symfx.proxy_tensor import make_fx
from symfx.proxy_tensor.rewritten_functions import symbolic_numbers

__all__ = ["PROGRAMS", "Program", "times"]

COLUMNS = ("make_fx", "symfx.trace", "torch.export", "functions")


@dataclass(frozen=True)
class Program:
    """A model to trace.

    Attributes:
        name: its name.
        build: makes the model, in eval mode.
        inputs: the example inputs.
        dynamic: for each input, the name of each dimension, or None where it is static.
    """

    name: str
    build: Callable[[], torch.nn.Module]
    inputs: tuple[torch.Tensor, ...]
    dynamic: tuple[tuple[str | None, ...], ...]


def _bert() -> torch.nn.Module:
    from transformers import BertConfig, BertModel

    config = BertConfig(
        hidden_size=64, num_hidden_layers=4, num_attention_heads=4, intermediate_size=128,
        vocab_size=100, return_dict=False,
    )  # fmt: skip
    model: torch.nn.Module = BertModel(config)
    return model


PROGRAMS = (
    Program(
        "linear",
        lambda: torch.nn.Linear(16, 8),
        (torch.randn(4, 16),),
        (("batch", None),),
    ),
    Program(
        "encoder",
        lambda: EncoderStack(4, 64, 4, 128),
        (torch.randn(3, 17, 64),),
        (("batch", "seq", None),),
    ),
    Program(
        "resnet",
        lambda: ResNet(16, 10),
        (torch.randn(2, 3, 64, 96),),
        (("batch", None, "height", "width"),),
    ),
    Program("bert", _bert, (torch.randint(0, 100, (3, 17)),), (("batch", "seq"),)),
)


def times(program: Program, repeat: int) -> Timings:
    """The seconds of each column of `COLUMNS` for a program.

    Args:
        program: the program.
        repeat: the number of timed rounds.
    """
    model = program.build().eval()
    # Stock refuses named dimensions that it narrows, which it does in two of the models.
    auto = torch.export.Dim.AUTO
    shapes = tuple({i: auto for i, n in enumerate(names) if n} for names in program.dynamic)

    def graph(*inputs: torch.Tensor) -> Any:
        return model(*inputs)

    def functions() -> None:
        with symbolic_numbers(model):
            pass

    return measure(
        [
            Contestant("functions", functions),
            Contestant(
                "make_fx",
                lambda: make_fx(
                    graph, None, "symbolic", True, dynamic_shapes=list(map(list, program.dynamic))
                )(*program.inputs),
            ),
            Contestant(
                "symfx.trace",
                lambda: symfx.trace(model, program.inputs, dynamic=program.dynamic),
            ),
            Contestant(
                "torch.export",
                lambda: torch.export.export(
                    model, program.inputs, dynamic_shapes=shapes, strict=False
                ),
            ),
        ],
        repeat,
    )


def main(repeat: Annotated[int, typer.Option(min=1, help="Timed rounds.")] = 5) -> None:
    """Print the table."""
    grid = Grid("model", *COLUMNS, "first", title="milliseconds")
    errors = []
    with torch.no_grad():
        for program in PROGRAMS:
            found = times(program, repeat)
            errors += [f"{program.name}, {name}: {e}" for name, e in found.errors.items()]
            medians = [found.median(name) for name in COLUMNS]
            cells = ["-" if m is None else f"{1e3 * m:.1f}" for m in medians]
            first = found.first.get("functions")
            grid.add_row(program.name, *cells, "-" if first is None else f"{1e3 * first:.1f}")
    console = Console()
    console.print(grid)
    for error in errors:
        console.print(error)
    if errors:
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
