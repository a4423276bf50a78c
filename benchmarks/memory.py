"""The peak of memory while a peer traces GPT-2 with 24 layers, in a process of its own.

python -m benchmarks --only memory             prints all peers and their ratios
python -m benchmarks.memory symfx symbolic     prints one peer as JSON
"""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import tracemalloc
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.models import build
from benchmarks.peers import PEERS, TracingMode

__all__ = ["CONTESTANTS", "NAME", "Peak", "measure_memory"]

NAME = "memory"
LAYERS = 24
CONTESTANTS: tuple[tuple[str, TracingMode], ...] = (
    ("stock", "fake"),
    ("stock", "symbolic"),
    ("symfx", "symbolic"),
)
_STATUS = Path("/proc/self/status")


@dataclass(frozen=True)
class Peak:
    """The growth of memory above the memory in use before a trace.

    Attributes:
        python: bytes that Python allocated, by tracemalloc.
        process: resident bytes, in a trace without tracemalloc; None if the system does not
            tell them.
    """

    python: int
    process: int | None


def _resident(field: str) -> int | None:
    if not _STATUS.exists():
        return None
    lines = dict(line.split(":", 1) for line in _STATUS.read_text().splitlines() if ":" in line)
    return int(lines[field].split()[0]) * 1024


def _peak(peer: str, mode: TracingMode) -> Peak:
    """The peak of one trace; the process must do no other work."""
    trace = PEERS[peer].trace
    # A smaller model comes first, because imports and torch's registries are no part of a trace.
    function, args = build("gpt2", small=True).closed()
    trace(function, args, mode)
    function, args = build("gpt2", layers=LAYERS).closed()
    gc.collect()
    before = _resident("VmRSS")
    if before is not None:
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts here
    kept = trace(function, args, mode)
    after = _resident("VmHWM")
    del kept
    gc.collect()
    tracemalloc.start()
    trace(function, args, mode)
    python = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return Peak(python, None if before is None or after is None else after - before)


def measure_memory() -> dict[str, Peak]:
    """The peaks of all contestants, by column."""
    found = {}
    for peer, mode in CONTESTANTS:
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.memory", peer, mode],
            capture_output=True,
            text=True,
            check=True,
        )
        found[f"{peer} {mode}"] = Peak(**json.loads(done.stdout.splitlines()[-1]))
    return found


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asdict(_peak(*sys.argv[1:]))) + "\n")  # type: ignore[arg-type]
