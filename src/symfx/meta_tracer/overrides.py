"""Overrides: functions that compute a meta value where running the program's call would not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

__all__ = [
    "embedding_override",
    "functional_relu_override",
    "manual_meta_overrides",
    "nn_layernorm_override",
    "torch_abs_override",
    "torch_nn_relu_override",
    "torch_relu_override",
    "torch_where_override",
]


def embedding_override(self: nn.Embedding, input: Tensor) -> Tensor:
    """The meta value of ``nn.Embedding``: one row of the table for each index.

    Args:
        self: the module.
        input: the indices, of any shape.

    Returns:
        A meta tensor of the shape of `input` and one dimension more.

    Example:
        >>> embedding_override(nn.Embedding(10, 3), torch.empty(2, 5, device="meta")).shape
        torch.Size([2, 5, 3])
    """
    weight = self.weight
    return torch.empty((*input.shape, weight.shape[-1]), dtype=weight.dtype, device="meta")


def nn_layernorm_override(self: nn.LayerNorm, input: Tensor) -> Tensor:
    """The meta value of ``nn.LayerNorm``: like the input.

    Example:
        >>> nn_layernorm_override(nn.LayerNorm(3), torch.empty(2, 3, device="meta")).shape
        torch.Size([2, 3])
    """
    return torch.empty_like(input)


def torch_relu_override(x: Tensor) -> Tensor:
    """The meta value of ``torch.relu``: like the input.

    Example:
        >>> torch_relu_override(torch.empty(2, 3, device="meta")).shape
        torch.Size([2, 3])
    """
    return torch.empty_like(x)


def torch_nn_relu_override(self: nn.ReLU, x: Tensor) -> Tensor:
    """The meta value of ``nn.ReLU``: like the input, or the input itself if it is in place.

    Example:
        >>> torch_nn_relu_override(nn.ReLU(), torch.empty(2, 3, device="meta")).shape
        torch.Size([2, 3])
    """
    return functional_relu_override(x, self.inplace)


def functional_relu_override(x: Tensor, inplace: bool = False) -> Tensor:
    """The meta value of ``torch.nn.functional.relu``.

    Args:
        x: the input.
        inplace: whether the result is the input itself.

    Example:
        >>> x = torch.empty(2, 3, device="meta")
        >>> functional_relu_override(x, inplace=True) is x
        True
    """
    return x if inplace else torch.empty_like(x)


def torch_where_override(condition: Tensor, x: Any, y: Any) -> Tensor:
    """The meta value of ``torch.where``, for tensors on any device and numbers.

    Args:
        condition: a tensor of bools.
        x: the result where the condition is true.
        y: the result elsewhere.

    Returns:
        A meta tensor of the shape that the three broadcast to, in the dtype of the last two.

    Example:
        >>> mask = torch.empty(3, 1, dtype=torch.bool, device="meta")
        >>> torch_where_override(mask, torch.empty(4), 0.0).shape
        torch.Size([3, 4])
    """
    mask, x, y = (a.to("meta") if isinstance(a, Tensor) else a for a in (condition, x, y))
    return torch.where(mask, x, y)


def torch_abs_override(input: Tensor, *, out: Tensor | None = None) -> Tensor:
    """The meta value of ``torch.abs``: like the input, and real.

    Args:
        input: the input.
        out: the tensor to write to and to return, or None.

    Example:
        >>> torch_abs_override(torch.empty(2, dtype=torch.complex64, device="meta")).dtype
        torch.float32
    """
    return torch.abs(input, out=out)


manual_meta_overrides: dict[Callable[..., Any], Callable[..., Any]] = {
    nn.Embedding: embedding_override,
    nn.LayerNorm: nn_layernorm_override,
    nn.ReLU: torch_nn_relu_override,
    nn.functional.relu: functional_relu_override,
    torch.abs: torch_abs_override,
    torch.relu: torch_relu_override,
    torch.where: torch_where_override,
}
"""For a function or a class of modules, the override that computes its meta value.

An override takes the arguments of the function, or the module and the module's arguments, with
meta tensors in place of tensors. Add overrides for functions that cannot run without data.
"""
