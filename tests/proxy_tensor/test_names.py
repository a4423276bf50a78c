"""The names of proxy_tensor one by one, called as torch's own packages and tests call them."""

from __future__ import annotations

import inspect
import json
import operator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import fx
from torch.fx import traceback as fx_traceback
from torch.fx.experimental import proxy_tensor as stock

import symfx.proxy_tensor as ours
from symfx.errors import TracingError
from symfx.proxy_tensor import (
    PythonKeyTracer,
    decompose,
    disable_proxy_modes_tracing,
    get_proxy_mode,
    get_proxy_slot,
    handle_sym_dispatch,
    make_fx,
    maybe_enable_thunkify,
    set_proxy_slot,
    thunkify,
)

aten = torch.ops.aten
LIBRARIES = pytest.mark.parametrize("lib", [ours, stock], ids=["symfx", "torch"])
REFERENCE = Path(__file__).parents[2] / "tests" / "parity" / "manual_names.json"


def calls(g: fx.GraphModule | fx.Graph) -> list[Any]:
    graph = g.graph if isinstance(g, fx.GraphModule) else g
    return [n.target for n in graph.nodes if n.op == "call_function"]


def blank(lib: Any) -> Any:
    """A tracer without a trace."""
    tracer = lib.PythonKeyTracer()
    tracer.graph = fx.Graph(tracer_cls=lib.PythonKeyTracer)
    tracer.root = torch.nn.Module()
    tracer.tensor_attrs = {}
    return tracer


def test_the_names_that_torch_imports_are_there() -> None:
    for name in json.loads(REFERENCE.read_text()):
        assert hasattr(ours, name), name
    for name in stock.__all__:
        assert hasattr(ours, name), name


@LIBRARIES
def test_fake_signature(lib: Any) -> None:
    f = lib.fake_signature(lambda *xs: xs, 3)
    assert f(1, 2, 3) == (1, 2, 3)
    assert f.__code__.co_argcount == 3
    assert list(inspect.signature(f).parameters) == ["arg0", "arg1", "arg2"]
    with pytest.raises(TypeError):
        f(1, 2)


@LIBRARIES
def test_modes_by_hand(lib: Any) -> None:
    tracer = blank(lib)
    x = torch.rand(3)
    lib.track_tensor_tree(
        x, tracer.create_proxy("placeholder", "x", (), {}), constant=None, tracer=tracer
    )
    with lib.ProxyTorchDispatchMode(tracer, "real") as mode:
        assert lib.get_proxy_mode() is mode is lib.get_innermost_proxy_mode()
        assert mode in lib.get_torch_dispatch_modes()
        y = x.sin() + 1
        with lib.disable_proxy_modes_tracing() as was:
            assert was is mode
            assert lib.get_proxy_mode() is None
            x.cos()
    assert lib.get_proxy_mode() is None
    assert calls(tracer.graph) == [aten.sin.default, aten.add.Tensor]
    tracer.graph.output(lib.get_proxy_slot(y, tracer).proxy.node)
    g = fx.GraphModule(tracer.root, tracer.graph)
    torch.testing.assert_close(g(x), y)


@LIBRARIES
def test_slots_of_tensors(lib: Any) -> None:
    tracer, other = blank(lib), blank(lib)
    x = torch.rand(3)
    assert not lib.has_proxy_slot(x, tracer)
    assert lib.fetch_object_proxy(tracer, x) is x
    assert lib.get_proxy_slot(x, tracer, None) is None
    with pytest.raises(RuntimeError):
        lib.get_proxy_slot(x, tracer)
    first, second = (fx.Proxy(tracer.graph.placeholder(n), tracer) for n in "ab")
    lib.set_proxy_slot(x, tracer, lib._ProxyTensor(first, None))
    assert lib.get_proxy_slot(x, tracer, transform=lambda p: p.proxy.node.name) == "a"
    lib.set_proxy_slot(x, tracer, lib._ProxyTensor(second, x))
    assert lib.fetch_object_proxy(tracer, x).constant is x
    with lib._proxy_tensor_disable_update_tensor_tracker():
        lib.set_proxy_slot(x, tracer, lib._ProxyTensor(first, None))
    assert lib.get_proxy_slot(x, tracer).proxy.node is second.node
    assert lib.has_proxy_slot(x, tracer)
    assert not lib.has_proxy_slot(x, other)


@LIBRARIES
def test_slots_of_numbers(lib: Any) -> None:
    seen: dict[str, Any] = {}

    def f(x: torch.Tensor, n: int) -> torch.Tensor:
        tracer = lib.get_proxy_mode().tracer
        rows = x.shape[0]
        seen["size"] = lib.get_proxy_slot(rows, tracer).force().node.target
        seen["fetched"] = lib.fetch_sym_proxy(tracer)(n).node.op
        total = lib.handle_sym_dispatch(operator.mul, (rows, n), {})
        seen["computed"] = lib.get_proxy_slot(total, tracer).force().node.target
        seen["object"] = lib.fetch_object_proxy(tracer, n).force().node.name
        return x.new_zeros(total)

    g = lib.make_fx(f, tracing_mode="symbolic")(torch.rand(3, 4), 5)
    assert seen == {
        "size": aten.sym_size.int,
        "fetched": "placeholder",
        "computed": operator.mul,
        "object": "n_1",
    }
    assert g(torch.rand(6, 4), 7).shape == (42,)


