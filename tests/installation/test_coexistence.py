"""Programs of stock torch and programs of symfx work side by side, saved, loaded and alive."""

from __future__ import annotations

import io
import subprocess
import sys

import pytest
import torch
from torch.export import Dim

import symfx
from symfx.symbolic_shapes import ShapeEnv


class Model(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(4, 4)
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x, n):
        count = n.item()
        torch._check(count >= 1)
        torch._check(count <= x.shape[0])
        self.seen.add_(1)
        y = torch.nn.functional.layer_norm(self.linear(x), (4,))
        return y[:count].sum(0) + torch.cond(
            x.sum() > 0, lambda v: v.sin().sum(), lambda v: v.cos().sum(), (x,)
        )


def export(strict=False):
    torch.manual_seed(0)
    return torch.export.export(
        Model(),
        (torch.ones(3, 4), torch.tensor(2)),
        dynamic_shapes=({0: Dim("rows", min=2)}, None),
        strict=strict,
    )


def check(program):
    torch.manual_seed(0)
    eager, module = Model(), program.module()
    for rows, count in ((5, 3), (2, 1), (9, 9)):
        x = torch.linspace(-1, 2, rows * 4).reshape(rows, 4)
        n = torch.tensor(count)
        torch.testing.assert_close(module(x, n), eager(x, n))
    return program


def environment(program):
    for node in program.graph.nodes:
        value = node.meta.get("val")
        if isinstance(value, torch.Tensor) and hasattr(value, "fake_mode"):
            return value.fake_mode.shape_env
    return None


@pytest.fixture(autouse=True)
def _uninstalled():
    yield
    symfx.uninstall()


@pytest.mark.parametrize("strict", [False, True])
def test_a_live_program_of_stock_torch_under_symfx(strict) -> None:
    program = export(strict)
    symfx.install()
    check(program)
    decomposed = check(program.run_decompositions())
    assert type(environment(decomposed)) is not ShapeEnv  # its symbols stay torch's
    torch.export.unflatten(program)
    check(torch.export.export(program.module(), **again()))


@pytest.mark.parametrize("strict", [False, True])
def test_a_live_program_of_symfx_after_uninstall(strict) -> None:
    with symfx.installed():
        program = export(strict)
    assert type(environment(program)) is ShapeEnv
    check(program)
    decomposed = check(program.run_decompositions())
    assert type(environment(decomposed)) is ShapeEnv
    check(torch.export.export(program.module(), **again()))


def again():
    return {
        "args": (torch.ones(4, 4), torch.tensor(2)),
        "dynamic_shapes": ({0: Dim("rows", min=2)}, None),
    }


@pytest.mark.parametrize("saved_by_symfx", [False, True])
def test_saved_by_the_one_and_loaded_by_the_other(saved_by_symfx) -> None:
    file = io.BytesIO()
    if saved_by_symfx:
        symfx.install()
    torch.export.save(export(), file)
    if saved_by_symfx:
        symfx.uninstall()
    else:
        symfx.install()
    file.seek(0)
    loaded = check(torch.export.load(file))
    assert (type(environment(loaded)) is ShapeEnv) is not saved_by_symfx
    check(loaded.run_decompositions())
    if saved_by_symfx:
        symfx.install()
    else:
        symfx.uninstall()
    check(loaded)
    check(loaded.run_decompositions())


def test_saved_by_another_process(tmp_path) -> None:
    path = tmp_path / "program.pt2"
    code = f"""
import sys; sys.path[:0] = {sys.path!r}
import torch
from test_coexistence import export
torch.export.save(export(), {str(path)!r})
"""
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    symfx.install()
    check(check(torch.export.load(path)).run_decompositions())


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_a_compiled_function_across_install_and_uninstall(backend) -> None:
    torch._dynamo.reset()

    def f(x, y):
        return (x @ y.t()).softmax(-1) * x.shape[0]

    compiled = torch.compile(f, backend=backend)

    def run(a, b):
        x, y = torch.randn(a, b), torch.randn(3, b)
        torch.testing.assert_close(compiled(x, y), f(x, y))

    run(4, 5)
    symfx.install()
    run(4, 5)  # stock's graph serves
    run(6, 7)  # a graph of symfx
    run(8, 9)
    symfx.uninstall()
    run(10, 11)
    run(1, 11)


def test_make_fx_chooses_by_the_mode_of_its_inputs() -> None:
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.fx.experimental.proxy_tensor import make_fx as stock_make_fx
    from torch.fx.experimental.symbolic_shapes import ShapeEnv as StockShapeEnv

    stock = FakeTensorMode(shape_env=StockShapeEnv()).from_tensor(torch.ones(3, 4))
    ours = FakeTensorMode(shape_env=ShapeEnv()).from_tensor(torch.ones(3, 4))
    assert stock_make_fx and StockShapeEnv
    symfx.install()
    from torch.fx.experimental import proxy_tensor, symbolic_shapes

    for x, kind in ((stock, StockShapeEnv), (ours, ShapeEnv)):
        traced = proxy_tensor.make_fx(lambda x: x.view(-1) + 1, tracing_mode="symbolic")(x)
        assert type(traced.shape_env) is type(x.fake_mode.shape_env), kind
        assert isinstance(traced.shape_env, symbolic_shapes.ShapeEnv)
        assert traced(torch.ones(5, 6)).shape == (30,)


def test_a_subclass_of_torchs_environment_stays_one() -> None:
    symfx.install()
    from torch.fx.experimental.symbolic_shapes import ShapeEnv as Installed

    class Mine(Installed):
        def __init__(self, name):
            super().__init__()
            self.name = name

    made = Mine("mine")
    assert type(made) is Mine and made.name == "mine" and isinstance(made, Installed)
    assert not isinstance(made, ShapeEnv) or type(made) is not ShapeEnv
    assert type(Installed()) is ShapeEnv and issubclass(Mine, Installed)
