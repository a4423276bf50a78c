"""Inputs of all kinds, and numbers of torch or of another environment, as torch treats them."""

import math
import operator
import pickle

import pytest
import torch
from both import BOTH, SYMFX, fake, symint
from torch._dynamo.source import (
    AttrSource,
    ConstantSource,
    EphemeralSource,
    GetItemSource,
    GlobalSource,
    LocalSource,
)
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental._constant_symnode import ConstantIntNode
from torch.testing._internal.two_tensor import TwoTensor
from torch.utils._sympy.value_ranges import ValueRanges

from symfx.errors import SymfxError

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")


def made_symbolic(m, env, real, source, context=None):
    if context is None:
        context = m.StatelessSymbolicContext(dynamic_sizes=[m.DimDynamic.DYNAMIC] * real.dim())
    return FakeTensorMode(shape_env=env).from_tensor(real, symbolic_context=context, source=source)


# -- sources ---------------------------------------------------------------------------------------

X = LocalSource("x")
SOURCES = [X, GlobalSource("g"), AttrSource(X, "w"), GetItemSource(X, 0), GetItemSource(X, "k"),
           GetItemSource(AttrSource(X, "w"), 1), ConstantSource("c")]  # fmt: skip


@pytest.mark.parametrize("source", SOURCES, ids=lambda s: s.name)
def test_guards_read_alike_for_every_source(source):
    texts = []
    for m in BOTH:
        env = m.ShapeEnv()
        x = made_symbolic(m, env, torch.ones(4, 5), source)
        assert x.shape[0] < x.shape[1]
        texts.append(env.produce_guards([x], [source]))
        env = m.ShapeEnv()
        n = env.create_unspecified_symint_and_symbol(7, source, m.DimDynamic.DYNAMIC)
        assert n > 3
        texts[-1] += env.produce_guards([n], [source])
    assert texts[0] == texts[1]


def test_inputs_that_do_not_last_give_way(m):
    env = m.ShapeEnv()
    x = made_symbolic(m, env, torch.ones(4, 5), EphemeralSource("view"))
    y = made_symbolic(m, env, torch.ones(4, 5), X)
    names = [str(n) for n in y.shape]
    assert x.shape[0] == y.shape[0] and x.shape[1] == y.shape[1]
    assert [str(n) for n in x.shape] == names and [str(n) for n in y.shape] == names


# -- tensors that hold tensors ---------------------------------------------------------------------


def held(m, **promise):
    inner = m.StatelessSymbolicContext(dynamic_sizes=[m.DimDynamic.DYNAMIC] * 2, **promise)
    return m.SubclassSymbolicContext(
        dynamic_sizes=[m.DimDynamic.DYNAMIC] * 2, tensor_source=X,
        inner_contexts={"a": inner, "b": inner},
    )  # fmt: skip


def test_guards_on_tensors_inside():
    texts = []
    for m in BOTH:
        env = m.ShapeEnv()
        x = made_symbolic(m, env, TwoTensor(torch.ones(4, 5), torch.ones(4, 5)), X, held(m))
        assert x.shape[0] < x.shape[1] and x.a.shape[0] > 2 and x.b.shape[1] > 3
        texts.append(sorted(env.produce_guards([x], [X], input_contexts=[held(m)])))
    assert texts[0] == texts[1] and any("L['x'].b.size()[1]" in text for text in texts[1])


def test_promises_about_tensors_inside(m):
    promise = m.StrictMinMaxConstraint(warn_only=False, vr=ValueRanges(2, 50))
    context = held(m, constraint_sizes=[promise, None])
    env = m.ShapeEnv()
    x = made_symbolic(m, env, TwoTensor(torch.ones(4, 5), torch.ones(4, 5)), X, context)
    assert x.a.shape[0] > 3
    with pytest.raises(m.ConstraintViolationError, match=r"L\['x'\]\.a\.size\(\)\[0\]"):
        env.produce_guards([x], [X], input_contexts=[context])


# -- numbers ---------------------------------------------------------------------------------------


def test_arithmetic_of_wrapped_literals_stays_symbolic(m):
    seed = (symint(m, m.ShapeEnv(), 2) / 2.0).node
    three, half = torch.SymInt(m.to_node(seed, 3)), torch.SymFloat(m.to_node(seed, 2.5))
    for value, expected in (
        (three + 4, 7), (4 - three, 1), (-three, -3), (three // 2, 1), (three / 2, 1.5),
        (three < 4, True), (round(half), 2), (round(half, 1), 2.5), (math.floor(half), 2),
        (torch.sym_max(three, 2), 3), (three**2, 9), (three << 1, 6), (three & 1, 1),
        (torch.sym_ite(three < 4, three, torch.SymInt(m.to_node(seed, 2))), 3),
        (torch.sym_ite(symint(m, m.ShapeEnv(), 5) < 4, 3, 3), 3),
    ):  # fmt: skip
        assert isinstance(value, (torch.SymInt, torch.SymFloat, torch.SymBool))
        assert m.guard_scalar(value) == expected


@pytest.mark.parametrize("divide", [operator.floordiv, operator.truediv, operator.mod])
def test_dividing_by_a_number_that_is_zero_at_tracing(m, divide):
    env = m.ShapeEnv()
    zero = env.create_unspecified_symint_and_symbol(0, X, m.DimDynamic.DYNAMIC)
    for number in (7, 1.5, symint(m, env, 5)):
        with pytest.raises(ZeroDivisionError):
            divide(number, zero)
        with pytest.raises(ZeroDivisionError):
            divide(number, zero * 3)


def test_functions_outside_their_domain(m):
    env = m.ShapeEnv()
    n = env.create_unspecified_symint_and_symbol(-2, X, m.DimDynamic.DYNAMIC)
    for compute in (torch._sym_sqrt, torch._sym_log2, lambda n: 1 << n):
        with pytest.raises(ValueError):
            m.guard_scalar(compute(n))


def test_constants_of_torch(m):
    s, three = symint(m, m.ShapeEnv(), 5), torch.SymInt(ConstantIntNode(3))
    assert str(s + three) == f"{s} + 3" and bool(s > three) and m.guard_int(three) == 3
    assert not m.is_symbolic(three) and m.free_symbols(three) == set()
    assert m is not SYMFX or m.has_hint(three)


def test_ragged_sizes_against_numbers(m):
    ragged = torch._C._get_nested_int(1, 1)
    env = m.ShapeEnv()
    j = env.create_symintnode(env.create_symbol(ragged, source=X), hint=ragged)
    for number, known in ((-1, "gt"), (0, "ge"), (1, "ne"), (2, "ge")):
        assert bool(getattr(operator, known)(j, number))
    assert not bool(j == 7) and not bool(2 * j == 3 * j)
    for method in (operator.lt, operator.le, operator.gt, operator.ge):
        with pytest.raises(RuntimeError, match="indeterminate"):
            bool(method(j, 3))
    with pytest.raises(Exception):
        int(j)


def test_dynamic_ints_are_saved(m):
    n = m.DynamicInt(5)
    again = pickle.loads(pickle.dumps(n)) if m is SYMFX else n
    assert again == 5 and type(again) is type(n) and again + 1 == 6


def test_environments_do_not_mix():
    one, other = (fake(SYMFX, SYMFX.ShapeEnv(), torch.ones(5, 6)) for _ in range(2))
    with pytest.raises(SymfxError, match="belongs to another ShapeEnv"):
        bool(one.shape[0] == other.shape[0])
