"""Exported programs of traces: each consumer of torch.export takes them, and agrees with eager."""

from __future__ import annotations

import copy
import io
import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.export import ExportedProgram
from torch.utils import _pytree as pytree
from traced_programs import PROGRAMS, TRANSFORMERS, Program

import symfx
from parity.torch_releases import STOCK_SAVES_NAMED_RESULTS
from symfx import SymfxError

ALL = PROGRAMS | TRANSFORMERS
#: The programs whose result torch.export.save has no name for: that of torch.topk.
WITHOUT_NAMES = set() if STOCK_SAVES_NAMED_RESULTS else {"nested"}


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module", params=ALL)
def case(request: pytest.FixtureRequest) -> tuple[str, Program, symfx.Trace, ExportedProgram]:
    program = ALL[request.param]
    t = program.trace(pre_dispatch=True)
    return request.param, program, t, t.to_exported_program()


def eager(t: symfx.Trace, call: Any) -> Any:
    args, kwargs = copy.deepcopy(call)
    owner = getattr(t.model, "__self__", None)
    model = t.model if owner is not None else copy.deepcopy(t.model)
    torch.manual_seed(0)
    with torch.no_grad():
        return model(*args, **kwargs)


def assert_agrees(make: Callable[[], Callable[..., Any]], program: Program, t: symfx.Trace) -> None:
    """Compare what `make` returns with the model at each size of the program."""
    compared = 0
    for size in program.sizes:
        args, kwargs = call = program.call(size)
        if not t.check(*args, **kwargs):
            continue
        expected = eager(t, call)
        torch.manual_seed(0)
        with torch.no_grad():
            actual = make()(*copy.deepcopy(args), **copy.deepcopy(kwargs))
        ours, theirs = pytree.tree_leaves(actual), pytree.tree_leaves(expected)
        for a, b in zip(ours, theirs, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
        compared += 1
    assert compared >= 2


Case = tuple[str, Program, symfx.Trace, ExportedProgram]


def test_the_module(case: Case) -> None:
    _, program, t, exported = case
    assert_agrees(lambda: copy.deepcopy(exported).module(), program, t)


def test_decompositions(case: Case) -> None:
    _, program, t, exported = case
    core = exported.run_decompositions()
    assert_agrees(lambda: copy.deepcopy(core).module(), program, t)


def test_saved_and_loaded(case: Case) -> None:
    name, program, t, exported = case
    if name in WITHOUT_NAMES:
        with pytest.raises(NotImplementedError, match="serialization name"):
            torch.export.save(exported, io.BytesIO())
        return
    file = io.BytesIO()
    torch.export.save(exported, file)
    file.seek(0)
    loaded = torch.export.load(file)
    assert {str(s): (r.lower, r.upper) for s, r in loaded.range_constraints.items()} == {
        str(s): (r.lower, r.upper) for s, r in exported.range_constraints.items()
    }
    assert_agrees(lambda: copy.deepcopy(loaded).module(), program, t)


def test_unflattened(case: Case) -> None:
    _, program, t, exported = case
    assert_agrees(lambda: torch.export.unflatten(copy.deepcopy(exported)), program, t)


def test_inputs_that_the_guards_exclude_are_refused(case: Case) -> None:
    _, program, _, exported = case
    args, kwargs = program.call(program.sizes[0])
    wrong = pytree.tree_map_only(torch.Tensor, lambda x: x[None], (args, kwargs))
    with pytest.raises((RuntimeError, AssertionError, ValueError)):
        exported.module()(*wrong[0], **wrong[1])


def test_guards_are_checked_by_the_program() -> None:
    t = PROGRAMS["guarded"].trace(pre_dispatch=True)
    module = t.to_exported_program().module()
    for n in (4, 6, 8, 12, 7, 3, 2, 5):
        x = torch.randn(n)
        if t.check(x, 3):
            torch.testing.assert_close(module(x, 3), t.model(x, 3))
        else:
            with pytest.raises((RuntimeError, AssertionError)):
                module(x, 3)


def test_values_of_inputs_are_asserted() -> None:
    exported = PROGRAMS["by-input"].trace(pre_dispatch=True).to_exported_program()
    module = exported.module()
    x = torch.randn(6, 3)
    for k in (1, 5, 6):
        torch.testing.assert_close(module(x, torch.tensor(k)), x[:k].sum(0) * k)
    for k in (0, 7):
        with pytest.raises(RuntimeError, match="does not hold"):
            module(x, torch.tensor(k))


def test_names_ranges_parameters_and_buffers_are_kept() -> None:
    t = PROGRAMS["counter"].trace(pre_dispatch=True)
    exported = t.to_exported_program()
    signature = exported.graph_signature
    assert dict(signature.inputs_to_buffers) == {"b_total": "total", "b_unsaved": "unsaved"}
    assert set(exported.state_dict) == {"total"} and set(exported.constants) == {"unsaved"}
    assert signature.user_inputs == ("x", "scale")
    assert [str(s) for s in exported.range_constraints] == ["s_b"]
    assert "Sym(b)" in str(exported)  # printed under the user's name
    exported = PROGRAMS["tied"].trace(pre_dispatch=True).to_exported_program()
    ranges = {str(s): (int(r.lower), str(r.upper)) for s, r in exported.range_constraints.items()}
    assert ranges == {"s_b": (2, "100"), "s_w": (2, "int_oo")}


def test_the_trace_is_not_changed_by_what_follows() -> None:
    t = PROGRAMS["encoder"].trace(pre_dispatch=True)
    before = str(t)
    exported = t.to_exported_program()
    exported.run_decompositions()
    exported.module()
    assert str(t) == before and t.verify(shapes=1)


def test_symbols_whose_names_meet_in_sympy() -> None:
    def model(x: torch.Tensor) -> torch.Tensor:
        return x.new_zeros(x.shape[0] + 2 * x.shape[1]) + x.shape[1]

    exported = symfx.export(model, torch.ones(3, 5), dynamic=[("b", "s_b")])
    assert exported.module()(torch.ones(4, 7)).tolist() == [7.0] * 18
    assert len(exported.range_constraints) == 2


def test_export_in_one_call() -> None:
    layer = nn.Linear(4, 2)
    exported = symfx.export(layer, torch.randn(3, 4), dynamic={"input": ("n", None)})
    x = torch.randn(7, 4)
    torch.testing.assert_close(exported.module()(x), layer(x))
    assert any(n.target == torch.ops.aten.linear.default for n in exported.graph.nodes)


def test_a_loaded_trace_is_handed_on(tmp_path: Path) -> None:
    t = PROGRAMS["encoder"].trace(pre_dispatch=True)
    t.save(tmp_path / "t")
    exported = symfx.load(tmp_path / "t").to_exported_program()
    assert_agrees(lambda: exported.module(), PROGRAMS["encoder"], t)
    t.save(tmp_path / "t", weights=False)
    with pytest.raises(SymfxError, match="has no values"):
        symfx.load(tmp_path / "t").to_exported_program()


# Models that torch.export refuses, and symfx traces.


class ViewAndNorm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(x.view(-1, 8)).view(x.shape[0], -1)


def chunked(x: torch.Tensor) -> Any:
    return x.chunk(2)[0] * 2


def top_fifth(x: torch.Tensor) -> torch.Tensor:
    return x.topk(x.shape[0] // 5).values


def stepped(x: torch.Tensor) -> torch.Tensor:
    return x + torch.arange(0, 2 * x.shape[0], 2)


REFUSED: dict[str, tuple[Any, Any, Any, list[Any]]] = {
    "view and norm": (ViewAndNorm(), (3, 4, 8), ("b", "t", None), [(5, 7, 8), (2, 2, 8)]),
    "a size at its minimum": (torch.relu, (2, 3), ("b", None), [(2, 3), (9, 3)]),
    "chunk": (chunked, (8,), ("n",), [(9,), (12,)]),
    "topk": (top_fifth, (25,), ("n",), [(30,), (41,)]),
    "arange": (stepped, (6,), ("n",), [(3,), (11,)]),
}


@pytest.mark.parametrize("name", REFUSED)
def test_models_that_torch_export_refuses(name: str) -> None:
    model, shape, dims, others = REFUSED[name]
    exported = symfx.export(model, torch.randn(shape), dynamic=[dims])
    module = exported.module()
    core = exported.run_decompositions()
    for other in others:
        x = torch.randn(other)
        torch.testing.assert_close(module(x), model(x))
        torch.testing.assert_close(core.module()(x), model(x))


# ONNX.


@pytest.mark.parametrize("name", [n for n in ALL if n != "resnet-train"])
def test_onnx(name: str) -> None:
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    program = ALL[name]
    t = program.trace(pre_dispatch=True)
    exported = torch.onnx.export(t.to_exported_program(), dynamo=True, verbose=False)
    model = exported.model_proto
    named = {d.dim_param for i in model.graph.input for d in i.type.tensor_type.shape.dim}
    assert {info.name for info in t.symbols if not info.unbacked} <= named | {"s2"}
    session = runtime.InferenceSession(model.SerializeToString())
    compared = 0
    for size in program.sizes:
        args, kwargs = call = program.call(size)
        if not t.check(*args, **kwargs):
            continue
        leaves = t.admission.layout.flatten(args, kwargs)
        tensors = [leaf.numpy() for leaf in leaves if isinstance(leaf, torch.Tensor)]
        wanted = [i.name for i in session.get_inputs()]
        found = session.run(None, dict(zip(wanted, tensors, strict=True)))
        expected = pytree.tree_leaves(eager(t, call))
        for a, b in zip(found, expected, strict=False):
            ours, theirs = torch.as_tensor(a), torch.as_tensor(b)
            torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3, check_dtype=False)
        compared += 1
        if compared == 3:
            break
    assert compared >= 3


# Compilers.


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="Inductor needs a C++ compiler")
@pytest.mark.parametrize(
    "name", ["mlp", "counter", "branches", "by-data", "by-input", *TRANSFORMERS]
)
def test_aoti(name: str, tmp_path: Path) -> None:
    program = ALL[name]
    t = program.trace(pre_dispatch=True)
    exported = t.to_exported_program()
    path = torch._inductor.aoti_compile_and_package(
        exported, package_path=str(tmp_path / "model.pt2")
    )
    for size in program.sizes[:3]:
        args, kwargs = call = program.call(size)
        run = torch._inductor.aoti_load_package(path)  # with buffers as they were
        ours, theirs = pytree.tree_leaves(run(*args, **kwargs)), pytree.tree_leaves(eager(t, call))
        for a, b in zip(ours, theirs, strict=True):
            torch.testing.assert_close(torch.as_tensor(a), torch.as_tensor(b), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["mlp", "guarded", "encoder"])
def test_graph_modules_are_compiled(name: str) -> None:
    program = PROGRAMS[name]
    t = program.trace()
    compiled = torch.compile(t.graph_module, backend="aot_eager", dynamic=True)
    for size in program.sizes:
        args, kwargs = program.call(size)
        if t.check(*args, **kwargs):
            leaves = t.admission.layout.flatten(args, kwargs)
            torch.testing.assert_close(compiled(*leaves), t.graph_module(*leaves))


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="Inductor needs a C++ compiler")
@pytest.mark.parametrize("name", ["branches", "by-data", *TRANSFORMERS])
def test_graph_modules_are_compiled_by_inductor(name: str) -> None:
    program = ALL[name]
    t = program.trace()
    torch._dynamo.reset()
    compiled = torch.compile(t.graph_module, dynamic=True)
    for size in program.sizes[:2]:
        args, kwargs = program.call(size)
        leaves = t.admission.layout.flatten(args, kwargs)
        torch.testing.assert_close(compiled(*leaves), t.graph_module(*leaves))
