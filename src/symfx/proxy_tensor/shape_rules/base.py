"""What a rule is given and what it answers, and the table of rules."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, TypeVar

import torch

from symfx.proxy_tensor.shape_rules.numbers import Number, Numbers

__all__ = [
    "RULES",
    "Arg",
    "New",
    "Result",
    "Rule",
    "Shape",
    "View",
    "dimension",
    "is_number",
    "is_row_major",
    "rule",
]


class Shape(Protocol):
    """A strided tensor as a rule sees it."""

    @property
    def dtype(self) -> torch.dtype:
        """Its dtype."""

    @property
    def device(self) -> torch.device:
        """Its device."""

    @property
    def sizes(self) -> tuple[Number, ...]:
        """Its sizes."""

    @property
    def strides(self) -> tuple[Number, ...]:
        """Its strides."""

    @property
    def offset(self) -> Number:
        """Its offset into its storage."""


@dataclass(frozen=True, slots=True)
class New:
    """A tensor with a storage of its own.

    Attributes:
        dtype: its dtype.
        sizes: its sizes.
        strides: its strides.
        device: its device; that of the tensor arguments where None.
    """

    dtype: torch.dtype
    sizes: tuple[Number, ...]
    strides: tuple[Number, ...]
    device: torch.device | None = None


@dataclass(frozen=True, slots=True)
class View:
    """A view of a positional argument.

    Attributes:
        sizes, strides, offset: of the view.
        of: the argument's position.
    """

    sizes: tuple[Number, ...]
    strides: tuple[Number, ...]
    offset: Number
    of: int = 0


@dataclass(frozen=True, slots=True)
class Arg:
    """A positional argument itself, which the operator wrote to.

    Attributes:
        position: which.
    """

    position: int = 0


Result: TypeAlias = "New | View | Arg"
_Rule = TypeVar("_Rule", bound=Callable[..., Any])
Rule: TypeAlias = Callable[..., "Result | Sequence[Result] | None"]

RULES: dict[Any, Rule] = {}
"""The rule of each operator that has one.

A rule is called with the `Numbers` and the operator's arguments: a `Shape` for each tensor, an
int or term for each integer. It returns None for what it leaves to torch.
"""


def rule(*operators: Any) -> Callable[[_Rule], _Rule]:
    """Make a function the rule of operators."""

    def register(function: _Rule) -> _Rule:
        for operator in operators:
            RULES[operator] = function
        return function

    return register


def dimension(rank: int, d: Any) -> int | None:
    """A dimension counted from the front; None for one that is not there."""
    if type(d) is not int or not -rank <= d < rank:
        return None
    return d % rank


def is_number(value: Any) -> bool:
    """Whether an argument is a Python number (a scalar that operators take beside tensors)."""
    return isinstance(value, (int, float))


def is_row_major(n: Numbers, a: Shape) -> bool:
    """Whether a tensor surely has elements, and lies row-major without gaps."""
    return n.all_positive(a.sizes) and n.all_same(a.strides, n.contiguous(a.sizes))
