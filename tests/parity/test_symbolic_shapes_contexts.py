"""Symbolic contexts, hints and helpers of environments, as torch's classes treat them."""

import pytest
import sympy
import torch
from both import SYMFX, TORCH, fake, symint
from torch._dynamo.source import ConstantSource
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx as torch_make_fx
from torch.utils._sympy.functions import FloorDiv
from torch.utils._sympy.value_ranges import ValueRanges
from torch_releases import STOCK_KEEPS_TRANSFERRED_SYMBOLS

from symfx.errors import SymfxError
from symfx.proxy_tensor import make_fx as symfx_make_fx

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")
MAKE_FX = {"torch": torch_make_fx, "symfx": symfx_make_fx}


def test_a_stateful_context_gives_the_same_symbols(m, env):
    context = m.StatefulSymbolicContext(
        dynamic_sizes=[m.DimDynamic.DYNAMIC] * 2, tensor_source=ConstantSource("x")
    )
    layouts = [
        env.create_symbolic_sizes_strides_storage_offset(
            torch.ones(3, 4), ConstantSource("x"), symbolic_context=context
        )
        for _ in range(2)
    ]
    assert [[str(n) for n in part] for part in layouts[0][:2]] == [
        [str(n) for n in part] for part in layouts[1][:2]
    ]
    assert "x.size()[0]" in context.shape_env_to_source_to_symbol_cache[id(env)]


def test_kinds_of_dimensions(m, env):
    d = m.DimDynamic
    x = fake(m, env, torch.ones(4, 4, 4, 5), [d.STATIC, d.DUCK, d.DYNAMIC, d.UNBACKED])
    static, duck, dynamic, unbacked = x.shape
    assert static == 4 and isinstance(static, int)
    assert duck.node.expr != dynamic.node.expr
    assert m.free_unbacked_symbols(unbacked) and m.statically_known_true(unbacked >= 0)
    assert unbacked.node.expr in env.unbacked_inputs and unbacked.node.expr in env.size_like
    static_only = fake(m, env, torch.ones(4, 5), [d.STATIC] * 2)
    assert not m.has_symbolic_sizes_strides(static_only)


def test_unbacked_dimensions_with_bounds_and_names(m, env):
    d = m.DimDynamic
    x = fake(
        m,
        env,
        torch.ones(4, 4),
        [d.UNBACKED] * 2,
        shape_ids={0: "n", 1: "n"},
        unbacked_bounds={0: (2, 64)},
    )
    a, b = x.shape
    assert m.statically_known_true(a == b)
    assert m.statically_known_true(a >= 2) and m.statically_known_true(a <= 64)


def test_contexts_are_checked(m):
    d = m.DimDynamic
    with pytest.raises(Exception):
        m.StatelessSymbolicContext([d.DYNAMIC], dynamic_strides=[d.STATIC])
    context = m.StatelessSymbolicContext([d.DYNAMIC, d.STATIC])
    assert (
        context.dynamic_strides == [d.INFER_STRIDE] * 2 and context.constraint_sizes == [None] * 2
    )
    assert context.constraint_strides == [None] * 2 and list(map(list, context.specialize_on)) == [
        [],
        [],
    ]
    with pytest.raises(AttributeError):
        context.dynamic_sizes = []


