"""symfx settles the questions about sizes that JAX's engine settles."""

from __future__ import annotations

import pytest

pytest.importorskip("jax")


def test_no_question_is_left_to_jax() -> None:
    from benchmarks.decisions import compare

    found = compare(60, seed=3)
    assert found["symfx"]["wrong"] == found["jax"]["wrong"] == 0
    assert found["symfx"]["settled by the other alone"] == 0
    assert found["symfx"]["settled"] > found["jax"]["settled"] > 10
