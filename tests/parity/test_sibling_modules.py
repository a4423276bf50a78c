"""The small modules beside torch's public ones: constants, hints, and the state of hooks."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import sympy
import torch
import torch.fx.experimental._constant_symnode as stock_constant
import torch.fx.experimental._size_hinting as stock_hinting
import torch.fx.experimental.symbolic_shapes as stock_shapes
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental._backward_state import BackwardState as TorchsState
from torch.nested._internal.nested_int import NestedIntNode
from torch.utils._sympy.functions import FloorDiv
from torch.utils._sympy.numbers import int_oo

import symfx._constant_symnode as our_constant
import symfx._size_hinting as our_hinting
import symfx.symbolic_shapes as our_shapes
from symfx._backward_state import BackwardState
from symfx.errors import SymfxError
from symfx.proxy_tensor import make_fx

CONSTANTS = (stock_constant.ConstantIntNode, our_constant.ConstantIntNode)
MODULES = ((stock_hinting, stock_shapes), (our_hinting, our_shapes))


def test_a_constant_says_of_itself_what_torchs_says() -> None:
    names = sorted(n for n in dir(stock_constant.ConstantIntNode) if n.startswith(("is_", "maybe")))
    theirs, mine = (made(3) for made in CONSTANTS)
    assert len(names) > 6
    for name in (*names, "constant_int", "_str", "__str__", "_graph_repr"):
        assert getattr(mine, name)() == getattr(theirs, name)(), name
    assert mine.clone() is mine
    assert mine.guard_int("", 0) == 3


@pytest.mark.parametrize("name", ["add", "sub", "mul", "eq", "ne", "lt", "le", "gt", "ge"])
def test_operations_with_a_ragged_size(name: str) -> None:
    def outcome(made: Any) -> Any:
        try:
            return str(getattr(made(2), name)(NestedIntNode(7, 1)))
        except (ValueError, AttributeError) as error:
            return type(error)

    assert outcome(CONSTANTS[1]) == outcome(CONSTANTS[0])


def test_a_constant_is_an_int() -> None:
    with pytest.raises(SymfxError, match="holds an int, not a float"):
        our_constant.ConstantIntNode(2.0)


def hints(hinting: Any, shapes: Any) -> list[Any]:
    env = shapes.ShapeEnv()
    mode = FakeTensorMode(shape_env=env, static_shapes=False)
    fake = mode.from_tensor(torch.ones(5, 7))
    a, b = (size.node.expr for size in fake.shape)
    u, v = (env.create_unbacked_symint().node.expr for _ in range(2))
    env.constrain_symbol_range(v, 2, 9)
    exprs = [3, sympy.Integer(4), a, a * b + 1, FloorDiv(a * b, 4), u, u + a, v * 2, u * v - 10]
    strict = []
    for e in [*exprs, sympy.true, a < b]:
        try:
            strict.append(hinting._guarding_hint_or_throw_base(env, e, {}))
        except shapes.GuardOnDataDependentSymNode:
            strict.append("data-dependent")
    loose = [
        hinting._optimization_hint_base(env, e, {}, fallback)
        for e in exprs
        for fallback in (None, 64)
    ]
    size = sympy.Symbol("ps0", integer=True)
    told = {size: a + 1}
    return [
        strict,
        loose,
        hinting._guarding_hint_or_throw_base(env, size * 2, told),
        hinting._optimization_hint_base(env, size * 2, told),
    ]


def test_hints_are_torchs() -> None:
    theirs, mine = (hints(*modules) for modules in MODULES)
    assert mine == theirs
    assert "data-dependent" in mine[0]


def test_numbers_out_of_expressions() -> None:
    s = sympy.Symbol("s", integer=True)
    for e in (
        3,
        sympy.true,
        sympy.false,
        sympy.Integer(-4),
        s,
        s + 1,
    ):
        found = our_hinting._maybe_realize_expr(e, None)
        expected = stock_hinting._maybe_realize_expr(e, None)
        assert (found, type(found)) == (expected, type(expected)), e
    assert our_hinting._maybe_realize_expr(sympy.nan, 8) == 8
    # torch's fails on infinities with this release of sympy.
    assert our_hinting._maybe_realize_expr(sympy.oo, None) == sys.maxsize
    assert our_hinting._maybe_realize_expr(-int_oo, None) == -sys.maxsize
    with pytest.raises(SymfxError, match="complex"):
        our_hinting._maybe_realize_expr(sympy.I + 1, None)


def test_parts_are_replaced() -> None:
    s, t = sympy.symbols("s t", integer=True)
    n = sympy.Symbol("n", integer=True, nonnegative=True)
    for expr, told in [(s + 1, {s: "m"}), (n * s, {n: "m"}), (s * t, {s: t + 1}), (5, {s: 1})]:
        expected = stock_hinting._sympy_subs(expr, told)
        assert our_hinting._sympy_subs(expr, told) == expected


@pytest.mark.parametrize("mode", ["real", "fake", "symbolic"])
def test_make_fx_leaves_its_proxy_on_the_state_of_hooks(mode: str) -> None:
    assert BackwardState is TorchsState
    state = BackwardState()
    graph = make_fx(lambda x, state: x + 1, tracing_mode=mode)(torch.ones(3), state)
    _, node = (n for n in graph.graph.nodes if n.op == "placeholder")
    assert state.proxy.node is node
    assert node.meta["val"] is state
    assert graph(torch.ones(3), state).tolist() == [2, 2, 2]
