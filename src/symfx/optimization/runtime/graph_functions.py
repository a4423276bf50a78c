"""Functions of symfx that optimized graphs call, each as one node."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from symfx.errors import InputMismatchError, describe
from symfx.optimization.runtime.attention import (
    additive_mask,
    attend,
    fast_path_mask,
    self_attend,
)
from symfx.optimization.runtime.leaf_calls import Effect, leaf_function
from symfx.optimization.runtime.one_pass import layer_norm, rms_norm, rotated, sdpa
from symfx.optimization.runtime.tensor_checks import is_channels_last, is_ordinary

__all__ = [
    "GRAPH_FUNCTIONS",
    "all_finite",
    "arrange_arguments",
    "laid_out_as",
    "only_default",
    "same_constant",
    "settled_add",
    "settled_mul",
    "settled_sub",
    "settled_truediv",
]


@leaf_function(Effect.FRESH)
def all_finite(*values: Any) -> bool:
    """Whether no tensor has NaN or infinities. Tensors that fused operators refuse are skipped."""
    for value in values:
        if isinstance(value, (list, tuple, dict)):
            if not all_finite(*(value.values() if isinstance(value, dict) else value)):
                return False
            continue
        looked_at = isinstance(value, Tensor) and is_ordinary(value) and value.is_floating_point()
        # A sum is not finite if one of its terms is not, and it reads the tensor only once.
        if looked_at and not math.isfinite(float(value.detach().sum())):
            return False
    return True


_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}


@leaf_function(Effect.VIEW)
def laid_out_as(x: Tensor, original: Tensor | bool | tuple[Tensor | bool, ...]) -> Tensor:
    """A result in the memory layout that the original model gives it.

    Args:
        x: the result.
        original: the tensor whose layout the original's result has; or True for channels last,
            which is the layout behind a convolution whose weight is channels last; or several of
            these, as behind a concatenation, which is channels last if all its terms are.
    """
    several = original if isinstance(original, tuple | list) else (original,)
    last = all(one if isinstance(one, bool) else is_channels_last(one) for one in several)
    last = last and x.numel() > 0 and x.dim() in _LAST
    result = x.contiguous(memory_format=_LAST[x.dim()] if last else torch.contiguous_format)
    if 1 not in result.shape or not is_ordinary(result):
        return result
    # `contiguous` ignores the strides of dimensions of size one, and operators read them.
    strides, step = [0] * x.dim(), 1
    order = range(x.dim() - 1, -1, -1)
    for dimension in (1, *(d for d in order if d != 1)) if last else order:
        strides[dimension] = step
        step *= x.shape[dimension]
    return result if result.stride() == tuple(strides) else result.as_strided(x.shape, strides)


def same_constant(value: Any, fixed: Any) -> bool:
    """Whether a value is the one that a graph was captured for."""
    if value is fixed:
        return True
    if isinstance(fixed, Mapping):
        return (
            isinstance(value, Mapping)
            and value.keys() == fixed.keys()
            and all(same_constant(value[key], fixed[key]) for key in fixed)
        )
    return type(value) is type(fixed) and bool(value == fixed)


@leaf_function(Effect.FRESH, keeps=True)
def only_default(value: Any, default: Any, name: str) -> None:
    """Refuse an argument that a model was optimized without.

    Raises:
        InputMismatchError: the value is not the parameter's default.
    """
    if not same_constant(value, default):
        raise InputMismatchError(
            f"this model was optimized for calls without {name}, which is {describe(value)}",
            fix=f"optimize it with {name} among the example inputs",
        )


@leaf_function(Effect.VIEW)
def arrange_arguments(
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    names: tuple[str, ...],
    defaults: Mapping[str, Any],
) -> tuple[Any, ...]:
    """The values of parameters, in their order, in a call with these arguments.

    Raises:
        InputMismatchError: the arguments do not fit the parameters.
    """
    found = {**defaults, **dict(zip(names, args, strict=False)), **kwargs}
    twice = [name for name in names[: len(args)] if name in kwargs]
    if len(args) > len(names) or twice or set(found) != set(names):
        raise InputMismatchError(
            f"{len(args)} arguments and {sorted(kwargs)} do not fit the parameters {list(names)}",
            fix="give each of them once",
        )
    return tuple(found[name] for name in names)


def _settled(function: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """The arithmetic of an in-place operator without the write: the first dtype stays."""

    def settled(first: Any, second: Any) -> Any:
        result = function(first, second)
        if isinstance(first, Tensor) and result.dtype != first.dtype:
            return result.to(first.dtype)
        return result

    settled.__name__ = settled.__qualname__ = f"settled_{function.__name__}"
    return leaf_function(Effect.FRESH)(settled)


settled_add = _settled(operator.add)
settled_sub = _settled(operator.sub)
settled_mul = _settled(operator.mul)
settled_truediv = _settled(operator.truediv)

GRAPH_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "additive_mask": additive_mask,
    "all_finite": all_finite,
    "attend": attend,
    "fast_path_mask": fast_path_mask,
    "laid_out_as": laid_out_as,
    "layer_norm": layer_norm,
    "only_default": only_default,
    "rms_norm": rms_norm,
    "rotated": rotated,
    "sdpa": sdpa,
    "self_attend": self_attend,
    "settled_add": settled_add,
    "settled_sub": settled_sub,
    "settled_mul": settled_mul,
    "settled_truediv": settled_truediv,
}
"""The functions that the graph of an optimized model may call, under the names of saved files."""
