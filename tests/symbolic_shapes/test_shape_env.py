"""ShapeEnv: symbols, hints, duck sizing, specialization, guards, unbacked symbols, errors."""

import copy
import pickle
import threading

import pytest
import sympy
import torch
from torch._dynamo.source import ConstantSource
from torch._subclasses.fake_tensor import FakeTensorMode

from symfx.errors import SpecError, SymfxError
from symfx.symbolic_shapes import (
    ConstraintViolationError,
    Dim,
    DimDynamic,
    GuardOnDataDependentSymNode,
    ShapeEnv,
    StatelessSymbolicContext,
    constrain_range,
    guard_or_false,
    guard_or_true,
    has_hint,
    hint_int,
    statically_known_false,
    statically_known_true,
)
from symfx.torch_bridge.identity import TorchGuardOnDataDependentSymNode


def texts(env):
    return [str(g.term) for g in env.guards]


def test_sizes_that_are_equal_share_a_symbol(env, fake):
    x, y = fake(3, 5), fake(5, 7)
    assert x.shape[1].node.term is y.shape[0].node.term
    assert x.shape[0].node.term is not x.shape[1].node.term
    (first, second, third) = env.symbol_table()
    assert (first.hint, second.hint, third.hint) == (3, 5, 7)
    assert len(second.sources) == 2


def test_duck_sizing_can_be_turned_off():
    env = ShapeEnv(duck_shape=False)
    x = FakeTensorMode(shape_env=env).from_tensor(torch.zeros(5, 5))
    assert x.shape[0].node.term is not x.shape[1].node.term


def test_sizes_zero_and_one_are_constants(fake):
    x = fake(0, 1, 4)
    assert type(x.shape[0]) is int and type(x.shape[1]) is int
    assert not isinstance(x.shape[2], int)


def test_zero_and_one_can_stay_symbolic():
    env = ShapeEnv(specialize_zero_one=False)
    x = FakeTensorMode(shape_env=env).from_tensor(torch.zeros(1, 3, 4))
    assert all(isinstance(n, torch.SymInt) for n in x.shape)
    assert not statically_known_true(x.shape[1] >= 2)


def test_a_backed_size_is_at_least_two_without_a_guard(env, fake):
    n = fake(3, 5).shape[0]
    assert n >= 2 and n != 0 and n != 1 and n + 1 > 2
    assert env.guards == []


def test_a_guard_knows_its_line(env, fake):
    n = fake(3, 5).shape[0]
    taken = n * 2 > 4  # the line to find
    assert bool(taken)
    (guard,) = env.guards
    assert str(guard.term) == f"{n} >= 3"
    assert guard.provenance.frame.filename == __file__
    assert guard.provenance.frame.function.startswith("test_a_guard_knows_its_line")
    assert "taken" in guard.provenance.frame.line or "assert" in guard.provenance.frame.line
    assert isinstance(guard.expr, sympy.Basic)


def test_the_same_question_guards_once(env, fake):
    n, m = fake(3, 5).shape
    for _ in range(3):
        assert n < m
    assert m > n and not (n >= m)
    assert len(env.guards) == 1


def test_equal_sizes_are_replaced(env, fake):
    a, b = fake(torch.zeros(4, 6)).shape
    name = str(b)
    assert a + 2 == b
    assert texts(env) == [f"{name} == {a} + 2"]
    assert str(b) == f"{a} + 2"
    c = fake(8, 9).shape
    d = ShapeEnv(duck_shape=False)
    x = FakeTensorMode(shape_env=d).from_tensor(torch.zeros(4, 4))
    assert x.shape[0] == x.shape[1]
    assert d.epoch == 1
    assert x.shape[0].node.term is x.shape[1].node.term
    assert bool(c[0] < c[1])


def test_a_specialised_size_says_where(env, fake):
    n = fake(3, 5).shape[0]
    assert int(n) == 3
    (record,) = env.specialization_records()
    assert (record.symbol_name, record.value) == ("s26", 3)
    assert record.provenance.frame.filename == __file__
    assert n.node.maybe_as_int() == 3


def test_suppressed_guards_leave_no_trace(env, fake):
    n, m = fake(3, 5).shape
    with env.suppress_guards():
        assert n < m
    assert env.guards == []
    assert env.prover.decide(n.node.term < m.node.term) is None


