"""The options of symfx's make_fx and torch's: the metadata of nodes, and graphs above autograd."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import fx, nn
from torch.fx import traceback as fx_traceback
from torch.fx.experimental.proxy_tensor import make_fx as stock_make_fx
from torch.nn import functional as F

from symfx.proxy_tensor import make_fx

MODES = ("real", "fake", "symbolic")


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.rest = nn.Sequential(nn.Linear(4, 4), nn.ReLU())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.rest(self.rest(self.first(x))) + 1


def above_autograd(x: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        y = x.sin()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        z = F.linear(x, x)
    with torch.enable_grad():
        w = F.layer_norm(y, (4,))
    return w + z.float() + F.dropout(x, 0.5, False) + torch.einsum("ij,jk->ik", x, x)


def both(f: Callable[..., Any], *args: Any, **options: Any) -> list[fx.GraphModule]:
    return [maker(f, **options)(*args) for maker in (make_fx, stock_make_fx)]


def nodes(g: fx.GraphModule) -> list[tuple[Any, ...]]:
    return [(n.op, n.name, n.target, str(n.args), str(n.kwargs)) for n in g.graph.nodes]


def meta(g: fx.GraphModule, *keys: str) -> list[Any]:
    return [
        (n.name, {k: n.meta.get(k) for k in keys})
        for n in g.graph.nodes
        if n.op not in ("placeholder", "output")
    ]


@pytest.mark.parametrize("mode", MODES)
def test_pre_dispatch(mode: str) -> None:
    x = torch.rand(4, 4)
    ours, stock = both(above_autograd, x, tracing_mode=mode, pre_dispatch=True)
    assert nodes(ours) == nodes(stock)
    torch.testing.assert_close(ours(x), above_autograd(x))
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("mode", MODES)
def test_module_stack(mode: str) -> None:
    net = Net()

    def f(x: torch.Tensor) -> torch.Tensor:
        return net(x)

    f._orig_mod = net  # type: ignore[attr-defined]
    options = {"tracing_mode": mode, "_allow_non_fake_inputs": True, "record_module_stack": True}
    ours, stock = both(f, torch.rand(3, 4), **options)
    keys = "nn_module_stack", "torch_fn", "stack_trace"
    calls = [[m for m in meta(g, *keys) if not m[0].startswith("_param")] for g in (ours, stock)]
    assert calls[0] == calls[1]
    assert not net.first._forward_hooks and not net.first._forward_pre_hooks


def test_stack_of_a_module_under_several_names() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = Net()
            self.c = self.a
            self.d = nn.Sequential(nn.Tanh(), self.a, self.a)
            self.e = nn.ModuleDict({"k": self.a})

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.e["k"](self.d(self.c(self.c(self.a(x)))))

    net = Shared()
    submodules = dict(net._modules)

    def f(x: torch.Tensor) -> torch.Tensor:
        return net(x)

    f._orig_mod = net  # type: ignore[attr-defined]
    options = {"_allow_non_fake_inputs": True, "record_module_stack": True}
    ours, stock = (
        [list(m["nn_module_stack"]) for n, m in meta(g, "nn_module_stack") if n.startswith("addmm")]
        for g in both(f, torch.rand(3, 4), **options)
    )
    # torch takes the first call, which is one of a, for a call of c. symfx does not, so that it
    # numbers the calls of c differently.
    assert ours[0] == ["", "a", "a.first"]
    renamed = {"c": "a", "c@1": "c", "c@2": "c@1"}

    def without_numbers(stack: list[str]) -> list[str]:
        return [name.split("@")[0] for name in stack]

    assert list(map(without_numbers, ours[3:])) == list(map(without_numbers, stock[3:]))
    assert [stack[1] for stack in ours[:9:3]] == [renamed[stack[1]] for stack in stock[:9:3]]
    assert net._modules == submodules and type(net._modules) is dict


def test_stack_traces() -> None:
    options = {"_allow_non_fake_inputs": True, "record_stack_traces": True}
    ours, stock = both(Net(), torch.rand(3, 4), tracing_mode="fake", **options)
    found = {n: m["stack_trace"] for n, m in meta(ours, "stack_trace")}
    for name, expected in meta(stock, "stack_trace"):
        if name in found:
            assert found[name] == expected["stack_trace"]
    assert "in forward" in found["relu"]


@pytest.mark.parametrize("mode", MODES)
def test_preserved_metadata(mode: str) -> None:
    def f(x: torch.Tensor) -> Any:
        x = x.detach().requires_grad_()
        y = F.gelu(x) * x.var(0)
        return torch.autograd.grad(y.sum(), x)

    table = torch._decomp.get_decompositions([torch.ops.aten.gelu, torch.ops.aten.var])
    x = torch.rand(3, 4)
    graphs = []
    for maker in (make_fx, stock_make_fx):
        with (
            fx_traceback.preserve_node_meta(),
            fx_traceback.set_current_meta(fx.Graph().placeholder("origin")),
        ):
            graphs.append(maker(f, tracing_mode=mode, decomposition_table=table)(x))
    original = [
        [
            n.meta.get("original_aten")
            for n in g.graph.nodes
            if isinstance(n.target, torch._ops.OpOverload) and "sym_size" not in n.name
        ]
        for g in graphs
    ]
    assert [str(o) for o in original[0]] == [str(o) for o in original[1]]
    assert any(o is not None for o in original[0])


@pytest.mark.parametrize("mode", MODES)
def test_traces_inside_traces(mode: str) -> None:
    inner: list[list[Any]] = []

    def using(maker: Any) -> Callable[..., Any]:
        def f(x: torch.Tensor) -> torch.Tensor:
            y = x.sin()
            g = maker(lambda v: v.cos() + v, tracing_mode="real")(y)
            inner.append([n.target for n in g.graph.nodes if n.op == "call_function"])
            return g(y) * 2

        return f

    x = torch.rand(3, 4)
    ours = make_fx(using(make_fx), tracing_mode=mode)(x)
    stock = stock_make_fx(using(stock_make_fx), tracing_mode=mode)(x)
    assert inner[0] == inner[1]
    assert [n.target for n in ours.graph.nodes if n.op == "call_function"] == [
        n.target for n in stock.graph.nodes if n.op == "call_function"
    ]
    torch.testing.assert_close(ours(x), stock(x))


@pytest.mark.parametrize("mode", ["fake", "symbolic"])
def test_fake_inputs(mode: str) -> None:
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.fx.experimental.symbolic_shapes import ShapeEnv as StockShapeEnv

    from symfx.symbolic_shapes import ShapeEnv

    def f(x: torch.Tensor) -> torch.Tensor:
        return x.t().relu() + 1

    graphs = []
    for maker, env in ((make_fx, ShapeEnv()), (stock_make_fx, StockShapeEnv())):
        fake_mode = FakeTensorMode(shape_env=env, static_shapes=mode == "fake")
        x = fake_mode.from_tensor(torch.rand(3, 4))
        g = maker(f, tracing_mode=mode)(x)
        graphs.append(nodes(g))
        for n in g.graph.nodes:
            if "val" in n.meta:
                assert n.meta["val"].fake_mode is fake_mode
    assert graphs[0] == graphs[1]
