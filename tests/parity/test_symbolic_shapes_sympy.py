"""The sympy expressions that torch's tools ask for: canonical forms, bounds, simplification."""

import itertools

import pytest
import sympy
import torch
from both import BOTH, SYMFX, TORCH, fake
from torch.fx.experimental.proxy_tensor import make_fx as torch_make_fx
from torch.utils._sympy.functions import FloorDiv, Max, Mod
from torch.utils._sympy.value_ranges import ValueRanges
from torch_releases import STOCK_ANSWERS_EQUATIONS_OF_CONDITIONS, STOCK_HAS_EVALUATE_SYMEXPR

from symfx.proxy_tensor import make_fx as symfx_make_fx

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")
MAKE_FX = {"torch": torch_make_fx, "symfx": symfx_make_fx}


A, B, C = sympy.symbols("a b c", integer=True, positive=True)


@pytest.mark.parametrize("condition", [
    A < B, A <= B, A > B, A >= B + 1, sympy.Eq(2 * A, 4 * B), sympy.Ne(A, B), 2 * A - 4 * B >= 6,
    sympy.Eq(A, 3), A > 3, 3 - A < B, sympy.And(A < B, B < C), sympy.Or(A > B, B >= C),
    sympy.Not(sympy.And(A < B, B < C)), -A - B < -4, sympy.Eq(3 * A - 6, 9 * B), A * B <= 2 * C,
], ids=str)  # fmt: skip
def test_canonical_conditions(condition):
    ours, theirs = (m.canonicalize_bool_expr(condition) for m in BOTH)
    assert ours == theirs
    assert SYMFX.canonicalize_bool_expr(ours) == ours
    for values in itertools.product(range(1, 5), repeat=3):
        at = dict(zip((A, B, C), values))
        assert bool(ours.subs(at)) == bool(condition.subs(at))


def test_an_equation_of_conditions_keeps_its_sides():
    x = sympy.Symbol("x", integer=True)
    condition = sympy.Eq(x > 1, True, evaluate=False)
    ours = SYMFX.canonicalize_bool_expr(condition)
    assert ours == sympy.Eq(sympy.Lt(1, x), True, evaluate=False)
    if STOCK_ANSWERS_EQUATIONS_OF_CONDITIONS:
        assert ours == TORCH.canonicalize_bool_expr(condition)
    else:
        with pytest.raises(TypeError, match="BooleanAtom"):
            TORCH.canonicalize_bool_expr(condition)


def test_only_conditions_have_a_canonical_form(m):
    assert (
        m.canonicalize_bool_expr(A + B) == A + B
        and m.canonicalize_bool_expr(sympy.true) is sympy.true
    )


@pytest.mark.parametrize(
    "condition", [A < B, A <= B, sympy.Eq(A, B), sympy.Ne(A, B), A > B, A >= 2]
)
def test_implications(condition):
    ours, theirs = (dict(m.ShapeEnv().get_implications(condition)) for m in BOTH)
    assert ours == theirs


def env_with_sizes(m):
    env = m.ShapeEnv()
    x = fake(m, env, torch.ones(8, 6, 4))
    u = env.create_unbacked_symint()
    m._constrain_range_for_size(u, min=0, max=100)
    return env, [n.node.expr for n in x.shape] + [u.node.expr]


CONDITIONS = [
    lambda a, b, c, u: a >= 2, lambda a, b, c, u: a >= 3, lambda a, b, c, u: u >= 0,
    lambda a, b, c, u: u <= 100, lambda a, b, c, u: u < 50, lambda a, b, c, u: a * b >= 4,
    lambda a, b, c, u: a + u >= 2, lambda a, b, c, u: sympy.Eq(a * 0, 0),
    lambda a, b, c, u: sympy.Ne(a, 0), lambda a, b, c, u: sympy.Ne(a, 1),
    lambda a, b, c, u: sympy.Eq(Mod(2 * a, 2), 0), lambda a, b, c, u: FloorDiv(a, 2) >= 1,
    lambda a, b, c, u: Max(1, a) >= 2, lambda a, b, c, u: sympy.Eq(a, b),
]  # fmt: skip


def test_static_answers_agree():
    """symfx may know more than torch, and never contradicts it."""
    answers = []
    for m in BOTH:
        env, symbols = env_with_sizes(m)
        answers.append([env._maybe_evaluate_static(c(*symbols)) for c in CONDITIONS])
    for theirs, ours in zip(*answers):
        assert theirs is None or ours == theirs


