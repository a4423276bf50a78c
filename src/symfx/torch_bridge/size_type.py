"""The methods of `torch.Size`, which a trace sets for its time."""

from __future__ import annotations

import ctypes
import gc
from typing import Any

import torch

__all__ = ["SIZE_METHODS"]


class _Methods:
    """The methods of a type that C defines.

    Python sets no method of such a type, and `torch.Size` can have no subclass. The dict of the
    type can be written to, if the type's cache of methods is told.
    """

    def __getattr__(self, name: str) -> Any:
        return vars(torch.Size)[name]

    def __setattr__(self, name: str, value: Any) -> None:
        (methods,) = gc.get_referents(vars(torch.Size))
        methods[name] = value
        ctypes.pythonapi.PyType_Modified(ctypes.py_object(torch.Size))


SIZE_METHODS = _Methods()
"""An object whose attributes are the methods of `torch.Size`, and can be set."""
