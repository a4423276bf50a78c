"""Unbacked symbols in the outputs of operators: their paths, bindings, and second runs."""

import pytest
import sympy
import torch
from both import SYMFX, TORCH, symint
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx as torch_make_fx
from torch.utils import _pytree as pytree

from symfx.proxy_tensor import make_fx as symfx_make_fx
from symfx.torch_bridge.releases import BINDINGS_ARE_RECORDED

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")
MAKE_FX = {"torch": torch_make_fx, "symfx": symfx_make_fx}


def test_keys(m, env):
    t = torch.ones(4, 6)
    assert m.CallMethodKey("size").get(t) == (4, 6) and str(m.CallMethodKey("size")) == ".size()"
    assert m.DivideByKey(2).get(6) == 3 and str(m.DivideByKey(2)) == ".__floordiv__(2)"
    assert m.ConvertIntKey().get(True) == 1
    assert str(m.ConvertIntKey()) == ".cast_symbool_to_symint_guardless()"
    assert m.InnerTensorKey("T").get(t).shape == (6, 4) and str(m.InnerTensorKey("T")) == ".T"
    assert m.CallMethodKey("size") == m.CallMethodKey("size") != m.CallMethodKey("stride")
    assert len({m.DivideByKey(2), m.DivideByKey(2), m.ConvertIntKey()}) == 2


def test_keys_are_torchs_keys_too():
    for name, args in (("CallMethodKey", ("size",)), ("DivideByKey", (2,)), ("ConvertIntKey", ())):
        ours, theirs = getattr(SYMFX, name), getattr(TORCH, name)
        assert isinstance(ours(*args), theirs) and isinstance(theirs(*args), ours)
        assert not isinstance(ours(*args), TORCH.InnerTensorKey)


def paths(m, env, value, **options):
    bindings = m.compute_unbacked_bindings(env, value, **options)
    return {str(s): pytree.keystr(path) for s, path in (bindings or {}).items()}


def test_bindings(m, env):
    assert m.compute_unbacked_bindings(None, 3) is None
    assert m.compute_unbacked_bindings(env, 3) is None
    u, f, b = (
        env.create_unbacked_symint(),
        env.create_unbacked_symfloat(),
        env.create_unbacked_symbool(),
    )
    assert set(paths(m, env, (u, [f, b]), peek=True)) == {"u0", "zuf0", "u1"}
    found = paths(m, env, (u, [f, b]))
    assert found == {
        "u0": "[0]",
        "zuf0": "[1][0]",
        "u1": "[1][1].cast_symbool_to_symint_guardless()",
    }
    assert env.pending_fresh_unbacked_symbols == []
    v = env.create_unbacked_symint()
    assert paths(m, env, v * 4) == {"u2": ".__floordiv__(4)"}
    s, w = symint(m, env, 6), env.create_unbacked_symint()
    assert set(paths(m, env, w * s)) == {"u3"}


def test_bindings_of_tensors(m, env):
    with FakeTensorMode(shape_env=env) as mode:
        x = mode.from_tensor(torch.ones(4, 6))
        nonzero = torch.nonzero(x)
        u = nonzero.shape[0].node.expr
        found = m.compute_unbacked_bindings(env, nonzero)
        assert {str(s): pytree.keystr(p) for s, p in found.items()} == {str(u): ".size()[0]"}
        assert pytree.key_get(nonzero, found[u]).node.expr == u


def test_symbols_that_get_lost(m, env):
    env.create_unbacked_symint()
    with pytest.raises(m.PendingUnbackedSymbolNotFound):
        m.compute_unbacked_bindings(env, 3)
    u = env.create_unbacked_symint()
    env.ignorable_fresh_unbacked_symbols.append(u.node.expr)
    assert not m.compute_unbacked_bindings(env, 3)


def test_bindings_against_an_earlier_run(m, env):
    old = env.create_unbacked_symint()
    assert paths(m, env, old) == {"u0": ""}
    new = env.create_unbacked_symint()
    m.compute_unbacked_bindings(env, (new,), (old,))
    assert new.node.expr == old.node.expr
    assert {str(k): str(v) for k, v in env.unbacked_renamings.items()} == {"u1": "u0"}
    third = env.create_unbacked_symint()
    m.compute_unbacked_bindings(env, (third,), (7,))
    assert m.statically_known_true(third == 7)
    s, fourth = symint(m, env, 5), env.create_unbacked_symint()
    m.compute_unbacked_bindings(env, (fourth,), (s,))
    assert fourth.node.expr == s.node.expr


def test_resolved_bindings(m, env):
    assert m.resolve_unbacked_bindings(env, None) is None
    u, v = env.create_unbacked_symint(), env.create_unbacked_symint()
    bindings = {v.node.expr: (pytree.SequenceKey(0),)}
    assert m.resolve_unbacked_bindings(env, bindings) == bindings
    name = v.node.expr
    env._rename_unbacked_to(name, u.node.expr)
    assert m.resolve_unbacked_bindings(env, {name: ()}) == {u.node.expr: ()}
    with pytest.raises(Exception):
        m.resolve_unbacked_bindings(None, bindings)


