"""The arguments of a trace as data: its signature, the example call, and what may change of it."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch.utils import _pytree as pytree

from symfx.errors import SpecError, TraceFileError, describe
from symfx.graph_data.arguments import decode, encode
from symfx.handover.structures import describe_structure, read_structure
from symfx.handover.tensors import TensorReader, TensorWriter
from symfx.symbolic_shapes import Dim, DimExpression
from symfx.tracing.arguments import Layout, Leaf
from symfx.tracing.dynamic import Entry, Extent
from symfx.untrusted import Item, shown

__all__ = ["describe_call", "describe_entry", "read_call"]

_KINDS = {
    kind.name.lower(): kind
    for kind in (
        inspect.Parameter.POSITIONAL_ONLY,
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
        inspect.Parameter.VAR_POSITIONAL,
        inspect.Parameter.KEYWORD_ONLY,
        inspect.Parameter.VAR_KEYWORD,
    )
}
_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
_PARAMETERS, _LEAVES = 1_000, 10_000


class _Unsaved:
    """Stands for the default of a parameter that a file does not have; it equals nothing else."""

    def __repr__(self) -> str:
        return "..."


_UNSAVED = _Unsaved()


# -- writing ---------------------------------------------------------------------------------------


def describe_call(
    layout: Layout, entries: Sequence[Entry], tensors: TensorWriter, *, data: bool
) -> dict[str, Any]:
    """The arguments of a trace as data.

    Args:
        layout: the arguments.
        entries: the dynamic dimensions of each leaf.
        tensors: writes the example tensors.
        data: whether the file gets the elements of the example tensors.

    Raises:
        TraceFileError: an argument is of a kind that a file cannot hold.
    """
    return {
        "parameters": [_describe_parameter(p) for p in layout.signature.parameters.values()],
        "structure": describe_structure(layout.structure, "the arguments"),
        "leaves": [
            {
                "name": leaf.name,
                "example": _describe_example(leaf, tensors, data),
                "dynamic": describe_entry(entry),
            }
            for leaf, entry in zip(layout.leaves, entries, strict=True)
        ],
    }


def _describe_parameter(parameter: inspect.Parameter) -> dict[str, Any]:
    default: Any = None
    if parameter.default is not inspect.Parameter.empty:
        try:
            default = {"value": encode(parameter.default, parameter.name, TraceFileError)}
        except TraceFileError:
            default = {"unsaved": True}
    return {"name": parameter.name, "kind": parameter.kind.name.lower(), "default": default}


def _describe_example(leaf: Leaf, tensors: TensorWriter, data: bool) -> Any:
    if isinstance(leaf.example, torch.Tensor):
        return {"tensor": tensors.describe(leaf.example, f"inputs/{leaf.name}", data=data)}
    try:
        return {"value": encode(leaf.example, leaf.path, TraceFileError)}
    except TraceFileError:
        raise TraceFileError(
            f"the input {leaf.path} is {describe(leaf.example)}, which a file cannot hold",
            fix="pass tensors, numbers, texts and containers of them; other values can be "
            "attributes of the model",
        ) from None


def describe_entry(entry: Entry) -> Any:
    """The dynamic dimensions of an argument as data."""
    if isinstance(entry, tuple):
        return [_describe_extent(extent) for extent in entry]
    return _describe_extent(entry)


def _describe_extent(extent: Extent) -> Any:
    if isinstance(extent, Dim):
        return {"name": extent.name, "min": extent.min, "max": extent.max}
    if isinstance(extent, DimExpression):
        return True  # the environment has the expression
    return extent


# -- reading ---------------------------------------------------------------------------------------


def read_call(item: Item, tensors: TensorReader) -> tuple[Layout, list[Entry]]:
    """The arguments that data describe, and the dynamic dimensions of each leaf.

    Raises:
        TraceFileError: the data describe no arguments.
    """
    fields = item.fields("parameters", "structure", "leaves")
    parameters = [_read_parameter(each) for each in fields["parameters"].items(_PARAMETERS)]
    with item.source.guarding("the parameters make no signature", fields["parameters"].path):
        signature = inspect.Signature(parameters)
    described = [
        each.fields("name", "example", "dynamic") for each in fields["leaves"].items(_LEAVES)
    ]
    examples = [_read_example(each["example"], tensors) for each in described]
    spec = read_structure(fields["structure"])
    if spec.num_leaves != len(examples) or spec.type is not dict:
        raise fields["structure"].refusal(
            f"the structure has {spec.num_leaves} leaves, and the file has {len(examples)} inputs"
        )
    names = spec._context
    if not set(names) <= signature.parameters.keys():
        raise fields["structure"].refusal("the arguments are not those of the signature")
    with item.source.guarding("the arguments do not fit the signature", fields["structure"].path):
        given = pytree.tree_unflatten(examples, spec)
        bound = inspect.BoundArguments(signature, given)
        layout = Layout(None, bound.args, bound.kwargs, signature=signature)
    for leaf, each in zip(layout.leaves, described, strict=True):
        if each["name"].text() != leaf.name:
            raise each["name"].refusal(f"this input is {leaf.name}")
    entries = [
        _read_entry(each["dynamic"], leaf.example)
        for leaf, each in zip(layout.leaves, described, strict=True)
    ]
    return layout, entries


def _read_parameter(item: Item) -> inspect.Parameter:
    fields = item.fields("name", "kind", "default")
    kind = fields["kind"].choice(_KINDS, "kind of parameter")
    default: Any = inspect.Parameter.empty
    if fields["default"].value is not None:
        known, inner = fields["default"].single()
        if known not in ("value", "unsaved") or kind in _VARIADIC:
            raise fields["default"].refusal("this cannot be a default")
        default = decode(inner, {}) if known == "value" else _UNSAVED
    name = fields["name"].identifier()
    if name == "self":
        raise fields["name"].refusal("no input may be called self")
    return inspect.Parameter(name, kind, default=default)


def _read_example(item: Item, tensors: TensorReader) -> Any:
    kind, inner = item.single()
    if kind == "tensor":
        return tensors.read(inner)
    if kind != "value":
        raise item.refusal(f"there is no kind of input called {shown(kind)}")
    value = decode(inner, {})
    if not pytree.tree_structure(value).is_leaf():
        raise item.refusal("an input is no container: the structure has its members")
    return value


def _read_entry(item: Item, example: Any) -> Entry:
    if isinstance(example, torch.Tensor):
        return tuple(_read_extent(each) for each in item.items(exactly=example.dim()))
    return _read_extent(item)


def _read_extent(item: Item) -> Extent:
    if item.value is None or item.value is True:
        return None if item.value is None else True
    fields = item.fields("name", "min", "max")
    low, high = (
        None if fields[key].value is None else fields[key].whole(0, 1 << 63)
        for key in ("min", "max")
    )
    try:
        return Dim(fields["name"].identifier(), min=low, max=high)
    except SpecError as error:
        raise item.refusal(error.what) from None