def test_a_frozen_environment_answers_with_a_warning(env, fake, caplog):
    n, m = fake(3, 5).shape
    env.freeze()
    assert n >= 2 and "never checked" not in caplog.text
    assert n < m
    assert env.guards == []
    (ignored,) = env.ignored_guards
    assert ignored.expr == sympy.Lt(n.node.expr, m.node.expr)
    assert "never checked" in caplog.text and f"{m} > {n}" in caplog.text


def test_where_no_guards_may_be_added_a_question_is_an_error(env, fake):
    n, m = fake(3, 5).shape
    with env.error_on_new_guards():
        assert n >= 2
        with pytest.raises(SymfxError, match=f"{m} > {n} needs a guard"):
            bool(n < m)
    assert n < m and len(env.guards) == 1


def test_unbacked_sizes_come_from_data(env, fake):
    with fake.mode:
        n = torch.nonzero(fake(3, 5)).shape[0]
        value = fake(3, 5).sum().item()
    assert isinstance(value, torch.SymFloat)
    assert not has_hint(n)
    assert statically_known_true(n >= 0)
    assert guard_or_false(n > 3) is False
    assert guard_or_true(n > 3) is True
    assert env.guards == []


def test_a_data_dependent_error_says_what_to_do(env, fake):
    with fake.mode:
        count = torch.nonzero(fake(3, 5)).shape[0]
    with pytest.raises(GuardOnDataDependentSymNode) as caught:
        if count > 3:
            pass
    message = str(caught.value)
    assert "count >= 4" in message and "count (u0) is made by aten.nonzero" in message
    assert "torch._check" in message
    assert "test_shape_env.py" in message
    assert isinstance(caught.value, TorchGuardOnDataDependentSymNode)
    assert isinstance(caught.value, SymfxError)
    assert isinstance(caught.value.cond, sympy.Basic)


def test_the_suggested_check_resolves_the_error(env, fake):
    with fake.mode:
        count = torch.nonzero(fake(3, 5)).shape[0]
    torch._check(count >= 4)
    assert count > 3
    assert [str(a.term) for a in env.deferred_asserts()] == ["u0 >= 4"]
    assert env.guards == []


def test_a_false_check_is_an_error(env):
    u = env.create_unbacked_symint()
    torch._check(u >= 4)
    with pytest.raises(RuntimeError, match="never below"):
        torch._check(u < 2, lambda: "never below")
    with pytest.raises(ValueError):
        torch._check_value(u < 2)


@pytest.mark.parametrize(("low", "high"), [(6, 9), (None, 1), (6, None), (3, 2)])
def test_ranges_without_a_common_value_are_refused(env, low, high):
    u = env.create_unbacked_symint()
    constrain_range(u, min=2, max=5)
    with pytest.raises(ConstraintViolationError, match=r"cannot be|no int is at least"):
        constrain_range(u, min=low, max=high)
    constrain_range(u, min=5, max=9)
    assert u == 5


def test_an_unbacked_equality_replaces(env, fake):
    n = fake(3, 5).shape[0]
    u = env.create_unbacked_symint()
    torch._check(u == n * 2)
    assert u.node.term is (n * 2).node.term
    assert u == 2 * n
    assert env.guards == []


def test_a_size_never_comes_to_depend_on_data(env, fake):
    n = fake(3, 5).shape[0]
    u = env.create_unbacked_symint()
    torch._check(n == u)
    assert n.node.term.name == "s26"
    assert u.node.term is n.node.term


def test_transitive_orders_need_no_guard(env):
    a, b, c = (env.create_unbacked_symint() for _ in range(3))
    torch._check(a < b)
    torch._check(b < c)
    assert a + 1 < c
    assert statically_known_true(a < c) and statically_known_false(c <= a)


def test_size_oblivious_answers_skip_zero_and_one(env, fake):
    with fake.mode:
        u = torch.nonzero(fake(3, 5)).shape[0]
    assert (u == 1).node.guard_size_oblivious("", 0) is False
    assert statically_known_true(u != 1) is False  # nothing was learned


def test_symbools_are_zero_or_one(env):
    flag = env.create_unbacked_symbool()
    assert flag.node.is_bool()
    assert statically_known_true(flag | torch.sym_not(flag))


