"""Promotion: the dtype that an operator computes in, from the dtypes of its operands."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch

__all__ = ["Call", "Element", "Known", "category", "elements_of", "number_dtype", "promoted"]

#: A dtype; the class of a number of the program; a tuple of these for several results; ``None``
#: for a value of unknown dtype.
Known: TypeAlias = Any


@dataclass(frozen=True)
class Element:
    """A value among the arguments of an operator.

    Args:
        dtype: its dtype, or the class of a number.
        rank: the rank of a tensor; ``None`` if it is unknown.
    """

    dtype: Known
    rank: int | None = None


def promoted(values: list[Element]) -> Known:
    """The dtype that an operator computes in; ``None`` if the known dtypes and ranks leave it open.

    Numbers, and tensors of rank 0, count less than other tensors of the same category.
    """
    tensors = [v for v in values if isinstance(v.dtype, torch.dtype)]
    numbers = [_NUMBERS[v.dtype]() for v in values if v.dtype in _NUMBERS]
    if not tensors or len(numbers) + len(tensors) < len(values):
        return None
    if all(v.dtype == tensors[0].dtype for v in tensors):
        ranked = [tensors]
    else:  # an unknown rank may be 0 or not
        open_ranks = [
            [v] if v.rank is not None else [Element(v.dtype, rank) for rank in (0, 1)]
            for v in tensors
        ]
        ranked = [[*choice] for choice in itertools.product(*open_ranks)]
    results: set[torch.dtype | None] = set()
    for choice in ranked:
        with_dimensions = _promoted([v.dtype for v in choice if v.rank != 0])
        without = _promoted([v.dtype for v in choice if v.rank == 0])
        results.add(_combined(with_dimensions, _combined(without, _promoted(numbers))))
    return results.pop() if len(results) == 1 else None


_NUMBERS: dict[Any, Callable[[], torch.dtype]] = {
    bool: lambda: torch.bool,
    int: lambda: torch.int64,
    float: torch.get_default_dtype,
    complex: lambda: torch.complex64,
}


def _promoted(dtypes: list[torch.dtype]) -> torch.dtype | None:
    return functools.reduce(torch.promote_types, dtypes) if dtypes else None


def _combined(main: torch.dtype | None, other: torch.dtype | None) -> torch.dtype | None:
    """The dtype of a group of values, and of a group that counts less."""
    if main is None or other is None:
        return main or other
    return torch.promote_types(main, other) if category(other) > category(main) else main


def category(dtype: torch.dtype) -> int:
    """The place of a dtype among bool, integers, floats and complex numbers."""
    if dtype.is_complex:
        return 3
    if dtype.is_floating_point:
        return 2
    return 0 if dtype == torch.bool else 1


@dataclass(frozen=True)
class Call:
    """A call of an operator, with an `Element` in place of each tensor and each size.

    Args:
        name: the name of the operator.
        target: the operator.
        args: the positional arguments.
        kwargs: the keyword arguments.
        in_place: the first tensor is changed, and keeps its dtype.
    """

    name: str
    target: Any
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    in_place: bool = False

    @functools.cached_property
    def elements(self) -> list[Element]:
        """The tensors and numbers among the arguments, those in lists too."""
        return [*elements_of((*self.args, *self.kwargs.values()))]

    @property
    def first(self) -> Known:
        """The dtype of the first tensor."""
        return self.elements[0].dtype if self.elements else None

    @property
    def asked(self) -> torch.dtype | None:
        """The dtype that the arguments name."""
        given = (*self.args, *self.kwargs.values())
        return next((value for value in given if isinstance(value, torch.dtype)), None)

    @property
    def asks_unknown(self) -> bool:
        """Whether the arguments name a dtype that is not known, such as that of an input."""
        return isinstance(self.kwargs.get("dtype"), Element)

    def argument(self, place: int, name: str) -> Any:
        """One argument, given by its place or its name; ``None`` if it is left out."""
        return self.args[place] if place < len(self.args) else self.kwargs.get(name)


def elements_of(value: Any) -> Iterator[Element]:
    """The tensors and numbers in an argument, those in lists too."""
    if isinstance(value, Element):
        yield value
    elif isinstance(value, (bool, int, float, complex)):
        yield Element(type(value))
    elif isinstance(value, (tuple, list)):
        for part in value:
            yield from elements_of(part)


def number_dtype(kind: type) -> torch.dtype:
    """The dtype of a tensor that is made of numbers of this class."""
    return _NUMBERS[kind]()
