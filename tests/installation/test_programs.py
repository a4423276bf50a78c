"""Programs about sizes and data, with stock torch and with symfx installed.

`python -m tools.installed` prints the same comparisons as a table, and those of
`test_programs_of_modules`.
"""

from __future__ import annotations

import pytest
from tools.installed.comparison import cases_of, compare

CASES = cases_of("sizes", "data")


@pytest.mark.parametrize(("name", "way"), CASES, ids=[f"{n}-{w}" for n, w in CASES])
def test_symfx_is_right_and_needs_no_more_guards_than_stock(name: str, way: str) -> None:
    assert compare(name, way).complaints == []
