"""The entries of ``dynamic`` by parameter, and those that are written as text."""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from symfx.errors import SpecError, describe
from symfx.shape_language import parse_dimension, parse_type
from symfx.shape_language.syntax import (
    AnyTensor,
    Both,
    Comparison,
    Leading,
    Number,
    Size,
    TensorSyntax,
)
from symfx.shape_language.texts import Text
from symfx.tracing.arguments import Layout
from symfx.tracing.stated import Stated
from symfx.tracing.torch_shapes import Wish

__all__ = ["bounds_of", "entries_by_parameter", "identifier", "tensor_parts", "with_leading"]


def entries_by_parameter(layout: Layout, dynamic: Any) -> dict[str, Any]:
    """The entries of ``dynamic`` by parameter name."""
    named = layout.names()
    order = list(named)
    if dynamic is None:
        return {}
    if dynamic is True:
        return dict.fromkeys(order, True)
    if isinstance(dynamic, Mapping):
        wanted: dict[str, Any] = {}
        for key, entry in dynamic.items():
            if isinstance(key, int) and not isinstance(key, bool):
                if not -len(order) <= key < len(order):
                    raise SpecError(
                        f"dynamic names input {key}, and the call has {len(order)}",
                        where="dynamic",
                        fix=f"the inputs are {', '.join(order) or 'none at all'}",
                    )
                name = order[key]
            else:
                name = key
            variadic = _variadic_entry(layout, name, entry)
            if variadic is not None:
                wanted.update(variadic)
                continue
            if name not in named:
                near = difflib.get_close_matches(str(name), order, n=1)
                hint = f"did you mean {near[0]!r}? " if near else ""
                raise SpecError(
                    f"dynamic names {name!r}, which is not an input of this call",
                    where="dynamic",
                    fix=f"{hint}the inputs are {', '.join(order) or 'none at all'}",
                )
            if name in wanted:
                raise SpecError(
                    f"dynamic describes {name!r} twice, by name and by position",
                    where="dynamic",
                    fix="describe it once",
                )
            wanted[name] = entry
        return wanted
    if isinstance(dynamic, Sequence) and not isinstance(dynamic, str):
        if len(dynamic) != len(order):
            raise SpecError(
                f"dynamic has {len(dynamic)} entries, and the call has {len(order)} inputs",
                where="dynamic",
                fix=f"give one entry for each of {', '.join(order)} (None is static), "
                "or a dict by name",
            )
        return dict(zip(order, dynamic, strict=True))
    raise SpecError(
        f"dynamic is {describe(dynamic)}",
        where="dynamic",
        fix="give None, True, a dict by parameter name or position, or a sequence of entries",
    )


def _variadic_entry(layout: Layout, name: Any, entry: Any) -> dict[str, Any] | None:
    """The entries of the members of ``**kwargs``, which torch.export describes in one dict."""
    parameter = layout.signature.parameters.get(name) if isinstance(name, str) else None
    if parameter is None or parameter.kind is not inspect.Parameter.VAR_KEYWORD:
        return None
    if name in layout.names() or not isinstance(entry, Mapping):
        return None
    return dict(entry)


def identifier(path: str) -> str:
    """A path as an identifier: ``batch_ids`` for ``batch['ids']``."""
    return re.sub(r"\W+", "_", path).strip("_") or "input"


def tensor_parts(path: str, value: torch.Tensor, text: str, where: str) -> tuple[Any, ...] | None:
    """The parts of an entry that is written as a type: ``[batch, 64]``, ``f32[batch, 64]``.

    Raises:
        SpecError: it is another type than that of the tensor, or no type.
    """
    read = parse_type(text, where)
    if isinstance(read, AnyTensor):
        return None
    if not isinstance(read, TensorSyntax) or read.below is not None:
        raise Text(text, where).error(
            f"{path} is a tensor, and {read} is no type of a tensor",
            read.at,
            "write a type such as [batch, 64] or f32[batch, 64]",
        )
    dtype = str(value.dtype).removeprefix("torch.")
    if read.dtype not in (None, dtype):
        raise Text(text, where).error(
            f"{path} has the dtype {dtype}, not {read.dtype}",
            read.at,
            "pass an example of this dtype, or leave the dtype out",
        )
    return read.dims


def with_leading(entry: Sequence[Any], rank: int, where: str) -> list[Any]:
    """The parts of an entry, with the dimensions for which ``*dims`` and ``...`` stand."""
    parts: list[Any] = []
    several: list[int] = []
    for written in entry:
        part = written.extent if isinstance(written, Wish) else written
        if part is ...:
            part = Leading(None)
        elif isinstance(part, str) and part.lstrip().startswith("*"):
            part = parse_dimension(part, where)
        if isinstance(part, Leading):
            several.append(len(parts))
        parts.append(part if isinstance(part, Leading) else written)
    if len(several) != 1 or len(parts) - 1 > rank:
        return parts
    (at,) = several
    name, missing = parts[at].name, rank - (len(parts) - 1)
    names = [None if name is None else f"{name}_{i}" for i in range(missing)]
    wished = isinstance(entry[at], Wish)
    parts[at : at + 1] = [Wish(n) if wished and n is not None else n for n in names]
    return parts


def bounds_of(read: Size, where: str) -> Stated:
    """The bounds of an expression as a condition."""
    low = [] if read.low is None else [(">=", Number(read.low))]
    high = [] if read.high is None else [("<=", Number(read.high))]
    first, *rest = [Comparison(read.value, (bound,)) for bound in (*low, *high)]
    tree = Both((first, *rest)) if rest else first
    return Stated(tree, Text(str(tree), where))
