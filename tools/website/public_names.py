"""The modules whose public names the reference of the site shows, and these names."""

from __future__ import annotations

import ast
import functools
from pathlib import Path

__all__ = ["MODULES", "outside_name", "public_names"]

SRC = Path(__file__).parents[2] / "src"

#: The public modules of symfx, by the heading in the navigation under which they stand.
MODULES = {
    "Everyday": (
        "symfx",
        "symfx.tracing",
        "symfx.explanation",
        "symfx.html_report",
        "symfx.optimization",
        "symfx.cache",
        "symfx.sweep",
        "symfx.installation",
        "symfx.html_report",
        "symfx.sweep",
        "symfx.cache",
        "symfx.errors",
    ),
    "Names of torch.fx.experimental": (
        "symfx.proxy_tensor",
        "symfx.symbolic_shapes",
        "symfx.sym_node",
        "symfx.meta_tracer",
        "symfx.recording",
        "symfx.dynamic_spec",
        "symfx.config",
        "symfx.validator",
        "symfx.rewriter",
        "symfx.refinement_types",
        "symfx.unify_refinements",
        "symfx.graph_gradual_typechecker",
        "symfx.migrate_gradual_types.transform_to_z3",
        "symfx.unification",
        "symfx.unification.unification_tools",
    ),
    "Below": (
        "symfx.algebra",
        "symfx.shape_language",
        "symfx.shape_rules",
        "symfx.static_migration",
    ),
}


def public_names(module: str) -> list[str]:
    """The names in ``__all__`` of a module, read without importing it."""
    for node in _parsed(module).body:
        if isinstance(node, ast.Assign) and [ast.unparse(t) for t in node.targets] == ["__all__"]:
            names: list[str] = ast.literal_eval(node.value)
            return sorted(names, key=str.casefold)
    return []


def outside_name(module: str, name: str) -> str | None:
    """The full name of what a module imports from another package, under a name; else None."""
    for node in ast.walk(_parsed(module)):
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    inside = node.module.partition(".")[0] == "symfx"
                    if inside and _path(f"{node.module}.{alias.name}").exists():
                        return None  # a module
                    if inside:
                        return outside_name(node.module, alias.name)
                    return f"{node.module}.{alias.name}"
    return None


@functools.cache
def _parsed(module: str) -> ast.Module:
    return ast.parse(_path(module).read_text(encoding="utf-8"))


def _path(module: str) -> Path:
    path = SRC.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
