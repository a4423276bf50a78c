"""Terms as sympy and back: the classes, the assumptions, refusals."""

from __future__ import annotations

import math
import time
from functools import reduce

import pytest
import sympy
from torch.utils._sympy import functions as F
from torch.utils._sympy.numbers import int_oo

from symfx.algebra import Table, Term, evaluate
from symfx.algebra.languages.sympy import SympyReader, SympyReadError, register_function, to_sympy
from symfx.errors import SymfxError


@pytest.fixture
def t() -> Table:
    return Table()


SORTS = {
    "a": "int",
    "b": "int",
    "c": "int",
    "n": "int",
    "r": "real",
    "s": "real",
    "p": "bool",
    "q": "bool",
}


def names_of(t: Table) -> dict[str, Term]:
    names = {n: t.symbol(n, sort) for n, sort in SORTS.items()}  # type: ignore[arg-type]
    if names["n"].sympy is None:
        names["n"].sympy = sympy.Symbol("n", integer=True, positive=True)
    return names


def reader_of(t: Table) -> SympyReader:
    return SympyReader(t, {to_sympy(x): x for x in names_of(t).values()})


A, B, C = sympy.symbols("a b c", integer=True)
N = sympy.Symbol("n", integer=True, positive=True)
R, S = sympy.symbols("r s", real=True)
P, Q = sympy.symbols("p q")
TWO = sympy.Integer(2)


def raw(cls, *args):  # type: ignore[no-untyped-def]
    return cls(*args, evaluate=False)


