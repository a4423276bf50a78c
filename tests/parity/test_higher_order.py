"""Higher-order operators under symfx's make_fx and torch's: the same graphs and subgraphs."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import fx
from torch._higher_order_ops.associative_scan import associative_scan
from torch._higher_order_ops.hints_wrap import hints_wrapper
from torch._higher_order_ops.invoke_subgraph import mark_compile_region
from torch._higher_order_ops.local_map import local_map_hop
from torch._higher_order_ops.map import map as map_rows
from torch._higher_order_ops.out_dtype import out_dtype
from torch._higher_order_ops.scan import scan
from torch._higher_order_ops.strict_mode import strict_mode_op
from torch._higher_order_ops.triton_kernel_wrap import (
    kernel_side_table,
    triton_kernel_wrapper_functional,
)
from torch._higher_order_ops.while_loop import while_loop
from torch.fx.experimental.proxy_tensor import make_fx as stock_make_fx
from torch.nn.attention.flex_attention import flex_attention
from torch.testing._internal.hop_db import hop_db
from torch.utils import _pytree as pytree
from torch.utils.checkpoint import checkpoint

from symfx.errors import TracingError
from symfx.proxy_tensor import make_fx, wrapper_and_args_for_make_fx

aten = torch.ops.aten
_hop = torch.ops.higher_order
X, OTHER = torch.linspace(-1, 1.3, 12).reshape(3, 4), torch.linspace(-1, 0.8, 30).reshape(5, 6)


def cond(x: torch.Tensor) -> Any:
    return torch.cond(x.sum() > 0, lambda v: v.sin() + 1, lambda v: v.cos(), (x,))


def cond_closing_over(x: torch.Tensor) -> Any:
    y = x.exp()
    return torch.cond(x.sum() > 0, lambda v: v + y, lambda v: v - y, (x,))


def cond_on_sizes(x: torch.Tensor) -> Any:
    return torch.cond(x.shape[0] > 4, lambda v: v.sin(), lambda v: v.cos(), (x,))


def cond_in_cond(x: torch.Tensor) -> Any:
    def inner(v: torch.Tensor) -> Any:
        return torch.cond(v.max() > 0.5, lambda w: w * 2, lambda w: w * 3, (v,))

    return torch.cond(x.sum() > 0, inner, lambda v: v.cos(), (x,))


def cond_gradient(x: torch.Tensor) -> Any:
    x = x.detach().requires_grad_()
    return torch.autograd.grad(cond(x).sum(), x)


def cond_batched(x: torch.Tensor) -> Any:
    return torch.vmap(
        lambda v: _hop.cond(v.sum() > 0, lambda w: (w.sin(),), lambda w: (w.cos(),), (v,))
    )(x)


def loop(x: torch.Tensor) -> Any:
    def body(i: torch.Tensor, v: torch.Tensor) -> Any:
        return i + 1, v.sin() * i

    return while_loop(lambda i, v: i < 5, body, (torch.tensor(0), x))


def loop_counting(x: torch.Tensor) -> Any:
    return while_loop(lambda i, v: i < 5, lambda i, v: (i + 1, v.sin()), (0, x))


def scanned(x: torch.Tensor) -> Any:
    return scan(lambda c, row: (c + row, c * row), torch.ones_like(x[0]), x)


def scanned_gradient(x: torch.Tensor) -> Any:
    x = x.detach().requires_grad_()
    carry, rows = scanned(x)
    return torch.autograd.grad(carry.sum() + rows.sum(), x)


def associative(x: torch.Tensor) -> Any:
    return associative_scan(lambda a, b: a + b, x, 0, combine_mode="generic")


def rows(x: torch.Tensor) -> Any:
    return map_rows(lambda row, y: row.sin() + y, x, x[0].clone())


def rows_gradient(x: torch.Tensor) -> Any:
    x = x.detach().requires_grad_()
    return torch.autograd.grad(map_rows(lambda row: row.sin() * row, x).sum(), x)


def attention(x: torch.Tensor) -> Any:
    q = x.reshape(1, 1, *x.shape).repeat(1, 2, 1, 4)
    return flex_attention(q, q, q, score_mod=lambda s, b, h, i, j: s + (i - j))


def checkpointed(x: torch.Tensor) -> Any:
    x = x.detach().requires_grad_()
    return torch.autograd.grad(checkpoint(lambda v: v.sin().exp(), x, use_reentrant=False).sum(), x)


def wide(x: torch.Tensor) -> Any:
    small = (x * 5).to(torch.int8)
    return out_dtype(aten.mm.default, torch.int32, small, small.t())


@mark_compile_region
def region(x: torch.Tensor) -> torch.Tensor:
    return x.sin() + 1


def regions(x: torch.Tensor) -> Any:
    return region(region(x))


def hinted(x: torch.Tensor) -> Any:
    return hints_wrapper(lambda v: v.sin(), (x,), {}, {"stage": 1})


def strict(x: torch.Tensor) -> Any:
    return strict_mode_op(lambda v: v.sin(), (x,))


SAME = (
    cond, cond_closing_over, cond_on_sizes, cond_in_cond, cond_gradient, cond_batched, loop,
    scanned, rows, rows_gradient, attention, checkpointed, wide, regions, hinted, strict,
)  # fmt: skip


def described(g: fx.GraphModule) -> list[Any]:
    """The operators of a graph and of its subgraphs, and the subgraphs by name."""
    sizes = (torch.SymInt, torch.SymFloat, torch.SymBool)
    nodes: list[Any] = [
        (n.op, n.name) if n.op in ("placeholder", "output") else (n.op, str(n.target))
        for n in g.graph.nodes
        if not isinstance(n.meta.get("val"), sizes) and not n.name.startswith("_")
    ]
    return nodes + [
        (name, described(child))
        for name, child in sorted(g.named_children())
        if isinstance(child, fx.GraphModule)
    ]


def assert_runs_like(g: fx.GraphModule, f: Callable[..., Any], x: torch.Tensor) -> None:
    actual, expected = (pytree.tree_leaves(h(copy.deepcopy(x))) for h in (g, f))
    assert len(actual) == len(expected)
    for a, b in zip(actual, expected, strict=True):
        torch.testing.assert_close(a, b) if isinstance(b, torch.Tensor) else pytest.approx(a) == b


@pytest.mark.parametrize("mode", ["real", "symbolic"])
@pytest.mark.parametrize("f", SAME, ids=lambda f: f.__name__)
def test_same_graphs(f: Callable[..., Any], mode: str) -> None:
    ours = make_fx(f, tracing_mode=mode)(X)  # type: ignore[arg-type]
    stock = stock_make_fx(f, tracing_mode=mode)(X)  # type: ignore[arg-type]
    assert described(ours) == described(stock)
    assert_runs_like(ours, f, X)
    if mode == "symbolic" and f is not attention:
        assert_runs_like(ours, f, OTHER)


@pytest.mark.parametrize("mode", ["real", "fake", "symbolic"])
@pytest.mark.parametrize("f", [loop_counting, scanned_gradient, associative])
def test_programs_that_stock_does_not_trace_in_every_mode(f: Callable[..., Any], mode: str) -> None:
    g = make_fx(f, tracing_mode=mode)(X)  # type: ignore[arg-type]
    assert any(isinstance(n.target, torch._ops.HigherOrderOperator) for n in g.graph.nodes) or (
        f is associative  # combine_mode="generic" consists of ordinary operators
    )
    assert_runs_like(g, f, X)


# The operators that the programs above lack and that run on a CPU.
OF_THE_DATABASE = (
    "invoke_quant", "invoke_quant_packed", "while_loop_stack_output", "auto_functionalize",
    "local_map_hop", "register_hook", "flex_attention_backward",
)  # fmt: skip
ENTRIES = [op for op in hop_db if op.name in OF_THE_DATABASE]


@pytest.mark.parametrize("op", ENTRIES, ids=lambda op: f"{op.name}-{op.variant_test_name}")
def test_torchs_database_of_higher_order_operators(op: Any) -> None:
    sample = next(iter(op.sample_inputs("cpu", torch.float32)))
    args = (sample.input, *sample.args)
    f, leaves = wrapper_and_args_for_make_fx(op.op, args, sample.kwargs)
    g = make_fx(f, tracing_mode="symbolic", _allow_non_fake_inputs=True)(leaves)
    copies = [copy.deepcopy(leaves) for _ in range(2)]
    torch.testing.assert_close(g(copies[0]), f(copies[1]), equal_nan=True)


@pytest.mark.parametrize("mode", ["real", "symbolic"])
def test_local_map(mode: str) -> None:
    body = fx.symbolic_trace(lambda a, b: (a.sin() + b,))
    body.meta["local_map_kwargs"] = {
        "in_placements": (None, None), "out_placements": (None,), "in_grad_placements": None,
        "device_mesh": None, "redistribute_inputs": True,
    }  # fmt: skip
    x = torch.rand(3)
    graphs = [
        maker(lambda a, b: local_map_hop(body, a, b), tracing_mode=mode)(x, x)  # type: ignore[arg-type]
        for maker in (make_fx, stock_make_fx)
    ]
    # On plain tensors the operator runs its body, unless the program defers the body.
    assert described(graphs[0]) == described(graphs[1])
    torch.testing.assert_close(graphs[0](x, x)[0], x.sin() + x)


@pytest.mark.parametrize("mode", ["fake", "symbolic"])
def test_triton_kernels_are_recorded(mode: str) -> None:
    constants = kernel_side_table.add_constant_args({"N": 3})

    def f(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        out = triton_kernel_wrapper_functional(
            kernel_idx=0, constant_args_idx=constants, grid=[(x.shape[0], 1, 1)],
            tma_descriptor_metadata={}, kwargs={"a": x, "b": y}, tensors_to_clone=["b"],
        )  # fmt: skip
        return out["b"] + 1

    x = torch.rand(3)
    graphs = [m(f, tracing_mode=mode)(x, x.clone()) for m in (make_fx, stock_make_fx)]
    assert described(graphs[0]) == described(graphs[1])
    kernels = [n for n in graphs[0].graph.nodes if n.name.startswith("triton")]
    assert [n.target for n in kernels] == [triton_kernel_wrapper_functional]


def test_above_autograd() -> None:
    def f(x: torch.Tensor) -> Any:
        return cond(x.relu())

    graphs = [m(f, tracing_mode="symbolic", pre_dispatch=True)(X) for m in (make_fx, stock_make_fx)]
    assert described(graphs[0]) == described(graphs[1])
    assert_runs_like(graphs[0], f, OTHER)


def test_subgraphs_are_decomposed() -> None:
    table = torch._decomp.get_decompositions([aten.silu])

    def f(x: torch.Tensor) -> Any:
        silu = torch.nn.functional.silu
        return _hop.cond(x.sum() > 0, lambda v: (silu(v),), lambda v: (v.cos(),), (x,))

    g = make_fx(f, decomposition_table=table)(X)
    inside = [n.target for n in g.true_graph_0.graph.nodes]  # type: ignore[union-attr]
    assert aten.silu.default not in inside
    assert aten.sigmoid.default in inside


def test_a_table_may_decompose_the_operator_itself() -> None:
    table = {_hop.out_dtype: lambda op, dtype, *args: op(*(a.to(dtype) for a in args))}
    g = make_fx(wide, decomposition_table=table)(X)
    assert _hop.out_dtype not in [n.target for n in g.graph.nodes]
    torch.testing.assert_close(g(X), wide(X))


def test_regions_with_one_identifier_share_a_graph() -> None:
    def f(x: torch.Tensor) -> Any:
        for name in ("a", "a", "b"):
            (x,) = _hop.invoke_subgraph(lambda v: (v.sin(),), name, x)
        return x

    g = make_fx(f)(X)
    calls = [n for n in g.graph.nodes if n.target is _hop.invoke_subgraph]
    assert [n.args[0].target[-1] for n in calls] == ["0", "0", "1"]
    assert_runs_like(g, lambda x: x.sin().sin().sin(), X)


def test_the_types_that_a_loop_must_keep() -> None:
    def shrinking(x: torch.Tensor) -> Any:
        return _hop.scan(lambda c, row: (c[:1], row.clone()), [torch.ones(4)], [x], ())

    with pytest.raises(TracingError, match=r"carried values to keep .* number 0 goes in as"):
        make_fx(shrinking)(X)
    with pytest.raises(TracingError, match="true branch returns 1 values, the false branch 2"):
        make_fx(
            lambda x: _hop.cond(x.sum() > 0, lambda v: (v.sin(),), lambda v: (v, v.cos()), (x,))
        )(X)
