"""Functions of symfx that Dynamo meets: torch's answer for some, and frames of others are skipped.

Inside `torch.compile` the numbers are torch's own. Dynamo knows torch's functions by identity: it
answers some, and refuses the others. It would look into a function of symfx instead, and take a
size for an int.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from torch.compiler import is_dynamo_compiling

from symfx.torch_bridge.identity import symbolic_shapes_of_torch

__all__ = ["function_of_torch", "skip_frames_of_symfx", "torch_answers_in_dynamo"]

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


#: The rooms whose functions run while torch traces.
_TRACING_ROOMS = (
    "algebra",
    "fake_operators",
    "installation",
    "proxy_tensor",
    "sym_node",
    "symbolic_shapes",
    "torch_bridge",
)


def skip_frames_of_symfx(skip: bool) -> None:
    """Have Dynamo run the frames of symfx's tracing as they are, or look into them as before.

    Dynamo skips the frames of torch's own tracing so. It meets them where an engine of C++ calls
    Python in the middle of a compiled function: compiled autograd traces the backward there.

    Args:
        skip: whether to skip them. Both ways a second call changes nothing.
    """
    from torch._dynamo import trace_rules

    home = Path(__file__).resolve().parents[1]
    # This module holds the functions that a user's program calls, which Dynamo has to look into.
    paths = {
        trace_rules._as_posix_path(str(path)) + ("/" if path.is_dir() else "")
        for room in _TRACING_ROOMS
        for path in ((home / room).iterdir() if room == "torch_bridge" else [home / room])
        if path.name != Path(__file__).name
    }
    kept = [path for path in trace_rules.SKIP_DIRS if path not in paths]
    trace_rules.SKIP_DIRS[:] = kept + sorted(paths) if skip else kept
    trace_rules._recompile_re()
