"""The arguments of an example call, and those of them that a graph takes as constants."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

from torch import nn

from symfx.errors import InputMismatchError

__all__ = ["Arguments", "bind_arguments", "is_value"]


@dataclass(frozen=True)
class Arguments:
    """The arguments of a call, by parameter. ``*args`` and ``**kwargs`` are named with stars.

    Attributes:
        fixed: parameters left at their defaults, and arguments that are None, bool or str. A
            graph is captured for these values, and refuses others.
        given: the arguments that the call gives.
        left: the parameters left at their defaults.
    """

    fixed: dict[str, Any]
    given: dict[str, Any]
    left: frozenset[str]


def bind_arguments(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments:
    """The arguments of a call of a model's forward.

    Raises:
        InputMismatchError: the forward does not take them.
    """
    try:
        signature = inspect.signature(model.forward)
        given = signature.bind(*args, **kwargs)
    except TypeError as error:
        raise InputMismatchError(
            f"the forward of {type(model).__name__} does not take these example inputs: {error}",
            where=f"forward{signature}",
            fix="give the arguments that you would call the model with",
        ) from error
    fixed: dict[str, Any] = {}
    for name, parameter in signature.parameters.items():
        if parameter.kind is parameter.VAR_POSITIONAL:
            if not given.arguments.get(name):
                fixed["*" + name] = ()
        elif parameter.kind is parameter.VAR_KEYWORD:
            extra = given.arguments.get(name, {})
            if not any(map(is_value, extra.values())):
                fixed["**" + name] = dict(extra)
        elif name in given.arguments:
            if not is_value(given.arguments[name]):
                fixed[name] = given.arguments[name]
        elif parameter.default is not parameter.empty:
            fixed[name] = parameter.default
    left = frozenset(signature.parameters) - frozenset(given.arguments)
    return Arguments(fixed, dict(given.arguments), left)


def is_value(value: Any) -> bool:
    """Whether an argument is a value of the graph, and not a constant of it."""
    return value is not None and not isinstance(value, bool | str)