def test_named_dimensions(env):
    mode = FakeTensorMode(shape_env=env)
    env.name_dimension("x", 0, Dim("batch", max=64))
    env.name_dimension("y", 1, Dim("batch", max=64))
    context = StatelessSymbolicContext([DimDynamic.DYNAMIC, DimDynamic.STATIC])
    other = StatelessSymbolicContext([DimDynamic.STATIC, DimDynamic.DYNAMIC])
    x = mode.from_tensor(torch.zeros(6, 4), source=ConstantSource("x"), symbolic_context=context)
    y = mode.from_tensor(torch.zeros(4, 6), source=ConstantSource("y"), symbolic_context=other)
    assert str(x.shape[0]) == "batch" and x.shape[1] == 4
    assert x.shape[0].node.term is y.shape[1].node.term
    (info,) = env.symbol_table()
    assert (info.name, info.lower, info.upper) == ("batch", 2, 64)
    assert x.shape[0] < 65 and env.guards == []
    facts = {f.source: (f.kind, str(f.term)) for f in env.input_facts()}
    assert facts["x.size()[0]"] == ("symbol", "batch")
    assert facts["x.size()[1]"] == ("static", "4")


def test_a_dimension_that_disagrees_is_refused(env):
    mode = FakeTensorMode(shape_env=env)
    env.name_dimension("x", 0, Dim("n"))
    env.name_dimension("x", 1, Dim("n"))
    context = StatelessSymbolicContext([DimDynamic.DYNAMIC] * 2)
    with pytest.raises(ConstraintViolationError, match="dimension n is 6 elsewhere"):
        mode.from_tensor(torch.zeros(6, 4), source=ConstantSource("x"), symbolic_context=context)


def test_an_example_outside_the_range_is_refused(env):
    env.name_dimension("x", 0, Dim("n", min=8))
    context = StatelessSymbolicContext([DimDynamic.DYNAMIC])
    with pytest.raises(ConstraintViolationError, match="admits"):
        FakeTensorMode(shape_env=env).from_tensor(
            torch.zeros(6), source=ConstantSource("x"), symbolic_context=context
        )


@pytest.mark.parametrize("arguments", [("2x",), ("n", 5, 3), ("n", -1), ("n", None, 1)], ids=str)
def test_bad_dims(arguments):
    with pytest.raises(SpecError):
        Dim(*arguments)


@pytest.mark.parametrize("name", ["units", "zeta", "i", "u0", "s0", "p"])
def test_no_name_of_a_dimension_misleads_torch(name):
    from torch.fx.experimental.symbolic_shapes import free_unbacked_symbols

    env = ShapeEnv()
    env.name_dimension("x", 0, Dim(name))
    context = StatelessSymbolicContext([DimDynamic.DYNAMIC, DimDynamic.DUCK])
    x = FakeTensorMode(shape_env=env).from_tensor(
        torch.zeros(6, 4), source=ConstantSource("x"), symbolic_context=context
    )
    u = env.create_unbacked_symint()
    assert free_unbacked_symbols(x.shape[0]) == set()
    assert len(free_unbacked_symbols(u)) == 1
    assert len({str(s) for s in (*x.shape, u)}) == 3


def test_strides_follow_sizes(fake):
    x = fake(torch.zeros(3, 5, 7))
    _, m, n = x.shape
    assert [s.node.expr for s in x.stride()[:2]] == [m.node.expr * n.node.expr, n.node.expr]
    assert x.stride()[2] == 1
    t = fake(torch.zeros(4, 6).t())
    assert str(t.stride()[1]) == str(t.shape[0])
    c = fake(torch.zeros(4, 6, 8, 10).to(memory_format=torch.channels_last))
    assert c.is_contiguous(memory_format=torch.channels_last)


def test_an_expanded_dimension_keeps_stride_zero(fake):
    x = fake(torch.zeros(1, 5).expand(3, 5))
    assert x.stride()[0] == 0


def test_storage_offsets(env, fake):
    x = fake(torch.zeros(10)[3:])
    assert hint_int(x.storage_offset()) == 3


def test_mixing_environments_is_refused(env, fake):
    other = FakeTensorMode(shape_env=ShapeEnv()).from_tensor(torch.zeros(3, 5))
    with pytest.raises(SymfxError, match="another ShapeEnv"):
        fake(3, 5).shape[0] + other.shape[1]


