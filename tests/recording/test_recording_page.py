"""The examples in docs/recording.md, docs/guards.md and in the docstrings do what they say."""

import doctest
import importlib
from pathlib import Path

import pytest
import torch

import symfx.recording as room

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("page", ["recording", "guards"])
def test_the_page(page: str) -> None:
    found = doctest.testfile(str(ROOT / "docs" / f"{page}.md"), module_relative=False)
    assert found.attempted > 15
    assert not found.failed


@pytest.mark.parametrize("name", room.__all__)
def test_every_public_name_has_an_example(name: str) -> None:
    page = (ROOT / "docs" / "recording.md").read_text()
    assert any(name in e.source for e in doctest.DocTestParser().get_examples(page))


@pytest.mark.parametrize(
    "name",
    [
        "recording.events",
        "recording.log",
        "recording.minimizing",
        "recording.state",
        "symbolic_shapes.guard_programs",
        "symbolic_shapes.input_sources",
        "algebra.c_code",
        "algebra.definedness",
        "algebra.portable",
        "algebra.sharing",
        "algebra.smtlib",
        "algebra.z3_tier",
    ],
)
def test_docstrings(name: str) -> None:
    found = doctest.testmod(importlib.import_module(f"symfx.{name}"), extraglobs={"torch": torch})
    assert found.attempted
    assert not found.failed
