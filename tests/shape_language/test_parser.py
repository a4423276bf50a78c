"""Texts of the language of shapes, read as syntax trees, and the errors that point at mistakes."""

import ast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from symfx import SpecError
from symfx.shape_language import parse_condition, parse_dimension, parse_input, parse_type
from symfx.shape_language.syntax import (
    AnyTensor,
    Call,
    Comparison,
    Constant,
    IntInput,
    Leading,
    Member,
    Name,
    Negative,
    Not,
    Number,
    Operation,
    Parts,
    Size,
    TensorSyntax,
    Unknown,
)


def dim(name, low=None, high=None, example=None):
    return Size(Name(name), low, high, example)


def static(size):
    return Size(Number(size))


@pytest.mark.parametrize(
    ("text", "name", "path", "type_"),
    [
        (
            "x: f32[batch, seq=7, 64]",
            "x",
            (),
            TensorSyntax("float32", (dim("batch"), dim("seq", example=7), static(64))),
        ),
        ("x:f32[]", "x", (), TensorSyntax("float32", ())),
        ("  x : i64 [ n ] < 100 ", "x", (), TensorSyntax("int64", (dim("n"),), 100)),
        ("x: float64[3]", "x", (), TensorSyntax("float64", (static(3),))),
        ("x: half[3]", "x", (), TensorSyntax("float16", (static(3),))),
        ("x: int[3]", "x", (), TensorSyntax("int32", (static(3),))),
        ("x: [3]", "x", (), TensorSyntax(None, (static(3),))),
        ("x: f32[true]", "x", (), TensorSyntax("float32", (dim("true"),))),
        ("x: f32[4<=n]", "x", (), TensorSyntax("float32", (dim("n", 4),))),
        ("x: f32[4<=n=8<=512]", "x", (), TensorSyntax("float32", (dim("n", 4, 512, 8),))),
        ("x: f32[n<=512]", "x", (), TensorSyntax("float32", (dim("n", None, 512),))),
        ("x: f32[512 > n >= 4]", "x", (), TensorSyntax("float32", (dim("n", 4, 511),))),
        ("x: f32[n > 3]", "x", (), TensorSyntax("float32", (dim("n", 4),))),
        ("x: f32[2*3]", "x", (), TensorSyntax("float32", (static(6),))),
        ("x: f32[?, Dyn, _]", "x", (), TensorSyntax("float32", (Unknown(),) * 3)),
        ("x: f32[*d, 2]", "x", (), TensorSyntax("float32", (Leading("d"), static(2)))),
        ("x: f32[..., 2]", "x", (), TensorSyntax("float32", (Leading(None), static(2)))),
        ("x", "x", (), AnyTensor()),
        ("x: Dyn", "x", (), AnyTensor()),
        ("n: int", "n", (), IntInput()),
        ("n: int=5", "n", (), IntInput(5)),
        ("n: int = -5", "n", (), IntInput(-5)),
        ("flag: bool=true", "flag", (), Constant(True)),
        ("flag: bool=False", "flag", (), Constant(False)),
        ("p: float=0.5", "p", (), Constant(0.5)),
        ("p: float=2", "p", (), Constant(2.0)),
        ("p: float=-2", "p", (), Constant(-2.0)),
        ("mode: str='a b'", "mode", (), Constant("a b")),
        ("n: 5", "n", (), Constant(5)),
        ("p: -1e-3", "p", (), Constant(-1e-3)),
        ("mask: none", "mask", (), Constant(None)),
        ('mode: "mean"', "mode", (), Constant("mean")),
        ("batch.ids: i64[b]", "batch", ("ids",), TensorSyntax("int64", (dim("b"),))),
        ("xs[0]['k'].v: int", "xs", (0, "k", "v"), IntInput()),
        (
            "d: {a: [n], 'b c': (int,)}",
            "d",
            (),
            Parts(
                (
                    ("a", TensorSyntax(None, (dim("n"),))),
                    ("b c", Parts(((0, IntInput()),), False)),
                ),
                True,
            ),
        ),
    ],
)
def test_inputs_that_can_be_written(text, name, path, type_):
    read = parse_input(text)
    assert (read.name, read.path, read.type) == (name, path, type_)
    if isinstance(type_, Constant):
        assert type(read.type.value) is type(type_.value)
    again = parse_input(str(read))
    assert (again.name, again.path, again.type) == (name, path, type_)


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("8*batch", Operation("*", Number(8), Name("batch"))),
        ("2*h+1", Operation("+", Operation("*", Number(2), Name("h")), Number(1))),
        ("seq//2", Operation("//", Name("seq"), Number(2))),
        ("a-b-c", Operation("-", Operation("-", Name("a"), Name("b")), Name("c"))),
        ("a - (b - c)", Operation("-", Name("a"), Operation("-", Name("b"), Name("c")))),
        ("-(a+b) + c", Operation("+", Negative(Operation("+", Name("a"), Name("b"))), Name("c"))),
        ("(a+b)*c", Operation("*", Operation("+", Name("a"), Name("b")), Name("c"))),
        ("a % 3 // 2", Operation("//", Operation("%", Name("a"), Number(3)), Number(2))),
        ("Min(a, 2*b)", Call("min", (Name("a"), Operation("*", Number(2), Name("b"))))),
        ("a**2", Operation("**", Name("a"), Number(2))),
        ("(a + 1)**2", Operation("**", Operation("+", Name("a"), Number(1)), Number(2))),
    ],
)
def test_expressions(text, tree):
    read = parse_dimension(text)
    assert read == Size(tree)
    assert parse_dimension(str(read)) == read


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        (
            "2 <= n < m",
            Comparison(Number(2), (("<=", Name("n")), ("<", Name("m")))),
        ),
        ("h in {224, 256,}", Member(Name("h"), (224, 256))),
        ("h not in {0}", Member(Name("h"), (0,), True)),
        ("not (h) == 3", Not(Comparison(Name("h"), (("==", Number(3)),)))),
    ],
)
def test_conditions(text, tree):
    read = parse_condition(text)
    assert read == tree and parse_condition(str(read)) == tree


