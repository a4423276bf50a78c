"""Nodes of the benchmarks' models have the metadata of stock torch's, so that times compare."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch

from benchmarks.models import build
from benchmarks.peers import PEERS

# Stock and symfx record sizes differently, so the test compares operators alone.
SIZES = (torch.ops.aten.sym_size.int, torch.ops.aten.sym_stride.int)


def remembered(peer: str, name: str, all_metadata: bool) -> Counter[Any]:
    """For each operator of a traced model, the metadata that its nodes have."""
    function, args = build(name, small=True).closed()
    g = PEERS[peer].trace(function, args, "symbolic", all_metadata=all_metadata)
    return Counter(
        (str(n.target), key)
        for n in g.graph.nodes
        if isinstance(n.target, torch._ops.OpOverload) and n.target not in SIZES
        for key, value in n.meta.items()
        if value is not None
    )


@pytest.mark.parametrize("all_metadata", [False, True], ids=["default", "all"])
@pytest.mark.parametrize("name", ["encoder", "resnet-train", "gpt2"])
def test_the_benchmarks_compare_graphs_with_equal_metadata(name: str, all_metadata: bool) -> None:
    ours, theirs = (remembered(peer, name, all_metadata) for peer in ("symfx", "stock"))
    assert ours == theirs
    kinds = {key for _, key in ours}
    assert {"val", "tensor_meta"} <= kinds
    assert ({"stack_trace", "original_aten", "seq_nr"} <= kinds) is all_metadata
