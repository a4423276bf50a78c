"""The time that the line of a step shows: so far, and left where the step has parts."""

from __future__ import annotations

import pytest
import torch
from rich.progress import Task, TaskID

import symfx
from symfx.cli import steps
from symfx.proxy_tensor.modules import telling_traced_modules


def shown(elapsed: float, total: int | None, done: int, at: float) -> str:
    """The time that the line shows: ``done`` parts were done after ``at`` seconds."""
    now = 1000.0 + elapsed
    task = Task(TaskID(0), "step", total, done, fields={"at": at}, _get_time=lambda: now)
    task.start_time = 1000.0
    return steps._Time().render(task).plain


@pytest.mark.parametrize(
    ("task", "words"),
    [
        ((1.9, 10, 5, 1.8), ""),
        ((7.0, None, 0, 0.0), "7 s so far"),
        ((7.0, 10, 0, 0.0), "7 s so far"),
        ((7.0, 10, 10, 7.0), "7 s so far"),
        ((4.0, 10, 4, 4.0), "4 s, about 6 s left"),
        # Between the ends of two parts, the time left becomes less.
        ((6.0, 10, 4, 4.0), "6 s, about 6 s left"),
        ((5.0, 10, 4, 4.0), "5 s, about 5 s left"),
        # The last part takes longer than the others did: there is nothing to estimate from.
        ((9.0, 4, 3, 6.0), "9 s so far"),
        ((300.0, 10, 5, 300.0), "5 min, about 5 min left"),
    ],
)
def test_the_time_of_a_step(task, words):
    assert shown(*task) == words


class Layer(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = torch.nn.LayerNorm(8)
        self.up = torch.nn.Linear(8, 8)
        self.down = torch.nn.Linear(8, 8)

    def forward(self, x):
        return x + self.down(self.up(self.norm(x)).relu())


@pytest.mark.parametrize("repeated", ["inline", "off"])
def test_each_module_of_a_trace_is_told_also_where_blocks_are_repeated(repeated):
    model = torch.nn.Sequential(*(Layer() for _ in range(12)))
    ended = []
    with telling_traced_modules(ended.append):
        symfx.trace(model, torch.randn(3, 8), dynamic=[("n", None)], repeated=repeated)
    assert set(ended) == set(model.modules())
    symfx.trace(model, torch.randn(3, 8), dynamic=[("n", None)])
    assert len(ended) == len(list(model.modules()))
