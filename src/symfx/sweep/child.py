"""One model of a sweep in a process of its own, which ends at its limits of time and memory."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from symfx.sweep.jobs import Job, Result, StepResult

__all__ = ["end_with_parent", "kill_all", "run_job"]

#: The seconds between two looks at a process.
_LOOK = 0.05
_TAIL = 4_000
_running: set[subprocess.Popen[bytes]] = set()
_lock = threading.Lock()


def run_job(text: str, threads: int = 0) -> dict[str, Any]:
    """Take the steps of a job in a child process; the result as `Result.as_data` gives it.

    Args:
        text: the job, as `Job.to_json` writes it. It goes to other machines as it is.
        threads: how many threads torch gets in the child; 0 for its default.
    """
    job = Job.from_json(text)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="symfx-sweep-") as folder:
        results, log = Path(folder, "results"), Path(folder, "log")
        results.touch()
        with log.open("wb") as output:
            process = _started(text, results, output, threads, job.directory)
        try:
            outcome, peak = _watch(process, job, began)
        finally:
            _end(process)
        steps = [StepResult(**json.loads(line)) for line in _whole_lines(results)]
        if outcome is None and (process.returncode or len(steps) < len(job.steps)):
            outcome = "crash"
        if outcome is not None:
            message = _message(outcome, job, process.returncode, log)
            steps += _not_done(job, steps, outcome, message, time.monotonic() - began)
    seconds = time.monotonic() - began
    return Result(job.name, job.key(), tuple(steps), seconds, peak).as_data()


def _started(
    text: str, results: Path, output: IO[bytes], threads: int, directory: str
) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    if threads:
        environment["OMP_NUM_THREADS"] = str(threads)
    process = subprocess.Popen(
        [sys.executable, "-m", "symfx", "sweep-model", str(results), str(os.getpid())],
        stdin=subprocess.PIPE,
        stdout=output,
        stderr=subprocess.STDOUT,
        env=environment,
        cwd=directory,
        start_new_session=True,  # its own children end with it
    )
    with _lock:
        _running.add(process)
    assert process.stdin is not None  # it is a pipe
    with contextlib.suppress(BrokenPipeError):
        process.stdin.write(text.encode())
    with contextlib.suppress(BrokenPipeError):
        process.stdin.close()
    return process


def _watch(
    process: subprocess.Popen[bytes], job: Job, began: float
) -> tuple[str | None, int | None]:
    """Wait for a process, and end it at a limit.

    Returns:
        "timeout" or "memory" if it came to a limit, and the most bytes that it had.
    """
    peak: int | None = None
    while process.poll() is None:
        memory = _memory_of(process.pid)
        if memory is not None:
            peak = max(peak or 0, memory)
            if memory > job.memory_limit:
                return "memory", peak
        if time.monotonic() - began > job.time_limit:
            return "timeout", peak
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_LOOK)
    return None, peak


def _memory_of(pid: int) -> int | None:
    """The bytes in memory of a process and its children; None if the system does not tell."""
    if not os.path.isdir("/proc/self"):
        shown = subprocess.run(
            ["ps", "-o", "rss=", "-g", str(pid)], capture_output=True, text=True, check=False
        )
        sizes = [int(word) for word in shown.stdout.split() if word.isdigit()]
        return sum(sizes) * 1024 if sizes else None
    total = None
    for each in _descendants(pid):
        with contextlib.suppress(OSError, ValueError, IndexError):
            pages = int(Path(f"/proc/{each}/statm").read_text().split()[1])
            total = (total or 0) + pages * os.sysconf("SC_PAGE_SIZE")
    return total


def _descendants(pid: int) -> Iterator[int]:
    yield pid
    with contextlib.suppress(OSError, ValueError):
        for task in os.listdir(f"/proc/{pid}/task"):
            for child in Path(f"/proc/{pid}/task/{task}/children").read_text().split():
                yield from _descendants(int(child))


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process and all that it has started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    with _lock:
        _running.discard(process)


def kill_all() -> None:
    """End all processes of models that this process has started and that are running."""
    with _lock:
        running = list(_running)
    for process in running:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)


def end_with_parent(parent: int) -> None:
    """End this process soon after its parent: a parent that is killed ends no child itself.

    Args:
        parent: the process that started this one.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os.killpg(os.getpgrp(), signal.SIGKILL)

    threading.Thread(target=watch, name="parent of a sweep's model", daemon=True).start()


def _whole_lines(path: Path) -> list[str]:
    content = path.read_text("utf-8", errors="replace")
    return content[: content.rfind("\n") + 1].splitlines()


def _message(outcome: str, job: Job, code: int, log: Path) -> str:
    if outcome == "timeout":
        return f"ended after {job.time_limit:g} s, its limit of time"
    if outcome == "memory":
        return f"ended at {job.memory_limit / 2**20:.0f} MiB, its limit of memory"
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _TAIL))
        lines = file.read().decode("utf-8", errors="replace").strip().splitlines()
    last = f": {lines[-1][:300]}" if lines else ""
    if code < 0:
        with contextlib.suppress(ValueError):
            return f"its process was ended by {signal.Signals(-code).name}{last}"
    return f"its process ended with exit code {code}{last}"


def _not_done(
    job: Job, done: list[StepResult], outcome: str, message: str, seconds: float
) -> list[StepResult]:
    """The results of the steps that were not done: of the one that ran, and of those after it."""
    rest = job.steps[len(done) :]
    if not rest:
        rest = ("end",)
    running = seconds - sum(step.seconds for step in done)
    return [
        StepResult(rest[0], outcome, running, message),
        *(StepResult(step, "skipped") for step in rest[1:]),
    ]
