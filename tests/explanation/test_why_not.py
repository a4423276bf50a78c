"""`Trace.why_not` has one sentence for each cause, and names the nearest inputs that fit."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
import torch
from torch import Tensor

import symfx
from symfx import SpecError

r = torch.randn


def rows(x: Tensor, mask: Tensor) -> Tensor:
    if x.shape[1] > 4 and x.shape[1] % 2 == 0:
        x = x + 1
    return x.sum(-1) * mask


@pytest.fixture(scope="module")
def t() -> symfx.Trace:
    dynamic = {"x": ("batch", "seq", None), "mask": ("batch", "seq")}
    return symfx.trace(rows, (r(3, 6, 8), r(3, 6)), dynamic=dynamic)


def sentences(rejection: symfx.Rejection) -> list[str]:
    return [cause.sentence for cause in rejection]


def assert_nearest_fits(t: symfx.Trace, rejection: symfx.Rejection) -> None:
    args, kwargs = rejection.nearest_call()
    assert t.check(*args, **kwargs)
    assert torch.equal(
        torch.as_tensor(t(*args, **kwargs)), torch.as_tensor(t.model(*args, **kwargs))
    )


CASES: list[tuple[tuple[Any, ...], list[str], dict[str, str]]] = [
    # two guards of one line are one cause
    (
        (r(3, 3, 8), r(3, 3)),
        ["seq is 3 (dimension 1 of x); the program needs seq >= 5 and seq % 2 == 0"],
        {"x": "f32[3, 6, 8]", "mask": "f32[3, 6]"},
    ),
    (
        ("f32[3, 7, 8]", "f32[3, 7]"),
        ["seq is 7 (dimension 1 of x); the program needs seq % 2 == 0"],
        {"x": "f32[3, 8, 8]", "mask": "f32[3, 8]"},
    ),
    # one dtype in two inputs
    (
        ("f16[3, 6, 8]", "f16[3, 6]"),
        ["x and mask have dtype torch.float16, not torch.float32"],
        {"x": "f32[3, 6, 8]", "mask": "f32[3, 6]"},
    ),
    (
        ("f32[3, 6]", r(5, 8)),
        ["x has 2 dimensions, not 3"],
        {"x": "f32[5, 8, 8]", "mask": "f32[5, 8]"},
    ),
    (
        ("f32[3, 6, 9]", "f32[3, 6]"),
        ["dimension 2 of x is 9; it is static: 8 when traced"],
        {"x": "f32[3, 6, 8]", "mask": "f32[3, 6]"},
    ),
    (
        ("f32[3, 6, 8]", "f32[4, 6]"),
        ["batch is 3 (dimension 0 of x) and also 4 (dimension 0 of mask)"],
        {"x": "f32[3, 6, 8]", "mask": "f32[3, 6]"},
    ),
    (
        ("f32[1, 6, 8]", "f32[1, 6]"),
        ["batch is 1 (dimension 0 of x), outside 2 <= batch"],
        {"x": "f32[2, 6, 8]", "mask": "f32[2, 6]"},
    ),
    ((r(3, 6, 8), 3), ["mask is 3, not a tensor"], {"x": "f32[3, 6, 8]", "mask": "f32[3, 6]"}),
    (
        (r(6, 3, 8).transpose(0, 1), r(3, 6)),
        ["the strides of x are (8, 24, 1), not (48, 8, 1): pass x.contiguous()"],
        {"x": "f32[3, 6, 8]", "mask": "f32[3, 6]"},
    ),
    (
        (r(3, 6, 8),),
        ["the arguments do not fit: missing a required argument: 'mask'"],
        {"x": "f32[3, 6, 8]", "mask": "f32[3, 6]"},
    ),
    # several causes, one sentence each
    (
        ("f16[1, 5, 9]", "f32[1, 5]"),
        [
            "x has dtype torch.float16, not torch.float32",
            "dimension 2 of x is 9; it is static: 8 when traced",
            "seq is 5 (dimension 1 of x); the program needs seq % 2 == 0",
            "batch is 1 (dimension 0 of x), outside 2 <= batch",
        ],
        {"x": "f32[2, 6, 8]", "mask": "f32[2, 6]"},
    ),
]


@pytest.mark.parametrize(("args", "causes", "nearest"), CASES)
def test_causes_and_the_nearest_inputs(
    t: symfx.Trace, args: tuple[Any, ...], causes: list[str], nearest: dict[str, str]
) -> None:
    found = t.why_not(*args)
    assert sentences(found) == causes
    assert found.nearest == nearest
    assert found and len(found) == len(causes)
    assert_nearest_fits(t, found)
    if not any(isinstance(arg, str) for arg in args):
        assert not t.check(*args)


def test_the_line_and_the_operator_of_a_cause(t: symfx.Trace) -> None:
    (cause,) = t.why_not("f32[3, 7, 8]", "f32[3, 7]")
    assert cause.kind == "condition" and cause.conditions == ("seq % 2 == 0",)
    assert cause.line and cause.line.line.startswith("if x.shape[1] > 4")
    assert cause.inputs == ("x", "mask")
    p = symfx.trace(lambda x: x.view(4, 4), r(16), dynamic=[("n",)], strict=False)
    (pinned,) = p.why_not(r(15))
    assert pinned.sentence == "n is 15 (dimension 0 of x); the program pins it to 16"
    assert pinned.operator == "aten.view.default"
    assert p.why_not(r(15)).nearest == {"x": "f32[16]"}


def test_inputs_that_fit(t: symfx.Trace) -> None:
    found = t.why_not(r(5, 8, 8), r(5, 8))
    assert not found and len(found) == 0 and str(found) == "these inputs fit"
    assert found.as_data()["fits"] is True and "fit" in found._repr_html_()
    with pytest.raises(symfx.InputMismatchError, match="fit"):
        found.nearest_call()
    assert not t.why_not("f32[5, 8, 8]", mask="f32[5, 8]")
    assert not t.why_not("x: f32[5, seq=8, 8]", "mask: f32[5, 8]")
    assert not t.why_not("x: f32[batch, seq, 8]", "mask: f32[batch, seq]")
    # No memory is needed for a shape.
    assert not t.why_not("f32[100000, 100000, 8]", "f32[100000, 100000]")


def test_all_forms_of_a_rejection(t: symfx.Trace) -> None:
    found = t.why_not("f32[3, 7, 8]", "f32[3, 7]")
    data = json.loads(json.dumps(found.as_data()))
    assert data["causes"][0]["line"]["text"].startswith("if x.shape[1] > 4")
    assert data["nearest"] == dict(found.nearest) and data["sizes"] == {"batch": 3, "seq": 8}
    text = str(found)
    assert text.splitlines()[0] == "these inputs do not fit:" and "x: f32[3, 8, 8]" in text
    assert found.__rich__().plain == text
    assert "<code>x: f32[3, 8, 8]</code>" in found._repr_html_()


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("f33[3]", "f32[3, 6]"), "'f33' is not a dtype"),
        (("f32[3, other, 8]", "f32[3, 6]"), "other in 'f32[3, other, 8]' is no size"),
        (("f32[3, 2*seq, 8]", "f32[3, 6]"), "is no size"),
        (("x: f32[3, 6, 8]", "y: f32[3, 6]"), "y is no input of the trace"),
        (("x: f32[3, 6, 8]",), "the trace needs an input mask"),
        (("x: f32[3, 6, 8]", "x: f32[3, 6, 8]"), "x is described twice"),
        (("?", "f32[3, 6]"), "does not say what x is"),
    ],
)
def test_texts_that_describe_no_input(t: symfx.Trace, args: tuple[str, ...], words: str) -> None:
    with pytest.raises(SpecError) as caught:
        t.why_not(*args)
    assert words in str(caught.value)


def test_expressions_of_dimensions() -> None:
    t = symfx.trace(torch.relu, r(32, 9), dynamic=[("8*batch", "2*h + 1")])
    found = t.why_not("f32[35, 10]")
    assert sentences(found) == [
        "dimension 0 of arg0 is 35, which 8*batch never is",
        "dimension 1 of arg0 is 10, which 2*h + 1 never is",
    ]
    assert found.nearest["arg0"] in ("f32[32, 9]", "f32[32, 11]")
    assert_nearest_fits(t, found)


def test_ints_containers_and_static_values() -> None:
    def program(batch: dict[str, Any], n: int, mode: str) -> Tensor:
        return batch["x"][:n] if mode == "first" else batch["y"]

    args = {"x": r(8, 3), "y": r(2)}, 4, "first"
    t = symfx.trace(program, args, dynamic={"batch": {"x": ("rows", None), "y": None}, "n": "n"})
    found = t.why_not({"x": "f32[8, 3]", "y": "f32[2]"}, 9, "last")
    assert "mode is 'last'; it is static: 'first' when traced" in sentences(found)
    assert found.nearest["mode"] == "'first'" and "f32[8, 3]" in found.nearest.values()
    assert_nearest_fits(t, found)
    assert not t.why_not({"x": "f32[9, 3]", "y": "f32[2]"}, "int=5", "first")
    (structure,) = t.why_not([r(8, 3)], 4, "first")
    assert structure.kind == "arguments" and "another structure" in structure.sentence


def test_the_number_in_a_tensor() -> None:
    def program(x: Tensor, k: Tensor) -> Tensor:
        n = k.item()
        torch._check(n >= 3)
        torch._check(n <= x.shape[0])
        return x.narrow(0, 0, n)

    t = symfx.trace(program, (r(8), torch.tensor(5)), dynamic={"x": ("rows",), "k": ()})
    assert not t.why_not(r(8), torch.tensor(5)) and not t.why_not("f32[8]", "i64[] = 5")
    found = t.why_not(r(3), torch.tensor(5))
    (sentence,) = sentences(found)
    assert sentence == (
        "rows is 3 (dimension 0 of x) and k is 5; the program needs rows >= k.item()"
    )
    assert_nearest_fits(t, found)
    # The texts of the nearest inputs can be asked about in turn.
    assert not t.why_not(*(f"{path}: {text}" for path, text in found.nearest.items()))
    assert t.why_not("x: f32[9]", "k: i64[] = 2")
    with pytest.raises(SpecError, match="one value to a tensor of several"):
        t.why_not("f32[8] = 5", "i64[] = 5")


def smallest_cost(t: symfx.Trace, x: int, y: int, most: int) -> tuple[int, int]:
    """The fewest sizes that change, and the least change of these, by trying all in a window."""
    best = (9, 9**9)
    for a, b in itertools.product(range(most), repeat=2):
        if t.check(r(a, 2), r(b, 2)):
            best = min(best, ((a != x) + (b != y), abs(a - x) + abs(b - y)))
    return best


def two_sizes(x: Tensor, y: Tensor) -> Tensor:
    if x.shape[0] % 3 == 0 and x.shape[0] + y.shape[0] >= 9:
        return torch.cat([x, y])
    return x


def test_nothing_nearer_fits() -> None:
    t = symfx.trace(two_sizes, (r(6, 2), r(5, 2)), dynamic={"x": ("a", None), "y": ("b", None)})
    for x, y in [(5, 5), (6, 2), (2, 2), (7, 0), (11, 1), (4, 4), (1, 1), (8, 9)]:
        found = t.why_not(r(x, 2), r(y, 2))
        sizes = found.sizes
        cost = ((sizes["a"] != x) + (sizes["b"] != y), abs(sizes["a"] - x) + abs(sizes["b"] - y))
        assert cost == smallest_cost(t, x, y, 16), (x, y)
        assert_nearest_fits(t, found)


def test_far_sizes_are_found() -> None:
    def far(x: Tensor) -> Tensor:
        if x.shape[0] >= 100_000 and x.shape[0] % 4096 == 0:
            return x + 1
        return x

    t = symfx.trace(far, r(4096 * 25, 1), dynamic=[("n", None)])
    found = t.why_not("f32[3, 1]")
    assert found.sizes == {"n": 4096 * 25}


def test_many_connected_sizes_have_an_answer() -> None:
    def chain(*xs: Tensor) -> Tensor:
        for a, b in itertools.pairwise(xs):
            if a.shape[0] >= b.shape[0]:
                raise ValueError("sizes must grow")
        return xs[0]

    args = tuple(r(n) for n in range(3, 9))
    t = symfx.trace(chain, args, dynamic={"xs": tuple((f"n{i}",) for i in range(6))})
    found = t.why_not(*(r(5) for _ in args))
    assert found
    args, kwargs = found.nearest_call()
    assert t.check(*args, **kwargs)


def test_a_loaded_trace(t: symfx.Trace, tmp_path: Any) -> None:
    t.save(tmp_path / "t.symfx")
    again = symfx.load(tmp_path / "t.symfx")
    for args, _, _ in CASES:
        assert str(again.why_not(*args)) == str(t.why_not(*args))


def test_sizes_that_nothing_connects_are_searched_one_by_one() -> None:
    def program(*xs: Tensor) -> Tensor:
        return sum(x.view(-1, 16).sum() for x in xs)

    args = tuple(r(32) for _ in range(5))
    t = symfx.trace(program, args, dynamic={"xs": tuple((f"n{i}",) for i in range(5))})
    found = t.why_not(*(f"f32[{n}]" for n in (17, 1000, 47, 15, 4099)))
    assert [found.sizes[f"n{i}"] for i in range(5)] == [16, 1008, 48, 16, 4096]
    assert len(found) == 1, "one line asked for all of these guards"
    args, _ = found.nearest_call()
    assert t.check(*args)


def test_guards_without_a_value_at_the_inputs() -> None:
    """A root of a negative number, or a division by zero: the guard does not hold there."""

    def program(x: Tensor, y: Tensor) -> Tensor:
        if x.shape[0] >= y.shape[0] and (x.shape[0] - y.shape[0]) ** 0.5 <= 3.0:
            return x + 1
        return x

    t = symfx.trace(program, (r(9), r(4)), dynamic={"x": ("a",), "y": ("b",)})
    assert not t.check(r(4), r(9))
    found = t.why_not(r(4), r(9))
    assert len(found) == 1 and found.sizes == {"a": 9, "b": 9}
    assert_nearest_fits(t, t.why_not(r(30), r(4)))
    assert t.explain("a >= 3").kind == "condition"
