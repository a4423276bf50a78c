"""The harness of the benchmarks: fair turns, reported skips, readable results; no times asserted."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from benchmarks.algebra import WORKS
from benchmarks.models import WORKLOADS
from benchmarks.timing import Contestant, Timings, fitted_exponent, geometric_mean, measure
from benchmarks.tracing import RATIOS, SYMFX, ModelResult, geometric_means

ROOT = Path(__file__).parent.parent


def benchmarks(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def test_contestants_take_turns_and_the_order_turns_round() -> None:
    order: list[str] = []
    contestants = [Contestant(name, lambda name=name: order.append(name)) for name in "ab"]
    timings = measure(contestants, 3)
    assert "".join(order) == "ab" + "ab" + "ba" + "ab"  # the first turn is not timed
    assert {name: len(rounds) for name, rounds in timings.seconds.items()} == {"a": 3, "b": 3}


def test_nothing_is_collected_while_the_clock_runs() -> None:
    seen: list[bool] = []
    prepared: list[bool] = []
    measure(
        [Contestant("a", lambda: seen.append(gc.isenabled()), lambda: prepared.append(True))], 2
    )
    assert seen == [False] * 3
    assert len(prepared) == 3
    assert gc.isenabled()


def test_a_contestant_that_raises_drops_out_with_its_error() -> None:
    def fail() -> None:
        raise ValueError("no such shape")

    timings = measure([Contestant("bad", fail), Contestant("good", lambda: None)], 2)
    assert timings.errors == {"bad": "ValueError: no such shape"}
    assert timings.median("bad") is None
    assert timings.ratio("good", "bad") is None
    assert len(timings.seconds["good"]) == 2


def test_a_contestant_over_the_budget_is_interrupted() -> None:
    def forever() -> None:
        while True:
            try:
                time.sleep(60)
            except Exception:  # noqa: BLE001 - careless code catches errors
                continue

    timings = measure([Contestant("slow", forever)], 2, budget=0.05)
    assert timings.skipped == {"slow": "took more than 0.05 s"}
    assert timings.median("slow") is None


def test_fits_and_means() -> None:
    assert fitted_exponent({10: 3.0, 100: 300.0, 1000: 30000.0}) == pytest.approx(2)
    assert fitted_exponent({10: 1.0}) is None
    assert geometric_mean([0.5, 2.0]) == pytest.approx(1)
    assert geometric_mean([]) is None


def test_a_mean_over_the_models_needs_all_of_them() -> None:
    def result(name: str, symfx: list[float]) -> ModelResult:
        seconds = {SYMFX: symfx, **{to: [2.0] for to in RATIOS}}
        return ModelResult(name, name, Timings(seconds), {})

    full, empty = result("a", [1.0]), result("b", [])
    means = geometric_means([full, full])
    assert means == {**{to: pytest.approx(0.5) for to in RATIOS}, "first": None}
    assert geometric_means([full, empty]) == dict.fromkeys((*RATIOS, "first"))


def test_one_run_prints_tables_and_writes_the_measurements(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "out.json"
    done = benchmarks(
        "--only", "add-same", "--only", "sym-sum", "--quick", "--repeat", "1", "--json", path
    )
    assert done.returncode == 0, done.stderr
    assert "symfx / stock" in done.stdout
    result: dict[str, Any] = json.loads(path.read_text())
    assert result["torch"].startswith("2.")
    assert result["machine"]["cores"]
    works = {work["name"]: work for work in result["algebra"]}
    assert set(works) == {"add-same", "sym-sum"}
    for work in works.values():
        for size in work["sizes"].values():
            assert set(size["medians"]) == {"stock", "symfx"}  # JAX cannot do this work
            assert not size["errors"]
    assert set(works["sym-sum"]["exponents"]) == {"stock", "symfx", "jax"}


def test_help_and_a_name_that_does_not_exist() -> None:
    assert benchmarks("--help").returncode == 0
    done = benchmarks("--only", "nosuch")
    assert done.returncode == 2
    for name in (*WORKLOADS, *WORKS):
        assert name in done.stderr
