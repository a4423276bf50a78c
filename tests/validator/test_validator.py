"""symfx.validator against torch's: the same z3 expressions, texts and verdicts."""

from __future__ import annotations

import itertools
import operator
from typing import Any

import pytest
import sympy
import torch
import torch.fx.experimental.validator as stock
import z3
from torch import fx
from torch._dynamo.source import ConstantSource
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._sympy import functions as f
from torch.utils._sympy.functions import BitwiseFn_bitwise_and, BitwiseFn_bitwise_or, Max, Min

import symfx.validator as ours
from symfx import config
from symfx.errors import SymfxError
from symfx.symbolic_shapes import DimDynamic, ShapeEnv, StatelessSymbolicContext, TrackedFake

S0, S1, S2 = sympy.symbols("s0 s1 s2", integer=True)
X = sympy.Symbol("x", real=True)

ALIKE = [
    sympy.S.Zero, sympy.S.NegativeOne, sympy.Integer(2), sympy.Float(0.5), sympy.true, S0,
    S0 + S1, S0 * S1, S0 - S1, S0**S1, S0 / S1, 2 * X + 0.5, f.PowByNatural(S0, sympy.Integer(3)),
    sympy.Eq(S0, S1), sympy.Ne(S0, S1), S0 < S1, S0 <= S1, S0 > 3, S0 >= 3 * S1,
    f.FloorDiv(S0, S1), f.CleanDiv(S0, S1), f.Mod(S1, S2), f.Mod(S2, -S0), f.PythonMod(S0, S1),
    f.IntTrueDiv(S0, S1), f.FloatTrueDiv(X, X + 1), f.ToFloat(S0), f.FloorToInt(X),
    Max(S0, S1), Min(S0, S1, S2), sympy.And(S0 < S1, S1 < S2), sympy.Or(S0 < S1, S1 < S2),
    f.LShift(S0, S1), f.RShift(S0, S1),
]  # fmt: skip

