"""The import of torch, which takes most of the time of many commands."""

from __future__ import annotations

import gc
import sys
from importlib import import_module

from symfx.cli.steps import progress
from symfx.collection import uncollected

__all__ = ["load_torch"]

#: About as many modules are imported by torch alone, and with what each trace needs (torch 2.13;
#: a tenth more in 2.15). Only the time left that is shown depends on them.
_ALONE, _WITH_TRACING = 1000, 2000


def load_torch(*, to_trace: bool = True) -> None:
    """Import torch, without a search for garbage among the million objects that this makes.

    Args:
        to_trace: import what each trace needs too. torch's fake tensors import torch._dynamo at
            their first operator.
    """
    modules = ["torch", *(["torch._dynamo", "symfx.tracing"] if to_trace else [])]
    before = len(sys.modules)
    total = _WITH_TRACING if to_trace else _ALONE
    with progress("loading torch", total, lambda: len(sys.modules) - before), uncollected():
        for module in modules:
            import_module(module)
        # These objects live as long as the process: later searches leave them out.
        gc.freeze()
