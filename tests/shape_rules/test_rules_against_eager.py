"""Rules refuse what eager refuses, take what it takes, and give its shapes: a random search."""

from __future__ import annotations

import os
import random
import warnings
from collections.abc import Iterator

import pytest
import torch
from rule_search import difference, layer_calls, operator_calls

LONG = bool(os.environ.get("SYMFX_LONG"))


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Threads cost more than they save on tensors this small."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("seed", range(6 if LONG else 1))
def test_rules_and_eager_agree_on_operators(seed: int) -> None:
    torch.manual_seed(seed)
    calls = operator_calls(random.Random(seed), *((1.0, 8, 8) if LONG else (0.15, 2, 2)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = [text for call in calls if (text := difference(*call)) is not None]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("seed", range(6 if LONG else 1))
def test_rules_and_eager_agree_on_layers(seed: int) -> None:
    torch.manual_seed(seed)
    calls = layer_calls(random.Random(seed), 6_000 if LONG else 400)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = [text for call in calls if (text := difference(*call)) is not None]
    # Some kernels of transposed convolutions leave nothing where others refuse to.
    found = [text for text in found if not text.startswith("ConvTranspose")]
    assert not found, "\n".join(found)
