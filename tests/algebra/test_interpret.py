"""Terms taken apart, run with other operations, substituted into."""

from __future__ import annotations

import operator

import pytest

from symfx.algebra import Table, Term, as_operation, evaluate, interpret, relation, substitute
from symfx.algebra.terms.interpret import PYTHON_OPS, rebuild
from symfx.algebra.terms.table import MATH_FUNCTIONS


@pytest.fixture
def t() -> Table:
    return Table()


def every_operation(t: Table) -> dict[str, Term]:
    """One term of each operation that the table can make."""
    a, b, r, p = t.symbol("a"), t.symbol("b"), t.symbol("r", "real"), t.symbol("p", "bool")
    q, c = t.symbol("q", "bool"), t.const
    return {
        "const": c(3),
        "symbol": a,
        "call": t.call("f", "int", a, b),
        "add": a + 2 * b + 1,
        "mul": 3 * a * b,
        "floordiv": a // b,
        "mod": a % b,
        "pow": t.pow(a, b),
        "abs": abs(a),
        "min": t.min(a, b),
        "max": t.max(a, b),
        "where": t.where(p, a, b),
        "bit_and": a & b,
        "bit_or": a | b,
        "bit_xor": a ^ b,
        "lshift": a << b,
        "rshift": a >> b,
        "to_real": t.to_real(a),
        "fadd": r + 1.0,
        "fmul": r * 2.0,
        "fneg": -r,
        "fabs": abs(r),
        "fdiv": r / 2.0,
        "truediv": a / b,
        "ffloordiv": r // 2.0,
        "fmod": r % 2.0,
        "fpow": t.pow(r, c(2.0)),
        "fmin": t.min(r, c(1.0)),
        "fmax": t.max(r, c(1.0)),
        "floor": t.floor(r),
        "ceil": t.ceil(r),
        "trunc": t.trunc(r),
        "round": t.round(r),
        "round_int": t.round(a, -1),
        "round_digits": t.round(r, 2),
        "is_integer": t.is_integer(r),
        "eq": a.eq(b),
        "ne": a.ne(b),
        "ge": a >= b,
        "le": a <= 3,
        "gt": a > b,
        "feq": r.eq(1.0),
        "fle": r <= 1.0,
        "flt": r < 1.0,
        "not": t.not_(p),
        "and": p & q,
        "or": p | q,
        # acosh is defined from 1 on.
        **{name: t.function(name, r + (name == "acosh")) for name in MATH_FUNCTIONS},
    }


NAMES = list(every_operation(Table()))


@pytest.mark.parametrize("name", NAMES)
def test_operations(t: Table, name: str) -> None:
    term = every_operation(t)[name]
    op, args = as_operation(term)
    assert op == name
    if op in ("const", "symbol", "call"):
        return
    assert all(isinstance(a, Term) for a in args)
    assert op in PYTHON_OPS
    point = {"a": 6, "b": 2, "r": 0.5, "p": True, "q": False}
    values = {t.symbol(n, s): point[n] for n, s in zip("abrpq", SORTS, strict=True)}
    by_hand = PYTHON_OPS[op](*(evaluate(a, values) for a in args))
    assert evaluate(term, values) == by_hand


SORTS = ("int", "int", "real", "bool", "bool")


@pytest.mark.parametrize("name", NAMES)
def test_rebuilding_gives_the_term_back(t: Table, name: str) -> None:
    term = every_operation(t)[name]
    if term.op not in ("const", "symbol"):
        assert rebuild(term, {part: part for part in term.operands}) is term


@pytest.mark.parametrize("name", NAMES)
def test_substituting_there_and_back(t: Table, name: str) -> None:
    term = every_operation(t)[name]
    there = {t.symbol(n, s): t.symbol(n + "2", s) for n, s in zip("abrpq", SORTS, strict=True)}
    back = {v: k for k, v in there.items()}
    moved = substitute(term, there)
    assert moved.free_symbols == {there[s] for s in term.free_symbols}
    assert substitute(moved, back) is term


def test_relations(t: Table) -> None:
    a, b = t.symbol("a"), t.symbol("b")
    for condition, expected in [
        (a >= b, ("ge", a, b)),
        (a > b, ("gt", a, b)),
        (a < b, ("gt", b, a)),
        (a >= 3, ("ge", a, t.const(3))),
        (a <= 3, ("le", a, t.const(3))),
        (2 * a >= b + 3, ("ge", 2 * a, b + 3)),
        (2 * a + 3 >= b, ("ge", 2 * a + 3, b)),
        (a.eq(b), ("eq", a, b)),
        (a.ne(3), ("ne", a, t.const(3))),
        ((a + b).eq(-3), ("eq", a + b, t.const(-3))),
        ((a - b).eq(4), ("eq", a, b + 4)),
        ((a * b).eq(6), ("eq", a * b, t.const(6))),
    ]:
        assert relation(condition) == expected, condition
    with pytest.raises(ValueError, match="not an integer comparison"):
        relation(t.symbol("p", "bool"))