def test_classes_answer_as_torchs_and_take_torchs():
    d = SYMFX.DimDynamic
    assert d is TORCH.DimDynamic
    made = {
        "SymIntSymbolicContext": {"constraint": None},
        "StatelessSymbolicContext": {"dynamic_sizes": [d.DYNAMIC]},
        "StatefulSymbolicContext": {"dynamic_sizes": [d.DYNAMIC], "tensor_source": ConstantSource("x")},
        "SubclassSymbolicContext": {"dynamic_sizes": [d.DYNAMIC], "tensor_source": ConstantSource("x")},
        "StrictMinMaxConstraint": {"warn_only": False, "vr": ValueRanges(2, 4)},
        "RelaxedUnspecConstraint": {"warn_only": True},
        "EqualityConstraint": {"warn_only": False, "source_pairs": [], "derived_equalities": [], "phantom_symbols": [], "relaxed_sources": set()},
        "TrackedFake": {"fake": None, "source": ConstantSource("x"), "symbolic_context": None},
        "Specialization": {"source": ConstantSource("x"), "check_fn": len},
    }  # fmt: skip
    for name, arguments in made.items():
        ours, theirs = getattr(SYMFX, name), getattr(TORCH, name)
        assert isinstance(ours(**arguments), theirs) and isinstance(theirs(**arguments), ours), name
    context = SYMFX.StatefulSymbolicContext(
        dynamic_sizes=[d.DYNAMIC], tensor_source=ConstantSource("x")
    )
    assert isinstance(context, TORCH.SymbolicContext) and isinstance(
        context, SYMFX.StatelessSymbolicContext
    )
    assert not isinstance(context, SYMFX.SubclassSymbolicContext)
    # symfx's environment takes torch's contexts and constraints.
    env = SYMFX.ShapeEnv()
    theirs = TORCH.StatelessSymbolicContext(
        dynamic_sizes=[d.DYNAMIC],
        constraint_sizes=[TORCH.StrictMinMaxConstraint(warn_only=False, vr=ValueRanges(2, 9))],
    )
    x = FakeTensorMode(shape_env=env).from_tensor(torch.ones(5), symbolic_context=theirs)
    assert SYMFX.statically_known_true(x.shape[0] <= 9)


def test_hint_overrides(m, env):
    sizes, _, _ = env._create_symbolic_sizes_strides_storage_offset(
        (4, 6), (6, 1), 0, [False, False], ConstantSource("x"), hint_overrides={0: 32}
    )
    assert m.guarding_hint_or_throw(sizes[0]) == 32 and m.guarding_hint_or_throw(sizes[1]) == 6
    assert env.var_to_hint_override == {sizes[0].node.expr: 32}


def test_symbols_of_another_environment(m):
    there, here = m.ShapeEnv(), m.ShapeEnv()
    x = fake(m, there, torch.ones(4, 6))
    sizes, strides, offset = here.create_symbolic_sizes_strides_storage_offset(
        x, ConstantSource("y")
    )
    assert [m.guarding_hint_or_throw(n) for n in sizes] == [4, 6]
    assert strides[0].node.expr == sizes[1].node.expr and strides[1] == 1 and offset == 0
    assert all(n.node.shape_env is here for n in sizes)
    u = there.create_unbacked_symint()
    torch._check(u >= 2)
    there.var_to_hint_override[u.node.expr] = 40
    sizes, strides, _ = here.transfer_symbols_from_foreign_shape_env(
        (u, u * 2), (u * 2, 1), 0, ConstantSource("z")
    )
    assert m.free_unbacked_symbols(sizes) == {sizes[0].node.expr}
    assert (
        sizes[1].node.expr == 2 * sizes[0].node.expr and strides[0].node.expr == sizes[1].node.expr
    )
    assert m.optimization_hint(sizes[0], fallback=3) == 40


def test_unbacked_symbols_of_another_environment_stay_what_they_are():
    there, here = SYMFX.ShapeEnv(), SYMFX.ShapeEnv()
    u, v = there.create_unbacked_symint(), there.create_unbacked_symint()
    torch._check(u >= 2)
    torch._check(u <= 50)
    first = here.transfer_symbols_from_foreign_shape_env((u * 2, u), (u, 1), 0, ConstantSource("x"))
    second = here.transfer_symbols_from_foreign_shape_env((3, u), (u, 1), 0, ConstantSource("y"))
    third = here.transfer_symbols_from_foreign_shape_env((v, u + v), (u, 1), v, ConstantSource("z"))
    (doubled, size), (_, same), (other, total) = first[0], second[0], third[0]
    assert doubled.node.expr == 2 * size.node.expr
    assert same.node.expr == size.node.expr != other.node.expr
    assert (
        total.node.expr == size.node.expr + other.node.expr
        and third[2].node.expr == other.node.expr
    )
    # torch transfers the bounds from 2.14 on.
    assert SYMFX.statically_known_true(size >= 2) and SYMFX.statically_known_true(size <= 50)
    assert not SYMFX.statically_known_true(other >= 2) and not here.guards


