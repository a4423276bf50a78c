"""Properties that PyTorch's own tests of symbolic shapes ask for."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import sympy
import torch
from torch._dynamo.source import ConstantSource
from torch.utils._sympy.functions import CleanDiv, FloorDiv, Max

from symfx.proxy_tensor import make_fx
from symfx.sym_node import SymNode, to_node
from symfx.symbolic_shapes import DimDynamic, ShapeEnv


def backed(env: ShapeEnv, value: int) -> Any:
    symbol = env.create_symbol(value, ConstantSource(f"s_{value}"))
    return env.create_symintnode(symbol, hint=value)


# -- wrapped literals ------------------------------------------------------------------------------


@pytest.fixture
def node() -> Any:
    return backed(ShapeEnv(), 3).node


KINDS = {int: torch.SymInt, float: torch.SymFloat, bool: torch.SymBool}
FUNCTIONS: list[Callable[[Any], Any]] = [
    lambda x: x + 1,
    lambda x: x + 1 + 1,
    lambda x: (x * x) * x - x,
    lambda x: x - x,
    lambda x: x / 2,
    lambda x: x // 2,
    lambda x: (x + 3) // 2 % 3,
    lambda x: -x,
    lambda x: abs(-x),
    lambda x: 1 + x,
    lambda x: x == 2,
    lambda x: (x + 1) > x,
    lambda x: torch.sym_max(x, 1),
    lambda x: torch.sym_max(x + 1, x),
    lambda x: torch.sym_float(x),
    lambda x: torch.sym_not(x > 1),
    lambda x: torch.sym_ite(x > 1, x, x + 1),
]


@pytest.mark.parametrize("value", [2, 2.5])
@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_wrapped_literal_stays_symbolic(node: Any, value: Any, function: Any) -> None:
    result = function(KINDS[type(value)](to_node(node, value)))
    expected = function(value)
    assert type(result) is KINDS[type(expected)]
    assert result == expected
    assert sympy.sympify(result) == expected


def test_a_wrapped_literal_with_a_symbol(node: Any) -> None:
    two = torch.SymInt(to_node(node, 2))
    size = torch.SymInt(node)
    assert str((two + 1) * size) == f"3*{node.expr}"
    assert type(size - size + 1) is int  # a symbol that cancels leaves a Python number
    assert math.floor(torch.SymFloat(to_node(node, 2.5)) + 1) == 3


def test_a_wrapped_bool(node: Any) -> None:
    yes, no = (torch.SymBool(to_node(node, value)) for value in (True, False))
    assert type(yes & yes) is torch.SymBool
    assert bool(yes) and not bool(no)
    assert type(torch.sym_not(torch.sym_not(yes))) is torch.SymBool
    assert hash(yes) == hash(torch.SymBool(to_node(node, True)))
    one = torch.SymBool(to_node(node, 1))
    assert bool(one) and hash(one) is not None
    assert not bool(torch.sym_not(one))
    assert sympy.sympify(one) == 1


@pytest.mark.parametrize("value", [True, False])
def test_a_bool_that_create_symbol_makes_a_number_of(value: bool) -> None:
    env = ShapeEnv()
    symbol = env.create_symbol(value, ConstantSource("b"), DimDynamic.DUCK)
    assert symbol == int(value)
    made = torch.SymBool(SymNode(symbol, env, bool, hint=value))
    assert bool(made) is value
    assert bool(torch.sym_not(made)) is not value
    assert str(made) == str(value)


# -- guards ----------------------------------------------------------------------------------------


def test_a_guard_is_indexed_as_a_tuple() -> None:
    env = ShapeEnv()
    n = backed(env, 8)
    assert n * 2 > 9
    (guard,) = env.guards
    expr, sloc, size_oblivious = guard
    assert (guard[0], guard[1], guard[-1]) == (expr, sloc, size_oblivious)
    assert guard[:2] == (guard.expr, guard.sloc)
    assert len(guard) == 3
    assert expr == sympy.Gt(2 * n.node.expr, 9)
    with pytest.raises(IndexError):
        guard[3]


# -- divisions -------------------------------------------------------------------------------------


def test_divisions_once_divisibility_is_known() -> None:
    env = ShapeEnv()
    u = env.create_unbacked_symint()
    a = u.node.expr
    exact, floored = CleanDiv(a, 3), FloorDiv(a, 3)
    torch._check(u // 3 == 1)
    assert env._maybe_evaluate_static(sympy.Eq(floored, 1)) == sympy.true
    # Without the divisibility, the exact quotient is not known to be one.
    assert env._maybe_evaluate_static(sympy.Eq(exact, 1)) is None
    assert isinstance(env.simplify(floored), FloorDiv)
    torch._check(u % 3 == 0)
    assert env._maybe_evaluate_static(sympy.Eq(exact, 1)) == sympy.true


def test_simplify_makes_an_exact_division() -> None:
    env = ShapeEnv()
    u = env.create_unbacked_symint()
    a = u.node.expr
    assert not env.simplify(FloorDiv(a, 6)).has(CleanDiv)
    torch._check(u % 6 == 0)
    assert env.simplify(FloorDiv(a, 6)) == CleanDiv(a, 6)
    assert env.simplify(FloorDiv(a, 3) + 1) == CleanDiv(a, 3) + 1
    assert env.simplify(FloorDiv(a, 4)) == FloorDiv(a, 4)
    assert env._maybe_evaluate_static(sympy.Eq(FloorDiv(a, 3), CleanDiv(a, 3))) == sympy.true


# -- maxima ----------------------------------------------------------------------------------------


def test_simplify_drops_what_a_maximum_does_not_need() -> None:
    env = ShapeEnv()
    numbers = [env.create_unbacked_symint() for _ in range(4)]
    a, b, c, d = (n.node.expr for n in numbers)
    assert env.simplify(Max(0, a + b)) == Max(0, a + b)
    for n in numbers:
        torch._check(n >= 0)
    assert env.simplify(Max(0, a + b)) == a + b
    assert env.simplify(Max(1, a + b)) == Max(1, a + b)
    assert env.simplify(Max(a + b, a) + c) == a + b + c
    assert env.simplify(Max(a + b, c + d)) == Max(a + b, c + d)
    torch._check(numbers[0] >= 1)
    assert env.simplify(Max(1, a + b)) == a + b


# -- layouts ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sizes", "strides", "overlap"),
    [
        ([3, "u"], [1, 3], 0),
        (["u", 3], [3, 1], 0),
        ([3, 4, "u"], [4, 1, 12], 0),
        ([3, "u", 4], [1, 12, 3], 0),
        ([3, "u"], [1, 4], 2),
        ([3, "u"], [1, 2], 2),
        (["u"], [2], 2),
        (["u", 2, 4], [32, 4, 1], 2),
        ([2, "u"], [0, 1], 1),
    ],
)
def test_overlap_of_unbacked_sizes(sizes: Any, strides: Any, overlap: int) -> None:
    """2 says that it is not known, which is right where a size may leave gaps or overlap."""
    env = ShapeEnv()
    u = env.create_unbacked_symint()
    known = {"u": u}
    shape, layout = ([known.get(n, n) for n in numbers] for numbers in (sizes, strides))
    x = torch.empty_strided(shape, layout, device="meta")
    assert torch._debug_has_internal_overlap(x) == overlap


def test_a_layout_of_unbacked_numbers_alone() -> None:
    env = ShapeEnv()
    numbers = [env.create_unbacked_symint().node for _ in range(4)]
    dense = numbers[0].is_non_overlapping_and_dense(numbers[:2], numbers[2:])
    assert dense.is_bool()
    assert env.guards == []


def test_the_order_of_unbacked_strides_is_taken_from_the_facts() -> None:
    env = ShapeEnv()
    u, v = env.create_unbacked_symint(), env.create_unbacked_symint()
    six, three, two, one = (to_node(u.node, n) for n in (6, 3, 2, 1))
    layout = ([u.node, v.node, two, three], [six, (6 * u).node, three, one])
    assert u.node.is_non_overlapping_and_dense(*layout).maybe_as_bool() is None
    torch._check(u >= 2)
    dense = u.node.is_non_overlapping_and_dense(*layout)
    assert env.decide(dense.term) is True


@pytest.mark.parametrize(
    "layout",
    [
        lambda u, v: ([v, u], [1, v]),
        lambda u, v: ([v, u], [u, 1]),
        lambda u, v: ([u, v], [v, u]),
        lambda u, v: ([u, 4], [4, v]),
        lambda u, v: ([2, u, v], [1, 2 * v, 2]),
        lambda u, v: ([u, 3, v], [3, 1, 3 * u]),
        lambda u, v: ([u, v, 2], [v, u, 1]),
    ],
)
def test_the_layout_of_unbacked_sizes_in_any_order(layout: Callable[..., Any]) -> None:
    for values in itertools.product(range(4), repeat=2):
        env = ShapeEnv()
        unbacked = [env.create_unbacked_symint() for _ in values]
        node = unbacked[0].node
        sizes, strides = ([to_node(node, n) for n in part] for part in layout(*unbacked))
        dense = torch.SymBool(node.is_non_overlapping_and_dense(sizes, strides))
        for number, value in zip(unbacked, values, strict=True):
            torch._check(number == value)
        real = torch.empty_strided(*layout(*values))
        assert bool(dense) == torch.ops.aten.is_non_overlapping_and_dense(real), values


# -- many symbols ----------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [2, 9, 10, 11, 25])
def test_an_assertion_about_many_symbols(count: int) -> None:
    env = ShapeEnv()
    numbers = [env.create_unbacked_symint() for _ in range(count)]
    torch._check(sum(numbers) >= 5)
    newest = numbers[-1].node.expr
    (record,) = env.deferred_runtime_asserts[newest]
    assert record.expr.free_symbols == {n.node.expr for n in numbers}
    assert record.expr in env.get_axioms([newest])
    assert env._maybe_evaluate_static(record.expr) == sympy.true

    def total(*xs: torch.Tensor) -> torch.Tensor:
        read = sum(x[0].item() for x in xs)
        torch._check(read < 5 * count)
        return xs[0] + read

    traced = make_fx(total, tracing_mode="symbolic")(*[torch.tensor([1])] * count)
    assert traced(*[torch.tensor([2])] * count).tolist() == [2 + 2 * count]
    with pytest.raises(RuntimeError, match="does not hold"):
        traced(*[torch.tensor([6])] * count)


def test_a_symbolic_graph_runs_with_other_values() -> None:
    """torch.fx.Interpreter, with values of an unbacked size other than those at tracing."""

    def f(x: torch.Tensor) -> Any:
        found = x.nonzero()
        return found.reshape(-1) + found.shape[0], x.new_zeros(found.shape[0] * 2)

    traced = make_fx(f, tracing_mode="symbolic")(torch.tensor([3, 0, 1]))
    for x in (torch.tensor([1, 1, 1]), torch.tensor([0, 0, 0]), torch.ones(7)):
        for got, expected in zip(torch.fx.Interpreter(traced).run(x), f(x), strict=True):
            assert torch.equal(got, expected)
    again = make_fx(torch.fx.Interpreter(traced).run, tracing_mode="symbolic")(torch.ones(2))
    for got, expected in zip(again(torch.ones(5)), f(torch.ones(5)), strict=True):
        assert torch.equal(got, expected)
