"""Specs of dynamic shapes: unbacked sizes, which the graph checks."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import fx
from torch.fx.experimental.proxy_tensor import make_fx as stock_make_fx
from torch.fx.experimental.symbolic_shapes import CallMethodKey

import symfx
from symfx.dynamic_spec import (
    STATIC,
    DictSpec,
    IntVar,
    ObjectSpec,
    ParamsSpec,
    SeqSpec,
    ShapesSpec,
    ShapeVar,
    TensorSpec,
    dynamic_spec,
)
from symfx.errors import SpecError
from symfx.proxy_tensor import make_fx
from symfx.symbolic_shapes import GuardOnDataDependentSymNode
from symfx.torch_bridge.releases import RELEASE

MODES = ("fake", "symbolic")


def total(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return x.sum() + y


def scaled(x: torch.Tensor, y: torch.Tensor, n: int, m: int) -> tuple[torch.Tensor, int]:
    return x + y, n * m


def rows_spec() -> ShapesSpec:
    rows = ShapeVar("rows", min=2, max=16)
    params = {"x": TensorSpec([rows, 3]), "y": TensorSpec([rows * 2])}
    return ShapesSpec(params, assumptions=[rows % 2 == 0])


def sizes(graph: fx.GraphModule) -> list[str]:
    return [str(tuple(n.meta["val"].shape)) for n in graph.graph.find_nodes(op="placeholder")]


@pytest.mark.parametrize("mode", MODES)
def test_the_graph_asserts_bounds_derived_sizes_and_assumptions(mode: str) -> None:
    example = torch.ones(4, 3), torch.ones(8)
    g = make_fx(total, tracing_mode=mode, dynamic_shapes=rows_spec())(*example)
    for rows in (2, 6, 16):
        inputs = torch.rand(rows, 3), torch.rand(2 * rows)
        torch.testing.assert_close(g(*inputs), total(*inputs))
    for rows, others in ((0, 0), (18, 36), (5, 10), (6, 11)):
        with pytest.raises(RuntimeError, match="does not hold"):
            g(torch.rand(rows, 3), torch.rand(others))


@pytest.mark.parametrize("mode", MODES)
def test_a_variable_of_two_inputs_is_one_size(mode: str) -> None:
    size, n = ShapeVar("size"), IntVar("n", min=1)
    spec = {"x": TensorSpec([size]), "y": TensorSpec([size]), "n": n, "m": n + size}
    g = make_fx(scaled, tracing_mode=mode, dynamic_shapes=spec)(torch.ones(3), torch.ones(3), 2, 5)
    assert g(torch.ones(4), torch.ones(4), 2, 6)[1] == 12
    for x, y, count, product in ((4, 1, 2, 6), (4, 4, 2, 7), (4, 4, 0, 4)):
        with pytest.raises(RuntimeError, match="does not hold"):
            g(torch.ones(x), torch.ones(y), count, product)


@pytest.mark.parametrize("mode", MODES)
def test_dimensions_without_an_entry_are_static(mode: str) -> None:
    spec = {"x": TensorSpec([ShapeVar("rows"), STATIC])}
    g = make_fx(total, tracing_mode=mode, dynamic_shapes=spec)(torch.ones(4, 3), torch.ones(8))
    assert sizes(g) == ["(u0, 3)", "(8,)"]


def test_placeholders_bind_their_symbols() -> None:
    n = IntVar("n")
    g = make_fx(lambda x, n: x * n, tracing_mode="fake", dynamic_shapes={
        "x": TensorSpec([ShapeVar("rows")]), "n": n})(torch.ones(3), 2)  # fmt: skip
    bound = [n.meta["unbacked_bindings"] for n in g.graph.find_nodes(op="placeholder")]
    assert [[str(symbol) for symbol in b] for b in bound] == [["u0"], ["u1"]]
    (path,) = bound[0].values()
    assert isinstance(path[0], CallMethodKey)
    assert list(bound[1].values()) == [()]


def test_a_branch_on_a_size_of_a_spec_is_an_error() -> None:
    def f(x: torch.Tensor) -> torch.Tensor:
        return x * 2 if x.shape[0] > 3 else x

    spec = {"x": TensorSpec([ShapeVar("rows", min=2)])}
    with pytest.raises(GuardOnDataDependentSymNode, match=r"x.shape\[0\] >= 4"):
        make_fx(f, tracing_mode="fake", dynamic_shapes=spec)(torch.ones(4))
    spec = {"x": TensorSpec([ShapeVar("rows", min=4)])}
    g = make_fx(f, tracing_mode="fake", dynamic_shapes=spec)(torch.ones(4))
    assert torch.equal(g(torch.ones(5)), torch.full((5,), 2.0))


class Pair:
    """A container that is registered below."""

    def __init__(self, left: Any, right: Any) -> None:
        self.left, self.right = left, right


torch.utils._pytree.register_pytree_node(
    Pair,
    lambda p: ([p.left, p.right], None),
    lambda parts, _: Pair(*parts),
    flatten_with_keys_fn=lambda p: (
        [
            (torch.utils._pytree.GetAttrKey("left"), p.left),
            (torch.utils._pytree.GetAttrKey("right"), p.right),
        ],
        None,
    ),
    serialized_type_name="symfx_test_dynamic_spec_Pair",
)


def test_containers() -> None:
    def f(tree: dict[str, Any], pair: Pair, *rest: Any) -> Any:
        return tree["a"] * 2, pair.right + 1, rest[0][1] - 1

    size = ShapeVar("size")
    spec = ParamsSpec({
        "tree": DictSpec({"a": TensorSpec([size])}),
        "pair": ObjectSpec({"right": TensorSpec([size])}),
        "*args": [SeqSpec([None, TensorSpec([size + 1])])],
    })  # fmt: skip
    args = {"a": torch.ones(3)}, Pair(torch.ones(2), torch.ones(3)), (torch.ones(2), torch.ones(4))
    g = make_fx(f, tracing_mode="fake", dynamic_shapes=spec)(*args)
    assert sizes(g) == ["(u0,)", "(2,)", "(u0,)", "(2,)", "(u0 + 1,)"]


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ({"z": TensorSpec([ShapeVar("a")])}, "entries for z; the arguments are x, y"),
        ({"x": TensorSpec([ShapeVar("a")])}, "x has 2 dimensions"),
        ({"x": IntVar("a")}, "x is a float32 tensor"),
        ({"x": TensorSpec([5, None])}, "dimension 0 of x is 4, and the spec says 5"),
        ({"x": SeqSpec([TensorSpec([None])])}, "its entry in the spec is a SeqSpec"),
        ({"y": TensorSpec([ShapeVar("a") * 2])}, "uses a in an expression"),
        ({"*args": TensorSpec([None])}, "the spec is wrong"),
    ],
)
def test_specs_that_do_not_fit(spec: Any, says: str) -> None:
    with pytest.raises(SpecError, match=says):
        make_fx(total, tracing_mode="fake", dynamic_shapes=spec)(torch.ones(4, 3), torch.ones(8))


def test_a_spec_needs_fake_tensors() -> None:
    with pytest.raises(SpecError, match="sizes of real tensors are plain numbers"):
        make_fx(total, dynamic_shapes=rows_spec())


# -- the decorator ---------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_the_decorator(mode: str) -> None:
    @dynamic_spec({"x": TensorSpec([ShapeVar("rows"), STATIC])})
    def double(x: torch.Tensor) -> torch.Tensor:
        return x * 2

    g = make_fx(double, tracing_mode=mode)(torch.ones(3, 4))
    assert sizes(g) == ["(u0, 4)"]
    with pytest.raises(SpecError, match="another description was given"):
        make_fx(double, tracing_mode="symbolic", dynamic_shapes=[None])
    with pytest.raises(SpecError, match="has a spec already"):
        dynamic_spec({"x": TensorSpec([None, None])})(double)
    with pytest.raises(SpecError, match="pass a ShapesSpec"):
        dynamic_spec({"x": ("rows", None)})


def test_the_decorator_on_forward() -> None:
    class Double(torch.nn.Module):
        @dynamic_spec({"x": TensorSpec([ShapeVar("rows"), STATIC])})
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * 2

    assert sizes(make_fx(Double(), tracing_mode="fake")(torch.ones(3, 4))) == ["(u0, 4)"]
    assert symfx.trace(Double(), torch.ones(3, 4))(torch.ones(5, 4)).shape == (5, 4)


@pytest.mark.skipif(RELEASE < (2, 14), reason="torch's make_fx takes no specs")
def test_against_stock() -> None:
    from torch.fx.experimental.dynamic_spec import dynamic_spec as stock_dynamic_spec

    example = torch.ones(4, 3), torch.ones(8)
    ours = make_fx(total, tracing_mode="fake", dynamic_shapes=rows_spec())(*example)
    stock = stock_make_fx(total, tracing_mode="fake", dynamic_shapes=rows_spec())(*example)
    for rows, others in ((2, 4), (6, 12), (0, 0), (18, 36), (5, 10), (6, 11)):
        outcomes = []
        for graph in (ours, stock):
            try:
                graph(torch.ones(rows, 3), torch.ones(others))
                outcomes.append(True)
            except RuntimeError:
                outcomes.append(False)
        assert outcomes[0] == outcomes[1], (rows, others)
    # torch's decorator and symfx's are read by both.
    decorated = stock_dynamic_spec({"x": TensorSpec([ShapeVar("rows"), 3])})(lambda x: x + 1)
    assert sizes(make_fx(decorated, tracing_mode="fake")(example[0])) == ["(u0, 3)"]
    own = dynamic_spec({"x": TensorSpec([ShapeVar("rows"), 3])})(lambda x: x + 1)
    assert sizes(stock_make_fx(own, tracing_mode="fake")(example[0])) == ["(u0, 3)"]


# -- symfx.trace -----------------------------------------------------------------------------------


def test_trace() -> None:
    def model(x: torch.Tensor, y: torch.Tensor, n: int) -> torch.Tensor:
        return x.sum() + y * n

    rows = ShapeVar("rows", min=2, max=16)
    spec = ShapesSpec(
        {"x": TensorSpec([rows, 3]), "y": TensorSpec([rows * 2]), "n": IntVar("n")},
        assumptions=[rows % 2 == 0],
    )
    t = symfx.trace(model, (torch.ones(4, 3), torch.ones(8), 2), dynamic=spec)
    assert t(torch.ones(6, 3), torch.ones(12), 3).shape == (12,)
    for args in (
        (torch.ones(6, 3), torch.ones(12), 3),
        (torch.ones(5, 3), torch.ones(10), 1),
        (torch.ones(6, 3), torch.ones(11), 1),
        (torch.ones(18, 3), torch.ones(36), 1),
    ):
        admitted = bool(t.check(*args))
        assert admitted is (args[0].shape[0] == 6 and args[1].shape[0] == 12)
        if not admitted:
            with pytest.raises((RuntimeError, symfx.errors.InputMismatchError)):
                t(*args)
    verification = t.verify()
    assert verification
    assert "are not varied" in str(verification)


def test_trace_with_variadic_arguments() -> None:
    def model(*xs: torch.Tensor, **options: torch.Tensor) -> torch.Tensor:
        return xs[0] + xs[1] + options["bias"]

    size = ShapeVar("size")
    one = TensorSpec([size])
    spec = ParamsSpec({"*args": [one, one], "**kwargs": {"bias": one}})
    t = symfx.trace(model, (torch.ones(3),) * 2, {"bias": torch.ones(3)}, dynamic=spec)
    assert t(torch.ones(5), torch.ones(5), bias=torch.ones(5)).shape == (5,)
    assert not t.check(torch.ones(5), torch.ones(1), bias=torch.ones(5))
