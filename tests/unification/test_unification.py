"""unify and reify as stock has them, where stock answers; and where it gives up or overflows."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import pytest
import torch.fx.experimental.unification as stock

from symfx.errors import ExpressionError
from symfx.unification import Var, isvar, reify, unifiable, unify, variables, vars

DEPTH = 10_000

# Each takes the maker of variables, so that both libraries get their own.
PAIRS = {
    "equal": lambda V: (1, 1),
    "variable": lambda V: (V("x"), 3),
    "variable on the right": lambda V: (3, V("x")),
    "tuples": lambda V: ((1, V("x"), (V("y"), 2)), (1, 5, (6, 2))),
    "lengths": lambda V: ((1, 2), (1,)),
    "contradiction": lambda V: ((V("x"), V("x")), ((1,), (1, 2))),
    "two variables": lambda V: ((V("x"), V("y"), V("x")), (V("y"), 3, 3)),
    "list and tuple": lambda V: ([1, V("x")], (1, 2)),
    "slices": lambda V: (slice(V("x"), 4), slice(2, 4, None)),
    "unhashable": lambda V: (V("x"), [1, 2]),
    "same variable": lambda V: (V("x"), V("x")),
    "chain": lambda V: ((V("a"), V("b"), V("c")), (V("b"), V("c"), 7)),
}


def texts(solution: Any) -> Any:
    return {str(k): str(v) for k, v in solution.items()} if solution is not False else False


@pytest.mark.parametrize("name", PAIRS)
def test_unify_as_stock(name: str) -> None:
    ours, theirs = PAIRS[name](Var), PAIRS[name](stock.Var)
    assert texts(unify(*ours, {})) == texts(stock.unify(*theirs, {}))
    assert texts(unify(*ours)) == texts(stock.unify(*theirs))


@pytest.mark.parametrize("name", PAIRS)
def test_a_solution_makes_terms_equal(name: str) -> None:
    u, v = PAIRS[name](Var)
    solution = unify(u, v, {})
    if solution is not False:
        assert repr(reify(u, solution)).replace("[", "(").replace("]", ")") == repr(
            reify(v, solution)
        ).replace("[", "(").replace("]", ")")


@pytest.mark.parametrize(
    "make",
    [
        lambda V: (V("x"), [V("y"), {"k": V("x")}], slice(V("x"), None)),
        lambda V: {1: V("x"), 3: (V("y"), 5)},
        lambda V: V("unknown"),
        lambda V: 7,
    ],
)
def test_reify_as_stock(make: Any) -> None:
    ours = reify(make(Var), {Var("x"): 2, Var("y"): (Var("x"), 3)})
    theirs = stock.reify(make(stock.Var), {stock.Var("x"): 2, stock.Var("y"): (stock.Var("x"), 3)})
    assert str(ours) == str(theirs)


def test_where_stock_has_no_rule() -> None:
    x = Var("x")
    assert unify(1, 2, {}) is False
    assert unify({"a": x, "b": 1}, {"b": 1, "a": 2}, {}) == {x: 2}
    assert unify({"a": x}, {"b": 1}, {}) is False
    assert unify({"a": x}, {"a": 1, "b": 1}, {}) is False
    assert unify(iter((x, 2)), iter((1, 2)), {}) == {x: 1}
    assert reify({x, 2}, {x: 5}) == {5, 2} and reify(frozenset({x}), {x: 5}) == {5}
    assert type(reify(OrderedDict(a=x), {x: 5})) is OrderedDict


def nested(inner: Any, kind: Any) -> Any:
    for _ in range(DEPTH):
        inner = kind(inner)
    return inner


@pytest.mark.parametrize(
    "kind", [lambda t: (t,), lambda t: [t], lambda t: {"k": t}], ids=["tuple", "list", "dict"]
)
def test_ten_thousand_levels(kind: Any) -> None:
    x = Var("x")
    deep, ground = nested(x, kind), nested(5, kind)
    assert unify(deep, ground, {}) == {x: 5}
    assert unify(nested(6, kind), ground, {}) is False
    level = reify(deep, {x: 5})
    for _ in range(DEPTH):
        level = level["k"] if isinstance(level, dict) else level[0]
    assert level == 5


def test_a_deep_value_of_a_variable_is_compared_part_by_part() -> None:
    x, whole = Var("x"), Var("whole")
    found = unify((whole, whole), (nested(5, lambda t: (t,)), nested(x, lambda t: (t,))), {})
    assert found is not False
    assert found[x] == 5


def test_arguments_stay_as_they_were() -> None:
    x = Var("x")
    known: dict[Any, Any] = {}
    unify(x, 1, known)
    assert known == {}


def test_variables() -> None:
    assert isvar(Var("x")) and not isvar("x")
    assert Var("x") == Var("x") and Var("x") != Var("y") and str(Var("x")) == "~x"
    assert len(set(vars(3))) == 3
    with variables("n"):
        assert unify(("n", 1), (4, 1)) == {"n": 4}
    assert unify(("n", 1), (4, 1)) is False


def test_declared_variables_as_stock() -> None:
    """What `variables` declares is replaced in terms, and is walked to its value afterwards too."""
    with variables(10, "n", (1,)), stock.variables(10, "n", (1,)):
        for term in ((10,), [10, ("n", 10)], {"k": "n"}, slice("n", 10), ((1,), 1), "n"):
            known = {10: "n", "n": (1,), (1,): 4}
            assert reify(term, known) == stock.reify(term, known) != term
            for other in (("n",), [1, 2], (4, 2), 4):
                pairs = (term, other), (other, term)
                if not isinstance(term, (dict, slice)):
                    assert [unify(*p, {10: 4}) for p in pairs] == [
                        answer_of_stock(*p, {10: 4}) for p in pairs
                    ]
    assert unify(10, 4, {10: 4}) == stock.unify(10, 4, {10: 4}) == {10: 4}
    x = Var("x")
    assert reify(x, {x: 3, 3: 4}) == 3  # not a variable


def answer_of_stock(u: Any, v: Any, s: dict[Any, Any]) -> Any:
    try:
        return stock.unify(u, v, s)
    except NotImplementedError:  # stock has no rule
        return False


@pytest.mark.parametrize("make", [lambda x: x, lambda x: (1, x), lambda x: {"k": [x]}])
def test_a_term_without_end(make: Any) -> None:
    x = Var("x")
    with pytest.raises(ExpressionError, match="the value of ~x contains ~x"):
        reify((x, x), {x: make(x)})
    assert reify((x, x, [x]), {x: (Var("y"), 1)}) == ((Var("y"), 1),) * 2 + ([(Var("y"), 1)],)


def test_unifiable_classes() -> None:
    @unifiable
    class Shape:
        def __init__(self, rows: Any, columns: Any) -> None:
            self.rows, self.columns = rows, columns

    n = Var("n")
    assert unify(Shape(2, n), Shape(2, 3), {}) == {n: 3}
    assert reify(Shape(2, n), {n: 3}).columns == 3
