"""How a command ends: interrupted within a second, its reader gone, nothing half-written."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest

from command_line import PROGRAM, start
from symfx.cli import main
from symfx.cli.output_files import drop_unfinished, written_beside

MODELS = """
    import sys
    import threading
    import time
    import torch

    def slow(x):
        print("the model runs", file=sys.stderr, flush=True)
        time.sleep(30)
        return x

    def deaf(x):
        # As a kernel that takes long: no Python code of the main thread runs meanwhile.
        import ctypes
        print("the model runs", file=sys.stderr, flush=True)
        # pthread_join waits on through signals; this thread never ends.
        library = ctypes.CDLL(None)
        library.pthread_join(ctypes.c_ulong(SLEEPER.ident), None)
        return x

    SLEEPER = threading.Thread(target=time.sleep, args=(30,), daemon=True)
    SLEEPER.start()

    def swallows(x):
        print("the model runs", file=sys.stderr, flush=True)
        while True:
            try:
                time.sleep(30)
            except KeyboardInterrupt:
                pass

    def fine(x):
        return x.relu()
"""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("endings") / "ending_models.py"
    path.write_text(textwrap.dedent(MODELS))
    return path


def interrupt(process: subprocess.Popen[str], after: str) -> tuple[float, str]:
    """Send Ctrl-C once a process has written a line to stderr; its seconds until the end, stderr."""
    assert process.stderr is not None
    before = ""
    while after not in before:
        line = process.stderr.readline()
        assert line, before
        before += line
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, rest = process.communicate(timeout=20)
    return time.monotonic() - began, before + rest


@pytest.mark.parametrize("function", ["slow", "deaf", "swallows"])
def test_ctrl_c_ends_a_command(models: Path, tmp_path: Path, function: str) -> None:
    saved = tmp_path / "out.symfx"
    record = tmp_path / "log.json"
    process = start(
        "trace", f"{models}:{function}", "-i", "x: f32[n]", "--save", str(saved), "--record", str(record)
    )  # fmt: skip
    _, err = interrupt(process, "the model runs")
    assert process.returncode == 130
    assert "Traceback" not in err and "error" not in err
    assert not saved.exists() and [p for p in tmp_path.iterdir() if p != record] == []


def wait_for_torch(process: subprocess.Popen[str]) -> None:
    """Wait until a process imports torch: then it has read its command line."""
    maps = Path(f"/proc/{process.pid}/maps")
    if not maps.exists():
        pytest.skip("the system does not tell what a process has loaded")
    while "libtorch" not in maps.read_text():
        assert process.poll() is None, "the process has ended"
        time.sleep(0.01)


def test_ctrl_c_while_torch_is_imported(models: Path) -> None:
    process = start("trace", f"{models}:fine", "-i", "x: f32[n]")
    wait_for_torch(process)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 130 and "Traceback" not in err


def test_an_ignored_interrupt_stays_ignored(models: Path) -> None:
    """As under nohup."""
    process = start(
        "trace", f"{models}:fine", "-i", "x: f32[n]", "-q",
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
    )  # fmt: skip
    wait_for_torch(process)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0 and "verified at" in out


# -- closed pipes ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words", [["--help"], ["trace", "--help"], ["--version"], ["doctor", "--json"]]
)
def test_a_reader_that_leaves(words: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [*PROGRAM, *words], stdout=writing, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")


# -- how much is said ------------------------------------------------------------------------------


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run the command line in this process: (exit code, stdout, stderr)."""
    monkeypatch.setattr(sys, "path", list(sys.path))

    def go(*words: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as left:
            main(words)
        out, err = capsys.readouterr()
        return int(left.value.code or 0), out, err

    return go


def test_verbose_tells_the_steps_on_stderr_and_nothing_else_changes(run: Any, models: Path) -> None:
    words = ["trace", f"{models}:fine", "-i", "x: f32[n]"]
    code, out, err = run(*words)
    assert code == 0 and err == ""
    code, told_out, told = run(*words, "-v")
    assert code == 0 and told_out == out
    steps = [re.fullmatch(r"(.+): \d+\.\d\d s", line) for line in told.splitlines()]
    expected = ["loading torch", "making the model", "tracing", "verifying"]
    assert [step and step[1] for step in steps] == expected
    _, _, told = run("--json-errors", *words, "-v", "--json")
    assert told.count('"schema": "symfx step"') == 4
    assert run(*words)[2] == "", "it holds for one command"


def test_quiet_prints_one_line(run: Any, models: Path, tmp_path: Path) -> None:
    saved, record = str(tmp_path / "t.symfx"), str(tmp_path / "log.json")
    target = [f"{models}:fine", "-i", "x: f32[n, 4]"]
    for words in (
        ["trace", *target, "--save", saved, "--record", record],
        ["cost", *target],
        ["cost", *target, "--at", "n=8"],
        ["typecheck", *target],
        ["show", saved],
        ["check", saved, "-i", "x: f32[n=9, 4]"],
        ["run", saved, "-i", "x: f32[n=9, 4]"],
        ["replay", record],
        ["doctor"],
    ):
        code, out, err = run(*words, "-q")
        assert (code, err) == (0, ""), words
        assert len(out.splitlines()) == 1, out
    code, out, err = run("check", saved, "-i", "x: f32[n=9, 5]", "-q")
    assert code == 1 and len(out.splitlines()) == 1
    assert "error: dimension 1 of x is 5; it is static: 4 when traced" in err


# -- files -----------------------------------------------------------------------------------------


def test_a_file_that_cannot_be_finished_leaves_the_older_one(tmp_path: Path) -> None:
    path = tmp_path / "results.npz"
    path.write_text("older")
    with pytest.raises(KeyboardInterrupt), written_beside(path) as unfinished:
        unfinished.write_text("half of")
        raise KeyboardInterrupt
    assert path.read_text() == "older" and [*tmp_path.iterdir()] == [path]
    with written_beside(path) as unfinished:
        unfinished.write_text("newer")
        unfinished.with_suffix(".npz.data").write_text("more")
    assert path.read_text() == "newer"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["results.npz", "results.npz.data"]


def test_an_end_at_once_removes_what_is_unfinished(tmp_path: Path) -> None:
    with written_beside(tmp_path / "results.npz") as unfinished:
        unfinished.write_text("half of")
        drop_unfinished()
        assert [*tmp_path.iterdir()] == []
        unfinished.parent.mkdir()  # so that the block can end
