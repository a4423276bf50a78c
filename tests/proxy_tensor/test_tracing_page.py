"""The examples in docs/tracing.md and in the room's docstrings do what they say."""

import doctest
import importlib
from pathlib import Path

import pytest
import torch

import symfx.proxy_tensor as room

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "tracing.md"


def test_the_page() -> None:
    found = doctest.testfile(str(PAGE), module_relative=False, optionflags=doctest.ELLIPSIS)
    assert found.attempted > 40
    assert not found.failed


@pytest.mark.parametrize("name", room.__all__)
def test_every_public_name_has_an_example(name: str) -> None:
    examples = doctest.DocTestParser().get_examples(PAGE.read_text())
    assert any(name in example.source for example in examples)


@pytest.mark.parametrize(
    "name",
    ["calling", "interpreters", "metadata", "mode", "slots", "thunks", "tracing"],
)
def test_docstrings(name: str) -> None:
    module = importlib.import_module(f"symfx.proxy_tensor.{name}")
    names = {"torch": torch, **{n: getattr(room, n) for n in room.__all__}}
    found = doctest.testmod(module, extraglobs=names)
    assert found.attempted
    assert not found.failed
