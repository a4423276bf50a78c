"""``symfx trace --save``, ``show``, ``check`` and ``run``: the commands on saved traces."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from safetensors.torch import load_file, save_file

from command_line import Run

MODELS = """
    import torch

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.lin = torch.nn.Linear(8, 4)
        def forward(self, x, scale):
            if x.shape[0] > 3:
                x = x * 2
            return {"y": self.lin(x) * scale, "n": x.shape[0] * 2}
"""


INPUTS = ("-i", "x: f32[batch=5, 8]", "-i", "scale: f32[]")


@pytest.fixture
def saved(run: Run, tmp_path: Path) -> Path:
    (tmp_path / "saved_models.py").write_text(textwrap.dedent(MODELS))
    path = tmp_path / "net.symfx"
    code, _, _ = run("trace", f"{tmp_path}/saved_models.py:Net", *INPUTS, "--save", path, "-q")
    assert code == 0
    return path


def test_a_saved_trace_is_shown_as_it_was_printed(run: Run, tmp_path: Path) -> None:
    (tmp_path / "saved_models.py").write_text(textwrap.dedent(MODELS))
    target, path = f"{tmp_path}/saved_models.py:Net", tmp_path / "net.symfx"
    _, printed, _ = run("trace", target, *INPUTS, "--save", path)
    code, shown, _ = run("show", path)
    assert code == 0 and shown == printed
    _, as_json, _ = run("trace", target, *INPUTS, "--json")
    _, shown, _ = run("show", path, "--json")
    assert json.loads(shown) == json.loads(as_json)
    assert json.loads(shown)["schema"] == "symfx trace" and json.loads(shown)["version"] == 1
    code, short, _ = run("show", path, "--no-graph")
    assert code == 0 and "batch >= 4" in short and "addmm" not in short


def test_check_tells_the_reasons_and_the_exit_code(run: Run, saved: Path) -> None:
    code, out, _ = run("check", saved, "-i", "x: f32[7, 8]", "-i", "scale: f32[]")
    assert (code, out) == (0, "these inputs fit\n")
    code, out, _ = run("check", saved, "-i", "x: f32[2, 8]", "-i", "scale: f32[]")
    assert code == 1 and "batch >= 4 does not hold for batch = 2" in out
    code, out, _ = run("check", saved, "-i", "x: f32[5, 9]", "-i", "scale: f32[]", "--json")
    assert code == 1
    assert json.loads(out) == {
        "schema": "symfx check",
        "version": 1,
        "fits": False,
        "reasons": ["dimension 1 of x is 9; it is static: 8 when traced"],
    }


def test_a_saved_trace_is_verified_with_its_model(run: Run, saved: Path) -> None:
    target = f"{saved.parent}/saved_models.py:Net"
    code, out, _ = run("verify", saved, target, "--where", "batch in {4, 9, 100}")
    assert code == 0 and all(f"batch={n} " in out for n in (4, 5, 9, 100))
    assert "admit only" in out and "batch in {4, 9, 100}" in out
    code, out, _ = run("verify", saved, target, "--shapes", 2, "-q")
    assert (code, out) == (0, "Net: verified at 3 shapes: equal to eager\n")
    code, out, _ = run("verify", saved, target, "--json")
    document = json.loads(out)
    assert code == 0 and document["schema"] == "symfx verify" and document["passed"]
    assert len(document["runs"]) == 6


def test_verify_finds_that_a_model_is_another_one(run: Run, saved: Path) -> None:
    path = saved.parent / "changed_models.py"
    path.write_text(textwrap.dedent(MODELS).replace("x = x * 2", "x = x * 2 + (x.shape[0] > 20)"))
    code, out, _ = run("verify", saved, f"{path}:Net", "-w", "batch >= 30", "-w", "batch <= 40")
    assert code == 1 and "FAILS" in out
    code, _, err = run("verify", saved, f"{path}:Net", "-w", "size >= 30")
    assert code == 2 and "no input has a dimension named size" in err and "batch" in err
    path.write_text(textwrap.dedent(MODELS).replace("Linear(8, 4)", "Linear(8, 5)"))
    code, _, err = run("verify", saved, f"{path}:Net")
    assert code == 2 and "give the model that was traced" in err


def test_verify_uses_the_mode_of_the_trace(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "norm.symfx"
    init = ("--init", "num_features=3")
    inputs = ("-i", "input: f32[n=4, 3]")
    code, _, _ = run("trace", "torch.nn:BatchNorm1d", *init, *inputs, "--eval", "--save", path)
    assert code == 0
    code, out, _ = run("verify", path, "torch.nn:BatchNorm1d", *init)
    assert code == 0, out


@pytest.mark.parametrize("form", ["pt", "list.pt", "npz", "safetensors", "two files", "npy"])
def test_inputs_from_files(run: Run, saved: Path, tmp_path: Path, form: str) -> None:
    x, scale = torch.randn(6, 8), torch.tensor(2.0)
    path = tmp_path / f"inputs.{form}"
    given: list[object] = [path]
    if form == "pt":
        torch.save({"x": x, "scale": scale}, path)
    elif form == "list.pt":
        torch.save([x, scale], path)
    elif form == "npz":
        numpy.savez(path, x=x.numpy(), scale=scale.numpy())
    elif form == "safetensors":
        save_file({"x": x, "scale": scale}, path)
    else:
        suffix = "npy" if form == "npy" else "pt"
        given = [f"x={tmp_path}/x.{suffix}", f"scale={tmp_path}/scale.{suffix}"]
        for name, value in (("x", x), ("scale", scale)):
            where = tmp_path / f"{name}.{suffix}"
            numpy.save(where, value.numpy()) if suffix == "npy" else torch.save(value, where)
    words = [word for one in given for word in ("--input", one)]
    code, out, err = run("run", saved, *words, "-o", tmp_path / "out.safetensors")
    assert (code, err) == (0, "")
    assert "result['y']" in out and "result['n']   12" in out
    import symfx

    expected = symfx.load(saved)(x, scale)["y"]
    assert torch.equal(load_file(tmp_path / "out.safetensors")["result['y']"], expected)


@pytest.mark.parametrize("form", ["pt", "npz"])
def test_results_into_files(run: Run, saved: Path, tmp_path: Path, form: str) -> None:
    words = ["-i", "x: f32[6, 8]", "-i", "scale: f32[]"]
    code, out, _ = run("run", saved, *words, "-o", tmp_path / f"out.{form}", "--json")
    assert code == 0
    assert json.loads(out)["results"] == [
        {"name": "result['y']", "dtype": "float32", "shape": [6, 4]},
        {"name": "result['n']", "value": 12},
    ]
    path = tmp_path / f"out.{form}"
    found: Any = torch.load(path) if form == "pt" else numpy.load(path)
    assert tuple(found["result['y']"].shape) == (6, 4)


MISTAKES: dict[str, tuple[list[str], str]] = {
    "a missing input": (["-i", "x: f32[6, 8]"], "needs an input 'scale'"),
    "another name": (["-i", "y: f32[6, 8]"], "gives 'y', which is not an input of the trace"),
    "no such file": (["-i", "x=nothing.pt"], "there is no file nothing.pt"),
    "inputs that do not fit": (["-i", "x: f32[6, 9]", "-i", "scale: f32[]"], "do not fit"),
    "an unknown form": (
        ["-i", "x: f32[6, 8]", "-i", "scale: f32[]", "-o", "out.xyz"],
        "symfx cannot write a file that ends in '.xyz'",
    ),
    "twice": (["-i", "x: f32[6, 8]", "-i", "x: f32[6, 8]"], "twice"),
    "a module that is not there": (["--library", "no_such_module"], "cannot be imported"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes(run: Run, saved: Path, name: str) -> None:
    words, message = MISTAKES[name]
    code, out, err = run("run", saved, *words)
    assert (code, out) == (2, "") and message in err and "to fix: " in err
    code, out, err = run("--json-errors", "run", saved, *words)
    error = json.loads(err)
    assert (code, out) == (2, "") and message in error["what"] and error["fix"]
    assert error["schema"] == "symfx error" and error["version"] == 1


def test_a_pickle_is_not_run(run: Run, saved: Path, tmp_path: Path) -> None:
    class Harm:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "harmed",)

    torch.save({"x": Harm()}, tmp_path / "x.pt")
    code, _, err = run("run", saved, "-i", tmp_path / "x.pt")
    assert code == 2 and "cannot be read" in err and not (tmp_path / "harmed").exists()
    numpy.save(tmp_path / "x.npy", numpy.array([Harm()], dtype=object))
    code, _, err = run("run", saved, "-i", f"x={tmp_path}/x.npy")
    assert code == 2 and "cannot be read" in err and not (tmp_path / "harmed").exists()


def test_other_files_are_no_saved_traces(run: Run, tmp_path: Path) -> None:
    (tmp_path / "x").write_text("hello")
    for command in ("show", "check", "run"):
        code, _, err = run(command, tmp_path / "x")
        assert code == 2 and "no saved trace" in err


def test_a_trace_is_saved_where_a_file_can_be(run: Run, tmp_path: Path) -> None:
    code, _, err = run("trace", "torch:relu", "-i", "x: f32[n]", "--save", tmp_path / "no" / "t")
    assert code == 2 and "there is no directory" in err


def test_a_trace_is_written_for_what_comes_next(run: Run, tmp_path: Path) -> None:
    (tmp_path / "saved_models.py").write_text(textwrap.dedent(MODELS))
    target, onnx, pt2 = f"{tmp_path}/saved_models.py:Net", tmp_path / "n.onnx", tmp_path / "n.pt2"
    code, out, _ = run("trace", target, *INPUTS, "--onnx", onnx, "--pt2", pt2, "--shapes", "1")
    assert code == 0 and "linear(" in out  # the operators above autograd
    program = torch.export.load(pt2)
    x, scale = torch.randn(6, 8), torch.tensor(2.0)
    expected = program.module()(x, scale)
    runtime = pytest.importorskip("onnxruntime")
    session = runtime.InferenceSession(str(onnx))
    found = session.run(None, {"x": x.numpy(), "scale": scale.numpy()})
    torch.testing.assert_close(torch.as_tensor(found[0]), expected["y"], rtol=1e-4, atol=1e-4)
    assert int(found[1]) == 12
    assert session.get_inputs()[0].shape == ["batch", 8]


def test_what_torch_cannot_convert_is_one_message(
    run: Run, tmp_path: Path, monkeypatch: Any
) -> None:
    def fails(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("no such operator\nand a long report")

    monkeypatch.setattr(torch.export, "save", fails)
    code, out, err = run("trace", "torch:relu", "-i", "arg0: f32[n]", "--pt2", tmp_path / "t.pt2")
    assert (code, out) == (2, "")
    assert err.startswith(
        "error: torch cannot convert the program: RuntimeError: no such operator\n"
    )
    assert "a long report" not in err and "to fix: " in err


def test_aoti_needs_a_compiler(run: Run, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    code, _, err = run("trace", "torch:relu", "-i", "arg0: f32[n]", "--aoti", tmp_path / "t.pt2")
    assert code == 2 and "there is no g++" in err


def test_batch_statistics_are_refused_for_onnx(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    given = ["trace", "torch.nn:BatchNorm1d", "--init", "num_features=4", "-i", "input: f32[n, 4]"]
    code, _, err = run(*given, "--onnx", tmp_path / "bn.onnx")
    assert code == 2 and "normalizes by the statistics of a batch (batch_norm)" in err
    assert "to fix: trace the model in eval mode: --eval" in err
    assert not (tmp_path / "bn.onnx").exists()
    code, _, err = run(*given, "--eval", "--onnx", tmp_path / "bn.onnx")
    assert code == 0 and (tmp_path / "bn.onnx").exists(), err


def test_show_prints_the_graph_for_other_programs(run: Run, saved: Path) -> None:
    code, mermaid, _ = run("show", saved, "--format", "mermaid")
    assert code == 0 and mermaid.startswith("flowchart TD\n") and "lin (Linear)" in mermaid
    code, dot, _ = run("show", saved, "--format", "dot")
    assert code == 0 and dot.startswith('digraph "Net" {') and dot.endswith("}\n")
    code, out, _ = run("show", saved, "--format", "model-explorer")
    assert code == 0 and json.loads(out)["graphs"][0]["id"] == "Net"
    code, out, err = run("show", saved, "--format", "dot", "--json")
    assert (code, out) == (2, "") and "cannot be used together" in err
    code, _, err = run("show", saved, "--format", "svg")
    assert code == 2 and "mermaid" in err