VIEWS = [
    (lambda t, a, b, n, r, p: 2 * a * b - 3 * a + 1, 2 * A * B - 3 * A + 1),
    (lambda t, a, b, n, r, p: a * a * b, A**2 * B),
    (lambda t, a, b, n, r, p: t.pow(a, t.const(12)), A**12),
    (lambda t, a, b, n, r, p: t.pow(a, b), raw(F.PowByNatural, A, B)),
    (lambda t, a, b, n, r, p: (a + 1) // b, raw(F.FloorDiv, A + 1, B)),
    (lambda t, a, b, n, r, p: a % b, raw(F.PythonMod, A, B)),
    (lambda t, a, b, n, r, p: n % b, raw(F.PythonMod, N, B)),
    (lambda t, a, b, n, r, p: n % 4, raw(F.Mod, N, sympy.Integer(4))),
    (lambda t, a, b, n, r, p: (n - 1) % 4, raw(F.Mod, N + 3, sympy.Integer(4))),
    (lambda t, a, b, n, r, p: t.min(a, b), F.Min(A, B)),
    (lambda t, a, b, n, r, p: t.max(t.max(a, b), t.const(2)), F.Max(A, B, 2)),
    (lambda t, a, b, n, r, p: abs(a - b), raw(sympy.Abs, A - B)),
    (lambda t, a, b, n, r, p: t.where(p, a, b), raw(F.Where, P, A, B)),
    (lambda t, a, b, n, r, p: a & b, raw(F.BitwiseFn_bitwise_and, A, B)),
    (lambda t, a, b, n, r, p: a | b, raw(F.BitwiseFn_bitwise_or, A, B)),
    (lambda t, a, b, n, r, p: a ^ b, raw(F.BitwiseFn_bitwise_xor, A, B)),
    (lambda t, a, b, n, r, p: a << b, F.LShift(A, B)),
    (lambda t, a, b, n, r, p: a >> b, F.RShift(A, B)),
    (lambda t, a, b, n, r, p: a / b, raw(F.IntTrueDiv, A, B)),
    (lambda t, a, b, n, r, p: t.to_real(a), raw(F.ToFloat, A)),
    (lambda t, a, b, n, r, p: r + 1.5, R + 1.5),
    (lambda t, a, b, n, r, p: r * 1.5, R * 1.5),
    (lambda t, a, b, n, r, p: -r, -R),
    (lambda t, a, b, n, r, p: r / 2.0, raw(F.FloatTrueDiv, R, sympy.Float(2.0))),
    (lambda t, a, b, n, r, p: t.pow(r, t.const(0.5)), raw(F.FloatPow, R, sympy.Float(0.5))),
    (lambda t, a, b, n, r, p: t.floor(r), raw(F.FloorToInt, R)),
    (lambda t, a, b, n, r, p: t.ceil(r), raw(F.CeilToInt, R)),
    (lambda t, a, b, n, r, p: t.trunc(r), raw(F.TruncToInt, R)),
    (lambda t, a, b, n, r, p: t.round(r), raw(F.RoundToInt, R)),
    (lambda t, a, b, n, r, p: t.round(r, 2), raw(F.RoundDecimal, R, TWO)),
    (lambda t, a, b, n, r, p: t.function("sqrt", r), raw(F.OpaqueUnaryFn_sqrt, R)),
    (lambda t, a, b, n, r, p: t.function("log2", r), raw(F.OpaqueUnaryFn_log2, R)),
    (lambda t, a, b, n, r, p: a.eq(2 * b), raw(sympy.Eq, A, 2 * B)),
    (lambda t, a, b, n, r, p: a.ne(b), raw(sympy.Ne, A, B)),
    (lambda t, a, b, n, r, p: a >= b, raw(sympy.Ge, A, B)),
    (lambda t, a, b, n, r, p: a > b, raw(sympy.Gt, A, B)),
    (lambda t, a, b, n, r, p: a <= 3, raw(sympy.Le, A, sympy.Integer(3))),
    (lambda t, a, b, n, r, p: r < 1.0, raw(sympy.Lt, R, sympy.Float(1.0))),
    (lambda t, a, b, n, r, p: ~(r < 1.0), raw(sympy.Not, raw(sympy.Lt, R, sympy.Float(1.0)))),
    (lambda t, a, b, n, r, p: p & (a > b), sympy.And(P, raw(sympy.Gt, A, B))),
    (lambda t, a, b, n, r, p: p | (a > b), sympy.Or(P, raw(sympy.Gt, A, B))),
    (lambda t, a, b, n, r, p: ~p, sympy.Not(P)),
    (lambda t, a, b, n, r, p: t.const(True), sympy.true),
    (lambda t, a, b, n, r, p: t.const(7), sympy.Integer(7)),
    (lambda t, a, b, n, r, p: t.const(0.1), sympy.Float(0.1)),
    (lambda t, a, b, n, r, p: t.const(math.inf), sympy.oo),
]


@pytest.mark.parametrize(("make", "expected"), VIEWS)
def test_views(t: Table, make, expected) -> None:  # type: ignore[no-untyped-def]
    names = names_of(t)
    term = make(t, *(names[n] for n in "abnrp"))
    view = to_sympy(term)
    assert view == expected
    assert type(view) is type(expected)
    assert to_sympy(term) is view


def test_torch_makes_the_same_expressions(t: Table) -> None:
    """What torch builds with its evaluating constructors equals the view of the same shape."""
    names = names_of(t)
    a, b, n = names["a"], names["b"], names["n"]
    for view, theirs in [
        (t.floordiv(a + b, n), F.FloorDiv(A + B, N)),
        (t.mod(n, t.const(8)), F.Mod(N, 8)),
        (t.mod(a, t.const(8)), F.PythonMod(A, 8)),
        (t.max(a + b, n), F.Max(A + B, N)),
        (t.min(t.min(a, b), n), F.Min(F.Min(A, B), N)),
        ((a >= b) & (a <= n), sympy.And(A >= B, N >= A)),
        (a.eq(n), sympy.Eq(A, N)),
        (t.to_real(a) * 2.5, F.ToFloat(A) * 2.5),
    ]:
        assert to_sympy(view) == theirs


def test_a_truncated_zero(t: Table) -> None:
    """torch 2.15 leaves the zero a Float: symfx writes an Integer, and reads theirs by its value."""
    assert to_sympy(t.trunc(t.const(0.0))) is sympy.S.Zero
    reader = SympyReader(t, {})
    theirs = F.TruncToInt(sympy.Float(0.0))
    assert reader.read(theirs).value == 0
    a = names_of(t)["a"]
    assert to_sympy(t.trunc(t.const(0.0)) + a) == A
    assert reader.read(raw(F.TruncToInt, sympy.Float(0.0))) is t.zero


def test_symbols(t: Table) -> None:
    a, r, p = t.symbol("a"), t.symbol("r", "real"), t.symbol("p", "bool")
    assert to_sympy(a) == sympy.Symbol("a", integer=True)
    assert to_sympy(r) == sympy.Symbol("r", real=True)
    assert to_sympy(p) == sympy.Symbol("p")
    fixed = t.symbol("s0")
    fixed.sympy = sympy.Symbol("s0", integer=True, positive=True)
    assert to_sympy(fixed + 1).free_symbols == {fixed.sympy}


# -- evaluation that would be wrong --------------------------------------------------------------


def test_quotients_of_quotients_keep_their_floors(t: Table) -> None:
    a, b, c = t.symbol("a"), t.symbol("b"), t.symbol("c")
    view = to_sympy(a // b // c)
    assert view.xreplace({A: 1, B: TWO, C: sympy.Integer(-1)}) == 1 // 2 // -1 == 0
    assert F.FloorDiv(F.FloorDiv(A, B), C) == F.FloorDiv(A, B * C)  # what torch would make of it


def test_mod_is_for_operands_that_are_not_negative(t: Table) -> None:
    a, n = t.symbol("a"), t.symbol("n")
    n.sympy = sympy.Symbol("n", integer=True, positive=True)
    for term, cls in [
        (n % 3, F.Mod),
        (a % 3, F.PythonMod),
        ((n - 2) % a, F.PythonMod),
        (t.max(a, n) % 3, F.Mod),
        (t.min(a, n) % 3, F.PythonMod),
        (abs(a) % n, F.Mod),
        ((n * n + n // 2) % (3 * n), F.Mod),
        (t.where(a > n, n, abs(a)) % 5, F.Mod),
        ((n & 7) % 5, F.Mod),
        ((n | a) % 5, F.PythonMod),
        (t.call("f", "int", n) % 5, F.PythonMod),
        ((a % 3) % n, F.Mod),
    ]:
        assert type(to_sympy(term)) is cls, term
    assert to_sympy(a % 3).xreplace({A: sympy.Integer(-7)}) == -7 % 3


def test_a_disjunction_of_double_orders_is_no_tautology(t: Table) -> None:
    r = t.symbol("r", "real")
    assert to_sympy((r < 1.0) | (r >= 1.0)) is not sympy.true
    assert reader_of(t).read(to_sympy((r < 1.0) | (r >= 1.0))) is (r < 1.0) | (r >= 1.0)
    assert reader_of(t).read(to_sympy(~(r < 1.0))) is ~(r < 1.0)
    assert to_sympy(r.eq(r)) is not sympy.true


def test_sums_of_doubles_keep_their_order(t: Table) -> None:
    r = t.symbol("r", "real")
    term = (r + 1e16) - 1e16
    view = to_sympy(term)
    assert float(view.xreplace({R: sympy.Float(1.0)})) == evaluate(term, {r: 1.0}) == 0.0
    assert reader_of(t).read(view) is term
    assert reader_of(t).read(to_sympy(r - r)) is r - r
    assert reader_of(t).read(to_sympy(r * 0.0)) is r * 0.0


# -- reading ---------------------------------------------------------------------------------------

HALF = sympy.Rational(1, 2)
READINGS = [
    (A + B * 2 - 3, "a + 2*b - 3"),
    ((A + 1) ** 2, "a**2 + 2*a + 1"),
    (3, "3"),
    (True, "True"),
    (2.5, "2.5"),
    (F.FloorDiv(A, 2), "a//2"),
    (F.CleanDiv(A, 2), "a//2"),
    (F.CeilDiv(A, 2), "(a + 1)//2"),
    (sympy.floor(A / 2), "a//2"),
    (sympy.ceiling(A / 2), "-(-a//2)"),
    (sympy.floor(A / B), "a//b"),
    (sympy.floor(A * sympy.Rational(3, 4) + HALF), "(3*a + 2)//4"),
    (raw(F.FloorDiv, A / 2, sympy.Integer(3)), "a//6"),
    (F.Mod(N, 3), "n % 3"),
    (sympy.Mod(A, 3), "a % 3"),
    (raw(F.PythonMod, A, B), "a % b"),
    (sympy.Mod(A / 2, 3) * 2, "a - 6*(a//6)"),
    (raw(F.ModularIndexing, A, TWO, sympy.Integer(5)), "(a//2) % 5"),
    (F.Identity(A + 1), "a + 1"),
    (A * B / B, "a"),
    ((2 * A + 4 * B) / 2, "a + 2*b"),
    (sympy.Ge(A / 2, 3), "a >= 6"),
    (sympy.Gt(A * sympy.Rational(2, 3), B + HALF), "4*a > 6*b + 3"),
    (sympy.Eq(A / 2, B / 3), "3*a == 2*b"),
    (sympy.Ne(A, B / 3), "b != 3*a"),
    (sympy.Eq(A / B, 2), "a == 2*b"),
    (sympy.Le(A, 3), "a <= 3"),
    (sympy.Lt(A, B), "a < b"),
    (F.Min(A, B, 3), "min(a, b, 3)"),
    (sympy.Max(A, B), "max(a, b)"),
    (sympy.Abs(A), "abs(a)"),
    (sympy.Piecewise((A, A > B), (B, A > 0), (C, True)), "where"),
    (sympy.ITE(P, Q, A > B), "or"),
    (sympy.Xor(P, Q), "or"),
    (raw(F.LShift, A, B), "a << b"),
    (raw(F.RShift, A, B), "a >> b"),
    (F.PowByNatural(TWO, A), "2**a"),
    (sympy.Pow(TWO, A), "2**a"),
    (F.TruncToFloat(R), "float(math.trunc(r))"),
    (sympy.sqrt(R), "math.sqrt(r)"),
    (sympy.sin(R), "math.sin(r)"),
    (R**2, "r*r"),
    (1 / R, "1.0/r"),
    (R * HALF, "r*0.5"),
    (R + A, "r + float(a)"),
    (R + A + 1, "r + float(a + 1)"),
    (-R, "-r"),
    (R * S, "r*s"),
    (R < A, "r < a"),
    (sympy.Eq(F.ToFloat(sympy.floor(R)), R), "r.is_integer()"),
    (F.FloorDiv(R, S), "r//s"),
    (raw(sympy.Lt, R, sympy.oo), "r < float('inf')"),
    (sympy.nan, "float('nan')"),
    (sympy.true, "True"),
]


@pytest.mark.parametrize(("expr", "text"), READINGS)
def test_readings(t: Table, expr, text: str) -> None:  # type: ignore[no-untyped-def]
    term = reader_of(t).read(expr)
    if text in ("where", "or"):
        assert term.op == text
        return
    expected = read_text(t, text)
    assert term is expected, f"{term} is not {expected}"


def read_text(t: Table, text: str) -> Term:
    from test_printing import read

    names = names_of(t)
    if "r" in text and text in ("r*s", "r//s"):
        return names["r"] * names["s"] if "*" in text else names["r"] // names["s"]
    if "float('inf')" in text:
        return names["r"] < math.inf
    if "float('nan')" in text:
        return t.const(math.nan)
    if "n % 3" in text:
        return names["n"] % 3
    return read(t, text)


def test_piecewise_has_the_value(t: Table) -> None:
    term = reader_of(t).read(sympy.Piecewise((A, A > B), (B, A > 0), (C, True)))
    names = names_of(t)
    for a, b, c in [(3, 2, 9), (2, 3, 9), (-1, 3, 9)]:
        value = evaluate(term, {names["a"]: a, names["b"]: b, names["c"]: c})
        assert value == (a if a > b else b if a > 0 else c)


@pytest.mark.parametrize(
    ("expr", "message"),
    [
        (A / 2, "a/2 cannot be read as a term: it is a fraction that need not be an integer"),
        (A / B, "need not be an integer"),
        (raw(F.Max, A / 2, B), r"\(a\)/\(2\) in it need not be an integer"),
        (sympy.oo, "oo cannot be read as a term: it is infinite"),
        (int_oo, "int_oo cannot be read as a term"),
        (-int_oo, "it is not a finite number"),
        (sympy.zoo, "zoo"),
        (raw(F.Max, A, sympy.oo), "an integer cannot be oo"),
        (raw(sympy.Lt, A, sympy.oo), "an integer cannot be oo"),
        (sympy.Symbol("unheard"), "the reader does not know that symbol"),
        (sympy.Symbol("a", positive=True), "the symbol known by that name has the assumptions"),
        (sympy.Function("mystery")(A), "symfx knows no function mystery"),
        (sympy.pi, "pi"),
        (sympy.I, "I"),
        (sympy.Rational(1, 3) + R, "no double equals 1/3"),
        (A ** sympy.Rational(1, 3), "the square root is the only fractional power"),
        (sympy.Piecewise((A, A > B)), "no value where none of its conditions holds"),
        (sympy.Interval(0, 1), "symfx"),
        (raw(F.FloorToInt, A) + sympy.gamma(A), "symfx knows no function gamma"),
    ],
)
def test_refusals(t: Table, expr: sympy.Basic, message: str) -> None:
    with pytest.raises(SympyReadError, match=message) as caught:
        reader_of(t).read(expr)
    assert isinstance(caught.value, SymfxError)
    assert isinstance(caught.value, ValueError)


def test_symbols_may_be_added(t: Table) -> None:
    symbols: dict[sympy.Symbol, Term] = {}
    reader = SympyReader(t, symbols)
    with pytest.raises(SympyReadError):
        reader.read(A + 1)
    symbols[A] = t.symbol("a")
    assert reader.read(A + 1) is t.symbol("a") + 1


# -- uninterpreted functions ---------------------------------------------------------------------


def test_calls_go_round(t: Table) -> None:
    names = names_of(t)
    a, r, p = names["a"], names["r"], names["p"]
    for term in (
        t.call("f", "int", a, a + 1) * 2,
        t.call("f", "real", r) + 1.0,
        t.call("holds", "bool", a) & p,
        ~t.call("holds", "bool", a),
        t.call("nothing", "int"),
        t.where(t.call("holds", "bool", a), a, t.zero),
    ):
        view = to_sympy(term)
        assert reader_of(t).read(view) is term
        view.xreplace({A: sympy.Integer(3)})  # torch rebuilds what it substitutes into
    assert to_sympy(t.call("f", "int", a)).is_integer
    # A second function of that name, made elsewhere, is the same function.
    to_sympy(t.call("outside", "int", a))
    theirs = sympy.Function("outside", integer=True)(A)
    assert reader_of(t).read(theirs) is t.call("outside", "int", a)


def test_torchs_own_uninterpreted_function(t: Table) -> None:
    names = names_of(t)
    term = t.call("is_non_overlapping_and_dense_indicator", "int", *(names[n] for n in "abcn"))
    view = to_sympy(term)
    assert type(view) is F.IsNonOverlappingAndDenseIndicator
    assert reader_of(t).read(view) is term


def test_registering(t: Table) -> None:
    class Padded(sympy.Function):
        is_integer = True

    register_function("padded", "int", Padded)
    register_function("padded", "int", Padded)
    a = t.symbol("a")
    assert to_sympy(t.call("padded", "int", a)) == Padded(A)
    assert reader_of(t).read(Padded(A)) is t.call("padded", "int", a)
    with pytest.raises(ValueError, match="registered with another partner"):
        register_function("padded", "int", sympy.Function("other"))
    with pytest.raises(ValueError, match="registered with another partner"):
        register_function("other", "int", Padded)


# -- size ----------------------------------------------------------------------------------------------


def test_sums_of_thousands(t: Table) -> None:
    symbols = [t.symbol(f"u{i}") for i in range(3000)]
    total = reduce(t.add, symbols)
    view = to_sympy(total // 2 >= total % 3)
    reader = SympyReader(t, {to_sympy(s): s for s in symbols})
    assert reader.read(view) is (total // 2 >= total % 3)
    assert len(to_sympy(total).args) == 3000


@pytest.mark.parametrize(
    "step",
    [
        lambda t, v, n: (v["a"] + v["at"]) // v["b"],
        lambda t, v, n: t.max(v["at"], v["b"] * v["at"]) % v["n"],
        lambda t, v, n: t.where(v["at"] > v["a"], v["at"], v["b"] + n),
        lambda t, v, n: t.call("f", "int", v["at"]) + v["at"],
    ],
)
def test_nesting_of_hundreds(t: Table, step) -> None:  # type: ignore[no-untyped-def]
    """Parts that occur twice at every level would double the work of a walk over trees."""
    v = names_of(t)
    v["at"] = v["a"]
    for n in range(400):
        v["at"] = step(t, v, n)
    began = time.process_time()
    assert reader_of(t).read(to_sympy(v["at"])) is v["at"]
    assert time.process_time() - began < 30


def test_conditions_and_doubles_nest(t: Table) -> None:
    v = names_of(t)
    condition, real = v["p"], v["r"]
    for n in range(400):
        condition = (condition & (v["a"] >= n)) | v["a"].eq(v["b"] + n)
        real = real * real + 1.0
    assert reader_of(t).read(to_sympy(condition)) is condition
    assert reader_of(t).read(to_sympy(real)) is real


def test_large_sums_and_products(t: Table) -> None:
    x, y = t.symbol("x"), t.symbol("y")
    large = y
    for i in range(9):
        a, b = large + x, 2 + i % 3
        large = t.where(a >= 0, a // b, -(-a // b))
    term = 3 * large * large * x - 2 * large + (large << y) + 5
    view = to_sympy(term)
    for at in ({x: 4, y: 2}, {x: -70, y: 3}, {x: 9000, y: 0}):
        shown = {to_sympy(symbol): sympy.Integer(value) for symbol, value in at.items()}
        stack = [view]
        while stack:  # `xreplace` would walk the view as a tree
            top = stack[-1]
            below = [part for part in top.args if part not in shown]
            if below:
                stack += below
            else:
                shown.setdefault(top, top.func(*map(shown.get, top.args)) if top.args else top)
                stack.pop()
        assert shown[view] == evaluate(term, at)
