"""SymNode: every operation that torch.SymInt, SymFloat and SymBool offer, against Python."""

import itertools
import math
import operator

import pytest
import torch
from torch._dynamo.source import ConstantSource

from symfx.sym_node import memory_formats
from symfx.symbolic_shapes import ShapeEnv
from symfx.torch_bridge.identity import DimDynamic

INTS = [-7, -2, -1, 0, 1, 2, 5, 12]
BINARY = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "floordiv": operator.floordiv,
    "mod": operator.mod,
    "truediv": operator.truediv,
    "eq": operator.eq,
    "ne": operator.ne,
    "lt": operator.lt,
    "le": operator.le,
    "gt": operator.gt,
    "ge": operator.ge,
    "and": operator.and_,
    "or": operator.or_,
    "xor": operator.xor,
    "min": torch.sym_min,
    "max": torch.sym_max,
}
PLAIN = {torch.sym_min: min, torch.sym_max: max}


def symint(env, value, name):
    """A symbolic int that may be any number."""
    symbol = env.create_unspecified_symbol(value, ConstantSource(name), DimDynamic.DYNAMIC)
    return env.create_symintnode(symbol)


def symfloat(env, value, name):
    return env.create_symfloatnode(env.create_symbol(value, ConstantSource(name)))


def value_of(result):
    return result.node.hint if isinstance(result, (torch.SymInt, torch.SymFloat, torch.SymBool)) \
        else result  # fmt: skip


@pytest.mark.parametrize("name", BINARY)
def test_binary_operations_on_ints(name):
    op = BINARY[name]
    for a, b in itertools.product(INTS, INTS):
        env = ShapeEnv()
        try:
            expected = PLAIN.get(op, op)(a, b)
        except ZeroDivisionError:
            continue
        x, y = symint(env, a, "a"), symint(env, b, "b")
        for result in (op(x, y), op(x, b), op(a, y)):
            got = value_of(result)
            assert got == expected and type(got) is type(expected), (a, b)
        assert env.guards == []


@pytest.mark.parametrize("op", [operator.neg, operator.pos, abs, torch.sym_float, torch.sym_int])
def test_unary_operations_on_ints(op):
    for a in INTS:
        got = value_of(op(symint(ShapeEnv(), a, "a")))
        assert got == op(a) and type(got) is type(op(a))


@pytest.mark.parametrize("op", [math.floor, math.ceil, math.trunc, round, operator.neg, abs])
def test_unary_operations_on_floats(op):
    for a in (-2.5, -0.4, 0.5, 1.5, 2.5, 7.0):
        got = value_of(op(symfloat(ShapeEnv(), a, "a")))
        assert got == op(a) and type(got) is type(op(a))


@pytest.mark.parametrize(
    "name", ["sqrt", "cos", "cosh", "sin", "sinh", "tan", "tanh", "asin", "acos", "atan", "log2"]
)
def test_functions(name):
    got = value_of(getattr(torch, f"_sym_{name}")(symfloat(ShapeEnv(), 0.75, "a")))
    assert got == pytest.approx(getattr(math, name)(0.75), abs=0)


@pytest.mark.parametrize("name", ["add", "sub", "mul", "truediv", "lt", "le", "eq", "max"])
def test_mixed_operations(name):
    op = BINARY[name]
    for a, b in itertools.product([-3, 2], [-1.5, 2.0]):
        env = ShapeEnv()
        x, y = symint(env, a, "a"), symfloat(env, b, "b")
        assert value_of(op(x, y)) == PLAIN.get(op, op)(a, b)
        assert value_of(op(y, x)) == PLAIN.get(op, op)(b, a)


def test_powers():
    for a, b in itertools.product([-3, 2, 5], [0, 1, 2, 3]):
        assert value_of(symint(ShapeEnv(), a, "a") ** b) == a**b
    assert value_of(symint(ShapeEnv(), 2, "a") ** -1) == 0.5


def test_shifts():
    for a, b in itertools.product([-5, 0, 9], [0, 1, 3]):
        x = symint(ShapeEnv(), a, "a")
        assert value_of(x << b) == a << b
        assert value_of(x >> b) == a >> b


