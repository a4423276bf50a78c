"""The examples in docs/gradual_types.md, docs/unification.md and in docstrings do what they say."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FLAGS = doctest.ELLIPSIS


@pytest.mark.parametrize("page", ["gradual_types", "unification"])
def test_the_pages(page: str) -> None:
    path = str(ROOT / "docs" / f"{page}.md")
    found = doctest.testfile(path, module_relative=False, optionflags=FLAGS)
    assert found.attempted > 15 and not found.failed


@pytest.mark.parametrize(
    "name",
    [
        "graph_gradual_typechecker",
        "migrate_gradual_types.transform_to_z3",
        "migrate_gradual_types.transformation.registry",
        "migrate_gradual_types.util",
        "refinement_types",
        "shape_rules",
        "shape_rules.ranks",
        "static_migration.conditions",
        "static_migration.migrate",
        "unification",
        "unification.unification_tools",
    ],
)
def test_docstrings(name: str) -> None:
    found = doctest.testmod(importlib.import_module(f"symfx.{name}"), optionflags=FLAGS)
    assert found.attempted and not found.failed