def test_a_numbers_slot_may_be_filled_when_it_is_wanted() -> None:
    asked: list[int] = []

    def f(x: torch.Tensor) -> torch.Tensor:
        mode = get_proxy_mode()
        assert mode is not None
        tracer = mode.tracer
        with disable_proxy_modes_tracing():
            extra = x.shape[0] * 7 + 1
        node = next(iter(tracer.graph.nodes))

        def make() -> fx.Proxy:
            asked.append(1)
            of = fx.Proxy(node, tracer)
            return tracer.create_proxy("call_function", aten.sym_size.int, (of, 0), {})

        with maybe_enable_thunkify():
            set_proxy_slot(extra, tracer, thunkify(tracer, make))
        assert not asked
        return torch.zeros(extra)

    make_fx(f, tracing_mode="symbolic")(torch.rand(3, 4))
    assert asked == [1]


@LIBRARIES
def test_thunks(lib: Any) -> None:
    ran: list[str] = []

    def f(x: torch.Tensor) -> torch.Tensor:
        tracer = lib.get_proxy_mode().tracer
        with lib.maybe_enable_thunkify():
            later = lib.thunkify(tracer, ran.append, "later")
            with lib.maybe_disable_thunkify():
                lib.thunkify(tracer, ran.append, "now")
        ran.append("then")
        later.force()
        later.force()
        return x

    lib.make_fx(f)(torch.rand(2))
    assert ran == ["now", "then", "later"]
    with lib.maybe_enable_thunkify(), lib.maybe_disable_thunkify():
        assert lib.thunkify(blank(lib), lambda a, b=0: a + b, 1, b=2).force() == 3


@LIBRARIES
def test_metadata_by_hand(lib: Any) -> None:
    tracer = blank(lib)
    proxy = fx.Proxy(tracer.graph.placeholder("x"), tracer)
    x = torch.rand(2, 3).t()
    assert lib.set_meta(proxy, x) is proxy
    assert proxy.node.meta["val"].stride() == (1, 3)
    assert proxy.node.meta["tensor_meta"].shape == (3, 2)
    assert not lib.is_sym_node(proxy.node)
    lib.track_tensor(x, proxy, constant=x, tracer=tracer)
    assert lib.get_proxy_slot(x, tracer).constant is x
    assert lib.extract_val([x, 2, None, {"k": True}])[1:] == [2, None, {"k": True}]


@LIBRARIES
def test_one_operator_by_hand(lib: Any) -> None:
    tracer = blank(lib)
    x = torch.rand(3)
    mode = lib.ProxyTorchDispatchMode(tracer, "real")
    lib.track_tensor_tree(
        x, tracer.create_proxy("placeholder", "x", (), {}), constant=None, tracer=tracer
    )
    y = lib.proxy_call(mode, aten.silu.default, False, (x,), {})
    torch.testing.assert_close(y, torch.nn.functional.silu(x))
    assert lib.maybe_handle_decomp(mode, aten.silu.default, (x,), {}) is NotImplemented
    mode.decomposition_table = torch._decomp.get_decompositions([aten.silu])
    torch.testing.assert_close(lib.maybe_handle_decomp(mode, aten.silu.default, (x,), {}), y)
    # Above autograd, an operator that autograd decomposes stays whole.
    weight = torch.rand(2, 3)
    lib.proxy_call(mode, aten.linear.default, True, (x, weight), {})
    assert calls(tracer.graph) == [
        aten.silu.default, aten.sigmoid.default, aten.mul.Tensor, aten.linear.default,
    ]  # fmt: skip


@LIBRARIES
def test_decompose_for_a_part(lib: Any) -> None:
    table = torch._decomp.get_decompositions([aten.silu])
    silu = torch.nn.functional.silu

    def f(x: torch.Tensor) -> torch.Tensor:
        y = silu(x)
        with lib.decompose(table) as inside:
            assert inside is table
            y = silu(y)
        return silu(y)

    g = lib.make_fx(f)(torch.rand(3))
    assert calls(g) == [
        aten.silu.default, aten.sigmoid.default, aten.mul.Tensor, aten.silu.default,
    ]  # fmt: skip


@LIBRARIES
def test_original_operator(lib: Any) -> None:
    def f(x: torch.Tensor) -> torch.Tensor:
        with lib.set_original_aten_op(aten.gelu.default):
            y = x.tanh()
            with lib.set_original_aten_op(aten.silu.default):
                y = y + 1
        return y.sin()

    with fx_traceback.preserve_node_meta():
        g = lib.make_fx(f)(torch.rand(3))
    # Metadata is copied, operators and all.
    found = [str(n.meta.get("original_aten")) for n in g.graph.nodes if n.op == "call_function"]
    assert found == ["aten.gelu.default", "aten.gelu.default", "aten.sin.default"]


