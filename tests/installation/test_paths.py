"""Ways through torch that other tests do not take: assertions, gradients, compiled autograd, ONNX."""

from __future__ import annotations

import copy
import re

import pytest
import torch
from torch._dynamo.testing import AotEagerAndRecordGraphs
from torch._guards import detect_fake_mode
from torch.export import Dim, export

import symfx


@pytest.fixture(autouse=True)
def _installed():
    torch._dynamo.reset()
    with symfx.installed():
        yield
    torch._dynamo.reset()


class Of(torch.nn.Module):
    def __init__(self, function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x, y):
        return self.function(x, y)


def asserted(program) -> list[str]:
    return re.findall(r"assertion failed for expression (.*?) on", program.graph_module.code)


both = pytest.mark.parametrize("strict", [False, True], ids=["non_strict", "strict"])


@both
@pytest.mark.parametrize(
    ("function", "asserts", "good", "bad"),
    [
        (lambda x, y: y + 1 if x.shape[0] % y.shape[0] == 0 else y, 1, (8, 4), (8, 3)),
        (lambda x, y: y + 1 if x.shape[0] + y.shape[0] > 8 else y, 1, (5, 4), (4, 4)),
        (lambda x, y: y + 1 if x.shape[0] != 5 else y, 1, (4, 4), (5, 4)),
        (lambda x, y: x.reshape(y.shape[0], -1) + y[:, None], 1, (8, 4), (8, 3)),
        (lambda x, y: y + 1 if x.shape[0] >= 4 else y, 0, (4, 4), (3, 4)),
        (lambda x, y: y + 1 if x.shape[0] == y.shape[0] * 2 else y, 0, (8, 4), (8, 3)),
    ],
)
def test_an_exported_program_checks_itself_where_asked(function, asserts, good, bad, strict):
    model = Of(function)
    program = export(
        model, (torch.ones(6), torch.ones(3)), strict=strict,
        dynamic_shapes=({0: Dim.AUTO}, {0: Dim.AUTO}),
        prefer_deferred_runtime_asserts_over_guards=True,
    )  # fmt: skip
    assert len(asserted(program)) == asserts
    inputs = [torch.ones(n) for n in good]
    assert torch.equal(program.module()(*inputs), model(*inputs))
    with pytest.raises(RuntimeError if asserts else AssertionError):
        program.module()(*map(torch.ones, bad))
    if asserts:  # the graph alone refuses, too
        with pytest.raises(RuntimeError, match="Runtime assertion failed"):
            program.module(check_guards=False)(*map(torch.ones, bad))


@both
def test_each_condition_is_asserted_once(strict) -> None:
    program = export(
        Of(lambda x, y: y.reshape(x.item(), 2)), (torch.tensor(4), torch.ones(8)), strict=strict
    )
    for form in (program, program.run_decompositions()):
        found = asserted(form)
        assert found and len(found) == len(set(found))
        assert not any(
            node.op == "call_function" and not node.users and "assert" not in str(node.target)
            for node in form.graph.nodes
        )
        with pytest.raises(RuntimeError, match="Runtime assertion failed"):
            form.module()(torch.tensor(3), torch.ones(8))


@pytest.mark.parametrize("size", [3, 7])
@both
def test_comparisons_in_graphs_are_those_of_the_program(size, strict) -> None:
    def f(x, y):
        return torch.cond(x.shape[0] > y.shape[0] + 1, torch.sin, torch.cos, (x,))

    program = export(
        Of(f), (torch.ones(4), torch.ones(5)), strict=strict,
        dynamic_shapes=({0: Dim("a")}, {0: Dim("b")}),
    )  # fmt: skip
    assert any(str(node.target) == "<built-in function gt>" for node in program.graph.nodes)
    x, y = torch.ones(size), torch.ones(4)
    assert torch.equal(program.module()(x, y), f(x, y))