def test_torchs_own_symbols_are_refused(env, fake):
    from torch.fx.experimental.symbolic_shapes import ShapeEnv as TorchShapeEnv

    other = FakeTensorMode(shape_env=TorchShapeEnv()).from_tensor(torch.zeros(3, 5))
    with pytest.raises(SymfxError):
        fake(3, 5).shape[0] + other.shape[1]


def test_copies_and_pickles(fake):
    n = fake(3, 5).shape[0]
    assert copy.deepcopy(n).node is n.node
    assert pickle.loads(pickle.dumps(n.node)) == 3


def test_threads_have_environments_of_their_own():
    problems = []

    def work(seed):
        try:
            env = ShapeEnv()
            x = FakeTensorMode(shape_env=env).from_tensor(torch.zeros(3 + seed, 20))
            for _ in range(50):
                assert x.shape[0] * 2 < x.shape[1] * 3
            assert len(env.guards) == 1
        except BaseException as error:  # noqa: BLE001 (handed to the main thread)
            problems.append(error)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert problems == []


def test_guards_that_leave_one_value_pin_symbols(env, fake, caplog):
    # 191833, 122307
    u, v = env.create_unbacked_symint(), env.create_unbacked_symint()
    torch._check(u <= v)
    torch._check(u >= v)
    torch._check(u + v == 10)
    assert bool(u == 5) and bool(v == 5)
    assert {(s.symbol_name, s.value) for s in env.specialization_records()} == {
        ("u0", 5),
        ("u1", 5),
    }
    with caplog.at_level("INFO", logger="symfx.symbolic_shapes"):
        env.freeze()
    assert "u0 is always 5" in caplog.text and "u1 is always 5" in caplog.text


def test_an_environment_proves(env):
    u, v = env.create_unbacked_symint(), env.create_unbacked_symint()
    torch._check(u >= 4)
    torch._check(v > u)
    proof = env.proof(v >= 5)
    assert proof.holds and len(proof.facts) == 2
    assert env.proof(v >= 6).holds is None


def test_fixes_offered_for_data_dependence_resolve_it(fake, env):
    def program(x, fix):
        n = (x > 0).sum().item()
        torch._check(n >= 0)
        if fix:
            eval(fix, {"torch": torch}, {"n": n, "x": x})
        return 1 if n % 4 == 0 else 2

    with fake.mode:
        with pytest.raises(GuardOnDataDependentSymNode) as caught:
            program(fake(6, 5), None)
        message = str(caught.value)
        assert "True for n = 0" in message and "False for n = 1" in message
        fixes = [f.strip(" ,;") for f in message.split("torch._check")[1:]]
        fixes = ["torch._check" + f[: f.index(")") + 1] for f in fixes]
        assert len(fixes) == 2
        assert {program(fake(6, 5), f) for f in fixes} == {1, 2}


def test_a_scoped_condition_leaves_nothing_behind(env, fake):
    rows, columns = fake(16, 5).shape
    u = env.create_unbacked_symint()
    source = env.var_to_sources[rows.node.expr][0]
    facts, prover, version = env.facts, env.prover, env.facts.version
    with env.patch_source_specialization(source, lambda n: n == 16):
        assert env.facts is facts and env.prover is prover
        assert statically_known_true(rows * 2 == 32)
        assert not statically_known_true(rows > columns)
        torch._check(u >= rows)
        assert statically_known_true(u >= 16)
    assert not statically_known_true(rows == 16) and not statically_known_true(u >= 16)
    assert env.specialization_records() == [] and not env.replacements
    assert not env.replacements_slocs and env.guards == [] and not env.frozen
    # A cache of answers by version must not find those of inside.
    assert env.facts.version > version


def test_a_scoped_condition_may_fail_at_tracing(env, fake):
    rows = fake(16, 5).shape[0]
    source = env.var_to_sources[rows.node.expr][0]
    with env.patch_source_specialization(source, lambda n: n >= 32):
        assert statically_known_true(rows >= 30)
    assert not statically_known_true(rows >= 30)
    assert bool(rows < 30) and len(env.guards) == 1


def test_a_subclass_may_ask_in_its_own_way():
    class Counting(ShapeEnv):
        asked_for = 0

        def evaluate_term(self, term, **how):
            self.asked_for += 1
            return super().evaluate_term(term, **how)

    env = Counting()
    u = env.create_unbacked_symint()
    torch._check(u >= 4)
    assert bool(u > 3) and env.asked_for == 1
