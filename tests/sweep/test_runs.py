"""The run of a sweep: its journal, places that are lost, and processes at their limits."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from symfx.errors import SpecError
from symfx.sweep import Job, Result, StepResult
from symfx.sweep.child import run_job
from symfx.sweep.journal import Journal
from symfx.sweep.runner import run_sweep
from symfx.sweep.summary import as_data, as_html, describe


def job(name: str, **settings: Any) -> Job:
    return Job(name, "target", "nets.py:Net", **settings)


def result(each: Job, outcome: str = "ok") -> Result:
    message = None if outcome == "ok" else "it is wrong"
    return Result(each.name, each.key(), (StepResult("trace", outcome, 1.0, message),), 1.0)


class Here:
    """A place that answers at once, with results or errors."""

    def __init__(self, answer: Callable[[Job], Any], slots: int = 2) -> None:
        self.slots = slots
        self.answer = answer
        self.given: list[str] = []

    def submit(self, each: Job, done: Any) -> None:
        self.given.append(each.name)
        try:
            done(self.answer(each).as_data(), None)
        except (ConnectionError, RuntimeError) as error:
            done(None, error)

    def close(self, *, killed: bool) -> None:
        pass


def sweep(jobs: list[Job], places: list[Any], journal: Journal) -> tuple[list[Result], list[str]]:
    told: list[str] = []
    found = run_sweep(
        jobs, places, journal,
        started=lambda each: None, finished=lambda each, r: told.append(each.name),
    )  # fmt: skip
    return found, told


def test_a_sweep_goes_on_where_it_was(tmp_path: Path) -> None:
    jobs = [job(name) for name in "abcd"]
    path = tmp_path / "journal.jsonl"

    def killed_at_c(each: Job) -> Result:
        if each.name == "c":
            raise KeyboardInterrupt
        return result(each, "failed" if each.name == "b" else "ok")

    with Journal(path) as journal, pytest.raises(KeyboardInterrupt):
        sweep(jobs, [Here(killed_at_c, slots=1)], journal)
    with path.open("ab") as file:
        file.write(b'{"name": "c", "st')  # the process was killed while it wrote
    with Journal(path) as journal:
        place = Here(result)
        found, told = sweep(jobs, [place], journal)
    assert place.given == ["c", "d"]
    assert told == ["a", "b", "c", "d"]
    assert [each.outcome for each in found] == ["ok", "failed", "ok", "ok"]
    with Journal(path) as journal:  # the half line has not swallowed the next one
        assert len(journal.results) == 4
        journal.forget_failures()
        assert len(journal.results) == 3
    with Journal(path, fresh=True) as journal:
        assert journal.results == {}


def test_a_result_belongs_to_the_content_of_the_job(tmp_path: Path) -> None:
    (tmp_path / "nets.py").write_text("x = 1")
    one = job("a", directory=str(tmp_path))
    key = one.key()
    assert one.key() == key == Job.from_json(one.to_json()).key()
    assert replace(one, seed=1).key() != key
    assert replace(one, time_limit=1.0).key() != key
    (tmp_path / "nets.py").write_text("x = 2")
    assert one.key() != key


def test_two_sweeps_do_not_share_a_journal(tmp_path: Path) -> None:
    with Journal(tmp_path / "j"), pytest.raises(SpecError, match="another sweep"):
        Journal(tmp_path / "j")


def test_a_lost_place_gives_its_jobs_to_another(tmp_path: Path) -> None:
    def lose(each: Job) -> Result:
        bad.slots = 0
        raise ConnectionError("the cluster is gone")

    bad, good = Here(lose), Here(result)
    with Journal(tmp_path / "j") as journal:
        found, _ = sweep([job(name) for name in "abc"], [bad, good], journal)
    assert [each.outcome for each in found] == ["ok"] * 3
    assert bad.given and set(bad.given) <= set(good.given)


def test_without_a_place_the_rest_is_told(tmp_path: Path) -> None:
    def lose(each: Job) -> Result:
        place.slots = 0
        raise ConnectionError("gone")

    place = Here(lose, slots=1)
    with Journal(tmp_path / "j") as journal:
        found, _ = sweep([job("a"), job("b")], [place], journal)
    assert [each.message for each in found] == ["no place is left to run it"] * 2


def test_a_place_that_fails_again_and_again(tmp_path: Path) -> None:
    def fail(each: Job) -> Result:
        raise RuntimeError("KilledWorker")

    with Journal(tmp_path / "j") as journal:
        found, _ = sweep([job("a")], [Here(fail)], journal)
    assert found[0].outcome == "crash" and "KilledWorker" in str(found[0].message)


# -- processes -------------------------------------------------------------------------------------

NETS = """
import os, signal, subprocess, sys, time
import torch

class Crashing(torch.nn.Module):
    def forward(self, x):
        os.kill(os.getpid(), signal.SIGSEGV)

print("loading", flush=True)
"""


def run(each: Job) -> Result:
    return Result.from_data(run_job(each.to_json(), threads=1))


def test_the_limit_of_time() -> None:
    began = time.monotonic()
    found = run(job("a", time_limit=0.3, steps=("trace", "export")))
    assert time.monotonic() - began < 30
    assert [step.outcome for step in found.steps] == ["timeout", "skipped"]
    assert "0.3 s" in str(found.message)


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="looks at /proc")
def test_the_limit_of_memory() -> None:
    found = run(job("a", memory_limit=20 << 20))
    assert found.outcome == "memory" and "20 MiB" in str(found.message)
    assert found.peak_memory is not None and found.peak_memory > 20 << 20


@pytest.mark.slow
def test_a_process_that_crashes(tmp_path: Path) -> None:
    (tmp_path / "nets.py").write_text(NETS)
    crashing = Job(
        "a", "target", "nets.py:Crashing", inputs=("x: f32[n]",), directory=str(tmp_path)
    )
    found = run(crashing)
    assert found.outcome == "crash" and "SIGSEGV" in str(found.message)


# -- summaries -------------------------------------------------------------------------------------


def test_summaries() -> None:
    facts = {"guards": [["n != 1", "at <a>.py:3: f(x)"]], "pins": [["n = 3", "at b.py:1: g"]]}
    good = Result("good", "k", (StepResult("trace", "ok", 0.5, None, facts),), 2.0, 300 << 20)
    text = "<script>alert(1)</script>"
    bad = Result(text, "l", (StepResult("trace", "failed", 0.1, text), StepResult("verify", "skipped")), 1.0)  # fmt: skip
    data = json.loads(json.dumps(as_data([good, bad])))
    assert (data["schema"], data["version"]) == ("symfx sweep", 1)
    assert data["counts"] == {"ok": 1, "failed": 1}
    assert [model["outcome"] for model in data["models"]] == ["ok", "failed"]
    page = as_html([good, bad], "a <b> c")
    assert "<script" not in page and "&lt;script&gt;" in page
    assert "a &lt;b&gt; c" in page and "n != 1" in page and "pinned: n = 3" in page
    lines = [line.plain for line in describe([good, bad])]
    assert lines[-1] == "2 models: 1 ok, 1 failed"
    assert any(line.startswith("failed") for line in lines)
