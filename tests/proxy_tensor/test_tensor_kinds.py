"""Tensors that are more than data and strides: nested ones, and those that wrap others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import fx
from torch.testing._internal.two_tensor import TwoTensor
from torch.utils import _pytree as pytree

from symfx.errors import TracingError
from symfx.proxy_tensor import get_proxy_mode, make_fx

aten = torch.ops.aten
MODES = ("real", "fake", "symbolic")
CLOSED_OVER = torch.rand(1)
WEIGHT = torch.linspace(-1, 1, 6).reshape(2, 3)


def jagged(*lengths: int) -> torch.Tensor:
    rows = [torch.linspace(-1, n, 3 * n).reshape(n, 3) for n in lengths]
    return torch.nested.nested_tensor(rows, layout=torch.jagged)


def arithmetic(x: torch.Tensor) -> Any:
    return x.sin() * 2 + x


def of_parts(x: torch.Tensor) -> Any:
    return x.values() + 1, x.offsets(), x.shape[0], x.shape[2]


def padded(x: torch.Tensor) -> Any:
    return torch.nn.functional.linear(x, WEIGHT).relu().to_padded_tensor(0.0)


def reduced(x: torch.Tensor) -> Any:
    return x.softmax(-1).sum(-1), (x * x).sum(1).mean()


def gradient(x: torch.Tensor) -> Any:
    x = x.detach().requires_grad_()
    return torch.autograd.grad((x * x).values().sum(), x)[0]


def dense(value: Any) -> Any:
    return value.values() if isinstance(value, torch.Tensor) and value.is_nested else value


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("f", [arithmetic, of_parts, padded, reduced, gradient])
def test_jagged_inputs(f: Callable[..., Any], mode: str) -> None:
    g = make_fx(f, tracing_mode=mode, _allow_non_fake_inputs=True)(jagged(2, 4))  # type: ignore[arg-type]
    g.graph.lint()
    # A trace on numbers holds for a batch of this total length.
    for x in [jagged(1, 5), jagged(1, 5, 3)] if mode == "symbolic" else [jagged(1, 5)]:
        actual, expected = (pytree.tree_map(dense, h(x)) for h in (g, f))
        torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize("mode", MODES)
def test_jagged_inside(mode: str) -> None:
    from torch.nested._internal.nested_tensor import nested_view_from_values_offsets as nested

    def f(values: torch.Tensor, offsets: torch.Tensor) -> Any:
        values = values.detach().requires_grad_()
        out = nested(values, offsets).sin()
        return out.values(), torch.autograd.grad(out.values().sum(), values)[0]

    g = make_fx(f, tracing_mode=mode)(torch.rand(6, 3), torch.tensor([0, 2, 6]))  # type: ignore[arg-type]
    inputs = torch.rand(6, 3), torch.tensor([0, 5, 6])
    torch.testing.assert_close(g(*inputs), f(*inputs))


@pytest.mark.parametrize("mode", MODES)
def test_wrapped_tensors(mode: str) -> None:
    def two() -> TwoTensor:
        return TwoTensor(torch.rand(3), torch.rand(3))

    g = make_fx(lambda x: x.sin() + 1, tracing_mode=mode)(two())  # type: ignore[arg-type]
    x = two()
    out = g(x)
    assert type(out) is TwoTensor
    torch.testing.assert_close((out.a, out.b), (x.a.sin() + 1, x.b.sin() + 1))
    # The inner tensor would be a constant of the graph, which a later call does not change.
    with pytest.raises(TracingError, match="uses a of its input x_1, a TwoTensor"):
        make_fx(lambda x: x.a.sin(), tracing_mode=mode)(two())  # type: ignore[arg-type]


@pytest.mark.parametrize("mode", MODES)
def test_the_proxy_of_a_tensor_can_be_looked_up(mode: str) -> None:
    def f(x: torch.Tensor) -> torch.Tensor:
        active = get_proxy_mode()
        assert active is not None
        tracker = active.tracer.tensor_tracker
        y = x.sin()
        assert x in tracker and tracker[y].proxy.node.target is aten.sin.default
        with pytest.raises(KeyError):
            tracker[CLOSED_OVER]
        tracker[y] = tracker[x]
        return y

    g = make_fx(f, tracing_mode=mode)(torch.rand(3))  # type: ignore[arg-type]
    assert isinstance(g, fx.GraphModule)
    assert g.graph.output_node().args[0].name == "x_1"  # type: ignore[union-attr]


def test_objects_of_torchscript() -> None:
    weight = torch.quantize_per_tensor(torch.ones(2, 3), 0.1, 0, torch.qint8)
    packed, other = (torch.ops.quantized.linear_prepack(w, None) for w in (weight, weight[:1]))

    def f(x: torch.Tensor, packed: Any) -> torch.Tensor:
        with torch.profiler.record_function("part"):  # its handle is such an object, too
            return torch.ops.quantized.linear_dynamic(x, packed)

    g = make_fx(f)(torch.ones(2, 3), packed)
    assert not g.graph.find_nodes(op="get_attr")
    assert g(torch.ones(4, 3), other).shape == (4, 1)


def test_values_that_a_graph_cannot_hold() -> None:
    with pytest.raises(TracingError, match="a function cannot stand in a graph"):
        make_fx(lambda x: (x, jagged))(torch.ones(2))


def test_inside_a_compiled_program() -> None:
    def f(x: torch.Tensor) -> torch.Tensor:
        return make_fx(lambda v: v.sin() + 1)(x)(x)

    torch.testing.assert_close(torch.compile(f, backend="eager")(torch.ones(3)), f(torch.ones(3)))
