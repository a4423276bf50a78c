"""Programs that torch.export and torch.compile take, with stock torch and with symfx installed.

`python -m tools.installed` prints the same comparisons as a table.
"""

from __future__ import annotations

import os

import pytest
from tools.installed.comparison import CASES, compare

#: Ways that take long, for SYMFX_LONG=1 alone.
LONG = ("inductor",)


@pytest.mark.parametrize(("name", "way"), CASES, ids=[f"{n}-{w}" for n, w in CASES])
def test_symfx_is_right_and_needs_no_more_guards_than_stock(name: str, way: str) -> None:
    if way in LONG and not os.environ.get("SYMFX_LONG"):
        pytest.skip("long")
    found = compare(name, way)
    assert found.complaints == []
