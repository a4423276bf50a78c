"""The origin of each node of a trace: lines, modules, torch function, operator; and its print."""

import re

import pytest
import torch
from torch import nn

import symfx


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.lin = nn.Linear(8, 8)

    def forward(self, x):
        h = self.lin(x).relu()
        return h + x.shape[0]


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList([Block(), Block()])
        self.again = self.blocks[0]

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        y = self.again(x)
        return torch.cond(y.sum() > 0, lambda v: v.sin(), lambda v: v.cos(), (y,))


def traced(pre_dispatch=False):
    return symfx.trace(
        Net().eval(), torch.randn(5, 8), dynamic=[("n", None)], pre_dispatch=pre_dispatch
    )


def line_of(text):
    with open(__file__) as file:
        return next(i for i, line in enumerate(file, 1) if text in line)


@pytest.mark.parametrize("pre_dispatch", [False, True])
def test_every_call_knows_its_lines_modules_and_function(pre_dispatch):
    t = traced(pre_dispatch)
    calls = [n for n in t.graph_module.graph.nodes if n.op == "call_function"]
    assert all(f'File "{__file__}", line ' in n.stack_trace for n in calls)
    assert all(n.meta["nn_module_stack"] for n in calls)
    assert not any("handle_torch_function" in n.stack_trace for n in calls)
    relus = [n for n in calls if n.target is torch.ops.aten.relu.default]
    for node, path in zip(relus, ["blocks.0", "blocks.1", "again"], strict=True):
        expected = [("", Net), (path, Block)]
        assert [*node.meta["nn_module_stack"].values()] == [
            (p, f"{__name__}.{kind.__qualname__}") for p, kind in expected
        ]
        assert node.meta["original_aten"] is torch.ops.aten.relu.default
        frames = re.findall(r'File "(.*)", line (\d+), in (\w+)\n    (.*)\n', node.stack_trace)
        assert frames[-1] == (
            __file__,
            str(line_of("h = self.lin(x).relu()")),
            "forward",
            "h = self.lin(x).relu()",
        )
        outer = "x = block(x)" if path.startswith("blocks") else "y = self.again(x)"
        assert frames[0][3] == outer
    assert [n.meta["torch_fn"] for n in relus] == [
        (f"relu_{i}", "method_descriptor.relu") for i in (1, 2, 3)
    ]
    inner = t.graph_module.true_graph_0.graph.find_nodes(
        op="call_function", target=torch.ops.aten.sin.default
    )
    assert "v.sin()" in inner[0].stack_trace


def test_functions_have_lines_and_no_modules():
    def double(x):
        return x * 2

    (node,) = symfx.trace(double, torch.randn(3)).graph_module.graph.find_nodes(
        op="call_function", target=torch.ops.aten.mul.Tensor
    )
    assert "return x * 2" in node.stack_trace and "nn_module_stack" not in node.meta


def test_the_model_keeps_no_hooks():
    model = Net()
    symfx.trace(model, torch.randn(5, 8))
    assert all(not m._forward_hooks and not m._forward_pre_hooks for m in model.modules())
    assert type(model._modules) is dict


def test_printed_graphs_have_modules_lines_and_an_end(tmp_path):
    t = traced()
    text = str(t)
    headers = re.findall(r"^  ([\w.]*):$", text, re.MULTILINE)
    assert headers == [
        "blocks.0.lin",
        "blocks.0",
        "blocks.1.lin",
        "blocks.1",
        "again.lin",
        "again",
        "Net",
    ]
    from symfx.tracing.report import describe_trace

    lined = [line.plain for line in describe_trace(t, lines=True)]
    assert sum("test_origins.py" in line for line in lined) == sum(
        n.op == "call_function" or n.name.endswith("graph_0") for n in t.graph_module.graph.nodes
    )
    total = len(t.graph_module.graph.nodes)
    for most in (1, 2, 7, total - 1, total, total + 1):
        shown = [line.plain for line in describe_trace(t, max_nodes=most)]
        names = [n.name for n in t.graph_module.graph.nodes]
        begins = [line.split()[0] for line in shown if line.startswith("  ") and line.strip()]
        left_out = total - most
        assert (f"  … {left_out} more node{'s' * (left_out > 1)} …" in shown) is (left_out > 0)
        kept = names if left_out <= 0 else [*names[: most - 1], "output"]
        assert [n for n in names if n in begins and "weight" not in n and "bias" not in n] == [
            n for n in kept if "weight" not in n and "bias" not in n
        ]
    t.save(tmp_path / "t.symfx")
    again = symfx.load(tmp_path / "t.symfx")
    assert str(again) == text
    for node, other in zip(t.graph_module.graph.nodes, again.graph_module.graph.nodes, strict=True):
        for key in ("stack_trace", "nn_module_stack", "torch_fn"):
            assert node.meta.get(key) == other.meta.get(key), key
