"""The numbers that an input brings along: its sizes, strides and offset, or the input itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, NamedTuple, TypeAlias

import torch
from torch._subclasses.meta_utils import is_sparse_any

__all__ = ["Kind", "Measure", "is_tensor_like", "measures"]

Kind: TypeAlias = Literal["size", "stride", "storage_offset", "value", "item"]


class Measure(NamedTuple):
    """One number of an input, and how it reads in code and in words.

    Attributes:
        kind: a size, a stride or the storage offset of a tensor, the value of a number, or the
            one item of a tensor.
        dim: the dimension of a size or a stride; None otherwise.

    Example:
        >>> rows = Measure("size", 0)
        >>> rows.of(torch.ones(3, 4)), rows.source("x"), rows.expression("x"), rows.words("x")
        (3, 'x.size()[0]', 'x.shape[0]', 'dimension 0 of x')
    """

    kind: Kind
    dim: int | None = None

    def of(self, value: Any) -> Any:
        """This number of an input."""
        if self.kind == "value":
            return value
        numbers = getattr(value, self.kind)()
        return numbers if self.dim is None else numbers[self.dim]

    def source(self, name: str) -> str:
        """The number's source, as a ShapeEnv writes it for an input of this name."""
        if self.kind == "value":
            return name
        return f"{name}.{self.kind}()" + ("" if self.dim is None else f"[{self.dim}]")

    def expression(self, name: str) -> str:
        """The number as a person writes it in Python."""
        if self.kind == "size":
            return f"{name}.shape[{self.dim}]"
        return self.source(name)

    def words(self, name: str) -> str:
        """The number in words, for messages."""
        if self.kind == "size":
            return f"dimension {self.dim} of {name}"
        if self.kind == "stride":
            return f"stride {self.dim} of {name}"
        return f"the storage offset of {name}" if self.kind == "storage_offset" else name


def is_tensor_like(value: Any) -> bool:
    """Whether a value has sizes and strides: a tensor, or an object that stands in for one."""
    return isinstance(value, torch.Tensor) or (hasattr(value, "size") and hasattr(value, "stride"))


def measures(value: Any) -> Iterator[tuple[Measure, Any]]:
    """The numbers of an input, each with its measure.

    A sparse tensor has sizes alone. None has no number.
    """
    if value is None:
        return
    if not is_tensor_like(value):
        yield Measure("value"), value
        return
    for i, size in enumerate(value.size()):
        yield Measure("size", i), size
    if isinstance(value, torch.Tensor) and is_sparse_any(value):
        return
    for i, stride in enumerate(value.stride()):
        yield Measure("stride", i), stride
    yield Measure("storage_offset"), value.storage_offset()
