"""Questions about numbers inside `torch.compile`, which torch's functions of the same names answer.

There the numbers are torch's own. Dynamo knows torch's functions by identity: it answers some, and
refuses the others. It would look into a function of symfx instead, and take a size for an int.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from torch.compiler import is_dynamo_compiling

from symfx.torch_bridge.identity import symbolic_shapes_of_torch

__all__ = ["function_of_torch", "torch_answers_in_dynamo"]

P = ParamSpec("P")
R = TypeVar("R")


def torch_answers_in_dynamo(function: Callable[P, R]) -> Callable[P, R]:
    """Hand a function's arguments to torch's function of its name where Dynamo traces the call."""
    name = function.__name__

    @functools.wraps(function)
    def asking(*args: P.args, **kwargs: P.kwargs) -> R:
        if is_dynamo_compiling():
            answer: R = getattr(symbolic_shapes_of_torch, name)(*args, **kwargs)
            return answer
        return function(*args, **kwargs)

    return asking


def function_of_torch(name: str) -> Callable[..., Any] | None:
    """torch's function of symbolic shapes of a name; None where this release does not have it."""
    function: Callable[..., Any] | None = getattr(symbolic_shapes_of_torch, name, None)
    return function