def traced(m, f, *args):
    return MAKE_FX[m.name](f, tracing_mode="symbolic")(*args)


def test_a_second_run_keeps_the_names(m):
    def f(x):
        n = x[0].item()
        torch._check(n >= 2)
        torch._check(n <= 8)
        return torch.zeros(n) + x.nonzero().shape[0]

    g = traced(m, f, torch.tensor([3, 4]))
    fakes = m.fx_placeholder_vals(g)
    mode = fakes[0].fake_mode
    env = mode.shape_env
    before = {
        n.name: n.meta["unbacked_bindings"]
        for n in g.graph.nodes
        if n.meta.get("unbacked_bindings")
    }
    assert len(before) == 2
    count = env.unbacked_symint_counter
    mode.epoch += 1
    with mode:
        out = m.PropagateUnbackedSymInts(g).run(*fakes)
    assert env.unbacked_symint_counter == count + 2
    first = next(
        iter(
            before["_local_scalar_dense"]
            if "_local_scalar_dense" in before
            else next(iter(before.values()))
        )
    )
    assert m.free_unbacked_symbols(out) == {first}
    assert len(env.unbacked_renamings) == 2
    # Facts about the symbols of the first run hold for those of the second.
    assert m.statically_known_true(out.shape[0] <= 8) and m.statically_known_true(out.shape[0] >= 2)


def test_propagation_needs_a_mode(m):
    g = traced(m, lambda x: x * 2, torch.ones(3))
    with pytest.raises(Exception):
        m.PropagateUnbackedSymInts(g).run(torch.ones(3))


def test_rebinding_leaves_placeholders_and_constants_alone(m, env):
    graph = torch.fx.Graph()
    node = graph.placeholder("x")
    m.rebind_unbacked(env, node, 3)
    u = env.create_unbacked_symint()
    call = graph.call_function(torch.ops.aten.item.default, (node,))
    call.meta["unbacked_bindings"] = {u.node.expr: ()}
    m.rebind_unbacked(env, call, 5)
    assert not env.unbacked_renamings
    v = env.create_unbacked_symint()
    m.rebind_unbacked(env, call, v)
    assert str(v) == "u0"
    with pytest.raises(Exception):
        m.rebind_unbacked(env, call, u)


def test_tokens_of_effects(m):
    graph = torch.fx.Graph()
    node = graph.placeholder("x")
    path = (pytree.SequenceKey(0), m.CallMethodKey("size"))
    node.meta["unbacked_bindings"] = {sympy.Symbol("u0"): path}
    with m._remove_effect_token_unbacked_bindings(node):
        assert list(node.meta["unbacked_bindings"].values()) == [path[1:]]
    assert list(node.meta["unbacked_bindings"].values()) == [path]


def test_symbols_in_graphs(m):
    g = traced(m, lambda x, n: x.nonzero() * n, torch.ones(3, 4), 6)
    bound = m.find_symbol_binding_fx_nodes(g.graph)
    assert all(isinstance(s, sympy.Symbol) for s in bound)
    for node in g.graph.nodes:
        symbol = m.is_symbol_binding_fx_node(node)
        assert symbol is None or symbol in bound
    assert m.fx_placeholder_targets(g) == ["x_1", "n_1"]


def test_a_size_with_an_unbacked_symbol_binds_it_as_in_the_running_torch():
    found = []
    for m in (TORCH, SYMFX):
        g = traced(m, lambda x: torch.zeros(x.nonzero().size(0)), torch.tensor([1.0, 0.0, 2.0]))
        nodes = [node for node in g.graph.nodes if m.is_symbol_binding_fx_node(node)]
        found.append([node.name for node in nodes])
    assert found[0] == found[1]
    assert len(found[1]) == (0 if BINDINGS_ARE_RECORDED else 1)


def test_an_item_binds_its_symbol(m):
    g = traced(m, lambda x: x.sum().item() + 1, torch.tensor([1, 2]))
    (node,) = m.find_symbol_binding_fx_nodes(g.graph).values()
    assert node.target is torch.ops.aten._local_scalar_dense.default


def test_accessors(m):
    graph = torch.fx.Graph()
    x = graph.placeholder("x")
    x.meta["example_value"] = torch.ones(2)
    accessors = [
        graph.call_method(name, (x,)) for name in ("size", "stride", "storage_offset", "item")
    ]
    for op in (torch.ops.aten.sym_size.int, torch.ops.aten.sym_size, torch.ops.aten.sym_stride.int,
               torch.ops.aten.sym_storage_offset.default, torch.ops.aten.sym_numel.default):  # fmt: skip
        accessors.append(graph.call_function(op, (x, 0)))
    others = [graph.call_method("sum", (x,)), graph.call_function(torch.relu, (x,)), x]
    y = graph.placeholder("y")
    others.append(graph.call_method("size", (y,)))
    assert [m.is_accessor_node(n) for n in accessors + others] == [True] * 9 + [False] * 4
