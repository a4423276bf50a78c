"""The import of torch, which takes most of the time of many commands."""

from __future__ import annotations

import gc
from importlib import import_module

from symfx.cli.steps import progress
from symfx.collection import uncollected

__all__ = ["load_torch"]


def load_torch(*, to_trace: bool = True) -> None:
    """Import torch, without a search for garbage among the million objects that this makes.

    Args:
        to_trace: import what each trace needs too. torch's fake tensors import torch._dynamo at
            their first operator.
    """
    modules = ["torch", *(["torch._dynamo", "symfx.tracing"] if to_trace else [])]
    with progress("loading torch"), uncollected():
        for module in modules:
            import_module(module)
        # These objects live as long as the process: later searches leave them out.
        gc.freeze()