@st.composite
def _conditions(draw, depth=3):
    """A text of a condition in Python's syntax, with every operator of the language."""
    if depth and draw(st.booleans()):
        kind = draw(st.sampled_from(["and", "or", "not", "group"]))
        one = draw(_conditions(depth=depth - 1))
        if kind == "not":
            return f"not {one}" if draw(st.booleans()) else f"not ({one})"
        if kind == "group":
            return f"({one})"
        return f"{one} {kind} {draw(_conditions(depth=depth - 1))}"
    sign = draw(st.sampled_from(["<=", "<", "==", "!=", ">", ">="]))
    return f"{draw(_sizes())} {sign} {draw(_sizes())}"


@st.composite
def _sizes(draw, depth=3):
    if depth and draw(st.booleans()):
        sign = draw(st.sampled_from(["+", "-", "*", "//", "%", "neg", "group", "max"]))
        one = draw(_sizes(depth=depth - 1))
        if sign == "neg":
            return f"-{one}"
        if sign == "group":
            return f"({one})"
        other = draw(_sizes(depth=depth - 1))
        return f"max({one}, {other})" if sign == "max" else f"{one} {sign} {other}"
    return draw(st.sampled_from(["a", "b", "2", "7"]))


def _value(text, a, b):
    """What Python makes of a generated text; the exception's type where it fails."""
    try:
        return eval(compile(ast.parse(text, mode="eval"), "", "eval"), {"a": a, "b": b, "max": max})
    except ZeroDivisionError:
        return ZeroDivisionError


def _refusal(text):
    with pytest.raises(SpecError) as caught:
        parse_condition(text)
    return str(caught.value)


