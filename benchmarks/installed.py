"""torch.export and torch.compile on symfx against stock: ``python -m benchmarks.installed``.

Each work runs in this process in turn with stock torch and with symfx installed. The columns are
the medians of the rounds in milliseconds, the ratio stock / symfx, the ratio to reach, and the
ceiling: the ratio if symbolic shapes, make_fx and fake tensors were free, which `ceiling` estimates
from samples of stock torch. `--cpu` takes CPU time, for a machine that is busy. torch computes on
one thread: the works run small kernels now and then, and a second thread on a busy machine spends
more CPU time on waiting than these kernels take.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.table import Table as Grid
from torch import Tensor, nn
from torch.export import Dim, export

import symfx
from benchmarks.ceiling import ceiling
from benchmarks.timing import Contestant, Timings, measure
from examples.encoder import EncoderStack

__all__ = ["WORKS", "Work", "times"]

Inputs = tuple[Tensor, ...]


@dataclass(frozen=True)
class Work:
    """A work of torch that is timed.

    Attributes:
        name: its name.
        build: makes the model, once.
        inputs: the example inputs.
        dims: the dynamic dimensions of each input.
        run: the timed work: takes the model, the inputs, the dimensions and what `prepare` made.
        prepare: the part before it that is not timed.
        goal: the ratio stock / symfx to reach.
    """

    name: str
    build: Callable[[], nn.Module]
    inputs: Inputs
    dims: tuple[Any, ...]
    run: Callable[[nn.Module, Inputs, Any, Any], object]
    goal: float
    prepare: Callable[[nn.Module, Inputs, Any], Any] = field(default=lambda *_: None)


def _encoder() -> nn.Module:
    model = EncoderStack(8, 64, 4, 128)
    model.train(mode=False)
    return model


def _training_encoder() -> nn.Module:
    # In train mode torch's encoder layers run operator by operator. In eval mode without gradients
    # a layer is one fused operator, and nearly all of the time is Dynamo's own.
    return EncoderStack(8, 64, 4, 128).train()


def _bert() -> nn.Module:
    from transformers import BertConfig, BertModel

    config = BertConfig(
        hidden_size=64, num_hidden_layers=4, num_attention_heads=4, intermediate_size=128,
        vocab_size=100, return_dict=False,
    )  # fmt: skip
    model: nn.Module = BertModel(config)
    model.train(mode=False)
    return model


def _export(model: nn.Module, inputs: Inputs, dims: Any, _: Any, **options: Any) -> Any:
    return export(model, inputs, dynamic_shapes=dims, **options)


def _strict(model: nn.Module, inputs: Inputs, dims: Any, _: Any) -> Any:
    return _export(model, inputs, dims, None, strict=True)


def _exported(model: nn.Module, inputs: Inputs, dims: Any) -> Any:
    return _export(model, inputs, dims, None)


def _decompose(model: nn.Module, inputs: Inputs, dims: Any, program: Any) -> Any:
    return program.run_decompositions()


def _compile(model: nn.Module, inputs: Inputs, dims: Any, _: Any) -> Any:
    with torch.no_grad():
        return torch.compile(model, backend="aot_eager", dynamic=True)(*inputs)


def _train(model: nn.Module, inputs: Inputs, dims: Any, _: Any) -> None:
    out = torch.compile(model, backend="aot_eager", dynamic=True)(*inputs)
    (out[0] if isinstance(out, tuple) else out).sum().backward()


_ROWS, _WORDS = Dim("rows", max=512), Dim("words", max=500)
_VECTORS = ((torch.randn(3, 17, 64),), ({0: _ROWS, 1: _WORDS},))
_IDS = ((torch.randint(0, 100, (3, 17)),), ({0: _ROWS, 1: _WORDS},))

WORKS = (
    Work("export, encoder", _encoder, *_VECTORS, _export, 3.5),
    Work("export, BERT", _bert, *_IDS, _export, 2.6),
    Work("run_decompositions, encoder", _encoder, *_VECTORS, _decompose, 5.0, _exported),
    Work("strict export, encoder", _encoder, *_VECTORS, _strict, 2.1),
    Work("strict export, BERT", _bert, *_IDS, _strict, 1.35),
    Work("cold aot_eager, encoder", _training_encoder, *_VECTORS, _compile, 3.0),
    Work("cold aot_eager, fused encoder", _encoder, *_VECTORS, _compile, 1.0),
    Work("cold aot_eager, BERT", _bert, *_IDS, _compile, 2.1),
    Work("training, encoder", _training_encoder, *_VECTORS, _train, 2.8),
)


def times(
    work: Work, repeat: int, clock: Callable[[], float] = time.perf_counter
) -> tuple[Timings, float | None]:
    """Time one work with stock torch and with symfx installed.

    Returns:
        The times, and the ceiling of their ratio.
    """
    torch.manual_seed(0)
    model = work.build()
    made: list[Any] = [None]

    def contestant(name: str) -> Contestant:
        def prepare() -> None:
            if name == "symfx":
                symfx.install()
            else:
                symfx.uninstall()
            torch._dynamo.reset()
            made[0] = work.prepare(model, work.inputs, work.dims)

        def run() -> None:
            work.run(model, work.inputs, work.dims, made[0])

        return Contestant(name, run, prepare)

    stock, ours = contestant("stock"), contestant("symfx")
    try:
        found = measure([stock, ours], repeat, clock=clock)
        best = None if found.errors or stock.prepare is None else ceiling(stock.prepare, stock.run)
        return found, best
    finally:
        symfx.uninstall()
        torch._dynamo.reset()


def main(
    repeat: Annotated[int, typer.Option(min=1, help="Timed rounds.")] = 5,
    only: Annotated[str, typer.Option(help="A part of the names of the works to time.")] = "",
    cpu: Annotated[bool, typer.Option("--cpu", help="Take CPU time, not wall time.")] = False,
) -> None:
    """Print the table."""
    clock = time.process_time if cpu else time.perf_counter
    torch.set_num_threads(1)
    grid = Grid("work", "stock, ms", "symfx, ms", "stock / symfx", "goal", "ceiling")
    errors = []
    for work in WORKS:
        if only not in work.name:
            continue
        found, best = times(work, repeat, clock)
        errors += [f"{work.name}, {name}: {e}" for name, e in found.errors.items()]
        medians = [found.median(name) for name in ("stock", "symfx")]
        ratio = found.ratio("stock", "symfx")
        cells = ["-" if m is None else f"{1e3 * m:.0f}" for m in medians]
        shown = ["-" if r is None else f"{r:.2f}" for r in (ratio, best)]
        grid.add_row(work.name, *cells, shown[0], f"{work.goal}", shown[1])
    console = Console()
    console.print(grid)
    for error in errors:
        console.print(error, markup=False)
    if errors:
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
