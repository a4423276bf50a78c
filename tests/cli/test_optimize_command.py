"""``symfx optimize``, end to end."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path

import pytest
import torch

from symfx.cli import main
from symfx.optimization import load, pipeline

MODELS = """
    from torch import nn

    class Net(nn.Sequential):
        def __init__(self, width=8):
            super().__init__(nn.Conv2d(3, width, 3), nn.BatchNorm2d(width), nn.ReLU())

        def forward(self, x):
            print("a model may print")
            return super().forward(x)

    def function(x):
        return x
"""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("cli") / "optimize_models.py"
    path.write_text(textwrap.dedent(MODELS))
    return str(path)


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as left:
        main(["optimize", *words])
    return int(left.value.code or 0)


@pytest.fixture
def fused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fused form is taken, whatever this machine finds faster."""
    monkeypatch.setattr(pipeline, "fastest_form", lambda *given: "fused")


@pytest.mark.usefixtures("fused")
def test_report_and_file(models: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "net.safetensors"
    spec = "x: f32[batch=2, 3, height=9, width=8]"
    code = run(
        f"{models}:Net", "--init", "width=4", "--input", spec, "--save", str(out), "--rounds", "2"
    )
    printed = capsys.readouterr().out
    assert code == 0
    assert "folded BatchNorm2d into Conv2d" in printed and "checked against the original" in printed
    assert "one run, median" not in printed  # the last line has the one pair of times
    assert "ms before" in printed and f"saved to {out}" in printed
    assert load(out)(torch.randn(5, 3, 7, 6)).shape == (5, 4, 5, 4)


@pytest.mark.usefixtures("fused")
def test_json(models: str, capsys: pytest.CaptureFixture[str]) -> None:
    code = run(f"{models}:Net", "-i", "x: f32[2, 3, 9, 8]", "--json", "--rounds", "0")
    data = json.loads(capsys.readouterr().out)
    assert code == 0
    assert data["rewrites"][0]["what"] == "folded BatchNorm2d into Conv2d"
    assert data["before_seconds"] is None
    assert [check["batch"] for check in data["checks"]] == [2, 1]


def test_quiet(models: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(f"{models}:Net", "-i", "x: f32[2, 3, 9, 8]", "-q", "--rounds", "1") == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if "may print" not in line]
    assert len(lines) == 1 and "rewrites; off by at most" in lines[0]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["Net"], "no input is described"),
        (["Net", "-i", "x: f32[2, 4, 9, 8]"], "cannot run on these inputs"),
        (
            ["Net", "-i", "x: f32[2, 3, 9, 8]", "--dtype", "float16"],
            "symfx optimize cannot use 'float16'",
        ),
        (["Net", "-i", "x: f32[2, 3, 9, 8]", "--save", "/no/such/file"], "no directory /no/such"),
        (["function", "-i", "x: f32[2]"], "only modules can be optimized"),
    ],
)
def test_mistakes(
    models: str, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    name, *rest = words
    assert run(f"{models}:{name}", *rest) == 2
    error = capsys.readouterr().err
    assert message in error and "to fix:" in error and "Traceback" not in error
