"""The command ``symfx sweep``: exit codes, a sweep that is killed, a cluster that loses a worker."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from symfx.cli import main

NETS = """
import time
import torch
from symfx.sweep import SweepModel

class Net(torch.nn.Module):
    def __init__(self, width=4):
        super().__init__()
        self.layer = torch.nn.Linear(width, 2)

    def forward(self, x):
        return self.layer(x).relu()

class Bad(Net):
    def forward(self, x):
        return x.nothing()

class Slow(Net):
    def forward(self, x):
        time.sleep(3600)

def models():
    for width in (3, 5):
        yield SweepModel(
            f"net-{width}", lambda width=width: Net(width), (torch.ones(2, width),),
            dynamic=[("n", None)],
        )
    yield SweepModel("made", Net(7), (torch.ones(2, 7),), dynamic=[("n", None)])
"""


def table(*names: str) -> str:
    kind = {"bad": "Bad", "slow": "Slow"}
    return "".join(
        f'[[model]]\nname = "{name}"\ntarget = "nets.py:{kind.get(name, "Net")}"\n'
        'inputs = ["x: f32[batch, 4]"]\n'
        for name in names
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "nets.py").write_text(NETS)
    return tmp_path


def start(folder: Path, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "symfx", "sweep", *words],
        cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def run(folder: Path, *words: str) -> tuple[int, str, str]:
    process = start(folder, *words)
    out, err = process.communicate()
    return process.returncode, out, err


def journal(folder: Path) -> list[dict[str, Any]]:
    path = folder / "models.sweep" / "journal.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_mistakes_of_the_command_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    (folder / "models.toml").write_text("[[model]]\nnam = 3\n")
    for words, message in (
        (["nothing.toml"], "there is no file nothing.toml"),
        (["models.toml"], "models.toml:2"),
        (["nets.txt"], "there is no file"),
        (["models.toml", "--steps", "trase"], "did you mean 'trace'"),
        (["models.toml", "--memory-limit", "x"], "no size of memory"),
        (["transformers:nothing-like-it"], "names no architecture"),
    ):
        with pytest.raises(SystemExit) as left:
            main(["sweep", *words])
        out, err = capsys.readouterr()
        assert (left.value.code, out) == (2, ""), words
        assert message in err
    assert not (folder / "models.sweep").exists()


@pytest.mark.slow
def test_good_and_bad_models(folder: Path) -> None:
    (folder / "models.toml").write_text(table("good", "bad"))
    code, out, err = run(folder, "models.toml", "--json", "-j", "2")
    assert code == 1
    data = json.loads(out)
    assert [(model["name"], model["outcome"]) for model in data["models"]] == [
        ("good", "ok"), ("bad", "failed"),
    ]  # fmt: skip
    assert "nothing" in data["models"][1]["steps"][0]["message"]
    assert data == json.loads((folder / "models.sweep" / "summary.json").read_text())
    assert "<html" in (folder / "models.sweep" / "summary.html").read_text()
    assert "[2/2]" in err
    code, out, _ = run(folder, "models.toml", "--quiet")
    assert (code, out) == (1, "2 models: 1 ok, 1 failed\n")
    assert len(journal(folder)) == 2  # nothing ran again


@pytest.mark.slow
def test_a_file_of_python(folder: Path) -> None:
    code, out, err = run(folder, "nets.py", "--steps", "trace,verify,export")
    assert (code, out.splitlines()[-2]) == (0, "3 models: 3 ok"), err


def _processes_below(folder: Path) -> list[str]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
                inside = os.readlink(entry / "cwd") == str(folder)
            except OSError:
                continue
            if inside and b"sweep-model" in words:
                found.append(entry.name)
    return found


@pytest.mark.slow
@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="looks at /proc")
def test_a_sweep_that_is_killed_goes_on(folder: Path) -> None:
    (folder / "models.toml").write_text(table("one", "slow", "three"))
    process = start(folder, "models.toml")
    while not journal(folder) or not _processes_below(folder):
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    for _ in range(600):
        if not _processes_below(folder):
            break
        time.sleep(0.05)
    assert not _processes_below(folder)  # a model's process ends with the sweep
    assert [each["name"] for each in journal(folder)] == ["one"]
    code, out, _ = run(folder, "models.toml", "--time-limit", "600", "--steps", "trace", "--list")
    assert (code, out) == (0, "one\nslow\nthree\n")
    (folder / "models.toml").write_text(table("one", "three"))
    code, out, _ = run(folder, "models.toml")
    assert code == 0 and "2 models: 2 ok" in out
    assert [each["name"] for each in journal(folder)] == ["one", "three"]


@pytest.mark.slow
def test_no_cluster(folder: Path) -> None:
    pytest.importorskip("distributed")
    (folder / "models.toml").write_text(table("one"))
    code, _, err = run(folder, "models.toml", "--dask", "tcp://127.0.0.1:9")
    assert code == 2 and "there is no Dask scheduler at tcp://127.0.0.1:9" in err


CLUSTERS = """
import sys
import distributed

if __name__ == "__main__":
    clusters = [
        distributed.LocalCluster(n_workers=count, threads_per_worker=1, dashboard_address=":0")
        for count in (2, 1)
    ]
    pids = [pid for c in clusters for pid in distributed.Client(c).run(__import__("os").getpid).values()]
    print(*[c.scheduler_address for c in clusters], *pids, flush=True)
    sys.stdin.read()
    for cluster in clusters:
        cluster.close()
"""


@pytest.mark.slow
def test_two_dask_clusters_one_of_which_loses_a_worker(folder: Path) -> None:
    pytest.importorskip("distributed")
    (folder / "clusters.py").write_text(CLUSTERS)
    names = [f"net{i}" for i in range(5)]
    (folder / "models.toml").write_text(table(*names))
    clusters = subprocess.Popen(
        [sys.executable, "clusters.py"], cwd=folder, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    assert clusters.stdout is not None
    first, second, pid, *_ = clusters.stdout.readline().split()
    try:
        process = start(folder, "models.toml", "--dask", first, "--dask", second)
        while not _processes_below(folder):
            assert process.poll() is None
            time.sleep(0.05)
        os.kill(int(pid), signal.SIGKILL)
        out, err = process.communicate()
    finally:
        clusters.communicate("")
    assert process.returncode == 0, err
    assert "5 models: 5 ok" in out
    assert sorted(each["name"] for each in journal(folder)) == names
