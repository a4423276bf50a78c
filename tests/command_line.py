"""What the tests of the command line share: running it as a process, as a user does."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

#: Runs the command line in this process: (exit code, stdout, stderr); the fixture ``run``.
Run = Callable[..., tuple[int, str, str]]

PROGRAM = [sys.executable, "-c", "from symfx.cli import main; main()"]


def symfx(
    *words: str, cwd: Path | None = None, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own."""
    return subprocess.run(
        [*PROGRAM, *words], cwd=cwd, env={**os.environ, **(env or {})},
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def start(*words: str, **options: Any) -> subprocess.Popen[str]:
    """Start the command line in a process of its own."""
    return subprocess.Popen(
        [*PROGRAM, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )


def loaded(modules: Sequence[str], code: str) -> list[str]:
    """Those of some modules that are loaded in a process which has run the code."""
    ask = f"{code}\nimport sys; print(*sorted(set({list(modules)!r}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split("\n")[-2].split()
