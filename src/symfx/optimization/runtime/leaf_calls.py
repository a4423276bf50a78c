"""Leaf calls: functions and modules of symfx that stay one node in every graph.

Each of them carries its `Effect`, so that the passes can read it from the graph.
"""

from __future__ import annotations

import enum
import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

from torch import fx, nn

__all__ = ["Effect", "leaf_forward", "leaf_function"]


Function = TypeVar("Function", bound=Callable[..., Any])


class Effect(enum.Enum):
    """The effect of running a node, beside the value that it returns.

    Attributes:
        FRESH: reads its arguments and returns new memory, or no tensor at all.
        VIEW: writes nothing, but its result may share memory with its arguments.
        WRITES: changes its first argument and returns it.
        RANDOM: draws from the random number generator.
        UNKNOWN: may do anything.
    """

    FRESH = enum.auto()
    VIEW = enum.auto()
    WRITES = enum.auto()
    RANDOM = enum.auto()
    UNKNOWN = enum.auto()


def leaf_function(effect: Effect, *, keeps: bool = False) -> Callable[[Function], Function]:
    """Make a function one node of each graph that it is traced into.

    Unpickling a `torch.fx.GraphModule` traces it again, and users trace optimized models too.
    If torch.fx traced into such a function, the function would decide on a proxy and not on the
    value.

    Args:
        effect: the effect of the function.
        keeps: the call stays in the graph even if no node uses its result.
    """

    def mark(function: Function) -> Function:
        @functools.wraps(function)
        def called(*args: Any, **kwargs: Any) -> Any:
            for value in (*args, *kwargs.values()) if kwargs else args:
                if isinstance(value, fx.Proxy):
                    return value.tracer.create_proxy("call_function", called, args, kwargs)
            return function(*args, **kwargs)

        called.symfx_effect = effect  # type: ignore[attr-defined]
        called.symfx_keeps = keeps  # type: ignore[attr-defined]
        return cast("Function", called)

    return mark


def leaf_forward(forward: Function) -> Function:
    """Make a module one node of each graph that it is traced into; decorates its ``forward``.

    Such a ``forward`` chooses an operator by its arguments, and a proxy has no such properties.
    """

    @functools.wraps(forward)
    def called(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        for value in (*args, *kwargs.values()) if kwargs else args:
            if isinstance(value, fx.Proxy):
                tracer: Any = value.tracer
                path = tracer.path_of_module(self)
                return tracer.create_proxy("call_module", path, args, kwargs)
        return forward(self, *args, **kwargs)

    return cast("Function", called)
