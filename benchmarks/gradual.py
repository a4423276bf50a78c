"""Gradual types: symfx beside stock. ``python -m benchmarks.gradual``.

The first benchmark takes residual stacks of convolutions whose input is Dyn. It prints the size of
the formulas as SMT-LIB, the time to make and solve them, and the growth of both. The second one
migrates a BERT encoder of 12 layers with unknown batch and sequence.
"""

from __future__ import annotations

from typing import Annotated, Any

import torch
import torch.fx.experimental.migrate_gradual_types.transform_to_z3 as stock
import typer
import z3
from rich.console import Console
from rich.table import Table
from torch import nn

import symfx.migrate_gradual_types.transform_to_z3 as ours
from benchmarks.timing import Contestant, fitted_exponent, measure

BLOCKS = (1, 2, 4, 8, 16)


class Block(nn.Module):
    """Two convolutions and a shortcut."""

    def __init__(self, channels: int = 8) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU()
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x: torch.Tensor) -> Any:
        out = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(out)) + x)


class EncoderLayer(nn.Module):
    """One layer of BERT at its own size."""

    def __init__(self, width: int = 768, heads: int = 12) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.out = nn.Linear(width, width)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def split(self, x: torch.Tensor) -> Any:
        return x.view(x.size(0), x.size(1), self.heads, -1).transpose(1, 2)

    def forward(self, x: torch.Tensor) -> Any:
        q, k, v = (self.split(f(x)) for f in (self.query, self.key, self.value))
        weights = (q @ k.transpose(-2, -1) / 8.0).softmax(-1)
        x = self.norm1(x + self.out((weights @ v).transpose(1, 2).flatten(2)))
        return self.norm2(x + self.down(nn.functional.gelu(self.up(x))))


class Encoder(nn.Module):
    """BERT's encoder: 12 layers of width 768."""

    def __init__(self, layers: int = 12) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(30522, 768), nn.Embedding(512, 768)
        self.layers = nn.ModuleList(EncoderLayer() for _ in range(layers))

    def forward(self, ids: torch.Tensor) -> Any:
        x = self.words(ids) + self.places(torch.arange(ids.size(1)))
        for layer in self.layers:
            x = layer(x)
        return x


def formula_and_size(library: Any, module: nn.Module) -> tuple[Any, int]:
    """The formula of a program, and its length as SMT-LIB."""
    formula = library.transform_all_constraints(module)
    solver = z3.Solver()
    solver.add(formula)
    return formula, len(solver.to_smt2())


def _contestant(name: str, library: Any, module: nn.Module, solve: bool) -> Contestant:
    def run() -> None:
        formula = library.transform_all_constraints(module)
        if solve:
            solver = z3.Solver()
            solver.add(formula)
            assert solver.check() == z3.sat

    return Contestant(name, run)


def residual_stacks(rounds: int) -> tuple[Table, list[str]]:
    """The table of stock and symfx on residual stacks, and lines that sum it up."""
    table = Table("blocks", "SMT-LIB stock", "symfx", "ratio", "seconds stock", "symfx", "ratio")
    seconds: dict[int, float] = {}
    sizes: dict[int, float] = {}
    for blocks in BLOCKS:
        module = torch.fx.symbolic_trace(nn.Sequential(*(Block() for _ in range(blocks))))
        _, theirs = formula_and_size(stock, module)
        _, mine = formula_and_size(ours, module)
        timings = measure(
            [_contestant("stock", stock, module, True), _contestant("symfx", ours, module, True)],
            rounds,
        )
        ratio = timings.ratio("symfx", "stock")
        seconds[blocks], sizes[blocks] = timings.median("symfx") or 0.0, float(mine)
        table.add_row(
            str(blocks),
            f"{theirs:,}",
            f"{mine:,}",
            f"1/{theirs / mine:.1f}",
            f"{timings.median('stock') or 0:.2f}",
            f"{seconds[blocks]:.3f}",
            f"1/{1 / ratio:.1f}" if ratio else "-",
        )
    size, time = fitted_exponent(sizes), fitted_exponent(seconds)
    return table, [f"symfx grows as blocks^{size:.2f} in size, blocks^{time:.2f} in time"]


def bert(rounds: int) -> list[str]:
    """A line about the migration of a BERT encoder, traced and solved in each round."""
    from symfx.static_migration import migrate, program_graph
    from symfx.static_migration.conditions import parse_input

    model = Encoder()
    types = dict([parse_input("ids: i64[batch, seq]")])
    found: list[Any] = []

    def run() -> None:
        found.append(migrate(program_graph(model, types), types))

    timings = measure([Contestant("symfx", run)], rounds)
    unknown = sum(shape == "Dyn" for shape in found[-1].shapes.values())
    return [
        f"BERT encoder, 12 layers: {len(found[-1].shapes)} nodes, {unknown} of them Dyn, "
        f"{timings.median('symfx') or 0:.2f} s to trace, type and solve"
    ]


def main(
    rounds: Annotated[int, typer.Option(min=1, help="Timed rounds of each benchmark.")] = 3,
) -> None:
    """Print both comparisons."""
    console = Console()
    table, lines = residual_stacks(rounds)
    console.print(table)
    for line in [*lines, *bert(rounds)]:
        console.print(line)


if __name__ == "__main__":
    typer.run(main)
