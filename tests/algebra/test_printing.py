"""Terms as text: Python computes from the text the value of the term."""

from __future__ import annotations

import math

import pytest

from symfx.algebra import Table, Term, evaluate, to_python

NAMES = {"a": "int", "b": "int", "c": "int", "r": "real", "p": "bool", "q": "bool"}

# Each text is the term's own, and reads back as that term.
TEXTS = [
    "a",
    "-a",
    "a + 1",
    "-a - 1",
    "2*a + 3*b - 1",
    "a*b + a + b",
    "a**2 + a*b + b**2",
    "a**2*b - 1",
    "-2*a*b",
    "a//b",
    "a//b + 1",
    "-(a//b)",
    "-(a % b)",
    "-(a//b) - (a % b)*c",
    "1 - a % b",
    "a - a//b",
    "a*(b//c)",
    "(a*b)//c",
    "(a//b)*c",
    "a//(b//c)",
    "a//b//c",
    "a//(b*c)",
    "a % (b % c)",
    "(a + b) % c",
    "(a//b) % c",
    "a//(-3*b + c)",
    "(a//b)**2",
    "a**b",
    "a**(b + 1)",
    "(a + 1)**b",
    "(a*b)**c",
    "(-a)**b",
    "a**-b",
    "(a**b)**c",
    "a**b**c",
    "abs(a)",
    "-abs(a - b)",
    "min(a, b)",
    "max(a, b, 3)",
    "min(a, 2*b)*c",
    "(a if p else b)",
    "(a if p else b) + 1",
    "(a if p and q else b)",
    "((a if p else b) if q else c)",
    "a & b",
    "(a & b) + 1",
    "a + b & c",
    "(a & b)*c",
    "a | b & c",
    "(a | b) & c",
    "a ^ b | c",
    "a << b",
    "a + 1 << b",
    "(a << b) + 1",
    "a >> b << c",
    "a >= b",
    "a > b",
    "a >= 3",
    "a <= 3",
    "a + b >= 2*c + 1",
    "a == b",
    "a != b + 1",
    "a % b == 0",
    "(a & 3) == b",
    "p",
    "not p",
    "p and q",
    "p or q",
    "p and (q or a >= b)",
    "not p or q and a == b",
    "not r < 1.0",
    "float(a)",
    "r + 1.5",
    "r + -1.5",
    "-r",
    "-r*2.0",
    "-(r*2.0)",
    "r/2.0",
    "a/b",
    "a/(b*c)",
    "a/(-b*c)",
    "r**2.0",
    "(-r)**2.0",
    "-r**2.0",
    "r//2.0 % 3.0",
    "(r + 1.0)*r",
    "math.floor(r) + 1",
    "math.ceil(r)",
    "math.trunc(r)",
    "round(r)",
    "round(r, 2)",
    "round(a, -1)",
    "r.is_integer()",
    "(r + 1.0).is_integer()",
    "math.sqrt(r)",
    "math.log2(float(a))",
    "r < 1.0",
    "r <= 1.0",
    "r == 1.0",
    "(r < 1.0) == p",
    "True",
    "-3",
    "2.5",
]


class Shadow:
    """`math`, `min` and so on over terms, so that eval reads a text as a term."""

    def __init__(self, t: Table) -> None:
        self.t = t
        self.floor, self.ceil, self.trunc = t.floor, t.ceil, t.trunc

    def __getattr__(self, name: str):  # type: ignore[no-untyped-def]
        return lambda x: self.t.function(name, x)


@pytest.mark.parametrize("text", TEXTS)
def test_values(text: str) -> None:
    """The text's value in Python is that of the term which Python's operators make of it."""
    t = Table()
    term = read(t, text)
    again = to_python(term)
    assert read(t, again) is term, again
    for a, b, c, r, p, q in [
        (5, 3, 2, 2.5, True, False),
        (7, 2, 3, 0.5, False, True),
        (-6, 4, 1, 3.0, True, True),
        (9, 5, 4, 1.0, False, False),
    ]:
        point = {"a": a, "b": b, "c": c, "r": r, "p": p, "q": q}
        try:
            expected = eval(text, {"math": math, **point})
        except (ZeroDivisionError, ValueError):
            continue
        at = {t.symbol(n, s): point[n] for n, s in NAMES.items()}  # type: ignore[arg-type]
        if isinstance(expected, float) and term.sort == "int":
            continue  # an integer to a negative power
        assert evaluate(term, at) == expected
        assert eval(again, {"math": math, **point}) == expected, again


