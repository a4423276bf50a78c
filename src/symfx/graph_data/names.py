"""The names that a graph of a file may have: of nodes, of parameters, of parts of a model.

torch.fx writes a graph out as Python source, and these names become parts of the source, most of
them without escaping.
"""

from __future__ import annotations

import re

from torch import nn

from symfx.untrusted import is_identifier

__all__ = ["NODE_NAME", "is_parameter", "is_place"]

#: The names that torch.fx gives to nodes.
NODE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,199}")
_EMPTY_MODULE = nn.Module()


def is_place(path: str) -> bool:
    """Whether a module or a tensor of a saved model may have this dotted path.

    torch.fx writes each part of the path as ``.part``, or, where it is no identifier, as
    ``getattr(..., "part")`` without escaping it.
    """
    parts = path.split(".")
    return len(parts) <= 50 and all(map(_is_part, parts))


def _is_part(part: str) -> bool:
    if hasattr(_EMPTY_MODULE, part):
        return False  # a member of every module, such as `forward`
    if part.isidentifier():
        return is_identifier(part)
    return 0 < len(part) <= 200 and part.isprintable() and not set(part) & set('"\\#')


def is_parameter(target: str) -> bool:
    """Whether a placeholder of a graph may have this target, such as ``x`` or ``*args``."""
    name = re.sub(r"\*{1,2}", "", target, count=1) if target.startswith("*") else target
    return is_identifier(name) and name != "self"
