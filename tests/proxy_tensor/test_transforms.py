"""make_fx inside of torch.func's transforms, and of functions that are transformed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.func import grad, jacrev, jvp, vmap

import symfx
import symfx.errors
from symfx.proxy_tensor import make_fx


def f(y: torch.Tensor) -> torch.Tensor:
    return y.sin() * max(y.shape[0], 2) + y.sum()


TRANSFORMED: dict[str, Callable[[Callable[..., Any]], Callable[..., Any]]] = {
    "vmap": vmap,
    "vmap of another dimension": lambda g: vmap(g, in_dims=1, out_dims=1),
    "vmap of vmap": lambda g: vmap(vmap(g, in_dims=1)),
    "grad": lambda g: grad(lambda v: g(v).sum()),
    "vmap of grad": lambda g: vmap(grad(lambda v: g(v).sum())),
    "jvp": lambda g: lambda v: jvp(g, (v,), (v + 1,))[1],
    "jacobian": jacrev,
}


@pytest.mark.parametrize("mode", ["real", "fake", "symbolic"])
@pytest.mark.parametrize("name", TRANSFORMED)
def test_a_trace_inside_of_a_transform(name: str, mode: str) -> None:
    graphs: list[torch.fx.GraphModule] = []

    def traced(v: torch.Tensor) -> torch.Tensor:
        graphs.append(make_fx(f, tracing_mode=mode)(v))  # type: ignore[arg-type]
        return graphs[-1](v)

    x = torch.randn(2, 3, 4)
    torch.testing.assert_close(TRANSFORMED[name](traced)(x), TRANSFORMED[name](f)(x))
    # The graph holds no data of the batch.
    assert not graphs[0].graph.find_nodes(op="get_attr")
    if mode == "symbolic":
        sample = graphs[0].graph.find_nodes(op="placeholder")[0].meta["val"]
        other = torch.randn([n + 2 for n in map(int, sample.shape)])
        torch.testing.assert_close(graphs[0](other), f(other))


@pytest.mark.parametrize("name", TRANSFORMED)
def test_a_trace_of_a_transformed_function(name: str) -> None:
    # Of a tensor times a number, torch's jvp bakes the shape into a tensor of zeros.
    program = TRANSFORMED[name]((lambda y: y.sin() * y.sum()) if name == "jvp" else f)
    graph = make_fx(program, tracing_mode="symbolic")(torch.randn(2, 3, 4))
    x = torch.randn(3, 5, 2)
    torch.testing.assert_close(graph(x), program(x))
    t = symfx.trace(program, torch.randn(2, 3, 4), dynamic=(("a", "b", "c"),))
    torch.testing.assert_close(t(x), program(x))


def test_symfx_trace_inside_of_vmap() -> None:
    def traced(v: torch.Tensor) -> torch.Tensor:
        return symfx.trace(f, v, dynamic=(("n",),))(v)

    x = torch.randn(3, 4)
    torch.testing.assert_close(vmap(traced)(x), vmap(f)(x))


def test_a_tensor_of_the_transform_in_a_closure_is_an_error() -> None:
    def traced(v: torch.Tensor) -> torch.Tensor:
        return make_fx(lambda y: y + v)(v)(v)

    with pytest.raises(symfx.errors.TracingError, match="not among its arguments"):
        vmap(traced)(torch.randn(3, 4))
    assert torch.equal(vmap(torch.sin)(torch.ones(2)), torch.ones(2).sin())  # vmap still works
