"""An extension of griffe, which reads the docstrings: it knows the section ``Example:``."""

from __future__ import annotations

import re
from typing import Any

import griffe

__all__ = ["ExampleSections"]


class ExampleSections(griffe.Extension):
    """Reads a section ``Example:``, of which griffe knows the plural alone."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Griffe calls this for each class, function and attribute that it has read."""
        _rename(obj)

    def on_module(self, *, mod: griffe.Module, **kwargs: Any) -> None:
        """Griffe calls this for each module that it has read."""
        _rename(mod)


def _rename(of: griffe.Object) -> None:
    if of.docstring is not None:
        value = of.docstring.value
        of.docstring.value = re.sub(r"^( *)Example:$", r"\1Examples:", value, flags=re.MULTILINE)
