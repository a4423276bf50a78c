"""Modules, models and training steps, with stock torch and with symfx installed."""

from __future__ import annotations

import os

import pytest
from tools.installed.comparison import cases_of, compare

CASES = cases_of("modules", "language_models")
#: Ways that take long, for SYMFX_LONG=1 alone.
LONG = ("inductor",)


@pytest.mark.parametrize(("name", "way"), CASES, ids=[f"{n}-{w}" for n, w in CASES])
def test_symfx_is_right_and_needs_no_more_guards_than_stock(name: str, way: str) -> None:
    if way in LONG and not os.environ.get("SYMFX_LONG"):
        pytest.skip("long")
    assert compare(name, way).complaints == []
