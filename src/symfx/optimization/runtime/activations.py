"""The activations that oneDNN's fused operators apply to their result, and torch's for each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["ALGORITHMS", "REFERENCES", "SCALARS", "PostOp"]

#: For each of oneDNN's activations, by name: torch's function for its scalars and algorithm.
REFERENCES: dict[str, Callable[[tuple[float, ...], str], Callable[[Tensor], Tensor] | None]] = {
    "none": lambda scalars, algorithm: None,
    "relu": lambda scalars, algorithm: torch.relu,
    "sigmoid": lambda scalars, algorithm: torch.sigmoid,
    "tanh": lambda scalars, algorithm: torch.tanh,
    "swish": lambda scalars, algorithm: F.silu,
    "hardswish": lambda scalars, algorithm: F.hardswish,
    "hardsigmoid": lambda scalars, algorithm: F.hardsigmoid,
    "hardtanh": lambda scalars, algorithm: lambda x: F.hardtanh(x, scalars[0], scalars[1]),
    "leaky_relu": lambda scalars, algorithm: lambda x: F.leaky_relu(x, scalars[0]),
    "gelu": lambda scalars, algorithm: lambda x: F.gelu(x, approximate=algorithm),
}
#: The number of scalars of each activation that has any.
SCALARS = {"hardtanh": 2, "leaky_relu": 1}
#: The algorithms of each activation that has several.
ALGORITHMS = {"gelu": ("none", "tanh")}


#: The in-place form of each activation that has one: allocating new memory takes time.
_INPLACE: dict[str, Callable[[Tensor, str], Tensor]] = {
    "relu": lambda x, algorithm: x.relu_(),
    "sigmoid": lambda x, algorithm: x.sigmoid_(),
    "tanh": lambda x, algorithm: x.tanh_(),
    "swish": lambda x, algorithm: F.silu(x, inplace=True),
    "hardswish": lambda x, algorithm: F.hardswish(x, inplace=True),
    "gelu": lambda x, algorithm: torch.ops.aten.gelu_(x, approximate=algorithm),
}


class PostOp:
    """The operation on each element of a fused operator's result: an activation, or nothing.

    Args:
        name: oneDNN's name for the activation; ``"none"`` for nothing.
        scalars: the activation's numbers.
        algorithm: its algorithm, where it has several.

    Attributes:
        function: torch's function for it; None for nothing.
    """

    def __init__(self, name: str, scalars: Sequence[float] = (), algorithm: str = "") -> None:
        self.name, self.scalars, self.algorithm = name, list(scalars), algorithm
        self.function = REFERENCES[name](tuple(scalars), algorithm)

    def __reduce__(self) -> tuple[Any, ...]:
        return PostOp, (self.name, self.scalars, self.algorithm)

    def apply_to(self, x: Tensor) -> Tensor:
        """The activation of a tensor that may be overwritten."""
        inplace: Any = _INPLACE.get(self.name)
        if inplace is not None:
            return cast("Tensor", inplace(x, self.algorithm))
        return self.function(x) if self.function else x

    def describe(self) -> dict[str, Any]:
        """The operation as plain data."""
        return {"name": self.name, "scalars": self.scalars, "algorithm": self.algorithm}

    def __repr__(self) -> str:
        return " ".join([self.name, *map(str, self.scalars), self.algorithm]).strip()
