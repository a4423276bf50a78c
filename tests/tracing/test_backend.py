"""The backend symfx of torch.compile, and the other backends on the graph of a trace."""

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import torch
from torch import nn

import symfx
from symfx import SpecError
from symfx.tracing.backend import dynamo_backend

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def fresh_dynamo():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.lin = nn.Linear(8, 4)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x, y):
        self.calls += 1
        with torch.no_grad():
            scale = (x * 2).sum()
        return self.lin(x)[: y.shape[0]] * y.shape[0] + scale


def test_what_dynamo_hands_on_is_traced_with_its_sizes():
    traces = []
    model, eager = Net(), Net()
    eager.load_state_dict(model.state_dict())
    compiled = torch.compile(
        model, backend=dynamo_backend, dynamic=True, options={"on_trace": traces.append}
    )
    for n, k in ((5, 3), (7, 2), (9, 9), (12, 4)):
        x, y = torch.randn(n, 8), torch.randn(k)
        theirs = x.clone().requires_grad_()
        ours = x.clone().requires_grad_()
        out, expected = compiled(ours, y), eager(theirs, y)
        torch.testing.assert_close(out, expected)
        out.sum().backward()
        expected.sum().backward()
        torch.testing.assert_close(ours.grad, theirs.grad)
    assert model.calls == 4
    (t,) = traces
    assert len(t.symbols) == 2 and "_set_grad_enabled" in str(t)
    assert isinstance(t, symfx.Trace)


def test_calls_that_a_trace_does_not_hold_for_run_dynamos_graph():
    traces = []

    def f(x):
        return x.reshape(-1, 4).sum(0)

    compiled = torch.compile(
        f, backend=dynamo_backend, dynamic=True, options={"on_trace": traces.append}
    )
    for n in (8, 12, 4):
        x = torch.randn(n)
        torch.testing.assert_close(compiled(x), f(x))
    run = dynamo_backend(
        torch.fx.symbolic_trace(lambda x: x.relu()),
        [torch.ones(3)],
        options={"on_trace": traces.append},
    )
    assert run(torch.ones(5)).shape == (5,)  # the trace is of the size 3 alone


def test_traces_are_printed_and_options_are_known(capsys):
    torch.compile(torch.sin, backend=dynamo_backend, dynamic=True)(torch.ones(3, 4))
    printed = capsys.readouterr().out
    assert "sin(" in printed and "symbols" in printed and "guards: none" in printed
    with pytest.raises(SpecError, match="the backend symfx has no option lines"):
        dynamo_backend(
            torch.fx.symbolic_trace(lambda x: x.sin()), [torch.ones(3)], options={"lines": 1}
        )


def test_torch_finds_the_backend_by_its_name(tmp_path):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (entries,) = project["entry-points"].values()
    assert list(project["entry-points"]) == ["torch_dynamo_backends"]
    info = tmp_path / "entry_points_of_symfx-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: entry-points-of-symfx\nVersion: 1.0"
    )
    lines = "".join(f"{name} = {place}\n" for name, place in entries.items())
    (info / "entry_points.txt").write_text(f"[torch_dynamo_backends]\n{lines}")
    script = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "import torch\n"
        "f = torch.compile(lambda x: x.sin(), backend='symfx', dynamic=True)\n"
        "assert torch.equal(f(torch.ones(3, 4)), torch.ones(3, 4).sin())\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=300
    )
    assert "sin(" in ran.stdout and "guards: none" in ran.stdout


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="Inductor needs a C++ compiler")
def test_inductor_compiles_the_graph_of_a_trace():
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.LayerNorm(16), nn.Linear(16, 4)).eval()
    t = symfx.trace(model, torch.randn(5, 8), dynamic=[("n", None)])
    with torch.no_grad():
        compiled = torch.compile(t.graph_module, dynamic=True)
        for n in (5, 7, 12):
            x = torch.randn(n, 8)
            torch.testing.assert_close(compiled(x), model(x))
