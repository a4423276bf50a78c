"""The journal of a sweep: a line of JSON for each model that is done, for the next sweep."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import TracebackType
from typing import Any

from symfx.errors import SpecError
from symfx.sweep.jobs import Result

__all__ = ["Journal"]

try:
    import fcntl
except ImportError:  # not on this system: nothing keeps two sweeps apart there
    fcntl = None  # type: ignore[assignment]


class Journal:
    """The results of models that are done, in a file to which each is added at once.

    A line is written by one call and reaches the disk before the next model's, so that a sweep
    that is killed loses no result; half a line at the end is left out.

    Args:
        path: the file.
        fresh: whether results of an earlier sweep are dropped.

    Attributes:
        results: the results by the keys of their jobs.

    Raises:
        SpecError: another sweep writes to the file.
    """

    def __init__(self, path: Path, *, fresh: bool = False) -> None:
        self.path = path
        self.results: dict[str, Result] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        self._handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        if fcntl is not None:
            try:
                fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.close(self._handle)
                raise SpecError(
                    f"another sweep writes to {path.parent}",
                    fix="wait for it, or give another --directory",
                ) from None
        if fresh:
            os.ftruncate(self._handle, 0)
        self._read()

    def _read(self) -> None:
        content = self.path.read_bytes()
        if content and not content.endswith(b"\n"):
            os.write(self._handle, b"\n")  # what comes next starts a line of its own
        for line in content.splitlines():
            try:
                result = Result.from_data(json.loads(line))
            except (ValueError, TypeError, KeyError):
                continue  # the sweep was killed while it wrote, or someone edited the file
            self.results[result.key] = result

    def add(self, result: Result) -> None:
        """Add a result."""
        self.results[result.key] = result
        line: Any = json.dumps(result.as_data()).encode() + b"\n"
        os.write(self._handle, line)
        os.fsync(self._handle)

    def forget_failures(self) -> None:
        """Leave out the results of models that were not ok, so that they run again."""
        self.results = {key: r for key, r in self.results.items() if r.outcome == "ok"}

    def close(self) -> None:
        """Let other sweeps use the file."""
        os.close(self._handle)

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
