"""The cost of starting symfx beside that of starting torch: CPU time of whole processes.

python -m benchmarks.cold_start              prints the table; takes about two minutes
python -m benchmarks.cold_start --rounds 3   in fewer rounds

Each round runs every command once, so that a busy machine slows all of them alike. The times are
medians of the CPU time of a process from its start to its end, user and system. Compiled bytecode
is there, for a round that is not counted runs before.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parent.parent
_SYMFX = ["-c", "from symfx.cli import main; main()"]
_MODEL = ["examples/encoder.py:EncoderStack", "-i", "x: f32[batch, seq, 64]", "-q"]
_TORCH, _TRACE = "import torch", "symfx trace --no-verify"
COMMANDS = {
    "python without imports": ["-c", "pass"],
    "import symfx": ["-c", "import symfx"],
    "symfx --help": [*_SYMFX, "--help"],
    "symfx trace --help": [*_SYMFX, "trace", "--help"],
    _TORCH: ["-c", "import torch"],
    "import what fake tensors need": ["-c", "import torch, sympy, torch._dynamo"],
    _TRACE: [*_SYMFX, "trace", *_MODEL, "--no-verify"],
    "symfx trace": [*_SYMFX, "trace", *_MODEL],
}
#: Prints the CPU time of the second trace of the model in a process.
_SECOND_TRACE = """
import sys, time, torch
sys.path.insert(0, "examples")
from encoder import EncoderStack
import symfx
for _ in range(2):
    began = time.process_time()
    symfx.trace(EncoderStack(), torch.randn(3, 5, 64), dynamic={"x": ("batch", "seq", None)})
print(time.process_time() - began)
"""


def _cpu_seconds(words: list[str]) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *words], cwd=ROOT, stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _second_trace() -> float:
    done = subprocess.run(
        [sys.executable, "-c", _SECOND_TRACE], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return float(done.stdout)


def main(
    rounds: Annotated[int, typer.Option(min=1, help="How often each command runs.")] = 7,
) -> None:
    """Print the CPU time of commands, and their ratios to the import of torch."""
    seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
    traces = []
    for turn in range(rounds + 1):
        for name, words in COMMANDS.items():
            spent = _cpu_seconds(words)
            if turn:
                seconds[name].append(spent)
        if turn:
            traces.append(_second_trace())
    medians = {name: statistics.median(spent) for name, spent in seconds.items()}
    table = Table("command", "CPU seconds", "to import torch")
    for name, median in medians.items():
        table.add_row(name, f"{median:.2f}", f"{median / medians[_TORCH]:.2f}")
    console = Console()
    console.print(table)
    trace = statistics.median(traces)
    beside = (medians[_TRACE] - trace) / medians[_TORCH]
    console.print(f"the second trace in a process: {trace:.2f} s")
    console.print(f"{_TRACE}, without a trace, to import torch: {beside:.2f} (the goal is 1.3)")
    console.print(f"load of the machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors")


if __name__ == "__main__":
    typer.run(main)
