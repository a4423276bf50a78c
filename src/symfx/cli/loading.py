"""The import of torch, which takes most of the time of many commands."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator
from importlib import import_module

from symfx.cli.steps import progress

__all__ = ["load_torch", "uncollected"]


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Turn garbage collection off inside: it costs seconds, and modules and models stay alive.

    Example:
        >>> with uncollected():
        ...     gc.isenabled()
        False
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


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
