"""``python -m benchmarks.typecheck_time``: the CPU time that ``symfx typecheck`` adds to torch's.

Whole processes are timed, in turns: the import of torch, the making of a fake mode of torch (whose
first use imports ``torch._dynamo``), and ``symfx typecheck`` of two small models. torch.fx traces
the first; the second has ``torch.vmap``, and is traced operator by operator.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

__all__ = ["ByOperators", "Small"]


class Small(nn.Module):
    """A convolution and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 8, 3), nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(self.conv(x).relu().mean((2, 3)))
        return y


class ByOperators(Small):
    """The same with a function that torch.fx does not trace."""

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x).relu().mean((2, 3))
        rows: Tensor = torch.vmap(lambda row: self.head(row).softmax(0))(y)
        return rows


_HERE = Path(__file__)
_FAKE = "import torch; torch._subclasses.FakeTensorMode()"


def _typecheck(model: str) -> list[str]:
    return ["-m", "symfx", "typecheck", f"{_HERE}:{model}", "-i", "x: f32[n, 3, h, w]"]


PROCESSES: dict[str, list[str]] = {
    "import torch": ["-c", "import torch"],
    "a fake mode of torch": ["-c", _FAKE],
    "typecheck, traced by torch.fx": _typecheck("Small"),
    "typecheck, operator by operator": _typecheck("ByOperators"),
}


def _seconds(arguments: Sequence[str]) -> float:
    """The CPU seconds of a process of Python."""
    path = os.pathsep.join(filter(None, (str(_HERE.parents[1]), os.environ.get("PYTHONPATH"))))
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    subprocess.run(
        [sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL, env=environment
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main(repeat: Annotated[int, typer.Option(min=1, help="Rounds.")] = 5) -> None:
    """Print the medians of the processes."""
    seconds: dict[str, list[float]] = {name: [] for name in PROCESSES}
    for _ in range(repeat + 1):
        for name, arguments in PROCESSES.items():
            seconds[name].append(_seconds(arguments))
    medians = {name: statistics.median(each[1:]) for name, each in seconds.items()}
    table = Table(box=SIMPLE_HEAD)
    for column in ("process", "CPU seconds", "after torch", "after a fake mode"):
        table.add_column(column, justify="left" if column == "process" else "right")
    torch_alone, fake = (medians[name] for name in ("import torch", "a fake mode of torch"))
    for name, median in medians.items():
        table.add_row(
            name, f"{median:.2f}", f"{median - torch_alone:+.2f}", f"{median - fake:+.2f}"
        )
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
