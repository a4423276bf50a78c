"""``python -m benchmarks.origins``: the share of a trace that goes to the origins of its nodes.

The origins are the lines, the modules and the torch functions behind each node. The same models are
traced with and without them, in turns, and CPU time is compared, for a trace that runs every block
(``repeated="off"``) and for one that runs equal blocks once. The last column has the time to read
the lines of all nodes afterward, as a share of the trace.
"""

from __future__ import annotations

import gc
import itertools
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
from symfx.proxy_tensor.origins import Origin, OriginLog, Origins

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


class _NoOrigins(Origins):
    """Follows the modules, which the search for equal blocks needs, and notes nothing of a node."""

    def enter_function(self, function: Any) -> None:
        """Do nothing."""

    def mark(self, node: Any) -> None:
        """Do nothing."""

    def repeat(self, log: OriginLog, modules: Any) -> list[Origin]:
        """No origin for each node."""
        return [(None, None, None) for _ in log.nodes]


def measured(name: str, rounds: int, repeated: Any) -> tuple[int, float, float, float, float]:
    """The nodes of a model, seconds without and with origins, their share, and seconds to read.

    The share is the median over pairs of traces in a row, which meet the same load.
    """
    model, example, dynamic = MODELS[name]()
    seconds: dict[bool, list[float]] = {False: [], True: []}
    reading: list[float] = []
    nodes = 0
    for turn in range(2 * (rounds + 1)):
        keeps = turn % 2 == 1
        stand_in: Any = (lambda *_: None) if repeated == "off" else _NoOrigins
        without = mock.patch("symfx.tracing.tracer.Origins", stand_in)
        gc.collect()
        gc.disable()
        try:
            start = time.process_time()
            if keeps:
                traced = symfx.trace(model, example, dynamic=[dynamic], repeated=repeated)
            else:
                with without:
                    traced = symfx.trace(model, example, dynamic=[dynamic], repeated=repeated)
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
    shares = [full / plain - 1 for plain, full in zip(*seconds.values(), strict=True)]
    share = statistics.median(shares)
    return nodes, low[False], low[True], share, statistics.median(reading)


def main(
    only: Annotated[list[str] | None, typer.Option(help="Trace this model alone.")] = None,
    repeat: Annotated[int, typer.Option(min=1, help="Timed rounds of each model.")] = 9,
) -> None:
    """Print the share of each trace that goes to the origins of its nodes."""
    torch.manual_seed(0)
    table = Table(box=SIMPLE_HEAD)
    for column in (
        "model",
        "blocks",
        "nodes",
        "ms without",
        "ms with",
        "share",
        "to read all lines",
    ):
        table.add_column(column, justify="left" if column == "model" else "right")
    for name, repeated in itertools.product(only or MODELS, ("off", "inline")):
        nodes, plain, full, share, reading = measured(name, repeat, repeated)
        row = (f"{plain * 1e3:.1f}", f"{full * 1e3:.1f}", f"{share:+.1%}")
        table.add_row(name, repeated, str(nodes), *row, f"{reading / plain:.1%}")
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
