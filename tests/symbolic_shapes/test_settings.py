"""Each setting of a ShapeEnv has its effect, and its state can be written as torch writes it."""

from types import SimpleNamespace

import pytest
import sympy
import torch
from torch._dynamo.source import ConstantSource, LocalSource
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
)
from torch.utils._sympy.value_ranges import ValueRanges

from symfx.errors import SymfxError
from symfx.symbolic_shapes import (
    ConstraintViolationError,
    DimDynamic,
    GuardOnDataDependentSymNode,
    RuntimeAssert,
    ShapeEnv,
    guard_or_false,
    optimization_hint,
    statically_known_true,
)


def symbols(env, *values, kind=DimDynamic.DUCK):
    made = (env.create_symbol(v, ConstantSource(f"n{i}"), kind) for i, v in enumerate(values))
    return [env.create_symintnode(s, hint=v) for s, v in zip(made, values, strict=True)]


# -- settings ----------------------------------------------------------------------------------


@pytest.mark.parametrize("allowed", [True, False])
def test_allow_scalar_outputs(allowed):
    with FakeTensorMode(shape_env=ShapeEnv(allow_scalar_outputs=allowed)):
        x = torch.ones(())
        if allowed:
            assert isinstance(x.item(), torch.SymFloat)
        else:
            with pytest.raises(DataDependentOutputException):
                x.item()


@pytest.mark.parametrize("allowed", [True, False])
def test_allow_dynamic_output_shape_ops(allowed):
    with FakeTensorMode(shape_env=ShapeEnv(allow_dynamic_output_shape_ops=allowed)):
        x = torch.ones(3)
        if allowed:
            assert str(x.nonzero().shape) == "torch.Size([u0, 1])"
        else:
            with pytest.raises(DynamicOutputShapeException):
                x.nonzero()


def test_assume_static_by_default():
    layouts = [
        ShapeEnv(assume_static_by_default=static)._create_symbolic_sizes_strides_storage_offset(
            (3, 4), (4, 1), 0, [False, True], LocalSource("x")
        )
        for static in (True, False)
    ]
    kinds = [[isinstance(n, torch.SymInt) for n in sizes] for sizes, _, _ in layouts]
    assert kinds == [[False, True], [True, True]]


def test_specialize_zero_one():
    assert symbols(ShapeEnv(), 0, 1) == [0, 1]
    env = ShapeEnv(specialize_zero_one=False)
    zero, one = symbols(env, 0, 1)
    assert isinstance(zero, torch.SymInt) and isinstance(one, torch.SymInt)
    assert env.var_to_range[one.node.expr].lower == 0 and not statically_known_true(one >= 1)


def test_duck_shape():
    for shared in (True, False):
        a, b = symbols(ShapeEnv(duck_shape=shared), 5, 5)
        assert statically_known_true(a == b) == shared


def test_prefer_deferred_runtime_asserts_over_guards():
    for preferred in (True, False):
        env = ShapeEnv(prefer_deferred_runtime_asserts_over_guards=preferred)
        (s,) = symbols(env, 5)
        torch._check(s > 3)
        assert (len(env.guards), len(env.deferred_asserts())) == ((0, 1) if preferred else (1, 0))
        assert statically_known_true(s >= 4)


def test_trace_asserts():
    env = ShapeEnv(trace_asserts=True)
    u = env.create_unbacked_symint()
    exec("assert u == 4", {"u": u})  # pytest rewrites the assert statements of this file
    assert [str(record.expr) for record in env.deferred_asserts()] == ["Eq(u0, 4)"]
    with pytest.raises(GuardOnDataDependentSymNode):
        bool(env.create_unbacked_symint() == 4)  # no assert statement


def test_prover():
    for prover in ("built-in", "z3"):
        env = ShapeEnv(prover=prover, prover_budget_ms=2000)
        u, v = env.create_unbacked_symint(), env.create_unbacked_symint()
        assert statically_known_true(u * u + v * v != 3) == (prover == "z3")
    for wrong in ({"prover": "guess"}, {"prover_budget_ms": 0}):
        with pytest.raises(SymfxError):
            ShapeEnv(**wrong)


