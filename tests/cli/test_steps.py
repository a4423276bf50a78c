"""The time that the line of a step shows: so far, and left where the step has parts."""

from __future__ import annotations

import time

import pytest
import torch
from rich.progress import Task, TaskID

import symfx
from symfx.cli import steps
from symfx.proxy_tensor.modules import telling_traced_modules
from symfx.recording import EventLog
from symfx.static_migration import typecheck
from symfx.symbolic_shapes import ShapeEnv
from symfx.work import counted, telling_work


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


class Kept(torch.nn.Module):
    """A module that no tracer of torch.fx follows: its parts are optimized one by one."""

    def __init__(self):
        super().__init__()
        self.layers = torch.nn.ModuleList(Layer() for _ in range(4))

    def forward(self, x):
        if x.sum() > 1e9:
            return x
        for layer in self.layers:
            x = layer(x)
        return x


def told(work) -> list[float]:
    """The shares that a work tells as done; they never become less, nor more than all of it."""
    shares: list[float] = []
    with telling_work(shares.append):
        work()
    assert shares == sorted(shares) and shares[0] >= 0 and shares[-1] <= 1.0
    return shares


def test_the_works_of_commands_tell_how_much_is_done(tmp_path):
    model, x = Kept().eval(), torch.randn(3, 8)
    fast = []
    works = {"optimize": lambda: fast.append(symfx.optimize(model, x))}
    plain = symfx.optimize(Layer().eval(), x)
    works["save the optimized"] = lambda: plain.save(tmp_path / "fast.safetensors")
    traced = symfx.trace(Layer(), x, dynamic=[("n", None)])
    works["save"] = lambda: traced.save(tmp_path / "layer.symfx")
    works["load"] = lambda: symfx.load(tmp_path / "layer.symfx")
    works["report"] = lambda: traced.report(tmp_path / "layer.html", verify=False)
    works["typecheck"] = lambda: typecheck(Layer(), {"x": "f32[n, 8]"})
    for name, work in works.items():
        shares = told(work)
        assert len({round(share, 3) for share in shares}) > 1, (name, shares)
        # The greatest jump leaves an estimate to make.
        steps_ = [b - a for a, b in zip([0.0, *shares], [*shares, 1.0], strict=True)]
        assert max(steps_) < 0.7, (name, shares)


def test_a_replay_tells_how_much_is_done(tmp_path):
    env = ShapeEnv(should_record_events=True)
    for _ in range(5):
        env.create_unbacked_symint()
    log = EventLog.from_json(EventLog(env.events).to_json())
    assert told(log.replay) == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])


def test_the_line_of_a_work_has_a_bar_and_the_time_left(monkeypatch, capsys):
    drawn = []
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    note = steps._Shown.note
    monkeypatch.setattr(steps._Shown, "note", lambda self, *a: (drawn.append(a[1]), note(self, *a)))
    with steps.progress_of_work("working"):
        for _ in counted("ab"):
            pass
        time.sleep(0.3)  # the line is drawn ten times a second
    assert drawn[-1] == 999  # the last part ends with the step
