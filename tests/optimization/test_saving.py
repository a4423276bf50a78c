"""Optimized models written to a file and read again, and files that must be refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from saved_models import Everything, parts, written
from torch import Tensor, nn

import symfx
from symfx.errors import OptimizationError
from symfx.optimization import load, pipeline


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[symfx.OptimizedModel, Path]:
    torch.manual_seed(0)
    with pytest.MonkeyPatch.context() as patch:  # whatever is faster here
        patch.setattr(pipeline, "fastest_form", lambda *given: "fused")
        model = symfx.optimize(Everything().eval(), torch.randn(2, 3, 8, 8))
    path = tmp_path_factory.mktemp("saved") / "model.safetensors"
    model.save(str(path))
    return model, path


@torch.no_grad()
def test_round_trip(saved: tuple[symfx.OptimizedModel, Path]) -> None:
    model, path = saved
    again = load(path)
    for shape in [(2, 3, 8, 8), (5, 3, 10, 7)]:
        x = torch.randn(shape)
        torch.testing.assert_close(again(x), model(x), rtol=0, atol=0)
    assert "read from" in str(again.report)
    assert [n.name for n in again.graph_module.graph.nodes] == [
        n.name for n in model.graph_module.graph.nodes
    ]


def test_no_pickle_in_it(saved: tuple[symfx.OptimizedModel, Path]) -> None:
    content = saved[1].read_bytes()
    assert b"pickle" not in content and content[8:9] == b"{"


def rewritten(path: Path, to: Path, change: Any) -> Path:
    header, tensors = parts(path)
    change(header, tensors)
    to.write_bytes(written(header, tensors))
    return to


def function_node(header: Any) -> Any:
    return next(node for node in header["nodes"] if node["op"] == "call_function")


CHANGES = {
    "newer": (lambda h, t: h.update(version=99), "version 99"),
    "system": (
        lambda h, t: function_node(h).update(target="os.system"),
        "no function 'os.system'",
    ),
    "load": (lambda h, t: function_node(h).update(target="torch.load"), "load"),
    "hub": (lambda h, t: function_node(h).update(target="torch.hub.load"), "no function"),
    "file": (lambda h, t: function_node(h).update(target="torch.from_file"), "from_file"),
    "class": (
        lambda h, t: function_node(h).update(target="torch.nn.functional.Tensor"),
        "no function",
    ),
    "dunder": (
        lambda h, t: next(n for n in h["nodes"] if n["op"] == "call_method").update(
            target="__reduce_ex__"
        ),
        "__reduce_ex__",
    ),
    "module": (
        lambda h, t: next(iter(h["modules"].values())).update({"class": "os.path"}),
        "no module 'os.path'",
    ),
    "tensor": (lambda h, t: t.pop(next(iter(t))), "no tensor in the file"),
    "kind": (lambda h, t: h["nodes"][0].update(op="eval"), "no kind of node 'eval'"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_refused(saved: tuple[symfx.OptimizedModel, Path], tmp_path: Path, name: str) -> None:
    change, message = CHANGES[name]
    with pytest.raises(OptimizationError, match=message):
        load(rewritten(saved[1], tmp_path / "other.safetensors", change))


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(OptimizationError, match="cannot be read"):
        load(tmp_path / "missing.safetensors")
    (tmp_path / "text").write_text("hello")
    with pytest.raises(OptimizationError, match="cannot be read"):
        load(tmp_path / "text")
    save_file({"a": torch.ones(1)}, str(tmp_path / "tensors"))
    with pytest.raises(OptimizationError, match="no optimized model"):
        load(tmp_path / "tensors")


class Odd(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if bool(x.sum() > 1e9) else x + 1


def test_what_is_no_data_is_named(tmp_path: Path) -> None:
    model = symfx.optimize(nn.Sequential(nn.Linear(2, 2), Odd()), torch.randn(3, 2))
    with pytest.raises(OptimizationError, match=r"a Odd, which a file cannot describe"):
        model.save(str(tmp_path / "x"))
    with pytest.raises(OptimizationError, match="not been optimized yet"):
        symfx.optimize(nn.Linear(2, 2)).save(str(tmp_path / "x"))
