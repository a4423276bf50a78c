"""The examples in the pages of docs/ and in the docstrings of src run, and cover each public name."""

from __future__ import annotations

import doctest
import importlib
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
SRC = ROOT / "src"
FLAGS = doctest.ELLIPSIS

#: The page that shows every public name of a package or module.
PAGE_OF = {
    "symfx": "root",
    "symfx.algebra": "algebra",
    "symfx.cache": "cache",
    "symfx.config": "config",
    "symfx.dynamic_spec": "tracing",
    "symfx.errors": "root",
    "symfx.explanation": "explain",
    "symfx.graph_gradual_typechecker": "gradual_types",
    "symfx.installation": "install",
    "symfx.meta_tracer": "meta_tracer",
    "symfx.optimization": "optimization",
    "symfx.proxy_tensor": "tracing",
    "symfx.recording": "recording",
    "symfx.refinement_types": "shape_rules",
    "symfx.rewriter": "shape_rules",
    "symfx.shape_rules": "shape_rules",
    "symfx.static_migration": "shape_rules",
    "symfx.sym_node": "sym_node",
    "symfx.sweep": "sweep",
    "symfx.symbolic_shapes": "symbolic_shapes",
    "symfx._backward_state": "migrating",
    "symfx._constant_symnode": "migrating",
    "symfx.unification": "unification",
    "symfx.unification.unification_tools": "unification",
    "symfx.unify_refinements": "shape_rules",
    "symfx.validator": "migrating",
}


def examples_of(text: str) -> list[doctest.Example]:
    return doctest.DocTestParser().get_examples(text)


PAGES = sorted(page.stem for page in DOCS.glob("*.md") if examples_of(page.read_text()))
MODULES = sorted(
    ".".join(path.relative_to(SRC).with_suffix("").parts).removesuffix(".__init__")
    for path in SRC.rglob("*.py")
    if re.search(r"^\s*>>> ", path.read_text(), re.MULTILINE)
)


def names_in_reach(module: str) -> dict[str, Any]:
    """torch, and the public names of the packages around a module: its examples may use these."""
    names: dict[str, Any] = {"torch": torch, "nn": nn}
    package = module
    while "." in package:
        package = package.rpartition(".")[0]
        around = importlib.import_module(package)
        for name in getattr(around, "__all__", ()):
            names.setdefault(name, getattr(around, name))
    return names


def test_all_pages_and_modules_with_examples_are_found() -> None:
    assert {"algebra", "guide", "tracing"} <= set(PAGES)
    assert {"symfx", "symfx.proxy_tensor.tracing", "symfx.unification"} <= set(MODULES)


@pytest.mark.parametrize("page", PAGES)
def test_the_examples_of_a_page(page: str) -> None:
    torch.manual_seed(0)
    found = doctest.testfile(str(DOCS / f"{page}.md"), module_relative=False, optionflags=FLAGS)
    assert found.attempted and not found.failed


@pytest.mark.parametrize("module", MODULES)
def test_the_examples_of_a_module(module: str) -> None:
    torch.manual_seed(0)
    found_in = importlib.import_module(module)
    # A name of the module's own, such as `load`, comes before that of a package around it.
    around = {k: v for k, v in names_in_reach(module).items() if not hasattr(found_in, k)}
    found = doctest.testmod(found_in, extraglobs=around, optionflags=FLAGS)
    assert found.attempted and not found.failed


@pytest.mark.parametrize("module", PAGE_OF)
def test_the_page_shows_every_public_name(module: str) -> None:
    sources = "\n".join(e.source for e in examples_of((DOCS / f"{PAGE_OF[module]}.md").read_text()))
    public = [n for n in importlib.import_module(module).__all__ if not n.startswith("_")]
    assert [n for n in public if not re.search(rf"\b{re.escape(n)}\b", sources)] == []
