"""The ways in which torch and jaxtyping say dynamic shapes, as symfx says them.

`torch.export.Dim` with its derived dimensions and hints, `ShapesCollection` and
`AdditionalInputs`, tensors that are marked by ``mark_dynamic``, and jaxtyping's annotations.
"""

from __future__ import annotations

import inspect
import sys
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from symfx.errors import SpecError
from symfx.symbolic_shapes import Dim, DimExpression
from symfx.tracing.arguments import Layout

__all__ = ["Wish", "annotated", "dimension_of_torch", "marked", "shapes_of_torch"]


@dataclass(frozen=True)
class Wish:
    """A dimension that is dynamic unless the program or the example pins it.

    Attributes:
        extent: a name, an expression, or True for a dimension without a name.
    """

    extent: Dim | str | bool

    def __repr__(self) -> str:
        return repr(self.extent)


# -- torch.export ----------------------------------------------------------------------------------


def shapes_of_torch(dynamic: Any, layout: Layout) -> Any:
    """The entries by parameter of a `ShapesCollection` or an `AdditionalInputs`.

    Anything else is returned unchanged.

    Raises:
        SpecError: it does not fit the arguments.
    """
    if type(dynamic).__module__ != "torch.export.dynamic_shapes":
        return dynamic
    kind = type(dynamic).__name__
    if kind not in ("ShapesCollection", "AdditionalInputs"):
        return dynamic
    args, kwargs = layout.unflatten([leaf.example for leaf in layout.leaves])
    try:
        return dynamic.dynamic_shapes(_WithSignature(layout.signature), args, kwargs)
    except (ValueError, AssertionError) as error:
        raise SpecError(
            f"the {kind} does not fit the arguments: {error}",
            where="dynamic",
            fix="describe the tensors that are passed, themselves and not copies"
            if kind == "ShapesCollection"
            else "add arguments of the same structure, whose tensors have as many dimensions",
        ) from error


class _WithSignature:
    """A function whose signature alone torch needs."""

    def __init__(self, signature: inspect.Signature) -> None:
        self.__signature__ = signature

    def __call__(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing."""


def dimension_of_torch(extent: Any, place: str) -> Any:
    """A dimension of `torch.export` as one of symfx; anything else is returned unchanged.

    Args:
        extent: the description of the dimension.
        place: the dimension as an identifier, from which an unnamed range gets its name.
    """
    if type(extent).__module__ != "torch.export.dynamic_shapes":
        return extent
    kind = type(extent).__name__
    if kind == "_DimHint":
        return _hint(extent, place)
    if kind == "_StaticDim":
        return int(extent.value)
    if kind == "_DerivedDim":
        derived: DimExpression = extent.fn(_named(extent.root))
        return derived
    return _named(extent) if kind == "Dim" else extent


def _named(dim: Any) -> Dim:
    # torch's least size where none is given is 0, which says nothing: a trace begins at 2.
    low = _bound(dim.min)
    return Dim(dim.__name__, min=low or None, max=_bound(dim.max))


def _bound(value: Any) -> int | None:
    """An end of a range of torch's; None for infinity."""
    return int(value) if isinstance(value, int) else None


def _hint(hint: Any, place: str) -> Any:
    kind = hint.type.name
    if kind == "STATIC":
        return None
    low, high = _bound(hint.min), _bound(hint.max)
    extent: Dim | bool = True
    if low or high is not None:
        extent = Dim(place, min=low or None, max=high)
    return extent if kind == "DYNAMIC" else Wish(extent)


# -- marks -----------------------------------------------------------------------------------------


def marked(tensor: torch.Tensor, path: str) -> dict[int, Any] | None:
    """The entry of a tensor on which ``mark_dynamic`` or ``maybe_mark_dynamic`` was called.

    Args:
        tensor: the tensor.
        path: the tensor as an identifier.

    Returns:
        The dimensions by number; None for a tensor without marks.

    Raises:
        SpecError: ``mark_unbacked`` was called on it: only a spec of all inputs says that.
    """
    unbacked: set[int] = set()
    for kind in ("_dynamo_unbacked_indices", "_dynamo_strict_unbacked_indices"):
        unbacked |= getattr(tensor, kind, set())
    if unbacked:
        raise SpecError(
            f"mark_unbacked was called on dimension {min(unbacked)} of {path}, and a trace does "
            "not read that mark",
            where="dynamic",
            fix="pass a spec of symfx.dynamic_spec, whose sizes are unbacked, or call mark_dynamic "
            "on a tensor without the mark",
        )
    strict: set[int] = getattr(tensor, "_dynamo_dynamic_indices", set())
    weak: set[int] = getattr(tensor, "_dynamo_weak_dynamic_indices", set())
    if not strict and not weak:
        return None
    ranges = {r.dim: r for r in getattr(tensor, "_dynamo_dynamic_range", ())}
    entry: dict[int, Any] = {index: Wish(True) for index in weak}
    for index in strict:
        low = high = None
        if index in ranges:
            low, high = _bound(ranges[index].min), _bound(ranges[index].max)
        entry[index] = True
        if low or high is not None:
            entry[index] = Dim(f"{path}_{index}", min=low or None, max=high)
    return entry


# -- jaxtyping -------------------------------------------------------------------------------------


def annotated(called: Callable[..., Any], layout: Layout) -> dict[str, Any]:
    """The entries of the parameters that have annotations of jaxtyping, by name.

    Args:
        called: the function, or the ``forward`` of the module.
        layout: the arguments of its call.
    """
    if "jaxtyping" not in sys.modules:
        return {}
    hints: Mapping[str, Any] = {
        name: parameter.annotation for name, parameter in layout.signature.parameters.items()
    }
    if any(isinstance(hint, str) for hint in hints.values()):
        try:
            hints = typing.get_type_hints(called, include_extras=True)
        except (NameError, TypeError, SyntaxError, AttributeError):
            return {}  # an annotation that does not exist at run time says nothing
    found: dict[str, Any] = {}
    for name, value in layout.given.items():
        dims = _dims_of(hints.get(name))
        if dims is not None and isinstance(value, torch.Tensor):
            found[name] = tuple(_annotated_part(part) for part in dims.split())
    return found


def _dims_of(annotation: Any) -> str | None:
    """The dimensions that an annotation of jaxtyping writes; None for another annotation."""
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        found = [
            dims for part in typing.get_args(annotation) if (dims := _dims_of(part)) is not None
        ]
        return found[0] if len(found) == 1 else None
    if type(annotation).__module__.partition(".")[0] != "jaxtyping":
        return None
    dims = getattr(annotation, "dim_str", None)
    return dims if isinstance(dims, str) else None


def _annotated_part(part: str) -> Any:
    """One dimension as jaxtyping writes it: a name, a number, an expression, or one of any size."""
    if part == "...":
        return ...
    stem = part.lstrip("*#?")
    modifiers = part[: len(part) - len(stem)]
    if "*" in modifiers:
        return ... if "#" in modifiers or stem.startswith("_") else Wish(f"*{stem}")
    if "#" in modifiers or "?" in modifiers or stem.startswith("_") or "{" in stem:
        return None
    named, equals, size = stem.partition("=")
    del named  # "rows=4" is the size 4, with a name for the reader
    text = size if equals else stem
    return int(text) if text.isdigit() else Wish(text)
