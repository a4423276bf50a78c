"""The examples in docs/optimization.md and in the room's docstrings do what they say."""

import doctest
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_the_page() -> None:
    found = doctest.testfile(str(ROOT / "docs" / "optimization.md"), module_relative=False)
    assert found.attempted > 40 and not found.failed


@pytest.mark.parametrize("name", ["mkldnn", "optimized", "saving"])
def test_docstrings(name: str) -> None:
    found = doctest.testmod(importlib.import_module(f"symfx.optimization.{name}"))
    assert found.attempted and not found.failed


def test_every_public_name_has_an_example() -> None:
    page = (ROOT / "docs" / "optimization.md").read_text()
    for name in importlib.import_module("symfx.optimization").__all__:
        assert name in page, f"docs/optimization.md does not mention {name}"
