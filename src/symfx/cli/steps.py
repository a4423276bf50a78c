"""The steps of a command: shown on a terminal while they run, told afterwards with --verbose."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from symfx.cli.console import print_step

__all__ = ["progress"]

#: A step that takes no longer than these seconds is shown without its time.
_SHORT = 2.0


class _Elapsed(ProgressColumn):
    """The seconds of a step that takes long."""

    def render(self, task: Task) -> Text:
        """The text of the column; rich calls this."""
        seconds = task.elapsed or 0.0
        return Text(f"{seconds:.0f} s" if seconds > _SHORT else "", style="dim")


class _Remaining(TimeRemainingColumn):
    """The time that is left of a step whose length is known, and that takes long."""

    def render(self, task: Task) -> Text:
        """The text of the column; rich calls this."""
        if task.total is None or (task.elapsed or 0.0) <= _SHORT:
            return Text("")
        return super().render(task).append(" left")


class _Bar(BarColumn):
    """The bar of a step whose length is known."""

    def __init__(self) -> None:
        super().__init__(bar_width=20)

    def __call__(self, task: Task) -> object:  # type: ignore[override]
        """The bar; rich calls this."""
        return super().__call__(task) if task.total is not None else Text("")


@contextlib.contextmanager
def progress(step: str, total: int | None = None) -> Iterator[Callable[[], None]]:
    """Show the step that runs inside, if stderr is a terminal, and the time that it takes.

    Args:
        step: what runs, such as ``tracing``.
        total: the number of parts of the step, if it has parts: the time that is left is then
            shown too.

    Yields:
        A function to call after each part.
    """
    console = Console(stderr=True)
    started = time.monotonic()
    if sys.stderr.isatty():  # FORCE_COLOR makes a pipe a terminal for rich
        name = TextColumn("{task.description}")
        columns = (SpinnerColumn(), name, _Bar(), _Elapsed(), _Remaining())
        with Progress(*columns, console=console, transient=True, redirect_stdout=False) as shown:
            task = shown.add_task(f"{step} ...", total=total)
            yield lambda: shown.advance(task)
    else:
        yield lambda: None
    print_step(step, time.monotonic() - started)