def test_bounds(m):
    env, (a, b, _, u) = env_with_sizes(m)
    assert env.bound_sympy(a) == ValueRanges(2, env.bound_sympy(a).upper)
    assert (env.bound_sympy(u).lower, env.bound_sympy(u).upper) == (0, 100)
    assert env.bound_sympy(u + 5).lower == 5 and env.bound_sympy(2 * u).upper == 200
    assert env.bound_sympy(a * b).lower == 4
    assert env.bound_sympy(u >= 0).is_singleton()
    assert env.bound_sympy(u, size_oblivious=True).lower == 2


def test_static_evaluation_under_other_ranges(m):
    env, (a, _, _, u) = env_with_sizes(m)
    i = sympy.Symbol("i0", integer=True)
    ranges = ((i, ValueRanges(0, 7)), (a, ValueRanges(8, 64)))
    assert env._maybe_evaluate_static(i < a, axioms=(), var_to_range=ranges) == sympy.true
    assert env._maybe_evaluate_static(i < 5, axioms=(), var_to_range=ranges) is None
    assert (
        env._maybe_evaluate_static(
            i < u, axioms=(i < u,), var_to_range=(*ranges, (u, ValueRanges(0, 9)))
        )
        == sympy.true
    )


def test_axioms(m):
    env, (a, b, _, u) = env_with_sizes(m)
    assert env.get_axioms() == ()
    env.evaluate_expr(a > b)
    env.guard_or_defer_runtime_assert(u < a, "less")
    assert len(env.get_axioms()) == 2
    assert len(env.get_axioms((u,))) == 2 and len(env.get_axioms(())) == 1
    assert sympy.true in env.get_axioms(compute_hint=True)


def test_simplification(m):
    env, (a, b, _, u) = env_with_sizes(m)
    for expr in (a + b, a * (b + 1), FloorDiv(a, 2) * 2, Max(1, a), Mod(a + 2, 2)):
        simple = env.simplify(expr)
        for values in itertools.product(range(2, 6), repeat=2):
            at = dict(zip((a, b), values))
            assert simple.subs(at) == expr.subs(at)
    env.evaluate_expr(sympy.Eq(a, b + 2))
    assert env.replace(a + u) == b + u + 2 or env.replace(a + u) == env.replace(b + 2 + u)


def test_evaluation_in_sympy(m):
    env, (a, b, _, u) = env_with_sizes(m)
    assert env.evaluate_expr(a > b) == sympy.true and len(env.guards) == 1
    assert env.evaluate_expr(a + b) == 14
    with pytest.raises(m.GuardOnDataDependentSymNode):
        env.evaluate_expr(u > 5)
    assert not env.evaluate_expr(u > 5, fallback_value=False)
    assert env.guard_or_defer_runtime_assert(u > 5, "more") is True
    assert env.evaluate_expr(u > 5) == sympy.true


def test_symbols_by_hand(m, env):
    s = sympy.Symbol("s7", positive=True, integer=True)
    env.add_backed_var_to_val(s, 9)
    assert env.backed_var_to_val[s] == 9
    with pytest.raises(Exception):
        env.add_backed_var_to_val(s, 10)
    n = env.create_symintnode(s, hint=9)
    assert m.guarding_hint_or_throw(n) == 9
    assert env.create_symintnode(sympy.Integer(4), hint=4) == 4
    assert isinstance(env.create_symboolnode(s > 4), torch.SymBool)
    if m is not TORCH or STOCK_HAS_EVALUATE_SYMEXPR:
        assert env.evaluate_symexpr("s7 * 2 + 1") == 19
    assert str(env.deserialize_symexpr("s7 * 2")) == "2*s7"


def test_real_values_answer_where_data_decides(m, env):
    u = env.create_unbacked_symint()
    env.set_real_tensor_prop_unbacked_vals(u.node.expr, 7)
    assert bool(u > 5)
    assert sum(map(len, env.deferred_runtime_asserts.values())) == 1


def test_asserts_are_traced_on_request(m):
    env = m.ShapeEnv(trace_asserts=True)
    u = env.create_unbacked_symint()
    # pytest rewrites an assert statement.
    exec(compile("def f(u):\n    assert u > 5", "a_program.py", "exec"), program := {})
    program["f"](u)
    assert len(env.deferred_runtime_asserts[u.node.expr]) == 1
    with pytest.raises(m.GuardOnDataDependentSymNode):
        if u > 9:
            pass