@settings(deadline=None, max_examples=200)
@given(_conditions(), st.integers(-4, 9), st.integers(-4, 9))
def test_conditions_mean_what_they_mean_in_python(text, a, b):
    from symfx.algebra import Table, evaluate
    from symfx.shape_language.lowering import condition_term

    try:
        again = str(parse_condition(text))
    except SpecError:
        assert "by zero" in _refusal(text)  # of two numbers, such as 2 - 2
        return
    for written in (text, again):
        expected = _value(text, a, b)
        table = Table()
        names = {"a": table.symbol("a"), "b": table.symbol("b")}
        try:
            term = condition_term(table, parse_condition(written), names)
            found = evaluate(term, {names["a"]: a, names["b"]: b})
        except (SpecError, ZeroDivisionError):
            # Python stops at the first part that decides; a term has all of its parts.
            continue
        assert expected is ZeroDivisionError or found == expected


@pytest.mark.parametrize(
    ("text", "message", "caret"),
    [
        ("", "expected the name of an input, found the end", 0),
        ("x:", "expected a type or a value, found the end", 2),
        ("3: f32[2]", "expected the name of an input, found '3'", 0),
        ("x y", "expected ':' after the name 'x', found 'y'", 2),
        ("x: f33[2]", "'f33' is not a dtype; did you mean f32?", 3),
        ("x: thing", "'thing' is not a dtype", 3),
        ("x: f32", "expected '[' after the dtype f32, found the end", 6),
        ("x: f32[", "expected a size or the name of a dimension, found the end", 7),
        ("x: f32[2", "expected ']' after the last dimension, found the end", 8),
        ("x: f32[2,]", "expected a size or the name of a dimension, found ']'", 9),
        ("x: f32[2 3]", "expected ']' after the last dimension, found '3'", 9),
        ("x: f32[2.5]", "expected a size or the name of a dimension, found '2.5'", 7),
        ("x: f32[-1]", "a size cannot be negative", 7),
        ("x: f32[n=-1]", "a size cannot be negative", 9),
        ("x: f32[n=]", "expected a number or a name, found ']'", 9),
        ("x: f32[n=2=3]", "n is described twice", 11),
        ("x: f32[n<=2<=3]", "n is described twice", 13),
        ("x: f32[n<=2=3]", "n is described twice", 12),
        ("x: f32[2<=3]", "a range needs the name of a dimension", 10),
        ("x: f32[2<=n<=m]", "the bounds of a dimension are numbers, and m is none", 13),
        ("x: f32[n == 3]", "== is no bound of a dimension", 12),
        ("x: f32[2*n=8]", "an example size belongs to a name, and 2*n is none", 11),
        ("x: f32[n < 0]", "no size is below 0", 7),
        ("x: f32[8batch]", "expected ']' after the last dimension, found 'batch'", 8),
        ("x: f32[a, *d]", "*d stands for leading dimensions", 10),
        ("x: f32[*d, ...]", "... stands for leading dimensions", 11),
        ("x: f32[abs(n)]", "abs is no function of sizes", 7),
        ("x: f32[n**9]", "the power 9 is larger than 8", 10),
        ("x: f32[007]", "007 begins with 0", 7),
        ("x: f32[99999999999999999999]", "the number has 20 digits and more than 64 bits", 7),
        ("x: f32[n²]", "'n²' cannot be a name", 7),
        ("x: f32[lambda]", "'lambda' is a word of Python, and cannot be a name", 7),
        ("x: f32[ｎ]", "'ｎ' cannot be a name", 7),
        ("x: f32[2*n//0]", "2*n//0 divides by zero", 12),
        ("x: f32[5 <= n < 5]", "no size of n is at least 5 and at most 4", 12),
        ("x: f32[n] < 3", "only integers can be bounded, and these are float32", 10),
        ("x: i64[n] <", "expected a number, found the end", 11),
        ("x: i64[n] < 0", "int64 values below 0 cannot be drawn", 12),
        ("x: u8[n] < 257", "uint8 values below 257 cannot be drawn", 11),
        ("x: f32[n] extra", "expected nothing more, found 'extra'", 10),
        ("x: f32[n] @", "'@' is not part of the grammar here", 10),
        ("x: f32[n; m]", "';' is not part of the grammar here", 8),
        ("x: f32[n/2]", "'/' is not part of the grammar here", 8),
        ("p: float", "the float needs a value", 8),
        ("flag: bool", "the bool needs a value", 10),
        ("flag: bool=1", "1 is not a bool", 11),
        ("n: int=2.5", "2.5 is not an int", 7),
        ("n: int=five", "expected a value, found 'five'", 7),
        ("d: {a: int, a: int}", "the key 'a' is given twice", 12),
        ("d: {a: int", "expected ',' or '}', found the end", 10),
    ],
)
def test_mistakes_are_pointed_at(text, message, caret):
    with pytest.raises(SpecError) as caught:
        parse_input(text)
    _check_error(caught.value, text, message, caret)