def test_there_is_no_other_setting():
    with pytest.raises(TypeError, match="no setting 'duck_shaped'") as caught:
        ShapeEnv(duck_shaped=True)
    assert isinstance(caught.value, SymfxError)


def test_what_logs_say_and_whose_inputs():
    env = ShapeEnv(co_fields={"co_name": "f"}, tracked_fakes=[], should_record_events=True)
    assert env.co_fields == {"co_name": "f"} and env.tracked_fakes == [] and len(env.events) == 1
    assert ShapeEnv().co_fields == {} and ShapeEnv().tracked_fakes is None


# -- state that is written ----------------------------------------------------------------------


def test_ranges_may_be_narrowed():
    env = ShapeEnv()
    u = env.create_unbacked_symint()
    env.var_to_range[u.node.expr] = ValueRanges(3, 10)
    assert statically_known_true(u > 2) and statically_known_true(u <= 10)
    env.var_to_range[u.node.expr] = ValueRanges(0, 100)  # what is known stays known
    assert env.var_to_range[u.node.expr] == ValueRanges(3, 10)
    spec = sympy.Symbol("batch", integer=True)
    env.var_to_range.update({spec: ValueRanges(2, 5)})
    assert env.bound_sympy(spec + 1) == ValueRanges(3, 6)
    with pytest.raises(ConstraintViolationError):
        env.var_to_range[u.node.expr] = SimpleNamespace(lower=5, upper=4)


def test_symbols_may_be_replaced():
    env = ShapeEnv()
    u, v = env.create_unbacked_symint(), env.create_unbacked_symint()
    env.replacements[v.node.expr] = 2 * u.node.expr
    assert str(u + v) == "3*u0" and env.replacements[sympy.Symbol("u1", integer=True)] is not None
    assert statically_known_true(v % 2 == 0)


def test_values_sources_and_stacks_may_be_added():
    env = ShapeEnv()
    s = sympy.Symbol("rows", integer=True, positive=True)
    env.backed_var_to_val[s] = sympy.Integer(6)
    assert env.size_hint(s + 1) == 7
    env.backed_var_to_val[s] = 6
    with pytest.raises(SymfxError, match="has the value 6"):
        env.backed_var_to_val[s] = 7
    env.var_to_sources[s] = [LocalSource("x")]
    env.var_to_sources[s].append(LocalSource("y"))
    assert [source.name for source in env.var_to_sources[s]] == ["L['x']", "L['y']"]
    u = env.create_unbacked_symint()
    env.var_to_stack[u.node.expr] = "here"
    assert env.var_to_stack[u.node.expr] == "here"
    env.var_to_hint_override[u.node.expr] = 33
    assert optimization_hint(u + 1) == 34


def test_assertions_may_be_added():
    env = ShapeEnv()
    u = env.create_unbacked_symint()
    key = u.node.expr
    records = env.deferred_runtime_asserts.setdefault(key, [])
    records.append(RuntimeAssert(expr=key > 3, msg="few", stack=None))
    env.num_deferred_runtime_asserts += 1
    assert guard_or_false(u >= 4) and env.num_deferred_runtime_asserts == 1
    assert [(str(r.expr), r.msg) for r in env.deferred_runtime_asserts[key]] == [("3 < u0", "few")]
    with pytest.raises(SymfxError, match="cannot hold"):
        env.deferred_runtime_asserts[key].append(RuntimeAssert(key < 2, "none", None))


def test_nothing_is_forgotten():
    env = ShapeEnv()
    u = env.create_unbacked_symint()
    for change in (
        lambda: env.var_to_range.pop(u.node.expr),
        lambda: env.replacements.clear(),
        lambda: env.var_to_range_sloc.update({u.node.expr: None}),
    ):
        with pytest.raises(SymfxError, match="cannot be changed in this way"):
            change()
    assert type(env.var_to_range.copy()) is dict
