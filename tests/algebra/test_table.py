"""Terms: interned, in normal form, refusing operands of a wrong sort."""

from __future__ import annotations

import copy
import math
import pickle
import threading

import pytest

from symfx.algebra import Table, evaluate, substitute


@pytest.fixture
def t() -> Table:
    return Table()


def test_equal_terms_are_one_object(t: Table) -> None:
    a, b = t.symbol("a"), t.symbol("b")
    assert a + b is b + a
    assert (a + b) * (a - b) is a * a - b * b
    assert (a + 1) ** 3 is a * a * a + 3 * a * a + 3 * a + 1
    assert 2 * (a + b) - b is 2 * a + b
    assert (a >= b) is (b <= a)
    assert (a > b) is (a >= b + 1)
    assert (2 * a > 2 * b) is (a > b)
    assert a.eq(b) is b.eq(a)
    assert a.ne(b) is ~a.eq(b)
    assert t.max(a, t.max(b, a)) is t.max(b, a)
    assert abs(a - b) is abs(b - a)
    assert (a & b) is (b & a)
    assert t.call("f", "int", a) is t.call("f", "int", a)
    assert t.call("f", "int", a) is not t.call("g", "int", a)
    assert t.call("f", "int", a) is not t.call("f", "real", a)


@pytest.mark.parametrize(
    ("program", "text"),
    [
        (lambda t, a, b: (2 * a + 4) // 2, "a + 2"),
        (lambda t, a, b: (3 * a + b) // 3, "a + b//3"),
        (lambda t, a, b: a // 2 // 3, "a//6"),
        (lambda t, a, b: (a * b) // b, "a"),
        (lambda t, a, b: (a * a - b * b) // (a + b), "a - b"),
        (lambda t, a, b: (4 * a) // (6 * b), "2*a//(3*b)"),
        (lambda t, a, b: a // -2, "-a + a//2"),
        (lambda t, a, b: (5 * a + 7) % 3, "(2*a + 1) % 3"),
        (lambda t, a, b: (a % 6 + b) % 3, "(a + b) % 3"),
        (lambda t, a, b: (4 * a + 2) % 8, "4*(a % 2) + 2"),
        (lambda t, a, b: (a * b + a) % a, "0"),
        (lambda t, a, b: a % 3 % 5, "a % 3"),
        (lambda t, a, b: t.min(a, a + 2), "a"),
        (lambda t, a, b: t.max(a, t.min(a, b)), "a"),
        (lambda t, a, b: t.where(a > b, a, a), "a"),
        (lambda t, a, b: a << 3, "8*a"),
        (lambda t, a, b: a >> 3, "a//8"),
        (lambda t, a, b: a ^ a, "0"),
        (lambda t, a, b: (2 * a + 1).eq(2 * b), "False"),
        (lambda t, a, b: t.ge_zero(3 * a - 7), "a >= 3"),
        (lambda t, a, b: ~((a > b) & (a > 0)), "b >= a or a <= 0"),
        (lambda t, a, b: t.eq(t.to_int(a > b), t.one), "a > b"),
    ],
)
def test_normal_forms(t: Table, program, text: str) -> None:  # type: ignore[no-untyped-def]
    assert str(program(t, t.symbol("a"), t.symbol("b"))) == text


def test_constants_keep_their_type(t: Table) -> None:
    assert t.const(1) is not t.const(True)
    assert t.const(1) is not t.const(1.0)
    assert t.const(0.0) is not t.const(-0.0)
    assert t.const(math.nan) is t.const(float("nan"))
    assert t.const(math.inf) is not t.const(-math.inf)
    assert [t.const(v).sort for v in (1, True, 1.0)] == ["int", "bool", "real"]
    with pytest.raises(TypeError, match="int, float or bool, not str"):
        t.const("1")  # type: ignore[arg-type]


def test_nan_is_not_simplified(t: Table) -> None:
    r = t.symbol("r", "real")
    for term, expected in [
        (r - r, math.nan),
        (r * 0.0, math.nan),
        (r / r, math.nan),
        (t.pow(r, t.const(0.0)), 1.0),
    ]:
        value = evaluate(term, {r: math.nan})
        assert value == expected or (math.isnan(value) and math.isnan(expected))
    assert evaluate(r.eq(r), {r: math.nan}) is False
    assert evaluate(r.ne(r), {r: math.nan}) is True
    assert evaluate((r < 1.0) | ~(r < 1.0), {r: math.nan}) is True
    assert evaluate((r < 1.0) | (r >= 1.0), {r: math.nan}) is False


def test_doubles_keep_the_sign_of_zero(t: Table) -> None:
    r, n = t.symbol("r", "real"), t.symbol("n")
    difference = evaluate(r - n, {r: -0.0, n: 0})
    assert math.copysign(1, difference) == -1
    assert math.copysign(1, evaluate(-r, {r: 0.0})) == -1
    assert evaluate(r + 0.0, {r: -0.0}) == 0.0
    assert (r + 0.0) is not r


def test_doubles_do_not_associate(t: Table) -> None:
    r = t.symbol("r", "real")
    assert (r + 1e16) - 1e16 is not r
    assert evaluate((r + 1e16) - 1e16, {r: 1.0}) == (1.0 + 1e16) - 1e16


def test_booleans_count_as_integers(t: Table) -> None:
    p, n = t.symbol("p", "bool"), t.symbol("n")
    for term in (p + n, n - p, p * p, -p, abs(p), p // n, n % (p + 1), t.min(p, n), p & n):
        assert term.sort == "int", term
    assert evaluate(p + p, {p: True}) == 2
    assert t.eq(p, t.one) is p
    assert t.eq(p, t.zero) is t.not_(p)
    assert t.truediv(p, n).op == "truediv"


def test_division_by_zero(t: Table) -> None:
    a, r = t.symbol("a"), t.symbol("r", "real")
    for make in (
        lambda: a // 0,
        lambda: a % 0,
        lambda: a / 0,
        lambda: r / 0.0,
        lambda: a % (a - a),
    ):
        with pytest.raises(ZeroDivisionError):
            make()
    with pytest.raises(ZeroDivisionError):
        evaluate(1 // a, {a: 0})
    with pytest.raises(ZeroDivisionError):
        substitute(1 // a, {a: t.zero})


def test_refusals(t: Table) -> None:
    a, p, r = t.symbol("a"), t.symbol("p", "bool"), t.symbol("r", "real")
    with pytest.raises(ValueError, match="negative shift"):
        a << -1
    with pytest.raises(ValueError, match="negative shift"):
        a >> -1
    with pytest.raises(ValueError, match="'a' is int, it cannot be real"):
        t.symbol("a", "real")
    with pytest.raises(TypeError, match="only a condition"):
        ~a
    with pytest.raises(TypeError, match="not a condition"):
        t.and_(p, a)
    with pytest.raises(TypeError, match="floor, ceil, trunc or round"):
        t.to_int(r)
    with pytest.raises(ValueError, match="no real function named 'gamma'"):
        t.function("gamma", r)
    with pytest.raises(TypeError, match="depends on its symbols"):
        bool(a > 0)
    with pytest.raises(AttributeError, match="has no name"):
        (a + 1).name
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(a)
    with pytest.raises(ValueError, match="is not real"):
        t.pow(t.const(-8.0), t.const(0.5))


def test_copies_are_the_term(t: Table) -> None:
    a = t.symbol("a")
    assert copy.copy(a) is a
    assert copy.deepcopy([a + 1])[0] is a + 1


def test_two_tables_do_not_mix(t: Table) -> None:
    other = Table()
    a, b = t.symbol("a"), other.symbol("a")
    assert a is not b
    with pytest.raises(ValueError, match="different tables"):
        a + b
    with pytest.raises(ValueError, match="different tables"):
        a >= b


def test_tables_of_several_threads() -> None:
    """A table belongs to one thread at a time; several tables know nothing of each other."""
    results: list[str] = []

    def work() -> None:
        t = Table()
        a, b = t.symbol("a"), t.symbol("b")
        total = a
        for i in range(300):
            total = total + (a * b + i) // 3
        results.append(str(total))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(results)) == 1 and len(results) == 4


def test_free_symbols(t: Table) -> None:
    a, b, p = t.symbol("a"), t.symbol("b"), t.symbol("p", "bool")
    assert t.where(p, a // b, t.call("f", "int", a)).free_symbols == {a, b, p}
    assert (a - a + b).free_symbols == {b}
    assert t.const(3).free_symbols == frozenset()


def test_a_term_dies_with_its_table() -> None:
    import gc
    import weakref

    t = Table()
    a = t.symbol("a")
    watched = weakref.ref(a * a + 1)
    assert watched() is not None
    del t, a
    gc.collect()
    assert watched() is None


def test_large_products_stay_whole_and_true(t: Table) -> None:
    symbols = [t.symbol(f"x{i}") for i in range(24)]
    wide = t.sum(symbols)
    product = wide * wide
    assert product.op == "product"
    assert evaluate(product, {s: i for i, s in enumerate(symbols)}) == sum(range(24)) ** 2


def test_conditions_nest_deeply(t: Table) -> None:
    p = [t.symbol(f"p{i}", "bool") for i in range(1001)]
    nested = p[0]
    for i in range(1, 1000, 2):
        nested = (nested & p[i]) | p[i + 1]
    assert ~~nested is nested
    # Each "exactly one" mentions both sides twice: only a memo keeps that from doubling.
    parity = p[0]
    for q in p[1:200]:
        parity = parity ^ q
    assert evaluate(parity, dict.fromkeys(p, True)) is False
