"""Dimensions said in the language of shapes, in torch's ways and in jaxtyping's; stated conditions."""

# ruff: noqa: F722, F821 - jaxtyping writes dimensions as text

import itertools

import pytest
import torch
from jaxtyping import Float, Int
from torch import nn
from torch.export import AdditionalInputs, ShapesCollection
from torch.export import Dim as TorchDim

import symfx
from symfx import Dim, SpecError, TracingError


def matmul(x, y):
    return x.reshape(x.shape[0] // 8, 8, -1).sum(1), y[: x.shape[0] // 8]


def shapes(t):
    return {
        n.name: [str(s) for s in n.meta["val"].shape]
        for n in t.graph_module.graph.nodes
        if n.op == "placeholder"
    }


# -- expressions ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "dynamic",
    [
        {"x": ("8*batch", None), "y": ("2*h + 1",)},
        {"x": "[8*batch, 3]", "y": "f32[2*h + 1]"},
        {"x": (8 * Dim("batch"), 3), "y": (Dim("h") * 2 + 1,)},
        {"x": {0: 8 * TorchDim("batch")}, "y": {0: 2 * TorchDim("h") + 1}},
        [("batch * 8", "?"), ("1 + h*2",)],
    ],
    ids=["parts", "types", "Dim", "torch", "order"],
)
def test_an_expression_determines_its_symbol(dynamic):
    t = symfx.trace(matmul, (torch.randn(32, 3), torch.randn(9)), dynamic=dynamic)
    assert shapes(t) == {"x": ["8*batch", "3"], "y": ["2*h + 1"]}
    assert [(info.name, info.hint) for info in t.symbols] == [("batch", 4), ("h", 4)]
    assert t.guards == () and t.verify(shapes=6)
    assert [info.lower for info in t.symbols] == [2, 2]
    for rows, length in itertools.product(range(14, 60), (3, 4, 5, 8, 9)):
        x, y = torch.randn(rows, 3), torch.randn(length)
        fits = rows % 8 == 0 and rows >= 16 and length % 2 == 1 and length >= 5
        assert bool(t.check(x, y)) is fits, (rows, length)
        assert t.guard_program().check(x, y) is fits
        if fits:
            for got, expected in zip(t(x, y), matmul(x, y), strict=True):
                assert torch.equal(got, expected)
    assert "dimension 0 of x is 33, which 8*batch never is" in str(
        t.check(torch.randn(33, 3), torch.randn(9))
    )


def test_names_are_solved_from_several_dimensions_in_any_order():
    def f(x, y, z):
        return x.sum() + y.sum() + z.sum(), x.new_zeros(y.shape[0]), z.new_ones(x.shape[1] + 1)

    t = symfx.trace(
        f,
        (torch.randn(12, 5), torch.randn(7), torch.randn(14)),
        dynamic={"x": ("a + b", "b"), "y": ("a",), "z": ("2*a",)},
    )
    assert {info.name: info.hint for info in t.symbols} == {"a": 7, "b": 5}
    assert t.verify(shapes=4)
    assert not t.check(torch.randn(12, 5), torch.randn(6), torch.randn(12))
    assert t.check(torch.randn(11, 5), torch.randn(6), torch.randn(12))


def test_expressions_of_a_size_that_another_input_has():
    t = symfx.trace(
        lambda x, y: x[: y.shape[0]] * y[0],
        (torch.randn(9, 2), torch.randn(4, 2)),
        dynamic={"x": ("n", None), "y": ("n//2", None)},
    )
    assert [info.name for info in t.symbols] == ["n"] and t.verify(shapes=4)
    assert t.check(torch.randn(8, 2), torch.randn(4, 2))
    assert not t.check(torch.randn(10, 2), torch.randn(4, 2))