def _check_error(error, text, message, caret):
    assert error.what == message
    label, shown, pointer = error.where.split("\n")
    assert label and shown[6:] == text
    assert pointer == " " * (6 + caret) + "^"
    assert error.fix


@pytest.mark.parametrize(
    ("text", "message", "caret", "fix"),
    [
        ("w = h", "expected a comparison, such as == 8 or <= 512, found '='", 2, "=="),
        ("a && b", "'&' is not part of the grammar here", 2, "and"),
        ("a", "expected a comparison, such as == 8 or <= 512, found the end", 1, "condition"),
        ("a in 3", "expected '{', found '3'", 5, "condition"),
        ("a in {x}", "expected a number, found 'x'", 6, "condition"),
        ("a == b)", "expected 'and', 'or' or the end, found ')'", 6, "condition"),
        ("a % (2 - 2) == 0", "a % (2 - 2) divides by zero", 5, "another"),
        ("a == b or", "expected a condition, found the end", 9, "condition"),
        ("(a == b", "expected ')', found the end", 7, "condition"),
        ("a < b c", "expected a comparison or the end, found 'c'", 6, "condition"),
        ("a == 2b", "expected a comparison or the end, found 'b'", 6, "2*b"),
    ],
)
def test_mistakes_in_conditions(text, message, caret, fix):
    with pytest.raises(SpecError) as caught:
        parse_condition(text)
    _check_error(caught.value, text, message, caret)
    assert fix in caught.value.fix


@pytest.mark.parametrize(
    "text",
    [
        "x: f32[" + "-" * 3000 + "a]",
        "x: f32[" + "(1+" * 2000 + "a" + ")" * 2000 + "]",
        "x: " + "(" * 3000 + "int" + ")" * 3000,
        "x: f32[" + " + ".join(["a"] * 2000) + "]",
        "x" + ".a" * 3000 + ": int",
        "x: f32[" + ", ".join(["2"] * 65) + "]",
        "x: f32[" + "9" * 5000 + "]",
        "y" * 20_000,
    ],
)
def test_texts_without_end_are_refused(text):
    with pytest.raises(SpecError) as caught:
        parse_input(text)
    assert len(caught.value.where) < 300 and len(caught.value.what) < 300


@settings(deadline=None, max_examples=300)
@given(st.text(alphabet="xnf32i64bool[]{}(),:=<> -+*/%.?'\"\t\nτ²", max_size=30))
def test_any_text_is_read_or_refused(text):
    for read in (parse_input, parse_type, parse_dimension, parse_condition):
        try:
            tree = read(text)
        except SpecError:
            continue
        assert read(str(tree)) == tree


def test_the_parser_is_loaded_at_the_first_text():
    import subprocess
    import sys

    script = (
        "import sys, symfx.cli, symfx.shape_language as s\n"
        "assert s.parse_dimension('batch').value.name == 'batch'\n"
        "assert 'lark' not in sys.modules\n"
        "s.parse_dimension('2*batch')\n"
        "assert 'lark' in sys.modules and 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
