"""The parts of a split tensor, made as the program takes them.

``x.split(2)`` returns as many parts as the size asks for, so a trace holds for that number alone.
A program that takes the first part does not see the number. So in a trace of a model the result of
``split``, ``chunk`` or ``unbind`` is a tuple that makes a part when it is taken. All other uses
(its length, a loop, unpacking) make the real tuple, whose number of parts is guarded.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.utils import _pytree as pytree

from symfx.proxy_tensor.forms import Forms
from symfx.symbolic_shapes import statically_known_true

__all__ = ["PARTS", "Parts", "parts_made_singly", "with_whole_tuples"]


class _Here(threading.local):
    allowed = False


_here = _Here()


@contextlib.contextmanager
def parts_made_singly() -> Iterator[None]:
    """Inside, functions of `PARTS` return `Parts` where the number of parts may change."""
    before, _here.allowed = _here.allowed, True
    try:
        yield
    finally:
        _here.allowed = before


class Parts(tuple):  # type: ignore[type-arg]
    """A tuple that makes each part when the program takes the part.

    The tuple itself is empty: C code that reads it without asking finds no parts, not wrong ones.

    Args:
        take: makes part i, where i is at least 0, or -1; NotImplemented for another place.
        whole: makes the tuple of all parts.
    """

    _take: Callable[[int], Any]
    _make: Callable[[], Any]
    _whole: tuple[torch.Tensor, ...] | None

    def __new__(cls, take: Callable[[int], Any], whole: Callable[[], Any]) -> Parts:
        """An empty tuple that knows how to make its parts."""
        made = super().__new__(cls)
        made._take = take
        made._make = whole
        made._whole = None
        return made

    def whole(self) -> tuple[torch.Tensor, ...]:
        """The real tuple of all parts."""
        if self._whole is None:
            self._whole = tuple(self._make())
        return self._whole

    def __getitem__(self, at: Any) -> Any:
        if self._whole is None and type(at) is int:
            part = self._take(at)
            if part is not NotImplemented:
                return part
        return self.whole()[at]

    def __len__(self) -> int:
        return len(self.whole())

    def __iter__(self) -> Iterator[torch.Tensor]:
        return iter(self.whole())

    def __reversed__(self) -> Iterator[torch.Tensor]:
        return reversed(self.whole())

    def __contains__(self, value: object) -> bool:
        return value in self.whole()

    def __bool__(self) -> bool:
        return bool(self.whole())

    def __add__(self, other: Any) -> Any:
        return self.whole() + tuple(other)

    def __radd__(self, other: Any) -> Any:
        return tuple(other) + self.whole()

    def __mul__(self, times: Any) -> Any:
        return self.whole() * times

    __rmul__ = __mul__

    def __eq__(self, other: object) -> bool:
        return self.whole() == other

    def __hash__(self) -> int:
        return hash(self.whole())

    def __repr__(self) -> str:
        return repr(self.whole())

    def __reduce__(self) -> Any:
        return tuple, (self.whole(),)

    def index(self, *args: Any) -> int:
        """The place of a part."""
        return self.whole().index(*args)

    def count(self, value: Any) -> int:
        """How often a part occurs."""
        return self.whole().count(value)


pytree.register_pytree_node(
    Parts,
    lambda parts: (list(parts.whole()), None),
    lambda parts, _: tuple(parts),
    serialized_type_name="symfx.proxy_tensor.parts.Parts",
)


def with_whole_tuples(value: Any) -> Any:
    """A value with real tuples in place of `Parts`, in lists, tuples and dictionaries too."""
    return pytree.tree_map(
        lambda leaf: leaf.whole() if type(leaf) is Parts else leaf,
        value,
        is_leaf=lambda leaf: type(leaf) is Parts,
    )


PARTS = Forms()
"""For a torch function that splits a tensor, its form; NotImplemented where torch's own may run."""


def _may_change(x: Any, dim: Any) -> bool:
    """Whether `Parts` are wanted, and the size along a dimension is a symbolic one of an input."""
    if not _here.allowed or type(dim) is not int or not isinstance(x, torch.Tensor):
        return False
    if not -x.dim() <= dim < x.dim() or x.layout is not torch.strided or x.is_nested:
        return False
    size = x.shape[dim]
    return isinstance(size, torch.SymInt) and size.node.has_hint()


@PARTS.of(torch.Tensor.unbind, torch.unbind)
def _unbind(x: torch.Tensor, dim: Any = 0) -> Any:
    if not _may_change(x, dim):
        return NotImplemented

    def take(i: int) -> Any:
        size = x.shape[dim]
        return x.select(dim, i) if bool(size > i if i >= 0 else size >= -i) else NotImplemented

    return Parts(take, lambda: torch.ops.aten.unbind.int(x, dim))


@PARTS.of(torch.Tensor.split, torch.split)
def _split(x: torch.Tensor, split_size: Any, dim: Any = 0) -> Any:
    if not _may_change(x, dim) or not isinstance(split_size, (int, torch.SymInt)):
        return NotImplemented
    return _of_length(x, split_size, dim, lambda: torch.ops.aten.split.Tensor(x, split_size, dim))


@PARTS.of(torch.Tensor.chunk, torch.chunk)
def _chunk(x: torch.Tensor, chunks: Any, dim: Any = 0) -> Any:
    if not _may_change(x, dim) or type(chunks) is not int or chunks < 1:
        return NotImplemented
    length = (x.shape[dim] + chunks - 1) // chunks
    return _of_length(x, length, dim, lambda: torch.ops.aten.chunk.default(x, chunks, dim))


def _of_length(x: torch.Tensor, length: Any, dim: int, whole: Callable[[], Any]) -> Any:
    """Parts of a length along a dimension, where their number is open."""
    size: Any = x.shape[dim]
    if not (statically_known_true(length >= 1) and statically_known_true(size >= 1)):
        return NotImplemented
    count = -(-size.node.hint // (length if isinstance(length, int) else length.node.hint))
    if statically_known_true((count - 1) * length < size) and statically_known_true(
        size <= count * length
    ):
        return NotImplemented

    def take(i: int) -> Any:
        if i == -1:
            return x.narrow(dim, start := (size - 1) // length * length, size - start)
        if i < 0 or not bool(size > i * length):
            return NotImplemented
        end = torch.sym_min(size, (i + 1) * length)  # type: ignore[no-untyped-call]
        return torch.ops.aten.slice.Tensor(x, dim, i * length, end)

    return Parts(take, whole)