@pytest.mark.parametrize(
    ("dynamic", "message"),
    [
        ({"x": ("7*b", None)}, "32 in the example, which 7\\*b never is"),
        ({"x": ("b//2", None)}, "no dimension determines b"),
        ({"x": ("a*b", None)}, "no dimension determines a"),
        ({"x": ("a", None), "y": ("2*a",)}, "9 in the example, and 2\\*a is 64 for a = 32"),
        ({"x": ("a", "a + 1")}, "3 in the example, and a \\+ 1 is 33 for a = 32"),
        ({"x": ("32*a", None)}, "a is 1 in the example, and a is to be dynamic"),
        ({"x": ("a//0 + a", None)}, "divides by zero"),
        ({"x": ("a +", None)}, "expected a number or a name, found the end"),
        ({"x": ("batch=4", None)}, "is 32 in the example, not 4"),
        ({"x": "[a, b, 3]"}, "x has 2 dimensions"),
        ({"x": "f64[a, 3]"}, "x has the dtype float32, not float64"),
        ({"x": "(f32[a], f32[b])"}, "no type of a tensor"),
        ({"x": ("2 <= a <= 8", None)}, "is 32 in the example, outside 2 <= a <= 8"),
        ({"x": ("16 <= 8*b <= 24", None)}, "8\\*b <= 24 does not hold in the example"),
        ({"x": (8 * Dim("b", max=9), None), "y": (Dim("b", max=8),)}, "two values for max"),
    ],
)
def test_expressions_that_do_not_fit_the_example(dynamic, message):
    with pytest.raises(SpecError, match=message):
        symfx.trace(matmul, (torch.randn(32, 3), torch.randn(9)), dynamic=dynamic)


def test_leading_dimensions():
    model = nn.Linear(4, 2)
    x = torch.randn(3, 5, 7, 4)
    for entry in (("*lead", None), "[*lead, 4]", ("*lead", 4)):
        t = symfx.trace(model, x, dynamic={"input": entry})
        assert shapes(t)["input_2"] == ["lead_0", "lead_1", "lead_2", "4"]
        assert t.verify(shapes=2)
    t = symfx.trace(model, x, dynamic={"input": (..., "d", None)})
    assert shapes(t)["input_2"] == ["3", "5", "d", "4"]
    t = symfx.trace(
        lambda x, y: x + y, (x, x[..., :1]), dynamic={"x": ("*d", "k"), "y": ("*d", None)}
    )
    assert shapes(t)["y"] == ["d_0", "d_1", "d_2", "1"]


def test_ranges_as_text():
    t = symfx.trace(torch.relu, torch.randn(5, 6), dynamic=["[2 <= a <= 9, 4 <= 2*b < 40]"])
    a, b = t.symbols
    assert (a.lower, a.upper, b.lower, b.upper) == (2, 9, 2, 19)
    assert not t.check(torch.randn(5, 40)) and t.check(torch.randn(9, 38))