@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_a_forward_graph_takes_its_sizes_from_inputs(backend) -> None:
    def f(x):
        return x[: x.shape[0] // 2 + 1] * 2

    def of_data(x):
        return x[x > 0] * 3

    with torch._dynamo.config.patch(capture_dynamic_output_shape_ops=True):
        for function in (f, of_data):
            compiled = torch.compile(function, backend=backend, dynamic=True, fullgraph=True)
            for n in (3, 6, 9):
                mine = torch.linspace(-1, 2, 4 * n).reshape(n, 4).requires_grad_()
                theirs = mine.detach().clone().requires_grad_()
                compiled(mine).sum().backward()
                function(theirs).sum().backward()
                torch.testing.assert_close(mine.grad, theirs.grad)


def test_compiled_autograd_in_a_compiled_function() -> None:
    layers = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2))

    def step(x):
        layers(x).sum().backward()

    with torch._dynamo.config.patch(compiled_autograd=True):
        compiled = torch.compile(step, backend="aot_eager", dynamic=True)
        for n in (3, 5, 9):
            found = []
            for run in (compiled, step):
                layers.zero_grad()
                run(torch.linspace(-1, 1, 4 * n).reshape(n, 4))
                found.append(layers[0].weight.grad.clone())
            torch.testing.assert_close(*found)


def test_unbacked_dimensions_of_one_shape_id() -> None:
    def marked(rows):
        x = torch.ones(rows, 2)
        torch._dynamo.decorators.mark_unbacked(x, 0, shape_id="rows")
        return x

    compiled = torch.compile(lambda x, y: x + y, backend="aot_eager", fullgraph=True)
    for rows in (3, 7, 1):
        assert compiled(marked(rows), marked(rows)).shape == (rows, 2)
    with pytest.raises(RuntimeError, match=r"Runtime assertion failed for expression Eq\(u0, u1\)"):
        compiled(marked(3), marked(4))


def test_onnx_takes_programs_of_symfx() -> None:
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.GELU(), torch.nn.Linear(8, 2))
    program = torch.onnx.export(
        model, (torch.ones(3, 4),), dynamic_shapes=({0: Dim("rows")},), dynamo=True, verbose=False
    )
    session = runtime.InferenceSession(program.model_proto.SerializeToString())
    for rows in (2, 5):
        x = torch.linspace(-1, 1, rows * 4).reshape(rows, 4)
        (found,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
        torch.testing.assert_close(torch.from_numpy(found), model(x))


def test_joint_graphs_of_equal_layers_describe_what_runs() -> None:
    """Operators that an earlier pass ran are recorded without a run, with the same descriptions."""

    class Layer(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = torch.nn.Linear(4, 4)
            self.register_buffer("calls", torch.zeros(4))

        def forward(self, x):
            self.calls.add_(x.detach().sum(0))
            half = x[: x.shape[0] // 2 + 1].t().contiguous()
            return self.linear(x).relu_() * half.sum(1) + self.calls.mean()

    stack = torch.nn.Sequential(Layer(), Layer(), Layer())
    eager = copy.deepcopy(stack)
    recorder = AotEagerAndRecordGraphs()
    compiled = torch.compile(stack, backend=recorder, dynamic=True, fullgraph=True)
    for rows in (6, 9, 2):
        x = torch.linspace(-1, 1, 4 * rows).reshape(rows, 4)
        for model, run in ((stack, compiled), (eager, eager)):
            model.zero_grad()
            run(x).sin().sum().backward()
        for mine, theirs in zip(stack.parameters(), eager.parameters(), strict=True):
            torch.testing.assert_close(mine.grad, theirs.grad)
        for mine, theirs in zip(stack.buffers(), eager.buffers(), strict=True):
            torch.testing.assert_close(mine, theirs)
    assert len(recorder.fw_graphs) == 1
    for graph in (recorder.fw_graphs[0], recorder.bw_graphs[0]):
        inputs = [node.meta["val"] for node in graph.graph.find_nodes(op="placeholder")]
        mode = detect_fake_mode(inputs)
        with mode:
            Described(graph).run(*inputs)


class Described(torch.fx.Interpreter):
    """Runs a graph, and compares each result with the description on its node."""

    def run_node(self, n):
        result = super().run_node(n)
        if isinstance(result, torch.Tensor):
            told, meta = n.meta["val"], n.meta["tensor_meta"]
            assert result.shape == told.shape == meta.shape
            assert result.stride() == told.stride() == meta.stride
            assert result.dtype is told.dtype is meta.dtype
        return result
