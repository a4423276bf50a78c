"""The arguments and answers of a rule, and the table of rules."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, TypeVar

import torch

from symfx.fake_operators.rules.numbers import Number, Numbers

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
    "is_shape",
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
        device: its device, or None for the device of the tensor arguments.
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
        position: its position.
    """

    position: int = 0


Result: TypeAlias = "New | View | Arg"
Answer: TypeAlias = "Result | Sequence[Result] | None"
_Function = TypeVar("_Function", bound=Callable[..., Any])

_DTYPES = frozenset({
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.bool, torch.uint8,
    torch.int8, torch.int16, torch.int32, torch.int64,
})  # fmt: skip


class Rule:
    """The sizes and strides of an operator's results, as a function of its arguments.

    Args:
        function: called with the `Numbers` and the operator's arguments: a `Shape` for each
            tensor, an int or term for each integer. Returns None for a case left to torch.
        tensors: the positions at which `function` expects tensors. torch passes a Python number
            in the place of a tensor as that number.
    """

    __slots__ = ("function", "tensors")

    def __init__(self, function: Callable[..., Answer], tensors: tuple[int, ...]) -> None:
        self.function = function
        self.tensors = tensors

    def __call__(self, n: Numbers, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Answer:
        """The results of a call; None for a case that is left to torch."""
        device = None
        for a in _flat((*args, *kwargs.values())):
            if is_shape(a):
                if a.dtype not in _DTYPES or device not in (None, a.device):
                    return None
                device = a.device
        if not all(i < len(args) and is_shape(args[i]) for i in self.tensors):
            return None
        return self.function(n, *args, **kwargs)


RULES: dict[Any, Rule] = {}
"""The rule of each operator that has one."""


def rule(*operators: Any, numbers: bool = False) -> Callable[[_Function], _Function]:
    """Make a function the rule of some operators.

    Args:
        operators: the operators.
        numbers: whether the function takes numbers in place of tensors, except for the first.
    """

    def register(function: _Function) -> _Function:
        for operator in operators:
            tensors = [
                i for i, a in enumerate(operator._schema.arguments) if str(a.type) == "Tensor"
            ]
            RULES[operator] = Rule(function, tuple(tensors[:1] if numbers else tensors))
        return function

    return register


def is_shape(value: Any) -> bool:
    """Whether an argument is a tensor."""
    return hasattr(value, "strides")


def _flat(values: Iterable[Any]) -> Iterator[Any]:
    for value in values:
        if isinstance(value, (list, tuple)):
            yield from value
        else:
            yield value


def dimension(rank: int, d: Any) -> int | None:
    """A dimension counted from the front; None for a dimension that the tensor lacks."""
    if type(d) is not int or not -rank <= d < rank:
        return None
    return d % rank


def is_number(value: Any) -> bool:
    """Whether an argument is a Python number (a scalar that operators take beside tensors)."""
    return isinstance(value, (int, float))


def is_row_major(n: Numbers, a: Shape) -> bool:
    """Whether a tensor surely has elements, and is row-major without gaps."""
    return n.all_positive(a.sizes) and n.all_same(a.strides, n.contiguous(a.sizes))
