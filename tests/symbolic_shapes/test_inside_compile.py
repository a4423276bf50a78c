"""Questions about shapes inside torch.compile: answered as torch's own functions answer them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.fx.experimental.symbolic_shapes as stock
from torch._dynamo.exc import Unsupported
from torch._dynamo.testing import CompileCounter
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode

import symfx.symbolic_shapes as ours
from symfx.torch_bridge.dynamo import torch_answers_in_dynamo

SIZES = [torch.ones(9, 3), torch.ones(5, 3)]
NUMBERS = [torch.tensor(1), torch.tensor(2)]


@pytest.fixture(autouse=True)
def scalars() -> Iterator[None]:
    torch._dynamo.reset()
    with torch._dynamo.config.patch(capture_scalar_outputs=True):
        yield
    torch._dynamo.reset()


def compiled(f: Callable[..., Any], inputs: list[torch.Tensor]) -> tuple[list[float], int]:
    torch._dynamo.reset()
    counter = CompileCounter()
    g = torch.compile(f, backend=counter, fullgraph=True, dynamic=True)
    return [g(x).sum().item() for x in inputs], counter.frame_count


def test_a_size_that_is_not_known_leaves_one_graph() -> None:
    def f(x: torch.Tensor) -> torch.Tensor:
        return x + 1 if ours.statically_known_true(x.size(0) == 9) else x - 1

    assert compiled(f, SIZES) == ([0.0, 0.0], 1)


def test_a_hint_is_baked_in() -> None:
    def f(x: torch.Tensor) -> torch.Tensor:
        return x + ours.guarding_hint_or_throw(x.size(0))

    assert compiled(f, SIZES) == ([270.0, 150.0], 1)


def test_a_dynamic_size_has_no_static_value() -> None:
    def f(x: torch.Tensor) -> torch.Tensor:
        return x + ours.has_static_value(x.size(0))

    assert compiled(f, SIZES) == ([27.0, 15.0], 1)


Ask = Callable[[Callable[..., Any], torch.Tensor], Any]

WAYS: dict[str, Ask] = {
    "a size": lambda ask, x: x + 2 * bool(ask(x.size(0))),
    "a size, added": lambda ask, x: x + ask(x.size(0)),
    "a float": lambda ask, x: x + 2 * bool(ask(x.size(0) * 0.5)),
    "a condition": lambda ask, x: x + 2 * bool(ask(x.size(0) == 9)),
    "a condition that holds": lambda ask, x: x + 2 * bool(ask(x.size(0) >= 0)),
    "a bool": lambda ask, x: x + 2 * bool(ask(True)),
    "an int": lambda ask, x: x + 2 * bool(ask(3)),
    "a tensor": lambda ask, x: x + 2 * bool(ask(x)),
    "conditions": lambda ask, x: x + 2 * bool(ask(x.size(0) == 9, x.size(1) == 3)),
    "a size and an int": lambda ask, x: x + 2 * bool(ask(x.size(0), 9)),
    "two shapes": lambda ask, x: x + 2 * bool(ask(x.shape, (9, 3))),
    "sizes and strides": lambda ask, x: x + ask((x.size(0), 3), (3, 1)),
    "sizes": lambda ask, x: x + ask(x.shape)[0],
    "a fallback": lambda ask, x: x + ask(x.size(0), fallback=7),
    "an int of the data": lambda ask, x: x + 2 * bool(ask(x.item())),
    "an int of the data, added": lambda ask, x: x + ask(x.item()),
    "a condition of the data": lambda ask, x: x + 2 * bool(ask(x.item() == 1)),
    "a fallback for the data": lambda ask, x: x + ask(x.item(), fallback=7),
    "a range": lambda ask, x: x + 2 * bool(ask(x.item(), min=0, max=9)),
}
INT = ("a size", "a size, added", "an int", "an int of the data", "an int of the data, added")
BOOL = ("a condition", "a condition that holds", "a bool", "a condition of the data")
ANY = ("a size", "a float", "a condition", "an int", "an int of the data")

#: Each question that programs ask, and the ways to ask it.
QUESTIONS: dict[str, tuple[str, ...]] = {
    "_advise_is_bounded": ("a size and an int",),
    "_advise_is_size": ("a size", "an int of the data"),
    "_constrain_range_for_size": ("a range",),
    "cast_symbool_to_symint_guardless": BOOL,
    "check_consistent": ("a size and an int",),
    "constrain_range": ("a range",),
    "constrain_unify": ("a size and an int",),
    "create_contiguous": ("sizes",),
    "eval_is_non_overlapping_and_dense": ("sizes and strides",),
    "expect_true": BOOL,
    "free_symbols": (*ANY, "a tensor"),
    "free_unbacked_symbols": (*ANY, "a tensor"),
    "guard_bool": BOOL,
    "guard_float": ("a float",),
    "guard_int": INT,
    "guard_or_false": BOOL,
    "guard_or_true": BOOL,
    "guard_scalar": (*INT, *BOOL, "a float"),
    "guard_size_oblivious": BOOL,
    "guarding_hint_or_throw": (*INT, *BOOL),
    "has_free_symbols": (*ANY, "a tensor"),
    "has_free_unbacked_symbols": (*ANY, "a tensor"),
    "has_guarding_hint": ANY,
    "has_static_value": ANY,
    "has_symbolic_sizes_strides": ("a tensor",),
    "is_concrete_bool": BOOL,
    "is_concrete_float": ("a float",),
    "is_concrete_int": INT,
    "is_nested_int": INT,
    "is_symbolic": ANY,
    "optimization_hint": (*INT, "a fallback", "a fallback for the data"),
    "statically_known_false": BOOL,
    "statically_known_true": BOOL,
    "sym_and": ("conditions", *BOOL),
    "sym_eq": ("a size and an int", "two shapes"),
    "sym_or": ("conditions", *BOOL),
}


def outcome(function: Any, way: str) -> Any:
    """The answers and the number of graphs; None where Dynamo refuses the question."""
    ask = WAYS[way]
    inputs = NUMBERS if "data" in way or way == "a range" else SIZES
    try:
        return compiled(lambda x: ask(function, x), inputs)
    except Unsupported:
        return None
    except GuardOnDataDependentSymNode:
        return "data-dependent"


@pytest.mark.parametrize("name", QUESTIONS)
def test_the_answer_is_torchs(name: str) -> None:
    for way in QUESTIONS[name]:
        expected = outcome(getattr(stock, name), way)
        assert outcome(getattr(ours, name), way) == expected, way


def test_each_question_that_goes_to_torch_is_tried() -> None:
    asking = torch_answers_in_dynamo(lambda: None).__code__
    functions = {name: getattr(ours, name) for name in ours.__all__}
    asked = {n for n, f in functions.items() if getattr(f, "__code__", None) is asking}
    assert asked - {"has_hint"} == set(QUESTIONS) - {"is_nested_int"}


def test_hints_by_the_names_that_torch_dropped() -> None:
    added = "a size, added"
    assert outcome(ours.hint_int, added) == outcome(stock.guarding_hint_or_throw, added)
    assert outcome(ours.size_hint, added) == outcome(stock.guarding_hint_or_throw, added)
    way = "a fallback for the data"
    assert outcome(ours.size_hint, way) == outcome(stock.optimization_hint, way) is not None
    assert outcome(ours.has_hint, "a size") == outcome(stock.has_guarding_hint, "a size")
