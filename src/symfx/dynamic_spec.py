"""torch's specs of dynamic shapes, and the decorator that attaches a spec to a function.

A spec names the dimensions of inputs that vary, with bounds, derived sizes and assumptions. Its
sizes are unbacked: the program must not branch on them, and the graph asserts the spec when it
runs. `symfx.proxy_tensor.make_fx` and `symfx.trace` take specs, and read the decorator.

The classes are those of the running torch, so that `torch.compile` and `torch.export` take the
same specs. torch has the decorator from 2.14 on; the one here works with every release.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch

from symfx.errors import SpecError, describe
from symfx.torch_bridge.identity import dynamic_spec_of_torch as _specs

__all__ = [
    "STATIC",
    "DictSpec",
    "IntVar",
    "ObjectSpec",
    "ParamsSpec",
    "SeqSpec",
    "ShapeVar",
    "ShapesSpec",
    "TensorSpec",
    "dynamic_spec",
]

STATIC = _specs.STATIC
IntVar = _specs.IntVar
ShapeVar = _specs.ShapeVar
TensorSpec = _specs.TensorSpec
ObjectSpec = _specs.ObjectSpec
DictSpec = _specs.DictSpec
SeqSpec = _specs.SeqSpec
ParamsSpec = _specs.ParamsSpec
ShapesSpec = _specs.ShapesSpec

_F = TypeVar("_F", bound=Callable[..., Any])
# torch's own decorator keeps the spec under this name, too.
_ATTRIBUTE = "_dynamic_spec"
_LEAVES = (IntVar, TensorSpec, SeqSpec, DictSpec, ObjectSpec, torch.SymInt)


def dynamic_spec(spec: Any) -> Callable[[_F], _F]:
    """Attach a spec to a function, or to the ``forward`` of a module.

    Args:
        spec: a `ShapesSpec`, a `ParamsSpec`, or a dict from parameter names to specs.

    Raises:
        SpecError: `spec` is none of these, or the function has a spec.

    Example:
        >>> from symfx.proxy_tensor import make_fx
        >>> rows = ShapeVar("rows", min=2)
        >>> @dynamic_spec({"x": TensorSpec([rows, STATIC])})
        ... def double(x):
        ...     return x * 2
        >>> graph = make_fx(double, tracing_mode="fake")(torch.ones(3, 4))
        >>> graph(torch.ones(5, 4)).shape
        torch.Size([5, 4])
    """
    shapes = as_shapes_spec(spec)
    if shapes is None:
        raise SpecError(
            f"dynamic_spec got {describe(spec)}",
            fix="pass a ShapesSpec, a ParamsSpec, or a dict from parameter names to specs",
        )

    def attach(function: _F) -> _F:
        if getattr(function, _ATTRIBUTE, None) is not None:
            raise SpecError(
                f"{function.__qualname__} has a spec already",
                where="dynamic_spec",
                fix="merge the two specs into one",
            )
        setattr(function, _ATTRIBUTE, shapes)
        return function

    return attach


def as_shapes_spec(spec: Any) -> Any:
    """A spec as a `ShapesSpec`; None for a value that is no spec.

    A dict is a spec if one of its values is.
    """
    if isinstance(spec, ShapesSpec):
        return spec
    if isinstance(spec, ParamsSpec) or (isinstance(spec, dict) and _has_leaf(spec)):
        try:
            return ShapesSpec(spec)
        except (TypeError, ValueError) as error:
            raise SpecError(f"the spec is wrong: {error}", where="dynamic_shapes") from error
    return None


def _has_leaf(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(_has_leaf, value.values()))
    if isinstance(value, (list, tuple)):
        return any(map(_has_leaf, value))
    return isinstance(value, _LEAVES)


def spec_of_call(function: Callable[..., Any], given: Any) -> Any:
    """The spec for a trace of a function: the given one, or the attached one; else None.

    Args:
        function: the function or module.
        given: the argument ``dynamic_shapes`` or ``dynamic``.

    Raises:
        SpecError: the function has a spec, and another description was given.
    """
    called = function.forward if isinstance(function, torch.nn.Module) else function
    attached = getattr(called, _ATTRIBUTE, None)
    if attached is None:
        return as_shapes_spec(given)
    if given is not None:
        name = getattr(called, "__qualname__", repr(called))
        raise SpecError(
            f"{name} has a spec attached by dynamic_spec, and another description was given",
            where="dynamic_shapes",
            fix="use one of the two",
        )
    return attached
