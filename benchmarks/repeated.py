"""The cost of stacks of equal blocks: ``python -m benchmarks.repeated``.

A LLaMA-like model is traced with each block run ("off"), with equal blocks recorded from the second
one ("inline"), as calls of one subgraph ("subgraph"), and by stock's `torch.export.export`. The
columns have the median CPU milliseconds of the rounds, and the peak of Python's memory in MB.
"""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable
from functools import partial
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


def main(
    layers: Annotated[list[int], typer.Option(help="Numbers of layers.")] = [32, 126],  # noqa: B006
    repeat: Annotated[int, typer.Option(min=1, help="Timed rounds.")] = 5,
    stock: Annotated[bool, typer.Option(help="Time torch.export, too.")] = True,
) -> None:
    """Print the table."""
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
