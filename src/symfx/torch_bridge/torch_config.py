"""torch's switches of symbolic tracing: one state, which torch's kernels and symfx read."""

from __future__ import annotations

import sys
from typing import Any

from symfx.torch_bridge import identity

__all__ = ["torch_switches"]

_MODULE = identity.TorchShapeEnv.__module__.rpartition(".")[0] + "._config"


def torch_switches() -> Any:
    """The module of torch's that holds the switches; torch's ShapeEnv has loaded it."""
    return sys.modules[_MODULE]
