"""The state of the process that a trace depends on: releases, and torch's global settings."""

from __future__ import annotations

import functools
import os
import platform
import sys
from typing import Any

import torch

from symfx import config
from symfx._version import __version__, newest_change
from symfx.cache.refusal import NotCacheableError
from symfx.torch_bridge.modes import modes_are_active

__all__ = ["process_state", "refuse_unusual_state"]


#: torch's kernels for attention; a switch of torch turns off each one.
_ATTENTIONS = ("flash", "mem_efficient", "math", "cudnn")


@functools.cache
def _packages_in(path: str, changed: int) -> tuple[str, ...]:
    """The names and releases of the packages that are installed in a directory."""
    return tuple(
        sorted(name for name in os.listdir(path) if name.endswith((".dist-info", ".egg-info")))
    )


def _packages() -> list[tuple[str, ...]]:
    return [
        _packages_in(path, os.stat(path).st_mtime_ns)
        for path in sys.path
        if path.endswith("-packages") and os.path.isdir(path)
    ]


def process_state() -> str:
    """The state as one text."""
    backends = torch.backends
    state: list[Any] = [
        __version__,
        newest_change(),
        torch.__version__,
        torch.version.git_version,
        sys.version,
        platform.machine(),
        _packages(),
        [getattr(config, name) for name in config.SWITCHES],
        torch.get_default_dtype(),
        str(torch.get_default_device()),
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        torch.get_float32_matmul_precision(),
        [
            (device, torch.is_autocast_enabled(device), torch.get_autocast_dtype(device))
            for device in ("cpu", "cuda", "mps", "xpu")
            if torch.amp.is_autocast_available(device)
        ],
        torch.is_autocast_cache_enabled(),
        torch.cuda.is_available(),
        torch.cuda.device_count(),
        [getattr(backends.cuda, f"{kind}_sdp_enabled")() for kind in _ATTENTIONS],
        [
            backends.mkldnn.enabled,
            backends.cudnn.enabled,
            backends.mha.get_fastpath_enabled(),
        ],
    ]
    return repr(state)


def refuse_unusual_state() -> None:
    """Refuse a process in which something acts on a trace that the cache cannot compare.

    Raises:
        NotCacheableError: a mode of torch is active, or hooks for all modules, and so on.
    """
    if modes_are_active():
        raise NotCacheableError("a mode of torch or a transform of torch.func is active")
    hooks = torch.nn.modules.module
    if any(
        vars(hooks)[name]
        for name in vars(hooks)
        if name.startswith("_global_") and name.endswith("hooks")
    ):
        raise NotCacheableError("there are hooks for all modules")
    distributed = torch.distributed
    if distributed.is_available() and distributed.is_initialized():
        raise NotCacheableError("torch.distributed is running")
