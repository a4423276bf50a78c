"""Architectures of transformers: repeated blocks recorded from one give the graph of running each.

By default a few models are tried; with SYMFX_LONG=1 all that trace.
"""

from __future__ import annotations

import pytest
import torch
from profiles import LONG
from tests.tracing.repeated_graphs import difference

import symfx
from symfx.errors import SymfxError
from symfx.proxy_tensor.repeated import blocks
from symfx.sweep.architectures import ARCHITECTURES, subject

NAMES = list(ARCHITECTURES) if LONG else ["bert", "llama", "resnet", "vit", "whisper"]


@pytest.mark.parametrize("name", NAMES)
def test_the_graph_is_that_of_running_each_block(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "_FEWEST_BLOCKS", 2)  # most of these models have two layers
    torch.manual_seed(0)
    given = subject(ARCHITECTURES[name])

    def traced(repeated: str) -> symfx.Trace:
        return symfx.trace(
            given.model, tuple(given.args), dict(given.kwargs), dynamic=given.dynamic,
            where=given.where, strict=False, repeated=repeated,
        )  # fmt: skip

    try:
        each = traced("off")
    except (SymfxError, RuntimeError) as error:
        pytest.skip(f"{name} cannot be traced: {str(error).splitlines()[0]}")
    assert difference(traced("inline"), each) is None