def read(t: Table, text: str):  # type: ignore[no-untyped-def]
    import ast

    names = {n: t.symbol(n, s) for n, s in NAMES.items()}  # type: ignore[arg-type]

    def visit(node: ast.expr):  # type: ignore[no-untyped-def]
        if isinstance(node, ast.Constant):
            return t.const(node.value)
        if isinstance(node, ast.Name):
            return names[node.id]
        if isinstance(node, ast.UnaryOp):
            x = visit(node.operand)
            return t.not_(x) if isinstance(node.op, ast.Not) else t.neg(x)
        if isinstance(node, ast.BinOp):
            make = {
                ast.Add: t.add, ast.Sub: t.sub, ast.Mult: t.mul, ast.FloorDiv: t.floordiv,
                ast.Mod: t.mod, ast.Div: t.truediv, ast.Pow: t.pow, ast.BitAnd: t.bit_and,
                ast.BitOr: t.bit_or, ast.BitXor: t.bit_xor, ast.LShift: t.lshift,
                ast.RShift: t.rshift,
            }[type(node.op)]  # fmt: skip
            return make(visit(node.left), visit(node.right))
        if isinstance(node, ast.BoolOp):
            make = t.and_ if isinstance(node.op, ast.And) else t.or_
            return make(*map(visit, node.values))
        if isinstance(node, ast.IfExp):
            return t.where(visit(node.test), visit(node.body), visit(node.orelse))
        if isinstance(node, ast.Compare):
            x, y = visit(node.left), visit(node.comparators[0])
            return {
                ast.Eq: t.eq, ast.NotEq: t.ne, ast.Lt: t.lt, ast.LtE: t.le,
                ast.Gt: lambda x, y: t.lt(y, x), ast.GtE: lambda x, y: t.le(y, x),
            }[type(node.ops[0])](x, y)  # fmt: skip
        assert isinstance(node, ast.Call)
        args = list(map(visit, node.args))
        if isinstance(node.func, ast.Attribute):
            if node.func.attr == "is_integer":
                return t.is_integer(visit(node.func.value))
            return getattr(Shadow(t), node.func.attr)(*args)
        if node.func.id in ("min", "max"):
            first, *rest = args
            for x in rest:
                first = getattr(t, node.func.id)(first, x)
            return first
        if node.func.id == "round":
            return t.round(args[0], args[1].value if len(args) > 1 else None)
        return {"abs": t.abs, "float": t.to_real}[node.func.id](*args)

    return visit(ast.parse(text, mode="eval").body)


@pytest.mark.parametrize(
    "text",
    [
        "2*batch*seq - 1",
        "batch**2*seq + batch*seq**2 + 3",
        "seq//2 + 1",
        "-(seq % 2)",
        "batch//(2*seq)",
        "a + b + c",
        "batch*seq >= 4",
        "seq % 8 == 0",
        "seq > batch",
        "batch != 2*seq + 1",
        "max(seq, batch)",
    ],
)
def test_people_read(text: str) -> None:
    t = Table()
    names = {n: t.symbol(n) for n in ("seq", "batch", "c", "b", "a")}
    source = text.replace("==", ".eq").replace("!=", ".ne")
    for op in (".eq", ".ne"):
        if op in source:
            left, right = source.split(op)
            source = f"({left}){op}({right})"
    assert str(eval(source, {"max": t.max, **names})) == text


def test_other_names() -> None:
    t = Table()
    s, b = t.symbol("s"), t.symbol("b")
    term = t.max(s // 2, b) + s
    assert to_python(term, {s: "x.shape[0]"}) == "x.shape[0] + max(b, x.shape[0]//2)"
    # Any term may have a name of its own.
    assert to_python(term + s // 2, {s // 2: "half"}) == "s + half + max(b, half)"


def test_infinite_constants_can_be_read() -> None:
    t = Table()
    r = t.symbol("r", "real")
    for value in (math.inf, -math.inf, math.nan):
        text = str(t.min(r, t.const(value)))
        assert "float(" in text
        eval(text, {"r": 1.0})
    assert repr(r + 1.0) == "<real r + 1.0>"


def rounded_towards_zero(term: Term, divisor: Term | int, times: int) -> Term:
    """A term divided again and again, plus 1 each time, with quotients rounded towards zero."""
    for _ in range(times):
        quotients = term // divisor, -(-term // divisor)
        term = term.table.where(term >= 0, *quotients) + 1
    return term


def test_the_text_of_shared_parts_grows_with_their_number() -> None:
    t = Table()
    x, d = t.symbol("x"), t.symbol("t1")  # a name that the text must not use again
    for divisor in (t.const(2), t.const(3), d):
        short, long = (len(str(rounded_towards_zero(x, divisor, n))) for n in (20, 40))
        assert long < 3 * short
        term = rounded_towards_zero(x, divisor, 12)
        for at in (-100_000, -3, 0, 7, 123_456):
            assert eval(str(term), {"x": at, "t1": 3}) == evaluate(term, {x: at, d: 3})
            assert eval(to_python(term >= 1, {x: "y[0]"}), {"y": [at], "t1": 3}) is evaluate(
                term >= 1, {x: at, d: 3}
            )


def test_long_texts_without_shared_parts_name_nothing() -> None:
    t = Table()
    term = t.zero
    for i in range(3000):
        term = term + (i + 2) * t.symbol(f"symbol{i}")
    assert len(str(term)) > 20_000
    assert ":=" not in str(term)
