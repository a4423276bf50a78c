"""The arguments of a call in a file, checked against the signature of the method."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import sympy
from torch._guards import Source

from symfx.recording.codec import EventLogError
from symfx.symbolic_shapes.dims import Dim, DimExpression
from symfx.symbolic_shapes.environment.event_arguments import THE_ENVIRONMENT, HeldTerm
from symfx.symbolic_shapes.torch_api.contexts import SymbolicContext
from symfx.torch_bridge.identity import (
    DimDynamic,
    TorchRelaxedUnspecConstraint,
    TorchStrictMinMaxConstraint,
)
from symfx.untrusted import shown

__all__ = ["check_arguments"]

# The dimensions that a tensor of a file may have.
_DIMENSIONS = 1_000


def check_arguments(
    method: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> None:
    """Check the arguments of a call, which `symfx.recording.codec.decode` read from a file.

    Args:
        method: a method of ShapeEnv that is recorded.
        args: the arguments after the environment.
        kwargs: the arguments by name.

    Raises:
        EventLogError: the method takes no such arguments; the message names the first that is
            wrong.
    """
    name = method.__name__
    signature = _signature(method)
    try:
        given = signature.bind(THE_ENVIRONMENT, *args, **kwargs).arguments
    except TypeError as error:
        raise EventLogError(f"{name} cannot be called with these arguments: {error}") from None
    for parameter, value in list(given.items())[1:]:
        kind, fits = _kind(method, parameter)
        if not fits(value):
            raise EventLogError(f"{name}: {parameter}={shown(value)} is not {kind}")


_signature = functools.cache(inspect.signature)


def _scalar(value: Any) -> bool:
    return isinstance(value, bool | int | float)


def _view(value: Any, *views: str) -> bool:
    return isinstance(value, HeldTerm) and value.view in views


def _number(value: Any) -> bool:
    """Whether a value is a Python number or a torch number."""
    return _scalar(value) or _view(value, "number", "node")


def _end(value: Any) -> bool:
    """Whether a value is an end of a range."""
    return type(value) is int or (isinstance(value, sympy.Basic) and not value.free_symbols)


def _expression(value: Any) -> bool:
    return _scalar(value) or isinstance(value, sympy.Basic) or _view(value, "sympy")


def _sizes(value: Any) -> bool:
    return (
        isinstance(value, list | tuple) and len(value) <= _DIMENSIONS and all(map(_number, value))
    )


def _truths(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(v, bool) for v in value)


def _hints(value: Any) -> bool:
    return isinstance(value, dict) and all(type(v) is int for pair in value.items() for v in pair)


def _instance(*types: type) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, types)


def _or_none(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or fits(value)


_Kind = tuple[str, Callable[[Any], bool]]

# The values of a parameter by its annotation, and by its name where the annotation is Any.
_BY_ANNOTATION: dict[str, _Kind] = {
    "str": ("text", _instance(str)),
    "bool": ("true or false", _instance(bool)),
    "int": ("an integer", _end),
    "Scalar": ("a number", _scalar),
    "float | torch.Tensor": ("a number", _scalar),
    "Dim | DimExpression": ("a Dim", _instance(Dim, DimExpression)),
    "Source": ("a source", _instance(Source)),
    "Term": ("a term", lambda value: _view(value, "term")),
    "sympy.Basic": ("an expression", _expression),
    "sympy.Expr": ("an expression", _expression),
    "sympy.Symbol": ("an expression", _expression),
    "Sequence[bool]": ("a list of true and false", _truths),
    "Sequence[Any]": (f"a list of at most {_DIMENSIONS} numbers", _sizes),
    "Mapping[int, int]": ("a dict of integers", _hints),
}
_BY_NAME: dict[str, _Kind] = {
    **dict.fromkeys(["val", "a", "b", "ex_storage_offset", "sym_node"], ("a number", _number)),
    **dict.fromkeys(["hint", "fallback_value"], ("a number or null", _or_none(_number))),
    "dynamic_dim": ("a DimDynamic or null", _or_none(_instance(DimDynamic))),
    "constraint_dim": (
        "a constraint of a dimension or null",
        _or_none(_instance(TorchStrictMinMaxConstraint, TorchRelaxedUnspecConstraint)),
    ),
    "symbolic_context": ("a symbolic context or null", _or_none(_instance(SymbolicContext))),
    "fx_node": ("null", lambda value: value is None),
}


@functools.cache
def _kind(method: Callable[..., Any], parameter: str) -> _Kind:
    """The values that a parameter takes, in words, and the test of a value.

    Raises:
        KeyError: the tables of this module lack the parameter.
    """
    annotation = _signature(method).parameters[parameter].annotation
    if annotation == "Any":
        return _BY_NAME[parameter]
    plain = annotation.removesuffix(" | None")
    kind, fits = _BY_ANNOTATION[plain]
    return (kind, fits) if plain == annotation else (f"{kind} or null", _or_none(fits))