#: Operations that torch translates as no Python does, or not at all, and Python's own.
PYTHON: dict[sympy.Basic, Any] = {
    f.TruncToInt(X): lambda v: int(v["x"]),
    f.CeilToInt(X): lambda v: -int(-v["x"] // 1),
    f.RoundToInt(X): lambda v: round(v["x"]),
    BitwiseFn_bitwise_and(S0, S1): lambda v: v["s0"] & v["s1"],
    BitwiseFn_bitwise_or(S0, S1): lambda v: v["s0"] | v["s1"],
    f.Where(S0 < S1, S0, S2): lambda v: v["s0"] if v["s0"] < v["s1"] else v["s2"],
    f.ModularIndexing(S0, S2, 3): lambda v: v["s0"] // v["s2"] % 3,
    sympy.Abs(S0): lambda v: abs(v["s0"]),
    f.FloorDiv(S0, S2): lambda v: v["s0"] // v["s2"],
    f.PythonMod(S0, S2): lambda v: v["s0"] % v["s2"],
}


def validator(module: Any) -> Any:
    made = module.TranslationValidator()
    for symbol in (S0, S1, S2):
        made.add_var(symbol, int)
    made.add_var(X, float)
    return made


@pytest.mark.parametrize("expr", ALIKE, ids=str)
def test_expressions_are_torchs(expr: sympy.Basic) -> None:
    theirs, mine = validator(stock), validator(ours)
    expected = stock.SympyToZ3(theirs).run(expr)
    found = ours.SympyToZ3(mine).run(expr)
    assert found.eq(expected)
    assert ours.z3str(found) == stock.z3str(expected)
    # What the operation needs, such as a divisor that is not 0.
    assert set(map(str, mine._assertions)) == set(map(str, theirs._assertions))


@pytest.mark.parametrize("expr", PYTHON, ids=str)
def test_values_are_pythons(expr: sympy.Basic) -> None:
    mine = validator(ours)
    translated = ours.SympyToZ3(mine).run(expr)
    numbers = itertools.product((-7, -1, 0, 6), (-2, 5), (-3, 2), (-2.5, -0.25, 0.0, 0.5, 1.5, 2.0))
    for s0, s1, s2, x in numbers:
        values = {"s0": s0, "s1": s1, "s2": s2, "x": x}
        put = [(mine.symbols[s], z3.RealVal(x) if s is X else z3.IntVal(values[s.name]))
               for s in mine.symbols]  # fmt: skip
        assert z3.simplify(z3.substitute(translated, *put)).as_long() == PYTHON[expr](values), (
            values
        )


def test_the_texts_are_torchs() -> None:
    a, b, c = z3.Ints("a b c")
    x, p = z3.Real("x"), z3.Bool("p")
    for e in (
        a, z3.IntVal(3), z3.RealVal(0.5), a + b + c, a * (b * c), a != b, a < b, z3.Not(p),
        z3.ToInt(z3.ToReal(a) / z3.ToReal(b)) > 3 + b, z3.ToReal(a) + x, a**b, z3.If(p, a, b),
        z3.And(p, a == 3), z3.Distinct(a, b, c), -a,
    ):  # fmt: skip
        assert ours.z3str(e) == stock.z3str(e)


FUNCTIONS = [
    (operator.add, 2), (operator.floordiv, 2), (operator.mod, 2), (operator.truediv, 2),
    (operator.eq, 2), (operator.neg, 1), (torch.sym_max, 2), (torch.sym_min, 2),
    (torch.sym_float, 1),
]  # fmt: skip


@pytest.mark.parametrize("function, arity", FUNCTIONS)
def test_functions_of_graphs_are_torchs(function: Any, arity: int) -> None:
    a, b = z3.Ints("a b")
    args = (a, b)[:arity]
    expected = stock.z3op(function, stock.TranslationValidator())(*args)
    assert ours.z3op(function, ours.TranslationValidator())(*args).eq(expected)


def test_functions_take_plain_numbers() -> None:
    a, lift = z3.Int("a"), ours.TranslationValidator()
    assert str(ours.z3op(operator.add, lift)(a, 2)) == "a + 2"
    assert z3.is_true(z3.simplify(ours.z3op(operator.not_, lift)(0)))
    assert str(ours.z3op(torch.sym_sum, lift)([a, a, 1])) == "a + a + 1"
    assert ours.z3op(torch._assert, lift) is torch._assert
    with pytest.raises(SymfxError, match="no number for 'n'"):
        ours.z3op(operator.add, lift)(a, "n")


@pytest.mark.parametrize(
    "module, error", [(stock, stock.ValidationException), (ours, ours.ValidationException)]
)
def test_verdicts(module: Any, error: type[Exception]) -> None:
    mine = validator(module)
    n, m = mine.symbols[S0], mine.symbols[S1]
    mine.validate()  # nothing to prove
    mine.add_target_expr(sympy.And(S0 > 5, sympy.Eq(S1, S0 * 2)))
    mine.add_source_expr(n > 3)
    mine.add_source_expr(m >= 12)
    mine.validate()
    mine.add_source_expr(n > 9)
    with pytest.raises(error):
        mine.validate()
    mine.add_assertion(n > 100)
    mine.validate()


def test_a_failure_names_values_and_conditions() -> None:
    mine = validator(ours)
    mine.add_target_expr(S0 > 5)
    mine.add_source_expr(mine.symbols[S0] > 6)
    with pytest.raises(ours.ValidationException, match="let in inputs") as caught:
        mine.validate()
    assert caught.value.model == {"s0": "6"}
    assert caught.value.failed == ["(> s0 6)"]


def test_positive_symbols_are_positive() -> None:
    for module in (stock, ours):
        mine = module.TranslationValidator()
        size = sympy.Symbol("size", integer=True, positive=True)
        n = mine.add_var(size, int)
        mine.add_source_expr(n >= 1)
        mine.validate()


def populated(module: Any) -> Any:
    graph = fx.Graph()
    node = graph.placeholder("n")
    node.meta["symbol"] = S0
    half = graph.call_function(operator.floordiv, (node, 2))
    graph.call_function(torch._assert, (graph.call_function(operator.gt, (half, 1)),))
    graph.output(None)
    made = validator(module)
    with fx.traceback.preserve_node_meta():
        module.PopulateValidator(graph, made).run()
    return made


def test_a_graph_of_numbers_is_a_source() -> None:
    assert {str(e) for e in populated(ours)._source_exprs} == {
        str(e) for e in populated(stock)._source_exprs
    }


def test_mistakes() -> None:
    mine = ours.TranslationValidator()
    with pytest.raises(SymfxError, match=r"s0 has no variable in z3(.|\n)*add_var"):
        mine.add_target_expr(S0 > 3)
    with pytest.raises(SymfxError, match="no variables of type <class 'str'>"):
        mine.add_var(S0, str)
    mine.add_var(S0, int)
    with pytest.raises(SymfxError, match="is no condition"):
        mine.add_target_expr(S0 + 1)
    with pytest.raises(SymfxError, match="no counterpart in z3"):
        ours.SympyToZ3(mine).run(f.OpaqueUnaryFn_cos(S0))
    with pytest.raises(SymfxError, match="no expression of z3"):
        ours.z3str("n")
    with pytest.raises(SymfxError, match="does not validate"):
        ours.bisect(ShapeEnv())


def test_the_switches() -> None:
    assert ours.translation_validation_enabled() is config.translation_validation
    with config.patch(translation_validation=True, translation_validation_timeout=7):
        assert ours.translation_validation_enabled()
        assert ours.translation_validation_timeout() == 7


def environment(size: int) -> tuple[ShapeEnv, Any]:
    """An environment that validates, and the size of its one input."""
    inputs: list[TrackedFake] = []
    with config.patch(translation_validation=True):
        env = ShapeEnv(tracked_fakes=inputs)
    source = ConstantSource("x")
    mode = FakeTensorMode(shape_env=env)
    context = StatelessSymbolicContext([DimDynamic.DYNAMIC])
    fake = mode.from_tensor(torch.ones(size), source=source, symbolic_context=context)
    inputs.append(TrackedFake(fake, source, context))
    return env, fake.shape[0]


def test_a_sound_environment_passes() -> None:
    env, n = environment(8)
    assert n % 4 == 0
    ours.bisect(env)


def test_the_first_wrong_claim_is_named() -> None:
    env, n = environment(8)
    assert n % 4 == 0
    env.validator.rely((n >= 2).node.term, True)  # implied: 0 and 1 are no dynamic sizes
    env.validator.rely((n >= 7).node.term, True)
    env.validator.rely((n >= 8).node.term, True)
    with pytest.raises(ours.BisectValidationException, match="report it") as caught:
        ours.bisect(env)
    assert ">= 7" in caught.value.claim
    assert isinstance(caught.value, ours.ValidationException)


def test_checks_are_made_from_a_list_of_inputs() -> None:
    with config.patch(translation_validation=True):
        env = ShapeEnv()
    with pytest.raises(SymfxError, match="keeps no list of its inputs"):
        ours.bisect(env)