def test_arithmetic_of_dims():
    a, b = Dim("a"), Dim("b", max=9)
    for made, text in [
        (8 * a, "8*a"),
        (a * 8 + 1, "a*8 + 1"),
        (3 - a, "3 - a"),
        ((a + b) // 2, "(a + b)//2"),
        (7 % a - -b, "7 % a - (-b)"),
        (6 // a, "6//a"),
        (1 + a % b, "1 + a % b"),
    ]:
        assert str(made) == text
    assert (a + b).dims == {"a": a, "b": b}
    assert 2 * a == 2 * a and hash(2 * a) == hash(2 * a) and 2 * a != 3 * a
    with pytest.raises(SpecError, match=r"computed with 1\.5"):
        a + 1.5
    with pytest.raises(SpecError, match="a is described in two ways"):
        a + Dim("a", max=3)


# -- torch's and jaxtyping's ways ------------------------------------------------------------------


def test_hints_of_torch():
    def f(x, y):
        return x + torch.ones(16, 8), y * 2

    x, y = torch.randn(3, 16, 8), torch.randn(5, 1)
    auto, dynamic, static = TorchDim.AUTO, TorchDim.DYNAMIC, TorchDim.STATIC
    t = symfx.trace(f, (x, y), dynamic={"x": (auto, auto, auto), "y": {0: dynamic, 1: auto}})
    assert [record.value for record in t.specializations] == [16, 8]
    assert shapes(t)["y"][1] == "1" and not shapes(t)["y"][0].isdigit()
    with pytest.raises(TracingError, match="specializes a size that is to be dynamic"):
        symfx.trace(f, (x, y), dynamic={"x": (static, dynamic, static)})
    t = symfx.trace(f, (x, y), dynamic={"x": (dynamic(max=64), None, None), "y": (auto(min=3), 1)})
    assert [(s.name, s.lower, s.upper) for s in t.symbols] == [("x_0", 2, 64), ("y_0", 3, None)]
    named = TorchDim("batch", min=3, max=9)
    t = symfx.trace(f, (x, y), dynamic={"x": (named, static, 8)})
    assert [(s.name, s.lower, s.upper) for s in t.symbols] == [("batch", 3, 9)]


class Nested(nn.Module):
    def forward(self, batch, *rest, scale=1, **more):
        return batch["x"] * scale + rest[0].sum() + more["bias"]


def test_dictionaries_and_collections_of_torch():
    x, y, bias = torch.randn(6, 3), torch.randn(4), torch.randn(3)
    args, kwargs = ({"x": x}, y), {"bias": bias}
    b, k = TorchDim("b"), TorchDim("k")
    given = {"batch": {"x": {0: b}}, "rest": ((k,),), "more": {"bias": None}}
    collection = ShapesCollection()
    collection[x] = (b, None)
    collection[y] = {0: k}
    for dynamic in (given, collection):
        t = symfx.trace(Nested(), args, kwargs, dynamic=dynamic)
        assert shapes(t) == {"batch_x": ["b", "3"], "rest_0": ["k"], "bias": ["3"]}
        assert t.verify(shapes=2)
    more = AdditionalInputs()
    more.add(({"x": torch.randn(9, 3)}, torch.randn(4)), {"bias": bias})
    t = symfx.trace(Nested(), args, kwargs, dynamic=more)
    assert [s.isdigit() for s in shapes(t)["batch_x"]] == [False, True]
    assert shapes(t)["rest_0"] == ["4"]
    with pytest.raises(SpecError, match="the ShapesCollection does not fit"):
        symfx.trace(Nested(), ({"x": x.clone()}, y), kwargs, dynamic=collection)


def test_marked_tensors():
    x, y = torch.randn(6, 3), torch.randn(4, 5)
    torch._dynamo.mark_dynamic(x, 0, min=4, max=10)
    torch._dynamo.maybe_mark_dynamic(y, 1)

    def f(x, y):
        return x * 2, y + torch.ones(5)

    t = symfx.trace(f, (x, y))
    assert [(s.name, s.lower, s.upper) for s in t.symbols] == [("x_0", 4, 10)]
    assert [record.value for record in t.specializations] == [5]
    assert symfx.trace(f, (x, y), dynamic={}).symbols == ()
    torch._dynamo.mark_dynamic(y, 1)
    with pytest.raises(TracingError, match="specializes a size that is to be dynamic"):
        symfx.trace(f, (x, y))


@pytest.mark.parametrize("strict", [False, True])
def test_a_mark_that_a_trace_does_not_read_is_told(strict):
    x = torch.randn(6, 3)
    torch._dynamo.decorators.mark_unbacked(x, 0, strict=strict)
    with pytest.raises(SpecError, match="mark_unbacked was called on dimension 0 of x") as caught:
        symfx.trace(lambda x: x * 2, (x,))
    assert "symfx.dynamic_spec" in caught.value.fix
    assert symfx.trace(lambda x: x * 2, (x,), dynamic={"x": ("n", None)}).symbols[0].name == "n"


def test_another_rank_is_told_in_the_words_of_the_entry():
    with pytest.raises(SpecError) as caught:
        symfx.trace(torch.relu, (torch.randn(6, 3),), dynamic=["[b, 2*s, 8]"])
    assert caught.value.what.endswith("has 2 dimensions, and its entry (b, 2*s, 8) has 3")


class Annotated(nn.Module):
    def __init__(self):
        super().__init__()
        self.lin = nn.Linear(64, 8)

    def forward(
        self,
        x: Float[torch.Tensor, "*lead seq d=64"],
        ids: Int[torch.Tensor, "seq #one _"] | None = None,
        wide: "Float[torch.Tensor, '2*seq wide']" = None,
    ):
        return self.lin(x), ids, wide


def test_annotations_of_jaxtyping():
    x, ids, wide = (
        torch.randn(3, 7, 64),
        torch.zeros(7, 1, 4, dtype=torch.int64),
        torch.randn(14, 5),
    )
    t = symfx.trace(Annotated(), (x, ids, wide))
    assert shapes(t) == {
        "x": ["lead_0", "seq", "64"],
        "ids": ["seq", "1", "4"],
        "wide": ["2*seq", "wide"],
    }
    assert t.verify(shapes=2)
    # Sizes of 1, and those that the program pins, are static: an annotation is no promise.
    assert shapes(symfx.trace(Annotated(), (x[:1],)))["x"] == ["1", "seq", "64"]
    assert symfx.trace(Annotated(), (x,), dynamic={}).symbols == ()

    def pinning(x: Float[torch.Tensor, "n"]):
        return x + torch.ones(4)

    assert symfx.trace(pinning, torch.randn(4)).specializations[0].symbol_name == "n"
    with pytest.raises(SpecError, match="is 3 in the example, not 64"):
        symfx.trace(Annotated(), (torch.randn(2, 7, 3),))


# -- conditions --------------------------------------------------------------------------------------


def fold(x):
    return x.reshape(x.shape[0], -1, 8)


def test_a_stated_condition_is_relied_on_and_checked():
    t = symfx.trace(fold, torch.randn(3, 16), dynamic=[("n", "s")], where="s % 8 == 0")
    assert [str(g.term) for g in t.guards] == ["s % 8 == 0"]
    assert t.guards[0].provenance.stated and "where s % 8 == 0" in str(t)
    assert t.verify(shapes=3).remarks == ()
    for s in range(2, 40):
        assert bool(t.check(torch.randn(2, s))) is (s % 8 == 0)
    assert "s % 8 == 0 does not hold for s = 9, as where= states" in str(t.check(torch.randn(2, 9)))


@pytest.mark.parametrize(
    ("where", "admits"),
    [
        (["s in {8, 24, 32}"], lambda n, s: s in (8, 24, 32)),
        (["n == s // 8", "s % 8 == 0"], lambda n, s: s % 8 == 0 and n == s // 8),
        (["n + s <= 40", "s % 8 == 0"], lambda n, s: n + s <= 40 and s % 8 == 0),
        (["s % 8 == 0 and (n < 4 or n >= 6)"], lambda n, s: s % 8 == 0 and (n < 4 or n >= 6)),
        (["not n == 5 and s % 8 == 0"], lambda n, s: n != 5 and s % 8 == 0),
        ("s % 8 == 0 and 2*n >= s", lambda n, s: s % 8 == 0 and 2 * n >= s),
    ],
)
def test_a_trace_admits_what_its_conditions_state(where, admits):
    example = next(
        (n, s) for n in range(3, 20) for s in (24, 32, 8, 16) if admits(n, s) and n not in (s, 8)
    )
    t = symfx.trace(fold, torch.randn(*example), dynamic=[("n", "s")], where=where)
    for n, s in itertools.product(range(2, 12), range(2, 48)):
        x = torch.randn(n, s)
        assert bool(t.check(x)) is admits(n, s), (n, s)
        if admits(n, s):
            assert torch.equal(t(x), fold(x))


@pytest.mark.parametrize(
    ("where", "message", "caret"),
    [
        ("k % 8 == 0", "no input has a dimension named k", 0),
        ("s % 3 == 0", "s % 3 == 0 does not hold in the example, where s is 16", 0),
        ("n > 2 and q == 3", "no input has a dimension named q", 10),
        ("s %% 3", "expected a number or a name, found '%'", 3),
        ("s % 0 == 0", "s % 0 divides by zero", 4),
    ],
)
def test_conditions_that_cannot_be_stated(where, message, caret):
    with pytest.raises(SpecError) as caught:
        symfx.trace(fold, torch.randn(3, 16), dynamic=[("n", "s")], where=where)
    assert caught.value.what == message
    assert caught.value.where == f"where\n      {where}\n{' ' * (6 + caret)}^"
    with pytest.raises(SpecError, match="where is 3"):
        symfx.trace(fold, torch.randn(3, 16), dynamic=[("n", "s")], where=3)


def test_a_condition_that_the_program_breaks():
    where = "s % 4 == 0"
    with pytest.raises(TracingError) as caught:
        symfx.trace(fold, torch.randn(3, 16), dynamic=[(None, "s")], where=where)
    error = caught.value
    assert error.what == (
        "fold needs more of s than where= states: s % 8 == 0 "
        "(it holds for s = 16 and not for s = 4)"
    )
    assert "return x.reshape(x.shape[0], -1, 8)" in error.where
    assert "where='s % 8 == 0'" in error.fix
    loose = symfx.trace(fold, torch.randn(3, 16), dynamic=[(None, "s")], where=where, strict=False)
    assert [str(g.term) for g in loose.guards] == ["s % 8 == 0"]

    def capped(x):
        return x * 2 if x.shape[0] <= 100 else x

    with pytest.raises(TracingError) as caught:
        symfx.trace(capped, torch.randn(12), dynamic=[("n",)], where="n % 3 == 0")
    assert "n <= 100 (it holds for n = 12 and not for n = 102)" in caught.value.what
    assert "where='n <= 100 and n % 3 == 0'" in caught.value.fix
    nearest = ["n <= 100 and n % 3 == 0"]
    t = symfx.trace(capped, torch.randn(12), dynamic=[("n",)], where=nearest)
    assert t.check(torch.randn(99)) and not t.check(torch.randn(102))
    # A guard about other dimensions is no matter of the condition.
    t = symfx.trace(
        lambda x, y: (capped(x), y),
        (torch.randn(12), torch.randn(6)),
        dynamic=[("n",), ("m",)],
        where="m % 3 == 0",
    )
    assert {str(g.term) for g in t.guards} == {"n <= 100", "m % 3 == 0"}


def test_conditions_that_the_program_does_not_need_are_told():
    where = ["s % 32 == 0", "n <= 64"]
    t = symfx.trace(fold, torch.randn(3, 32), dynamic=[("n", "s")], where=where)
    assert t.verify(shapes=2).remarks == (
        "the program needs less than the stated condition s % 32 == 0: s % 8 == 0",
        "the program does not need the stated condition n <= 64",
    )


def test_equal_dimensions_are_one_in_the_graph():
    t = symfx.trace(
        torch.matmul,
        (torch.randn(6, 6), torch.randn(6, 5)),
        dynamic=[("w", "h"), ("h", "k")],
        where="w == h",
    )
    assert t.verify(shapes=3) and len(t.guards) == 1
    assert not t.check(torch.randn(3, 4), torch.randn(4, 5))


def test_what_was_stated_is_kept_in_a_file(tmp_path):
    t = symfx.trace(
        fold, torch.randn(6, 16), dynamic=[("2*n", "s")], where=["s % 8 == 0", "n in {2, 3, 5}"]
    )
    t.save(tmp_path / "t.symfx")
    again = symfx.load(tmp_path / "t.symfx", model=fold)
    assert str(again) == str(t) and again.verify(shapes=3)
    for n, s in itertools.product(range(2, 14), range(7, 34)):
        assert bool(again.check(torch.randn(n, s))) is bool(t.check(torch.randn(n, s)))
        assert bool(t.check(torch.randn(n, s))) is (s % 8 == 0 and n in (4, 6, 10))


def test_expressions_and_conditions_are_handed_on(tmp_path):
    t = symfx.trace(
        matmul,
        (torch.randn(32, 3), torch.randn(9)),
        pre_dispatch=True,
        dynamic={"x": ("8*batch", None), "y": ("2*h + 1",)},
        where="batch % 2 == 0",
    )
    program = t.to_exported_program()
    module = program.module()
    for rows, length in ((16, 11), (48, 5)):
        x, y = torch.randn(rows, 3), torch.randn(length)
        for got, expected in zip(module(x, y), matmul(x, y), strict=True):
            assert torch.equal(got, expected)
    for rows, length in ((24, 11), (33, 11), (16, 10)):
        with pytest.raises((AssertionError, RuntimeError)):
            module(torch.randn(rows, 3), torch.randn(length))
    torch.export.save(program, tmp_path / "p.pt2")
    assert torch.export.load(tmp_path / "p.pt2").module()(torch.randn(16, 3), torch.randn(11))


@pytest.mark.parametrize(
    "text",
    [
        "lambda",
        "None",
        "in",
        "ｂ",
        "b" * 201,
        "8b",
        "b//0",
        "5 <= b <= 4",
        "b <= 1",
        "0*b",
        "b - b",
    ],
)
def test_the_same_mistakes_are_refused_before_a_trace(text):
    for part in [text, "[" + text + ", 8]"]:
        entry = part if part.startswith("[") else (part, 8)
        with pytest.raises(SpecError) as caught:
            symfx.trace(torch.relu, torch.randn(6, 8), dynamic=[entry])
        assert caught.value.where.startswith("dynamic") and caught.value.fix


def test_names_that_say_nothing_are_static():
    for text in ("?", "_", "Dyn"):
        assert not symfx.trace(torch.relu, torch.randn(6, 8), dynamic=[(text, 8)]).symbols


def test_mistakes_in_the_arithmetic_of_dimensions():
    d = symfx.Dim("d")
    for make in (
        lambda: d / 2,
        lambda: 6 / d,
        lambda: d * 1.5,
        lambda: d + "c",
        lambda: d + torch.export.Dim("e"),
        lambda: d**9,
        lambda: d**d,
        lambda: symfx.Dim("class"),
        lambda: symfx.Dim("d", min="2"),
        lambda: symfx.Dim("d", max=True),
        lambda: symfx.Dim("d", min=5, max=4),
    ):
        with pytest.raises(SpecError) as caught:
            make()
        assert caught.value.fix
    t = symfx.trace(
        lambda x, y: (x + 1, y), (torch.randn(9), torch.randn(3)), dynamic=[(d**2,), (d,)]
    )
    assert t.check(torch.randn(25), torch.randn(5)) and not t.check(torch.randn(8), torch.randn(3))
