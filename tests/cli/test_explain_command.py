"""``symfx explain``: answers about models and saved traces, as text and as JSON."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path

import pytest

from command_line import Run

MODELS = """
    import torch

    def rows(x, y):
        if x.shape[0] > 3:
            x = x * 2
        return x.view(4, -1) + 1, y

    def loops(x):
        for i in range(x.shape[0]):
            x = x + i
        return x

    def branches(x):
        n = x.sum().int().item()
        return x if n > 3 else x + 1
"""
INPUTS = ("-i", "x: f32[batch=8, 8]", "-i", "y: f32[other]")


@pytest.fixture
def models(tmp_path: Path) -> str:
    path = tmp_path / "explained_models.py"
    path.write_text(textwrap.dedent(MODELS))
    return str(path)


@pytest.fixture
def saved(run: Run, models: str, tmp_path: Path) -> Path:
    path = tmp_path / "rows.symfx"
    code, _, _ = run("trace", f"{models}:rows", *INPUTS, "--save", path, "-q")
    assert code == 0
    return path


def test_a_dimension_a_guard_and_a_node_of_a_model(run: Run, models: str) -> None:
    target = f"{models}:rows"
    code, out, err = run("explain", target, *INPUTS, "--dim", "batch", "--node", "mul")
    assert code == 0 and err == ""
    assert out.startswith("batch is dynamic: the graph holds for any value of at least 4")
    assert "guard: batch >= 4" in out and "if x.shape[0] > 3:" in out
    assert "\n\nmul is f32[batch, 8]: mul(x, 2), made by" in out
    code, out, _ = run("explain", target, *INPUTS, "--guard", "batch >= 3")
    assert code == 0 and "batch >= 3 is no guard: it holds for all inputs that fit" in out
    code, out, _ = run("explain", target, *INPUTS)
    assert code == 0 and out.startswith("rows: ")


def test_a_pinned_dimension_is_explained_and_no_error(run: Run, models: str) -> None:
    code, out, err = run("explain", f"{models}:loops", "-i", "x: f32[n=5]", "--dim", "n")
    assert code == 0 and err == ""
    assert "n is pinned to 5" in out and "for i in range(x.shape[0]):" in out and "to fix" in out


def test_a_data_dependent_error_is_explained(run: Run, models: str) -> None:
    code, out, _ = run("explain", f"{models}:branches", "-i", "x: f32[n=5]")
    assert code == 1 and "made by aten._local_scalar_dense" in out
    code, out, _ = run("explain", f"{models}:branches", "-i", "x: f32[n=5]", "--json")
    data = json.loads(out)
    assert code == 1 and data["traced"] is False and data["answers"][0]["kind"] == "error"


def test_a_saved_trace_gives_the_answers_of_its_model(run: Run, models: str, saved: Path) -> None:
    for subject in (("--dim", "batch"), ("--guard", "batch >= 4"), ("--node", "mul")):
        _, of_model, _ = run("explain", f"{models}:rows", *INPUTS, *subject)
        code, of_file, _ = run("explain", saved, *subject)
        assert code == 0 and of_file == of_model


def test_why_not(run: Run, saved: Path) -> None:
    fits = ("--why-not", "x: f32[6, 8]", "--why-not", "y: f32[2]")
    code, out, _ = run("explain", saved, *fits)
    assert code == 0 and out == "these inputs fit\n"
    code, out, _ = run("explain", saved, "--why-not", "x: f32[3, 8]", "--why-not", "y: f32[2]")
    assert code == 1 and "the program needs batch >= 4" in out and "x: f32[4, 8]" in out
    *_, out, _ = run(
        "explain", saved, "--why-not", "x: f32[3, 8]", "--why-not", "y: f32[2]", "--json"
    )
    rejection = json.loads(out)["rejection"]
    assert rejection["nearest"] == {"x": "f32[4, 8]", "y": "f32[2]"}
    code, _, _ = run("check", saved, "-i", "x: f32[4, 8]", "-i", "y: f32[2]")
    assert code == 0


def test_json_is_one_document(run: Run, saved: Path) -> None:
    code, out, _ = run("explain", saved, "--dim", "batch", "--json")
    data = json.loads(out)
    assert code == 0
    assert (data["schema"], data["version"], data["model"]) == ("symfx explain", 1, "rows")
    (answer,) = data["answers"]
    assert answer["reasons"][0]["line"]["text"] == "if x.shape[0] > 3:"


@pytest.mark.parametrize(
    ("words", "option", "message"),
    [
        (("--dim", "bach"), "--dim", "did you mean batch?"),
        (("--node", "mull"), "--node", "did you mean mul"),
        (("--guard", "batch >"), "--guard", "no guard"),
        (("--why-not", "x: f32[3, 8"), "--why-not", "expected"),
        (("--why-not", "x: f32[3, 8]"), "--why-not", "needs an input y"),
        (("-i", "x: f32[3, 8]"), "--input", "is a saved trace"),
    ],
)
def test_mistakes_name_the_option(
    run: Run, saved: Path, words: tuple[str, ...], option: str, message: str
) -> None:
    code, out, err = run("explain", saved, *words)
    assert (code, out) == (2, "") and message in err and f"at: {option}" in err


def test_files_that_are_no_traces(run: Run, tmp_path: Path) -> None:
    code, _, err = run("explain", tmp_path / "none.symfx")
    assert code == 2 and "none.symfx" in err and "symfx itself" not in err
    (tmp_path / "text.symfx").write_text("no zip")
    code, _, err = run("explain", tmp_path / "text.symfx")
    assert code == 2 and "text.symfx" in err and "symfx itself" not in err
