"""Torch's own classes, by name, for identity alone: to be answered as, derived from, compared with.

Nothing here is called for what it does. Each row of `TORCH_CLASSES` says in which module of
torch a class lives; `torch_class` fetches it when it is first needed.
"""

from __future__ import annotations

import functools
import importlib
from typing import Any

__all__ = ["TORCH_CLASSES", "torch_class"]

TORCH_CLASSES: dict[str, str] = {
    # Mode bookkeeping in torch asks `isinstance(mode, ProxyTorchDispatchMode)`.
    "ProxyTorchDispatchMode": "torch.fx.experimental.proxy_tensor",
}


@functools.cache
def torch_class(name: str) -> Any:
    """The class of torch that `TORCH_CLASSES` lists under a name.

    Raises:
        KeyError: the table has no such row.

    Example:
        >>> torch_class("ProxyTorchDispatchMode").__name__
        'ProxyTorchDispatchMode'
    """
    return getattr(importlib.import_module(TORCH_CLASSES[name]), name)
