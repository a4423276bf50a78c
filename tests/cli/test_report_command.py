"""``symfx report``: a page for a model and for a saved trace."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path

import pytest

from command_line import Run
from html_report.reported import contents_in

MODELS = """
    import torch

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.lin = torch.nn.Linear(8, 4)
            self.drop = torch.nn.Dropout()
        def forward(self, x):
            if x.shape[1] == 6:
                x = x * 2
            return self.drop(self.lin(x))

    class Wrong(torch.nn.Module):
        def forward(self, x):
            return x + sum(1 for _ in range(x.dim())) if torch.compiler.is_exporting() else x
"""
"""Wrong has another graph than eager."""


@pytest.fixture
def model(tmp_path: Path) -> str:
    path = tmp_path / "reported_models.py"
    path.write_text(textwrap.dedent(MODELS))
    return f"{path}:Net"


def test_model_gets_a_report_of_what_was_pinned_and_verified(
    run: Run, model: str, tmp_path: Path
) -> None:
    path = tmp_path / "out.html"
    arguments = ("-i", "x: f32[batch, seq=6, 8]", "--eval", "-o", path)
    code, out, err = run("report", model, *arguments)
    assert code == 0
    assert "fixed: seq = 6" in out and f"{path}: verified at 6 shapes" in out
    assert "the graph holds for seq = 6 alone" in err
    contents = contents_in(path.read_text())
    assert [(pin["symbol"], pin["value"]) for pin in contents["pins"]] == [("seq", 6)]
    assert len(contents["verification"]["runs"]) == 6


def test_report_html_is_written_by_default(
    run: Run, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, _ = run("report", model, "-i", "x: f32[batch, 5, 8]", "--no-verify", "-q")
    assert (code, out) == (0, "report.html: not verified\n")
    assert (tmp_path / "report.html").is_file()


def test_saved_trace_gets_a_report(run: Run, model: str, tmp_path: Path) -> None:
    saved, path = tmp_path / "net.symfx", tmp_path / "net.html"
    run("trace", model, "-i", "x: f32[batch, 5, 8]", "--eval", "--save", saved, "-q")
    code, out, _ = run("report", saved, "-o", path, "--json")
    assert code == 0
    data = json.loads(out)
    assert (data["schema"], data["report"], data["verified"]) == ("symfx report", str(path), True)
    assert contents_in(path.read_text())["model"] == "Net"


def test_failed_verification_is_exit_code_1_with_a_report(
    run: Run, model: str, tmp_path: Path
) -> None:
    path = tmp_path / "wrong.html"
    wrong = model.replace(":Net", ":Wrong")
    code, out, _ = run("report", wrong, "-i", "x: f32[batch, 8]", "-o", path)
    assert code == 1 and "verification failed" in out
    assert contents_in(path.read_text())["verification"]["passed"] is False


@pytest.mark.parametrize(
    "option", [("-i", "x: f32[3, 8]"), ("-w", "batch > 3"), ("--eval",), ("--train",)]
)
def test_options_of_a_model_are_refused_for_a_saved_trace(
    run: Run, model: str, tmp_path: Path, option: tuple[str, ...]
) -> None:
    saved = tmp_path / "net.symfx"
    run("trace", model, "-i", "x: f32[batch, 5, 8]", "--no-verify", "--save", saved, "-q")
    code, _, err = run("report", saved, "-o", tmp_path / "net.html", *option)
    assert code == 2 and "is a saved trace" in err
    assert not (tmp_path / "net.html").exists()


def test_unwritable_output_is_told_before_the_work(run: Run, tmp_path: Path) -> None:
    code, _, err = run("report", "nowhere:Net", "-o", tmp_path / "no" / "report.html")
    assert code == 2 and "there is no directory" in err
