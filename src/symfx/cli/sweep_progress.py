"""The progress of a sweep on stderr: a live table on a terminal, otherwise a line a model."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Iterator

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from symfx.sweep.jobs import Job, Result
from symfx.sweep.summary import line_of

__all__ = ["ProgressTable", "progress_table"]

#: The rows that the bar and the counts take.
_REST = 4


class ProgressTable:
    """What runs, and the last results.

    Args:
        console: where it is shown.
        total: the number of models.
        told: whether models are told one by one.
    """

    def __init__(self, console: Console, total: int, *, told: bool) -> None:
        self._console = console
        self._total = total
        self._told = told
        self._running: dict[str, float] = {}
        self._results: list[Result] = []

    def started(self, job: Job) -> None:
        """Note that a model has been given to a place."""
        self._running[job.name] = time.monotonic()

    def finished(self, job: Job, result: Result) -> None:
        """Note the result of a model."""
        self._running.pop(job.name, None)
        self._results.append(result)
        if self._told and not self._console.is_terminal:
            line = Text(f"[{len(self._results)}/{self._total}] ").append_text(line_of(result))
            self._console.print(line, soft_wrap=True)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        counts = Counter(result.outcome for result in self._results)
        words = ", ".join(f"{number} {outcome}" for outcome, number in counts.items())
        grid = Table.grid(padding=(0, 1))
        bar = ProgressBar(self._total, len(self._results), width=30)
        grid.add_row(bar, Text(f"{len(self._results)}/{self._total}  {words}"))
        yield grid
        room = max(2, (options.max_height or 25) - _REST)
        now = time.monotonic()
        running = [
            Text(f"running {name:<24} {now - since:.0f} s", "cyan")
            for name, since in list(self._running.items())[: room // 2]
        ]
        last = [line_of(result) for result in self._results[-(room - len(running)) :]]
        for line in [*last, *running]:
            line.truncate(options.max_width, overflow="ellipsis")
            yield line


@contextlib.contextmanager
def progress_table(total: int, *, told: bool) -> Iterator[ProgressTable]:
    """Show the progress of a sweep while the body runs.

    Args:
        total: the number of models.
        told: whether models are told one by one where stderr is no terminal.
    """
    console = Console(stderr=True, highlight=False)
    table = ProgressTable(console, total, told=told)
    if not console.is_terminal:
        yield table
        return
    with Live(table, console=console, refresh_per_second=4, transient=True, redirect_stdout=False):
        yield table
