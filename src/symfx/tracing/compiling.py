"""torch.compiler.is_compiling() and is_exporting() are true for the program that a trace runs.

Programs ask whether to pass by Python's caches and checks of data, and whether their graph is to be
kept, as that of torch.export is. torch's own code gets torch's answer: with the other one, a
compiled submodule would not be traced but compiled.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from symfx.proxy_tensor.rewritten_functions import in_trace
from symfx.torch_bridge.process_wide import ProcessWide

__all__ = ["compiling"]

_IS_COMPILING = ProcessWide(torch.compiler, "is_compiling")
_IS_EXPORTING = ProcessWide(torch.compiler, "is_exporting")


def _true_in_traces(torchs: Callable[[], bool]) -> Callable[[], bool]:
    def asked() -> bool:
        # Dynamo, which may compile in another thread, knows that torch's answer is True.
        if torchs():
            return True
        if not in_trace():
            return False
        asking = sys._getframe(1).f_globals.get("__name__", "")
        return str(asking).partition(".")[0] != "torch"

    return asked


_is_compiling = _true_in_traces(torch.compiler.is_compiling)
_is_exporting = _true_in_traces(torch.compiler.is_exporting)


@contextmanager
def compiling() -> Iterator[None]:
    """A context in which the program of this thread's trace sees that it is exported."""
    with _IS_COMPILING.set_to(_is_compiling), _IS_EXPORTING.set_to(_is_exporting):
        yield
