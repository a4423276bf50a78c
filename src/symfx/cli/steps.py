"""The steps of a command: shown on a terminal while they run, told afterwards with --verbose."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
)
from rich.text import Text

from symfx.cli.console import print_step
from symfx.work import telling_work

__all__ = ["progress", "progress_of_work", "tracing"]

#: A step that takes no longer than these seconds is shown without its time.
_SHORT = 2.0
#: From so many seconds on, a time is told in minutes.
_MINUTES = 100
#: So finely is the share of the work that is done told apart.
_PARTS = 1000


class _Time(ProgressColumn):
    """The time of a step that takes long: so far, and left where that can be estimated."""

    max_refresh = 0.5

    def render(self, task: Task) -> Text:
        """The text of the column; rich calls this."""
        seconds = task.elapsed or 0.0
        if seconds <= _SHORT:
            return Text("")
        left = _left(task, seconds)
        if left is None:
            return Text(f"{_in_words(seconds)} so far", "dim")
        return Text(f"{_in_words(seconds)}, about {_in_words(left)} left", "dim")


def _left(task: Task, seconds: float) -> float | None:
    """The seconds that are left of a step; None where they cannot be estimated."""
    done, at = int(task.completed), task.fields["at"]
    if task.total is None or not 0 < done < task.total:
        return None
    # The parts that are done say how long a part takes; the one that runs may take longer.
    by_parts = at / done * task.total - seconds
    left = max(by_parts, seconds / (done + 1) * (task.total - done - 1))
    return max(float(left), 1.0) if left > 0 else None


def _in_words(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < _MINUTES else f"{seconds / 60:.0f} min"


class _Bar(BarColumn):
    """The bar of a step whose length is known."""

    def __init__(self) -> None:
        super().__init__(bar_width=20)

    def __call__(self, task: Task) -> object:  # type: ignore[override]
        """The bar; rich calls this."""
        return super().__call__(task) if task.total is not None else Text("")


@contextlib.contextmanager
def progress(
    step: str, total: int | None = None, count: Callable[[], int] | None = None
) -> Iterator[Callable[[], None]]:
    """Show the step that runs inside, if stderr is a terminal, and the time that it takes.

    Args:
        step: the words for it, such as ``tracing``.
        total: the number of parts of the step, if it has parts, or an estimate: the time that is
            left is then shown too.
        count: the number of parts that are done, if the step itself cannot tell; it is asked each
            time that the line is drawn.

    Yields:
        A function to call after each part.
    """
    console = Console(stderr=True)
    started = time.monotonic()
    if sys.stderr.isatty():  # FORCE_COLOR makes a pipe a terminal for rich
        name = TextColumn("{task.description}")
        columns = (SpinnerColumn(), name, _Bar(), _Time())
        with _Shown(*columns, console=console, transient=True, redirect_stdout=False) as shown:
            task = shown.add_task(f"{step} ...", total=total, at=0.0)
            shown.count = count
            yield lambda: shown.note(task, shown.tasks[0].completed + 1)
            shown.count = None
    else:
        yield lambda: None
    print_step(step, time.monotonic() - started)


@contextlib.contextmanager
def progress_of_work(step: str) -> Iterator[None]:
    """Show the step that runs inside, as `progress` does; symfx tells how much of it is done.

    Args:
        step: the words for it.
    """
    done = 0.0

    def tell(share: float) -> None:
        nonlocal done
        done = max(done, share)

    with telling_work(tell), progress(step, _PARTS, lambda: int(_PARTS * done)):
        yield


class _Shown(Progress):
    """The line of a step, which asks for the number of parts that are done."""

    count: Callable[[], int] | None = None

    def note(self, task: TaskID, done: float) -> None:
        """Note that so many parts are done now."""
        if done > self.tasks[0].completed:
            self.update(task, completed=done, at=self.tasks[0].elapsed)

    def get_renderable(self) -> RenderableType:
        """The line; rich calls this each time that it draws."""
        if self.count is not None:
            for task in self.tasks:
                # The total may be an estimate: it is not reached before the step ends.
                self.note(task.id, min(self.count(), (task.total or 1) - 1))
        return super().get_renderable()


@contextlib.contextmanager
def tracing(model: object) -> Iterator[None]:
    """Show that a model is traced, with the time that is left.

    The time is estimated from the modules of the model that have run for the first time. A
    function, or a module without submodules, gives no estimate.
    """
    import torch

    from symfx.proxy_tensor.modules import module_of, telling_traced_modules

    root = module_of(model) if callable(model) else None
    containers = (torch.nn.ModuleList, torch.nn.ModuleDict)  # these are not called
    modules = [] if root is None else [m for m in root.modules() if not isinstance(m, containers)]
    waiting = set(modules)
    with progress("tracing", len(modules) if len(modules) > 1 else None) as done:

        def ended(module: torch.nn.Module) -> None:
            if module in waiting:
                waiting.remove(module)
                done()

        with telling_traced_modules(ended):
            yield
