"""torch.compiler.is_compiling() is true for the program that a trace runs.

Programs ask it whether to pass by Python's caches and checks of data. torch's own code gets
torch's answer: with the other one, a compiled submodule would not be traced but compiled.
"""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager

import torch

from symfx.proxy_tensor.rewritten_functions import in_trace
from symfx.torch_bridge.process_wide import ProcessWide

__all__ = ["compiling"]

_torchs_is_compiling = torch.compiler.is_compiling
_IS_COMPILING = ProcessWide(torch.compiler, "is_compiling")


def _is_compiling() -> bool:
    # Dynamo, which may compile in another thread, knows that torch's answer is True.
    if _torchs_is_compiling():
        return True
    if not in_trace():
        return False
    asking = sys._getframe(1).f_globals.get("__name__", "")
    return str(asking).partition(".")[0] != "torch"


def compiling() -> AbstractContextManager[None]:
    """A context in which the program of this thread's trace sees that it is compiled."""
    return _IS_COMPILING.set_to(_is_compiling)
