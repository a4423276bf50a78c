"""The cost of stacks of equal blocks: ``python -m benchmarks.repeated``.

A LLaMA-like model is traced with each block run ("off"), with equal blocks recorded from the second
one ("inline"), as calls of one subgraph ("subgraph"), and by stock's `torch.export.export`. The
columns have the median CPU milliseconds of the rounds, and the peak of Python's memory in MB.

Another revision of symfx is measured beside them, in processes that take turns:

git worktree add ../before 615d5ae           the last revision that ran each block in its own way
python -m benchmarks.repeated --before ../before
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.table import Table as Grid
from torch import Tensor, nn
from torch.nn import functional

import symfx
from benchmarks.timing import Contestant, measure

__all__ = ["Llama"]

WAYS = ("off", "inline", "subgraph")
ROOT = Path(__file__).parent.parent
#: Prints the CPU milliseconds of the fastest of several traces; the first is not counted.
_TRACES = """
import gc, sys, time, torch
import symfx
from benchmarks.repeated import Llama
model, ids = Llama(int(sys.argv[1])).eval(), torch.randint(100, (3, 17))
options = {"repeated": sys.argv[2]} if sys.argv[2] else {}
spent = []
with torch.no_grad():
    for _ in range(6):
        gc.collect()
        gc.disable()
        began = time.process_time()
        symfx.trace(model, ids, dynamic=[("batch", "seq")], **options)
        spent.append(time.process_time() - began)
        gc.enable()
print(1e3 * min(spent[1:]))
"""


class _Norm(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        variance = x.pow(2).mean(-1, keepdim=True)
        return self.weight * (x * torch.rsqrt(variance + 1e-6))


def _rotated(x: Tensor) -> Tensor:
    left, right = x.chunk(2, -1)
    return torch.cat((-right, left), -1)


class _Attention(nn.Module):
    def __init__(self, width: int, heads: int, groups: int) -> None:
        super().__init__()
        self.heads, self.groups, self.size = heads, groups, width // heads
        self.q = nn.Linear(width, width, bias=False)
        self.k = nn.Linear(width, groups * self.size, bias=False)
        self.v = nn.Linear(width, groups * self.size, bias=False)
        self.out = nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        batch, seq, _ = x.shape
        q = self.q(x).view(batch, seq, self.heads, self.size).transpose(1, 2)
        k = self.k(x).view(batch, seq, self.groups, self.size).transpose(1, 2)
        v = self.v(x).view(batch, seq, self.groups, self.size).transpose(1, 2)
        q, k = (t * cos + _rotated(t) * sin for t in (q, k))
        k, v = (t.repeat_interleave(self.heads // self.groups, 1) for t in (k, v))
        y = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        result: Tensor = self.out(y.transpose(1, 2).reshape(batch, seq, -1))
        return result


class _Layer(nn.Module):
    def __init__(self, index: int, width: int, heads: int, groups: int) -> None:
        super().__init__()
        self.index = index
        self.before, self.after = _Norm(width), _Norm(width)
        self.attention = _Attention(width, heads, groups)
        self.gate = nn.Linear(width, 2 * width, bias=False)
        self.up = nn.Linear(width, 2 * width, bias=False)
        self.down = nn.Linear(2 * width, width, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        x = x + self.attention(self.before(x), cos, sin)
        h = self.after(x)
        out: Tensor = x + self.down(functional.silu(self.gate(h)) * self.up(h))
        return out


class Llama(nn.Module):
    """The shape of LLaMA: normed attention with rotary positions and groups, a gated network.

    Args:
        layers: the number of layers.
    """

    def __init__(self, layers: int, width: int = 64, heads: int = 8, groups: int = 2) -> None:
        super().__init__()
        self.size = width // heads
        self.embedding = nn.Embedding(100, width)
        self.layers = nn.ModuleList(_Layer(i, width, heads, groups) for i in range(layers))
        self.norm = _Norm(width)
        self.head = nn.Linear(width, 100, bias=False)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embedding(ids)
        positions = torch.arange(ids.shape[1], dtype=torch.float32)
        angles = torch.outer(positions, 1e4 ** (-torch.arange(0, self.size, 2) / self.size))
        angles = torch.cat((angles, angles), -1)
        for layer in self.layers:
            x = layer(x, angles.cos(), angles.sin())
        result: Tensor = self.head(self.norm(x))
        return result


def _peak(run: Callable[[], Any]) -> float:
    tracemalloc.start()
    kept = run()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    del kept
    return peak / 1e6


def _milliseconds(checkout: Path, layers: int, way: str) -> float:
    """The CPU milliseconds of a trace by the symfx of a checkout, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", _TRACES, str(layers), way],
        env={**os.environ, "PYTHONPATH": f"{checkout / 'src'}{os.pathsep}{ROOT}"},
        capture_output=True,
        text=True,
        check=True,
    )
    return float(done.stdout)


def _print_beside(before: Path, layers: list[int], rounds: int) -> None:
    """Print the times of this revision and of the one before, in turns, and their ratios."""
    grid = Grid("layers", "before", *WAYS, title="CPU ms, and the part of the time before")
    for count in layers:
        runs: dict[str, list[float]] = {"": [], **{way: [] for way in WAYS}}
        for _ in range(rounds):
            for way, spent in runs.items():
                spent.append(_milliseconds(ROOT if way else before.resolve(), count, way))
        medians = {way: statistics.median(spent) for way, spent in runs.items()}
        cells = [f"{medians[way]:.0f} ({medians[way] / medians['']:.2f})" for way in WAYS]
        grid.add_row(str(count), f"{medians['']:.0f}", *cells)
    Console().print(grid)
    Console().print(f"load of the machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors")


def main(
    layers: Annotated[list[int], typer.Option(help="Numbers of layers.")] = [32, 126],  # noqa: B006
    repeat: Annotated[int, typer.Option(min=1, help="Timed rounds.")] = 5,
    stock: Annotated[bool, typer.Option(help="Time torch.export, too.")] = True,
    before: Annotated[
        Path | None, typer.Option(help="A checkout of another revision; times that one instead.")
    ] = None,
) -> None:
    """Print the table."""
    if before is not None:
        _print_beside(before, layers, repeat)
        return
    ids = torch.randint(100, (3, 17))
    grid = Grid("layers", *WAYS, "torch.export", *(f"{way} MB" for way in WAYS), title="CPU ms")
    dims = {0: torch.export.Dim("batch"), 1: torch.export.Dim("seq")}
    for count in layers:
        model = Llama(count).eval()

        def trace(way: str, model: nn.Module = model) -> Any:
            return symfx.trace(model, ids, dynamic=[("batch", "seq")], repeated=way)  # type: ignore[arg-type]

        def export(model: nn.Module = model) -> Any:
            return torch.export.export(model, (ids,), dynamic_shapes=(dims,), strict=False)

        runs = [Contestant(way, partial(trace, way)) for way in WAYS]
        if stock:
            runs.append(Contestant("torch.export", export))
        with torch.no_grad():
            found = measure(runs, repeat, clock=time.process_time)
            peaks = [_peak(partial(trace, way)) for way in WAYS]
        times = [found.median(name) for name in (*WAYS, "torch.export")]
        cells = ["-" if t is None else f"{1e3 * t:.0f}" for t in times]
        grid.add_row(str(count), *cells, *(f"{peak:.1f}" for peak in peaks))
        for name, error in found.errors.items():
            Console().print(f"{name}: {error}")
    Console().print(grid)


if __name__ == "__main__":
    typer.run(main)
