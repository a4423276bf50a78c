"""The cases of torch's own tests on numbers and on assertions, run on torch and on symfx."""

import copy
import itertools
import math
import operator

import pytest
import sympy
import torch
from both import BOTH, fake, symfloat, symint

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")


# -- numbers ---------------------------------------------------------------------------------------


def test_arithmetic(m, env):
    numbers = [(i, symint(m, env, i)) for i in range(2, 5)]
    for op in (operator.add, operator.sub, operator.mul, operator.mod, operator.floordiv):
        for (a, x), (b, y) in itertools.permutations(numbers, 2):
            assert op(x, y) == op(a, b)
            assert op(x, b) == op(a, b) and op(a, y) == op(a, b)


def test_strides_are_computed_from_sizes_unless_they_are_dynamic(m, env):
    d = m.DimDynamic
    real = torch.ones(5, 5, 10)
    x = fake(m, env, real, [d.DYNAMIC] * 3, dynamic_strides=[d.INFER_STRIDE] * 3)
    assert all(m.is_symbolic(n) for n in x.size())
    _, s1, s2 = x.size()
    assert x.stride()[0].node.expr == (s1 * s2).node.expr
    assert x.stride()[1].node.expr == s2.node.expr
    assert x.stride()[2] == 1
    env = m.ShapeEnv()
    y = fake(m, env, real, [d.DYNAMIC] * 3, dynamic_strides=[d.DYNAMIC, d.INFER_STRIDE, d.DUCK])
    assert isinstance(y.stride()[0].node.expr, sympy.Symbol)
    assert y.stride()[1].node.expr == y.size()[2].node.expr


def test_names_of_symbols(m, env):
    x = fake(m, env, torch.randn(5, 8))
    assert f"{x.shape}" == "torch.Size([s93, s44])" and f"{x.stride()}" == "(s44, 1)"
    assert str(env.create_unbacked_symint()) == "u0"
    assert str(env.create_unbacked_symfloat()) == "zuf0"
    assert str(symfloat(m, env, 2.5)).startswith("zf")


def test_a_guard_unpacks(m, env):
    x = fake(m, env, torch.randn(5, 8))
    assert bool(x.shape[0] < x.shape[1])
    condition, _, size_oblivious = env.guards[-1]
    assert str(condition) == "s93 < s44" and size_oblivious is False


@pytest.mark.parametrize(
    "question",
    [
        lambda a, b: a > 3,
        lambda a, b: a >= 9,
        lambda a, b: 2 * a < 3 * b,
        lambda a, b: a * b > 4,
        lambda a, b: a != b,
        lambda a, b: a == 7,
        lambda a, b: a + b <= 3,
        lambda a, b: a % 3 == 0,
    ],
)
def test_guards_keep_the_form_of_their_questions(question):
    texts = []
    for m in BOTH:
        env = m.ShapeEnv()
        x = fake(m, env, torch.randn(5, 8))
        bool(question(*x.shape))
        texts.append(env.format_guards())
    assert texts[0] == texts[1]


def test_floats_become_ints_with_a_guard(m, env):
    f = symfloat(m, env, 3.7)
    assert int(f) == 3 and len(env.guards) == 1
    assert math.floor(symfloat(m, m.ShapeEnv(), 3.7)) == 3
    assert math.ceil(symfloat(m, m.ShapeEnv(), 3.2)) == 4
    assert round(symfloat(m, m.ShapeEnv(), 2.5)) == 2
    assert symfloat(m, m.ShapeEnv(), 2.0).is_integer()


def test_zero_one_and_duck_settings(m):
    for specialize in (True, False):
        env = m.ShapeEnv(specialize_zero_one=specialize)
        assert symint(m, env, 5) != 1
        assert len(env.guards) == (0 if specialize else 1)
    for duck in (True, False):
        env = m.ShapeEnv(duck_shape=duck)
        assert symint(m, env, 5) == symint(m, env, 5)
        assert len(env.guards) == (0 if duck else 1)
    env = m.ShapeEnv(duck_shape=True)
    assert symint(m, env, 5) and not env.guards


def test_copies(m, env):
    assert symint(m, env, 2) < 4
    assert len(copy.deepcopy(env).guards) == 1


