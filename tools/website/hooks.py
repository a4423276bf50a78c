"""Hooks of mkdocs: a page of the reference for each public module, and a check that it is whole."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

sys.path.insert(0, str(Path(__file__).parents[2]))  # mkdocs loads this file by its path

from tools.website.public_names import MODULES, outside_name, public_names

ALL_MODULES = [module for modules in MODULES.values() for module in modules]


def on_config(config: Any) -> Any:
    """Put the pages of the reference into the navigation."""
    (reference,) = (part["Reference"] for part in config.nav if "Reference" in part)
    for heading, modules in MODULES.items():
        reference.append({heading: [{m: f"reference/{m}.md"} for m in modules]})
    return config


def on_files(files: Files, config: Any) -> Files:
    """Write the pages: the docstring of each module, and that of each of its public names."""
    for module in ALL_MODULES:
        about = f"::: {module}\n    options:\n      members: false\n      show_root_heading: false"
        names = [name for name in public_names(module) if name != "__version__"]
        content = "\n\n".join([f"# {module}", about, *(_entry(module, name) for name in names)])
        files.append(File.generated(config, f"reference/{module}.md", content=content))
    return files


def _entry(module: str, name: str) -> str:
    """The part of a page about a name."""
    origin = outside_name(module, name)
    if origin is None:
        return f"::: {module}.{name}"
    return f"## `{module}.{name}` {{ #{module}.{name} }}\n\nThe same object as `{origin}`."


def on_post_build(config: Any) -> None:
    """Refuse a site that lacks a public name."""
    missing = []
    for module in ALL_MODULES:
        page = Path(config.site_dir, "reference", module, "index.html").read_text(encoding="utf-8")
        for name in public_names(module):
            if f'id="{module}.{name}"' not in page and name != "__version__":
                missing.append(f"{module}.{name}")
    if missing:
        raise PluginError(f"the reference lacks {', '.join(missing)}")