def test_a_sum_of_one_part_is_a_product(t: Table) -> None:
    a, b = t.symbol("a"), t.symbol("b")
    assert as_operation(3 * a * a) == ("mul", (t.const(3), a, a))
    assert as_operation(a * b) == ("mul", (a, b))
    assert as_operation(3 * a + 1) == ("add", (3 * a, t.const(1)))


def test_other_operations(t: Table) -> None:
    a, b = t.symbol("a"), t.symbol("b")
    text = {
        "add": lambda *x: "+".join(x),
        "mul": lambda *x: "*".join(x),
        "floordiv": "div({},{})".format,
        "const": str,
        "call": lambda name, *x: f"{name}!{x}",
    }
    shown = interpret((2 * a + b) // (a * b) + 1, lambda s: s.name.upper(), text)
    assert shown == "div(2*A+B,A*B)+1"
    assert interpret(t.call("f", "int", a), lambda s: s.name, text) == "f!('a',)"
    with pytest.raises(KeyError, match="no operation 'mod'"):
        interpret(a % b, lambda s: "", text)
    with pytest.raises(KeyError, match="f is an uninterpreted function"):
        evaluate(t.call("f", "int", a), {a: 1})


def test_shared_parts_run_once(t: Table) -> None:
    a = t.symbol("a")
    calls = []

    def floordiv(x: int, y: int) -> int:
        calls.append((x, y))
        return x // y

    part = a // 3
    whole = t.max(part * part + 1, part) % (part + 2)
    ops = {**PYTHON_OPS, "floordiv": floordiv}
    memo: dict[Term, int] = {}
    assert interpret(whole, lambda s: 10, ops, memo) == 10 % 5
    assert calls == [(10, 3)]
    assert memo[part] == 3
    assert interpret(part, lambda s: 1 / 0, ops, memo) == 3


def test_a_missing_value_is_named(t: Table) -> None:
    with pytest.raises(KeyError, match="no value for a"):
        evaluate(t.symbol("a") + 1, {})


def test_substitution(t: Table) -> None:
    a, b, c = map(t.symbol, "abc")
    assert substitute(a - 2 * b, {a: b, b: a}) is b - 2 * a
    assert substitute(a // b, {a: 6 * c, b: 2 * c}) is t.const(3)
    assert substitute((a + b) * c, {a: -b}) is t.zero
    # Whole operations may be replaced too.
    assert substitute(a // b + a, {a // b: c}) is a + c
    assert substitute(a.eq(b), {a: b}) is t.true
    memo: dict[Term, Term] = {}
    assert substitute(a + 1, {a: c}, memo) is c + 1
    assert memo[a + 1] is c + 1


@pytest.mark.parametrize(
    "step",
    [
        lambda t, v, a: (v + a) // (a + 2),
        lambda t, v, a: t.max(v % (a + 3), a),
        lambda t, v, a: t.where(v > a, a, v + 1),
        lambda t, v, a: abs(v) - v // 3,
        lambda t, v, a: t.call("f", "int", v),
        lambda t, v, a: (v & 7) + a,
    ],
)
def test_nesting_of_hundreds_does_not_recurse(t: Table, step) -> None:  # type: ignore[no-untyped-def]
    a, b = t.symbol("a"), t.symbol("b")
    v = a
    for _ in range(1500):
        v = step(t, v, a)
    assert v.free_symbols == {a}
    assert substitute(substitute(v, {a: b}), {b: a}) is v
    ops = {**PYTHON_OPS, "call": lambda name, x: operator.add(x, 1) % 1000}
    assert isinstance(interpret(v, lambda s: 3, ops), int)


def test_texts_of_deep_terms(t: Table) -> None:
    a, b = t.symbol("a"), t.symbol("b")
    v = a
    for _ in range(1500):
        v = (v + a) // b
    assert str(v).endswith("//b")
    assert str(v).count("//") == 1500


def test_a_root_of_a_negative_number_has_no_value() -> None:
    t = Table()
    n = t.symbol("n")
    root = t.pow(t.to_real(n), t.const(0.5))
    assert evaluate(root, {n: 4}) == 2.0
    with pytest.raises(ValueError, match="no real number"):
        evaluate(root, {n: -4})
