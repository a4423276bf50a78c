"""Questions about shapes inside torch.compile: answered as torch's own functions answer them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.fx.experimental.symbolic_shapes as stock
from torch._dynamo.exc import Unsupported
from torch._dynamo.testing import CompileCounter

import symfx.symbolic_shapes as ours

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


ASKED: dict[str, Callable[[Any, torch.Tensor], Any]] = {
    "statically_known_true": lambda s, x: s.statically_known_true(x.size(0) == 9),
    "statically_known_false": lambda s, x: s.statically_known_false(x.size(0) == 9),
    "known for every size": lambda s, x: s.statically_known_true(x.size(0) >= 0),
    "guard_or_false": lambda s, x: s.guard_or_false(x.size(0) == 9),
    "guard_or_true": lambda s, x: s.guard_or_true(x.size(0) == 9),
    "guarding_hint_or_throw": lambda s, x: s.guarding_hint_or_throw(x.size(0)),
    "optimization_hint": lambda s, x: s.optimization_hint(x.size(0)),
    "has_static_value": lambda s, x: s.has_static_value(x.size(0)),
    "a static value": lambda s, x: s.has_static_value(3),
}


@pytest.mark.parametrize("name", ASKED)
def test_the_answer_is_torchs(name: str) -> None:
    ask = ASKED[name]
    expected = compiled(lambda x: x + 2 * ask(stock, x), SIZES)
    assert compiled(lambda x: x + 2 * ask(ours, x), SIZES) == expected


@pytest.mark.parametrize("name", ["guard_or_false", "guard_or_true"])
def test_a_number_of_the_data(name: str) -> None:
    def asking(module: Any) -> Any:
        return compiled(lambda x: x + 2 * getattr(module, name)(x.item() == 1), NUMBERS)

    assert asking(ours) == asking(stock)


@pytest.mark.parametrize(
    "name", ["is_symbolic", "free_symbols", "is_concrete_int", "has_free_unbacked_symbols"]
)
def test_a_question_that_torch_refuses_is_refused(name: str) -> None:
    for module in (stock, ours):
        with pytest.raises(Unsupported):
            compiled(lambda x, m=module: x + 1 if getattr(m, name)(x.size(0)) else x, SIZES)
