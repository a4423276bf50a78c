"""The examples in docs/meta_tracer.md and in the room's docstrings do what they say."""

import doctest
import importlib
from pathlib import Path

import pytest
import torch
from torch import nn

import symfx.meta_tracer as room

PAGE = Path(__file__).parents[2] / "docs" / "meta_tracer.md"


def test_the_page() -> None:
    found = doctest.testfile(str(PAGE), module_relative=False)
    assert found.attempted > 40
    assert not found.failed


@pytest.mark.parametrize("name", room.__all__)
def test_every_public_name_has_an_example(name: str) -> None:
    examples = doctest.DocTestParser().get_examples(PAGE.read_text())
    assert any(name in example.source for example in examples)


@pytest.mark.parametrize("name", ["overrides", "proxies", "tracer"])
def test_docstrings(name: str) -> None:
    module = importlib.import_module(f"symfx.meta_tracer.{name}")
    names = {"torch": torch, "nn": nn, **{n: getattr(room, n) for n in room.__all__}}
    found = doctest.testmod(module, extraglobs=names)
    assert found.attempted
    assert not found.failed
