"""Some rows of the operator table, which tools/operators writes as a whole."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tools.operators.other_shapes import StockAdmitted, SymfxAdmitted, resized
from tools.operators.report import page
from tools.operators.samples import Call, calls
from tools.operators.tally import PEERS, Row, problem, rows, stock_make_fx
from torch.testing._internal.common_methods_invocations import op_db

from symfx.proxy_tensor import make_fx

# A few operators of each kind; the whole database takes a quarter of an hour.
SAMPLE = (
    "add", "argsort", "as_strided", "bincount", "cat", "cov", "einsum", "empty_like", "fft.rfft",
    "histogram", "index_put", "linalg.svd", "masked_select", "nn.functional.avg_pool2d",
    "nn.functional.embedding_bag", "nn.functional.layer_norm", "nonzero", "rand_like",
    "repeat_interleave", "scatter_add", "split", "topk", "unique",
)  # fmt: skip


@pytest.fixture(scope="module")
def table() -> list[Row]:
    return list(rows(SAMPLE, samples={"function": 1, "out=": 1}))


def test_each_sample_is_traced(table: list[Row]) -> None:
    data_dependent = [("masked_select", "out="), ("nonzero", "out=")]
    missed = {(r.name, r.form): r.problems for r in table if r.symfx < r.samples}
    assert sorted(missed) == data_dependent, missed
    assert sum(r.samples for r in table) > len(SAMPLE)
    # Most samples also ran at a shape other than the traced one.
    assert sum(r.elsewhere for r in table) > len(SAMPLE) // 2


def test_operators_that_symfx_alone_traces(table: list[Row]) -> None:
    alone = {r.name for r in table if r.symfx_alone}
    assert {"cov", "scatter_add", "histogram"} <= alone
    assert not any(r.stock > r.symfx for r in table)


def test_the_page(table: list[Row]) -> None:
    bad = Row("bad", "function", 2, 1, 2, problems={"a | b\nc": 1})
    text = page([*table, bad])
    assert "that stock torch alone traces (1): bad." in text
    assert "| bad | 2 | 1 | 2 | a / b c |" in text


def test_a_graph_that_is_wrong_elsewhere_does_not_count() -> None:
    def f(x: torch.Tensor) -> torch.Tensor:
        return x * x.shape[0]

    def baked(f: Any, tracing_mode: str) -> Any:
        def trace(x: torch.Tensor) -> Any:
            n = len(x)
            return make_fx(lambda x: x * n, tracing_mode=tracing_mode)(x)

        return trace

    call = Call(f, [torch.ones(3, 4)])
    assert problem("symfx", call, True) == (None, True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PEERS, "symfx", (baked, SymfxAdmitted))
        assert problem("symfx", call, True) == ("at another shape: other values", True)
        patch.setitem(PEERS, "stock", (lambda f, tracing_mode: baked_stock, StockAdmitted))
        assert problem("stock", call, True) == ("at another shape: other values", True)


def baked_stock(x: torch.Tensor) -> Any:
    n = len(x)
    return stock_make_fx(lambda x: x * n, tracing_mode="symbolic")(x)


def test_offsets_stay_ascending_at_another_shape() -> None:
    """With one thread, embedding_bag takes descending offsets and returns unwritten memory."""
    offsets = torch.tensor([0, 3])
    assert [resized(offsets, [n], [1]).tolist() for n in (1, 3, 4)] == [
        [0],
        [0, 0, 3],
        [0, 0, 3, 3],
    ]
    assert resized(torch.tensor([[3, 1]]), [2, 2], [2, 1]).tolist() == [[3, 1], [3, 1]]

    (op,) = (op for op in op_db if op.name == "nn.functional.embedding_bag")
    (call,) = calls(op, torch.float32, "function", 1)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for seed in range(8):
            torch.manual_seed(seed)
            # Memory with other contents each time, which the next small tensors get.
            stale = [torch.randint(9, (n,)) for n in torch.randint(1, 40, (40,)).tolist()]
            del stale
            assert problem("symfx", call, True) == (None, True)
    finally:
        torch.set_num_threads(threads)
