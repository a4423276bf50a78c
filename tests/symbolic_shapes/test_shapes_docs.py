"""The pages of the floor, and the examples in its docstrings, do what they say."""

import doctest
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = {
    "symfx.config": "config.md",
    "symfx.sym_node": "sym_node.md",
    "symfx.symbolic_shapes": "symbolic_shapes.md",
}


@pytest.mark.parametrize("page", PAGES.values())
def test_pages(page):
    found = doctest.testfile(str(ROOT / "docs" / page), module_relative=False)
    assert found.attempted > 10 and not found.failed


@pytest.mark.parametrize("module", PAGES)
def test_every_public_name_has_an_example(module):
    page = (ROOT / "docs" / PAGES[module]).read_text()
    examples = "\n".join(line for line in page.splitlines() if line.startswith((">>>", "...")))
    names = importlib.import_module(module).__all__
    public = [name for name in names if not name.startswith("_")]
    assert [name for name in public if name not in examples] == []
    assert [name for name in public if f"`{name}`" not in page] == []


@pytest.mark.parametrize(
    "module",
    [
        "sym_node.dynamic",
        "sym_node.layouts",
        "sym_node.methods",
        "symbolic_shapes.caching",
        "symbolic_shapes.canonical",
        "symbolic_shapes.contexts",
        "symbolic_shapes.dim_constraints",
        "symbolic_shapes.interp",
        "symbolic_shapes.queries",
        "symbolic_shapes.records",
        "symbolic_shapes.shape_env",
        "torch_bridge.twins",
    ],
)
def test_docstrings(module):
    found = doctest.testmod(importlib.import_module(f"symfx.{module}"))
    assert found.attempted and not found.failed