def test_sums():
    env = ShapeEnv()
    terms = [symint(env, i, f"a{i}") for i in range(2, 30)]
    total = torch.sym_sum(terms)
    assert total.node.hint == sum(range(2, 30))
    assert total.node.term is sum(terms).node.term


def test_where():
    env = ShapeEnv()
    a, b = symint(env, 3, "a"), symint(env, 5, "b")
    assert value_of(torch.sym_ite(a < b, a, b)) == 3
    assert value_of(torch.sym_ite(a > b, a, b)) == 5
    assert env.guards == []


def test_not_and_truth():
    env = ShapeEnv()
    a, b = symint(env, 3, "a"), symint(env, 5, "b")
    assert bool(torch.sym_not(a > b)) is True
    assert not (a > b)
    assert [str(g.term) for g in env.guards] == ["b >= a"] or len(env.guards) == 1


def test_literals_come_out_as_numbers():
    a = symint(ShapeEnv(), 3, "a")
    assert type(a - a) is int and a - a == 0
    assert (a == a) is True
    assert type((a * 4) // 4) is torch.SymInt
    assert type(a * 0) is int


def test_a_number_compared_with_itself():
    env = ShapeEnv()
    n, x = symint(env, 5, "n"), symfloat(env, 0.5, "x")
    for name in ("eq", "ne", "lt", "le", "gt", "ge"):
        assert bool(BINARY[name](n, n)) is BINARY[name](5, 5)
    assert env.guards == []
    assert (x == x).node.term.op != "const"  # x may be NaN


def test_a_text_is_as_simple_as_the_facts_of_the_moment_allow():
    env = ShapeEnv()
    u = env.create_unbacked_symint()
    least = torch.sym_min(u, 5)
    assert str(least) == "Min(5, u0)"
    torch._check(u <= 3)
    assert str(least) == "u0"
    torch._check(u >= 3)
    assert (str(least), str(u)) == ("3", "3")


def test_division_by_zero_is_pythons():
    with pytest.raises(ZeroDivisionError):
        symint(ShapeEnv(), 3, "a") // 0


def test_isinstance_and_sympy():
    import sympy
    from torch.fx.experimental.sym_node import SymNode as TorchSymNode

    env = ShapeEnv()
    a, b = symint(env, 3, "a"), symint(env, 5, "b")
    assert isinstance(a.node, TorchSymNode)
    assert isinstance(a.node.expr, sympy.Symbol)
    expr = ((a + b) // 2).node.expr
    assert env.create_symintnode(expr).node.term is ((a + b) // 2).node.term


SHAPES = [(2, 3), (3, 2, 4), (2, 3, 4, 5), (2, 2, 2, 3, 4)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_layouts_against_real_tensors(shape):
    """Every permutation of a dense tensor, and every second element of one."""
    from torch.fx.experimental.symbolic_shapes import eval_is_non_overlapping_and_dense

    rules = {
        memory_formats.contiguous: torch.contiguous_format,
        memory_formats.channels_last_contiguous_2d: torch.channels_last,
        memory_formats.channels_last_contiguous_3d: torch.channels_last_3d,
    }
    ranks = {torch.channels_last: 4, torch.channels_last_3d: 5}
    for order in itertools.permutations(range(len(shape))):
        packed = torch.empty(shape).permute(order)
        for real in (packed, packed[..., ::2], packed[..., :0], packed[:0, ..., ::2]):
            env = ShapeEnv()
            sizes = [symint(env, n, f"n{i}").node.term for i, n in enumerate(real.shape)]
            strides = [symint(env, n, f"t{i}").node.term for i, n in enumerate(real.stride())]
            for rule, memory_format in rules.items():
                expected = ranks.get(memory_format, real.dim()) == real.dim() and (
                    real.is_contiguous(memory_format=memory_format)
                )
                assert env.hint_of(rule(env.table, sizes, strides)) is expected
                assert rule(memory_formats.NUMBERS, real.shape, real.stride()) is expected
                in_sympy = rule(memory_formats.SYMPY, real.shape, real.stride())
                assert bool(in_sympy) is expected
            if real.numel():
                dense = env.hint_of(memory_formats.non_overlapping_and_dense(env, sizes, strides))
                assert dense is bool(eval_is_non_overlapping_and_dense(real.shape, real.stride()))
