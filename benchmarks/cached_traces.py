"""Traces from the cache: ``python -m benchmarks.cached_traces``.

A LLaMA of 32 tiny layers is traced, traced with an empty cache, and read from it, in turns and in
one process. The figures are the medians of the processor time, and of the ratio of each turn.
"""

from __future__ import annotations

import gc
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.table import Table as Grid

import symfx

__all__ = ["llama", "main"]


def llama(layers: int) -> torch.nn.Module:
    """LlamaModel of transformers with tiny layers and random weights."""
    from transformers import LlamaConfig, LlamaModel

    config: Any = LlamaConfig(
        num_hidden_layers=layers, hidden_size=64, num_attention_heads=4, num_key_value_heads=2,
        intermediate_size=96, vocab_size=100, use_cache=False,
    )  # fmt: skip
    model: torch.nn.Module = LlamaModel(config)
    return model.eval()


def _timed(run: Callable[[], Any]) -> float:
    gc.collect()
    began = time.process_time()
    run()
    return time.process_time() - began


def main(
    layers: Annotated[int, typer.Option(min=1, help="The number of layers.")] = 32,
    rounds: Annotated[int, typer.Option(min=1, help="The number of turns.")] = 7,
) -> None:
    """Print the times of tracing, of tracing with an empty cache, and of reading from the cache."""
    model, ids = llama(layers), torch.randint(0, 100, (2, 17))
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():

        def trace(cache: str | bool) -> symfx.Trace:
            dynamic = {"input_ids": ("batch", "seq")}
            return symfx.trace(model, (), {"input_ids": ids}, dynamic=dynamic, cache=cache)

        trace(False)
        plain, missed, found = [], [], []
        for _ in range(rounds):
            plain.append(_timed(lambda: trace(False)))
            symfx.cache.clear(folder)
            missed.append(_timed(lambda: trace(folder)))
            found.append(_timed(lambda: trace(folder)))
        use = trace(folder).cache_use
        if use is None or not use.hit:
            raise SystemExit(f"the trace was not found again: {use}")
    grid = Grid("", "seconds", "to tracing")
    for name, times in (
        ("traced", plain),
        ("traced and stored", missed),
        ("from the cache", found),
    ):
        ratio = statistics.median(t / p for t, p in zip(times, plain, strict=True))
        grid.add_row(name, f"{statistics.median(times):.3f}", f"{ratio:.2f}")
    console = Console()
    console.print(f"LLaMA, {layers} layers, {rounds} turns, processor time")
    console.print(grid)


if __name__ == "__main__":
    typer.run(main)