def test_hashes(m, env):
    with pytest.raises(TypeError, match="unhashable"):
        hash(symint(m, env, 3))
    assert isinstance(hash(symint(m, env, 3).node), int)


def test_nested_ints(m, env):
    j1, j2 = torch._C._get_nested_int(1, 1), torch._C._get_nested_int(1, 2)
    assert m.is_nested_int(j1) and not m.is_nested_int(symint(m, env, 3)) and not m.is_nested_int(3)
    assert not m.is_symbolic(j1) and m.is_symbolic(symint(m, env, 3))
    assert m.free_symbols(j1) == set()
    source = torch._dynamo.source.ConstantSource("ragged")
    ragged = env.create_symintnode(env.create_symbol(j1, source=source), hint=j1)
    assert ragged.node.is_nested_int() and m.is_symbolic(ragged)
    assert type(env.backed_var_to_val[ragged.node.expr]).__name__ == "SingletonInt"
    source = torch._dynamo.source.ConstantSource("other")
    other = env.create_symintnode(env.create_symbol(j2, source=source), hint=j2)
    assert bool(ragged == ragged) and bool(ragged >= 2) and not bool(ragged == other)
    assert (ragged * 4).node.is_nested_int() and m.is_symbolic(ragged * 4)


@pytest.mark.parametrize("first", [-1, 0, 1, 3])
@pytest.mark.parametrize("second", [-2, 0, 2])
def test_every_method_computes_what_python_computes(m, first, second):
    env = m.ShapeEnv()
    seed = (symint(m, env, 2) / 2.0).node
    skipped = m.only_bool_magic_methods | m.only_float_magic_methods | {"sym_ite"}
    for method in m.magic_methods:
        if method in skipped or method.startswith(("sym_a", "sym_c", "sym_s", "sym_t")):
            continue
        python = m.method_to_operator(method)
        args = (first,) if method in m.unary_methods else (first, second)
        if (method, first < 0) == ("float_pow", True) or (
            method == "pow_by_natural" and second < 0
        ):
            continue
        symbolic = [torch.SymInt(m.to_node(seed, a)) for a in args]
        try:
            expected = python(*args)
        except (ZeroDivisionError, ValueError) as error:
            with pytest.raises(type(error)):
                python(*symbolic)
            continue
        assert m.guard_scalar(python(*symbolic)) == expected, method
        if first > 1:
            with_symbol = symint(m, m.ShapeEnv(), first)
            assert m.guard_scalar(python(with_symbol, *args[1:])) == expected, method


@pytest.mark.parametrize("method", ["and", "or", "sym_not"])
def test_methods_of_bools(m, method):
    env = m.ShapeEnv()
    python = m.method_to_operator(method)
    for a, b in itertools.product([True, False], repeat=2):
        x, y = symint(m, env, 2) == (2 if a else 3), symint(m, env, 4) == (4 if b else 5)
        args, plain = ((x,), (a,)) if method == "sym_not" else ((x, y), (a, b))
        assert m.guard_bool(python(*args)) == python(*plain)


def test_tables_of_methods(m):
    for name in (
        "bool_magic_methods", "only_bool_magic_methods", "also_bool_magic_methods", "bitwise_ops",
        "bool_becomes_int_magic_methods", "only_float_magic_methods", "unary_methods",
        "unary_magic_methods", "unary_nonmagic_methods", "always_float_magic_methods",
        "always_int_magic_methods", "always_bool_magic_methods",
    ):  # fmt: skip
        assert getattr(m, name) == getattr(BOTH[0], name), name
    for name in (
        "magic_methods",
        "reflectable_magic_methods",
        "sizes_strides_methods",
        "METHOD_TO_OPERATOR",
    ):
        assert set(getattr(m, name)) == set(getattr(BOTH[0], name)), name


def test_magic_methods_in_sympy(m):
    a, b = sympy.symbols("a b", integer=True, positive=True)
    for method, make in m.reflectable_magic_methods.items():
        if method in ("and", "or"):
            continue
        theirs = BOTH[0].reflectable_magic_methods[method](a, b)
        assert make(a, b) == theirs, method


# -- assertions at run time ------------------------------------------------------------------------


def test_expect_true_replaces(m, env):
    u = env.create_unbacked_symint()
    name = u.node.expr
    assert m.expect_true(u == 0)
    assert env.replacements[name] == 0
    assert bool(u == 0)