@LIBRARIES
def test_autocast_cache(lib: Any) -> None:
    with lib.disable_autocast_cache():
        assert not torch.is_autocast_cache_enabled()
    assert torch.is_autocast_cache_enabled()
    weight = torch.rand(3, 3, requires_grad=True)

    def f(x: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return torch.mm(torch.mm(x, weight), weight)

    assert calls(lib.make_fx(f)(torch.rand(3, 3))).count(aten._to_copy.default) == 3


@LIBRARIES
def test_dispatch_trace(lib: Any) -> None:
    tracer = lib.PythonKeyTracer()
    x = torch.rand(3)

    def f(proxy: fx.Proxy) -> Any:
        lib.track_tensor_tree(x, proxy, constant=None, tracer=tracer)
        with lib.ProxyTorchDispatchMode(tracer, "real"):
            y = x.sin()
        return lib.get_proxy_slot(y, tracer).proxy

    g = lib.dispatch_trace(f, tracer)
    assert calls(g) == [aten.sin.default]
    torch.testing.assert_close(g(x), x.sin())


@LIBRARIES
def test_isolated_graphs(lib: Any) -> None:
    inner: list[fx.GraphModule] = []

    def f(x: torch.Tensor) -> torch.Tensor:
        inner.append(lib.get_isolated_graphmodule(torch.add, (x, x), {"alpha": 2}))
        return x + torch.randn(x.shape)

    g = lib.make_fx(f)(torch.rand(3))
    assert calls(inner[0]) == [aten.add.Tensor]
    assert calls(g) == [aten.randn.default, aten.add.Tensor]
    f2, leaves = lib.wrapper_and_args_for_make_fx(torch.add, (1, 2), {"alpha": 3})
    assert f2(leaves) == 7
    names = [n.name for n in inner[0].graph.nodes if n.op == "placeholder"]
    assert names == ["flat_args_1", "flat_args_2", "flat_args_3"]


@LIBRARIES
def test_decomposition_interpreter(lib: Any) -> None:
    module = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.SiLU())
    g = lib.make_fx(module)(torch.rand(2, 3))
    table = torch._decomp.get_decompositions([aten.silu])
    graph = fx.Graph()
    x = torch.rand(2, 3)
    lib.DecompositionInterpreter(g, graph, decomposition_table=table).run(x)
    again = fx.GraphModule(g, graph)
    assert aten.silu.default not in calls(again)
    assert aten.sigmoid.default in calls(again)
    torch.testing.assert_close(again(x), module(x))


@LIBRARIES
def test_selective_decompose(lib: Any) -> None:
    silu = torch.nn.functional.silu

    def f(x: torch.Tensor) -> Any:
        y = silu(silu(x))
        branches = (lambda v: (silu(v),), lambda v: (v.cos(),))
        return torch.ops.higher_order.cond(y.sum() > 0, *branches, (y,))

    x = torch.rand(3)
    g = lib.make_fx(f)(x)
    for chosen, kept, inside in (("silu", 1, True), ("cond", 2, False), ("", 2, True)):
        h = lib.selective_decompose(
            g,
            x,
            decomposition=torch._decomp.get_decompositions([aten.silu]),
            should_decompose=lambda n, chosen=chosen: n.name == chosen and "v_1" not in str(n.args),
            trace_joint_graph=False,
        )
        assert calls(h).count(aten.silu.default) == kept
        # torch keeps the nodes of a subgraph whole; symfx chooses among them, too.
        assert lib is stock or (aten.silu.default in calls(h.true_graph_0)) is inside
        torch.testing.assert_close(h(x), f(x))


def test_functions_that_need_a_trace_say_so() -> None:
    with pytest.raises(TracingError, match="no trace is running"):
        handle_sym_dispatch(operator.add, (1, 2), {})
    with pytest.raises(TracingError, match="no trace is running"), decompose({}):
        pass
    tracer = PythonKeyTracer()
    with pytest.raises(TypeError, match="holds a ProxyTensor"):
        set_proxy_slot(torch.rand(1), tracer, 3)
    with pytest.raises(TypeError, match="has no slot"):
        get_proxy_slot("x", tracer)
    assert ours._CURRENT_MAKE_FX_TRACER is None


def test_the_tracer_that_torch_asks_for_subgraphs() -> None:
    def f(x: torch.Tensor) -> torch.Tensor:
        tracer = ours._CURRENT_MAKE_FX_TRACER
        assert stock._CURRENT_MAKE_FX_TRACER is tracer
        assert tracer.fake_tensor_mode is x.fake_mode  # type: ignore[attr-defined]
        with disable_proxy_modes_tracing():
            graph = tracer.trace_subgraph(torch.nn.functional.silu, x)
            table = torch._decomp.get_decompositions([aten.silu])
            apart = tracer.trace_subgraph_custom_decomp(torch.nn.functional.silu, table, x)
        assert calls(graph) == [aten.silu.default]
        assert calls(apart) == [aten.sigmoid.default, aten.mul.Tensor]
        return x + 1

    g = make_fx(f, tracing_mode="symbolic")(torch.rand(3))
    assert calls(g) == [aten.add.Tensor]
    assert stock._CURRENT_MAKE_FX_TRACER is None
