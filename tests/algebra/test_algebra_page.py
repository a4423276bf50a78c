"""The examples in docs/algebra.md and in the floor's docstrings do what they say."""

import doctest
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_the_page() -> None:
    found = doctest.testfile(str(ROOT / "docs" / "algebra.md"), module_relative=False)
    assert found.attempted > 20 and not found.failed


@pytest.mark.parametrize("name", ["expr", "interpret", "printing", "prove", "sympy_view"])
def test_docstrings(name: str) -> None:
    found = doctest.testmod(importlib.import_module(f"symfx.algebra.{name}"))
    assert found.attempted and not found.failed
