"""Programs of one operator have eager's shapes by both routes of capture: a random search."""

from __future__ import annotations

import logging
import os
import random
import warnings
from collections.abc import Iterator

import pytest
import torch
from route_search import Program, agree, by_fx, by_operators, differences, programs, value_of

LONG = bool(os.environ.get("SYMFX_LONG"))


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """One thread, and no lines of torch about the shapes that it refuses."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)
    torch.set_num_threads(before)


@pytest.mark.parametrize("names", [0.0, 0.5])
@pytest.mark.parametrize("route", [by_fx, by_operators])
@pytest.mark.parametrize("seed", range(4 if LONG else 1))
def test_both_routes_agree_with_eager(seed: int, route: object, names: float) -> None:
    torch.manual_seed(seed)
    rng = random.Random(seed)
    found: list[str] = []
    tried = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for program in programs(rng, *((1.0, 3) if LONG else (0.04, 1))):
            tried += 1
            found += differences(rng, program, route, names)  # type: ignore[arg-type]
    assert tried > 10
    assert not found, "\n".join(found)


@pytest.mark.parametrize("route", [by_fx, by_operators])
@pytest.mark.parametrize("seed", range(4 if LONG else 1))
def test_both_routes_agree_where_a_number_is_a_size(seed: int, route: object) -> None:
    torch.manual_seed(seed)
    rng = random.Random(seed)
    found: list[str] = []
    tried = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for program in programs(rng, *((1.0, 3) if LONG else (0.1, 1))):
            sized = program.with_size(rng)
            if sized is not None:
                tried += 1
                found += differences(rng, sized, route, 1.0)  # type: ignore[arg-type]
    assert tried > 5
    assert not found, "\n".join(found)


def test_the_search_finds_a_wrong_prediction() -> None:
    class Wrong(Program):
        def run(self, given: list[object]) -> object:
            result = super().run(given)
            return result.sum(0) if type(result) is torch.Tensor else result

    made = Wrong("relu", torch.relu, (torch.rand(3, 4),), {})
    assert [*differences(random.Random(0), made, by_fx, 0.5)]


def test_predictions_are_read_with_unknown_numbers() -> None:
    assert agree(value_of("[u0 + 2, n//2]", {"n": 5}), [7, 2])
    assert not agree(value_of("[u0, n]", {"n": 5}), [7, 2])
    assert not agree(value_of("([n], [2])", {"n": 5}), ([5],))
