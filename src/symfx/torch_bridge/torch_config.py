"""torch's settings of symbolic tracing: one state, which torch's kernels and symfx read."""

from __future__ import annotations

import sys
from typing import Any

from symfx.torch_bridge import identity

__all__ = ["torch_settings"]

_MODULE = identity.TorchShapeEnv.__module__.rpartition(".")[0] + "._config"


def torch_settings() -> Any:
    """torch's module of settings, which torch's ShapeEnv has loaded."""
    return sys.modules[_MODULE]
