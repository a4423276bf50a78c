"""Dynamo's record of the guards that failed, by the code of the function."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import CodeType
from typing import Any

import torch

__all__ = ["code_of_compiled", "failures_by_code"]


def failures_by_code() -> dict[CodeType, list[str]]:
    """The reasons of all recompilations so far, in torch's words; empty before the first one."""
    utils = sys.modules.get("torch._dynamo.utils")
    found: dict[CodeType, list[str]] = {} if utils is None else dict(utils.guard_failures)
    return found


def code_of_compiled(function: Callable[..., Any]) -> CodeType | None:
    """The code of a function or module, or of what `torch.compile` made of it; None for neither."""
    from torch._dynamo.eval_frame import innermost_fn

    if isinstance(function, torch.nn.Module):
        function = getattr(function, "_orig_mod", function).forward
    function = innermost_fn(function)
    code = getattr(function, "__code__", None)
    return code if isinstance(code, CodeType) else None
