"""``python -m benchmarks.origins``: the share of a trace that goes to the origins of its nodes.

The origins are the lines, the modules and the torch functions behind each node. The same models are
traced with and without them, in turns, and CPU time is compared. The last column has the time to
read the lines of all nodes afterward, as a share of the trace.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable
from typing import Annotated, Any
from unittest import mock

import torch
import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

import symfx
from benchmarks.models import ResNet
from examples.encoder import EncoderStack

__all__ = ["MODELS", "measured"]


def _encoder() -> tuple[Any, Any, Any]:
    return EncoderStack().eval(), torch.randn(3, 7, 64), ("batch", "seq", None)


def _resnet() -> tuple[Any, Any, Any]:
    return ResNet().eval(), torch.randn(3, 3, 64, 64), ("batch", None, "h", "w")


def _transformers(name: str) -> Callable[[], tuple[Any, Any, Any]]:
    def make() -> tuple[Any, Any, Any]:
        import transformers

        settings: dict[str, Any] = {"num_hidden_layers": 12, "vocab_size": 100}
        if name == "GPT2":
            settings |= {"n_embd": 48, "n_head": 4, "n_inner": 96}
        else:
            settings |= {"hidden_size": 48, "num_attention_heads": 4, "intermediate_size": 96}
        config = getattr(transformers, f"{name}Config")(**settings, use_cache=False)
        model = getattr(transformers, f"{name}Model")(config).eval()
        return model, torch.randint(0, 100, (3, 7)), ("batch", "seq")

    return make


MODELS: dict[str, Callable[[], tuple[Any, Any, Any]]] = {
    "encoder": _encoder,
    "resnet": _resnet,
    "bert": _transformers("Bert"),
    "gpt2": _transformers("GPT2"),
    "llama": _transformers("Llama"),
}


def measured(name: str, rounds: int) -> tuple[int, float, float, float]:
    """The nodes of a model, seconds without and with origins, and seconds to read all lines."""
    model, example, dynamic = MODELS[name]()
    seconds: dict[bool, list[float]] = {False: [], True: []}
    reading: list[float] = []
    nodes = 0
    for turn in range(2 * (rounds + 1)):
        keeps = turn % 2 == 1
        without = mock.patch("symfx.tracing.tracer.Origins", lambda _: None)
        gc.collect()
        gc.disable()
        try:
            start = time.process_time()
            if keeps:
                traced = symfx.trace(model, example, dynamic=[dynamic])
            else:
                with without:
                    traced = symfx.trace(model, example, dynamic=[dynamic])
            taken = time.process_time() - start
        finally:
            gc.enable()
        nodes = len(traced.graph_module.graph.nodes)
        if turn < 2:
            continue  # imports, and torch's registries
        seconds[keeps].append(taken)
        if keeps:
            start = time.process_time()
            for node in traced.graph_module.graph.nodes:
                str(node.stack_trace)
            reading.append(time.process_time() - start)
    low = {keeps: statistics.median(each) for keeps, each in seconds.items()}
    return nodes, low[False], low[True], statistics.median(reading)


def main(
    only: Annotated[list[str] | None, typer.Option(help="Trace this model alone.")] = None,
    repeat: Annotated[int, typer.Option(min=1, help="Timed rounds of each model.")] = 9,
) -> None:
    """Print the share of each trace that goes to the origins of its nodes."""
    torch.manual_seed(0)
    table = Table(box=SIMPLE_HEAD)
    for column in ("model", "nodes", "ms without", "ms with", "share", "to read all lines"):
        table.add_column(column, justify="left" if column == "model" else "right")
    for name in only or MODELS:
        nodes, plain, full, reading = measured(name, repeat)
        row = (f"{plain * 1e3:.1f}", f"{full * 1e3:.1f}", f"{full / plain - 1:+.1%}")
        table.add_row(name, str(nodes), *row, f"{reading / plain:.1%}")
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
