"""The differences between inputs and the conditions of a trace, as records and in sentences."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias

import torch

from symfx.algebra import Term
from symfx.errors import describe
from symfx.symbolic_shapes import Dim, Provenance
from symfx.symbolic_shapes.checks.measures import Measure
from symfx.tracing.arguments import Leaf
from symfx.tracing.dynamic import Entry

__all__ = ["Kind", "LeafMeasure", "Mismatch", "differences"]

Kind: TypeAlias = Literal[
    "arguments",
    "type",
    "dtype",
    "device",
    "layout",
    "rank",
    "value",
    "size",
    "equality",
    "expression",
    "strides",
    "condition",
    "range",
    "unchecked",
]


class LeafMeasure(NamedTuple):
    """One number of one input.

    Attributes:
        leaf: the input.
        measure: a size, a stride, the storage offset, or the value.
    """

    leaf: Leaf
    measure: Measure

    def of(self, value: Any) -> int:
        """This number of another value of the input."""
        return int(self.measure.of(value))

    def matters(self, value: Any) -> bool:
        """Whether the number affects the result: a stride needs two elements in its dimension."""
        if self.measure.kind != "stride":
            return True
        return value.size(self.measure.dim) > 1 and all(n > 0 for n in value.shape)

    def __str__(self) -> str:
        return self.measure.words(self.leaf.path)


@dataclass(frozen=True)
class Mismatch:
    """One difference between inputs and the conditions of a trace.

    Attributes:
        kind: which condition the inputs do not satisfy. ``arguments``: the structure of the call;
            ``type`` to ``rank``: a property of a tensor; ``value``: a static value; ``size``: a
            static size; ``equality``: two sizes of one name; ``expression``: a size that is an
            expression of names; ``condition``: a guard, or an assertion about the inputs alone;
            ``range``: the range of a dimension; ``unchecked``: a guard whose symbol no input gives.
        text: the difference in a sentence.
        leaf: the input; None where several inputs are concerned.
        number: the number of the input that differs, if one does.
        found: what the inputs have: a dtype, a rank, a size.
        wanted: what the trace needs instead.
        term: the condition that does not hold; of a ``range`` and an ``equality``, the symbol.
        cause: what caused the condition.
    """

    kind: Kind
    text: str
    leaf: Leaf | None = None
    number: LeafMeasure | None = None
    found: Any = None
    wanted: Any = None
    term: Term | None = None
    cause: Provenance | None = None


def differences(leaf: Leaf, entry: Entry, value: Any) -> Iterator[Mismatch]:
    """The differences of an input's type, dtype, device, layout, rank or static value.

    Args:
        leaf: the input.
        entry: its dynamic dimensions.
        value: its value in another call.
    """
    then = leaf.example
    path = leaf.path
    if isinstance(then, torch.Tensor):
        if not isinstance(value, torch.Tensor):
            yield Mismatch("type", f"{path} is {describe(value)}, not a tensor", leaf)
            return
        parts: tuple[Literal["dtype", "device", "layout"], ...] = ("dtype", "device", "layout")
        for part in parts:
            now, before = getattr(value, part), getattr(then, part)
            if now != before:
                text = f"{path} has {part} {now}, not {before}"
                yield Mismatch(part, text, leaf, found=now, wanted=before)
        if value.dim() != then.dim():
            text = f"{path} has {value.dim()} dimensions, not {then.dim()}"
            yield Mismatch("rank", text, leaf, found=value.dim(), wanted=then.dim())
        return
    if isinstance(entry, Dim) or entry is True:
        if not isinstance(value, int) or isinstance(value, bool):
            yield Mismatch("type", f"{path} is {describe(value)}, not an int", leaf)
        return
    same = value is then or (
        type(value) is type(then)
        and not isinstance(value, torch.Tensor)
        and (value == then) is True
    )
    if not same:
        text = f"{path} is {describe(value)}; it is static: {describe(then)} when traced"
        yield Mismatch("value", text, leaf, found=value, wanted=then)