def test_expect_true_with_a_size(m, env):
    s, u = symint(m, env, 5), env.create_unbacked_symint()
    assert m.expect_true(u < s)
    assert str([r.expr for r in env.deferred_runtime_asserts[u.node.expr]]) == f"[u0 < {s}]"
    assert u < s and u != s and not (u > s) and not (u >= s)


def test_assertions_stand_with_the_later_symbol(m, env):
    u0, u1 = env.create_unbacked_symint(), env.create_unbacked_symint()
    first, later = u0.node.expr, u1.node.expr
    assert m.expect_true(u0 + u1 <= 10)
    assert first not in env.deferred_runtime_asserts
    assert len(env.deferred_runtime_asserts[later]) == 1
    assert env.num_deferred_runtime_asserts == 1
    assert bool(u0 + u1 <= 10)


def test_many_symbols_sort_by_number(m, env):
    symbols = [env.create_unbacked_symint() for _ in range(12)]
    assert m.expect_true(sum(symbols) <= 20)
    assert list(env.deferred_runtime_asserts) == [symbols[-1].node.expr]


@pytest.mark.parametrize(
    "relation", [lambda x: x > 4, lambda x: torch.sym_not(x <= 4), lambda x: x >= 5]
)
def test_expectations_refine_ranges(m, env, relation):
    u = env.create_unbacked_symint()
    assert m.expect_true(relation(u))
    for bound in (3, 4):
        assert m.statically_known_true(u != bound)
    assert not m.statically_known_true(u != 5)
    assert m.statically_known_true(u > 4) and m.statically_known_true(u >= 5)
    assert env.var_to_range[u.node.expr].lower == 5
    assert m.expect_true(u <= 10)
    assert env.var_to_range[u.node.expr].upper == 10


def test_guards_refine_ranges(m, env):
    s = symint(m, env, 10, duck=False)
    assert bool(s > 4)
    assert m.guard_bool(s < 20)
    assert m.statically_known_true(s != 4) and m.statically_known_true(s != 20)
    assert not m.statically_known_true(s != 12)
    vr = env.var_to_range[s.node.expr]
    assert (vr.lower, vr.upper) == (5, 19)


def test_the_caller_raises_false_expectations(m, env):
    u = env.create_unbacked_symint()
    torch._check(u >= 4)
    assert m.expect_true(u < 2) is False
    with pytest.raises(ValueError):
        torch._check_value(u < 2)
    with pytest.raises(RuntimeError, match="mine"):
        torch._check(u < 2, lambda: "mine")


def test_prefer_deferred_runtime_asserts(m):
    env = m.ShapeEnv(prefer_deferred_runtime_asserts_over_guards=True)
    s = symint(m, env, 10, duck=False)
    assert m.expect_true(s > 4)
    assert not env.guards
    (record,) = env.deferred_runtime_asserts[None]
    assert str(record.expr) in (f"4 < {s}", f"5 <= {s}")


def test_unbacked_substitution(m, env):
    u0, u1 = env.create_unbacked_symint(), env.create_unbacked_symint()
    m._constrain_range_for_size(u0)
    m._constrain_range_for_size(u1)
    assert m.expect_true(u0 == u1 * 4)
    assert str(u0) == "u0"


def test_non_overlapping_and_dense(m, env):
    a = symint(m, env, 5)
    r = torch.empty_strided((a, 7), (1, a), device="meta")
    assert torch.ops.aten.is_non_overlapping_and_dense.default(r)


def test_guard_size_oblivious(m, env):
    u = env.create_unbacked_symint()
    m._constrain_range_for_size(u)
    assert m.guard_size_oblivious(u == 0) is False
    assert m.guard_size_oblivious(u != 1) is True
    with pytest.raises(m.GuardOnDataDependentSymNode):
        bool(u == 0)


def test_guard_or(m, env):
    u = env.create_unbacked_symint()
    assert m.guard_or_false(u > 2) is False and m.guard_or_true(u > 2) is True
    assert m.guard_or_false(True) is True and m.guard_or_true(False) is False
    torch._check(u > 3)
    assert m.guard_or_false(u > 3) is True and m.guard_or_true(u <= 3) is False
    s = symint(m, env, 5)
    assert m.guard_or_false(s > 4) is True and len(env.guards) == 1
