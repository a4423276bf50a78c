"""A sample of the operator table: see tools/operators.py, which writes all of it."""

from __future__ import annotations

import pytest
from tools.operators import Row, page, rows

# A few of each kind; the whole database takes a quarter of an hour.
SAMPLE = (
    "add", "argsort", "as_strided", "bincount", "cat", "cov", "einsum", "empty_like", "fft.rfft",
    "index_put", "linalg.svd", "masked_select", "nn.functional.avg_pool2d",
    "nn.functional.embedding_bag", "nn.functional.layer_norm", "nonzero", "rand_like",
    "repeat_interleave", "scatter_add", "split", "topk", "unique",
)  # fmt: skip


@pytest.fixture(scope="module")
def table() -> dict[str, Row]:
    return {row.name: row for row in rows(SAMPLE, samples=1, with_stock=False)}


def test_each_sample_is_traced(table: dict[str, Row]) -> None:
    assert {row.name: row.problems for row in table.values() if row.symfx < row.samples} == {}
    assert sum(row.samples for row in table.values()) > len(SAMPLE)
    # Most also ran at a shape that was not the traced one.
    assert sum(row.elsewhere for row in table.values()) > len(SAMPLE) // 2


def test_the_page(table: dict[str, Row]) -> None:
    bad = Row("bad", 2, 1, 2)
    bad.problems["a | b\nc"] += 1
    text = page([*table.values(), bad])
    assert "By stock torch alone (1): bad." in text
    assert "| bad | 2 | 1 | 2 | a / b c |" in text