@pytest.mark.skipif(not STOCK_KEEPS_TRANSFERRED_SYMBOLS, reason="torch 2.13 makes new symbols")
def test_stock_keeps_transferred_symbols_too(m):
    there, here = m.ShapeEnv(), m.ShapeEnv()
    u = there.create_unbacked_symint()
    torch._check(u <= 50)
    sizes = [
        here.transfer_symbols_from_foreign_shape_env(*layout, 0, ConstantSource(name))[0]
        for layout, name in ((((u, 4), (4, 1)), "x"), (((3, u), (u, 1)), "y"))
    ]
    assert sizes[0][0].node.expr == sizes[1][1].node.expr
    assert m.statically_known_true(sizes[1][1] <= 50)


def test_exclusions(m, env):
    context = m.StatefulSymbolicContext(
        dynamic_sizes=[m.DimDynamic.DYNAMIC] * 2,
        tensor_source=ConstantSource("x"),
        excluded_sizes=(8, None),
    )
    sizes, *_ = env.create_symbolic_sizes_strides_storage_offset(
        torch.ones(3, 4), ConstantSource("x"), symbolic_context=context
    )
    assert env.exclusion_constraints == [(sizes[0].node.expr, 8)]


def test_values_that_are_equal_by_expression(m, env):
    s = symint(m, env, 5)
    assert m.SymIntEqByExpr(s + 1) == m.SymIntEqByExpr(s + 1)
    assert len({m.SymIntEqByExpr(s + 1), m.SymIntEqByExpr(1 + s), m.SymIntEqByExpr(3)}) == 2
    assert repr(m.SymIntEqByExpr(3)) == "3" and not env.guards


def test_small_helpers(m):
    a = sympy.Symbol("a", integer=True)
    for expr, expected in ((a, True), (2 * a, True), (a + 1, True), (2 * a + 1, True), (a * a, False),
                           (a + sympy.Symbol("b"), False), (sympy.Integer(3), False), (FloorDiv(a, 2), False)):  # fmt: skip
        assert m._is_supported_equivalence(expr) is expected, expr
    from torch.utils._sympy.functions import ToFloat

    assert m._has_uninterpretable_sympy_function(
        ToFloat(a)
    ) and not m._has_uninterpretable_sympy_function(a)
    assert sorted([(3, 0), (1, 1)], key=m._nested_int_aware_sort) == [(1, 1), (3, 0)]
    assert __file__ not in m.uninteresting_files() and torch.__file__ in m.uninteresting_files()
    assert m._find_user_code_frame().f_code.co_filename == __file__
    assert m.SymExprPrinter().doprint(sympy.Float(2.5) + a) == "2.5 + a"


def test_suggested_checks(m, env):
    u = env.create_unbacked_symint()
    with pytest.raises(m.GuardOnDataDependentSymNode) as caught:
        bool(u > 5)
    m._suggest_fixes_for_data_dependent_error_non_strict(caught.value)
    text = caught.value.args[0]
    assert "torch._check(u " in text and __file__.rsplit("/", 1)[-1] in text


def test_refusals_are_clear():
    env = SYMFX.ShapeEnv()
    for wrong in (
        lambda: SYMFX.ShapeEnv(dance=True),
        lambda: SYMFX.method_to_operator("dance"),
        lambda: SYMFX.SymNode(sympy.Integer(3), None, int, 3),
        lambda: SYMFX.free_symbols(object()),
        lambda: SYMFX.eval_guards(torch.fx.symbolic_trace(torch.nn.Identity()), 3),
        lambda: env.evaluate_guards_expression("__import__('os').getcwd()", []),
        lambda: env.evaluate_guards_expression("L['t0'].data_ptr() == 3", [torch.ones(2)]),
        lambda: env.evaluate_guards_expression("[x for x in L]", []),
        lambda: env.evaluate_symexpr("(lambda: 3)()"),
        lambda: env.create_symbol(-3, ConstantSource("x")),
    ):
        with pytest.raises(SymfxError) as caught:
            wrong()
        assert len(str(caught.value)) > 15
