"""Operators of torch on images that a compiled kernel computes while kernels are noted.

See `symfx.optimization.runtime.kernel_chain`. Images are channels last in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from symfx.optimization.runtime.compiled import Kernels
from symfx.optimization.runtime.layers import MaxPool
from symfx.optimization.runtime.tape import running_tape

__all__ = ["channels_last", "concatenates", "image_kernel", "pooled"]

_MAX_POOLS = (F.max_pool2d, torch.max_pool2d)
_POOL_NAMES = ("kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")
_MEANS = (F.adaptive_avg_pool2d, torch._C._nn.adaptive_avg_pool2d)
_POINTS: tuple[Any, ...] = (1, (1, 1), [1, 1])


def image_kernel(
    called: Any, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> Callable[[Kernels, Tensor], Tensor | None] | None:
    """The kernel for a call of a function or a module, or None.

    The kernel takes the first argument; it returns None for a tensor that it does not take.

    Args:
        called: the function or the module.
        args: the arguments, or what stands for them in a graph.
        kwargs: the keyword arguments.
    """
    pool = _max_pool(called, args, kwargs)
    if pool is not None:
        return lambda kernels, x: pooled(kernels, x, pool) if _is_image(x) else None
    if type(called) is nn.AdaptiveAvgPool2d:
        size = called.output_size if len(args) == 1 and not kwargs else None
    elif called in _MEANS:
        given = {**dict(zip(("input", "output_size"), args, strict=False)), **kwargs}
        size = given.get("output_size") if len(given) == len(args) + len(kwargs) == 2 else None
    else:
        return None
    return _mean if size in _POINTS else None


def _max_pool(called: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> MaxPool | None:
    if type(called) is nn.MaxPool2d and len(args) == 1 and not kwargs:
        found = {name: getattr(called, name) for name in _POOL_NAMES}
    elif called in _MAX_POOLS and len(args) > 0:
        found = {**dict(zip(_POOL_NAMES, args[1:], strict=False)), **kwargs}
    else:
        return None
    if not found.keys() <= {*_POOL_NAMES} or found.get("return_indices", False) is not False:
        return None
    kernel = found.get("kernel_size")
    stride = found.get("stride")
    stride = kernel if stride is None or stride == [] else stride
    sizes = [
        (size, size) if isinstance(size, int) else tuple(size) if isinstance(size, Sequence) else ()
        for size in (kernel, stride, found.get("padding", 0), found.get("dilation", 1))
    ]
    plain = all(len(size) == 2 and all(type(n) is int for n in size) for size in sizes)
    ceil = found.get("ceil_mode", False)
    if not plain or sizes[3] != (1, 1) or type(ceil) is not bool:
        return None
    return MaxPool(sizes[0], sizes[1], sizes[2], ceil)


def concatenates(called: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    """Whether a call is a concatenation of tensors."""
    return called in (torch.cat, torch.concat) and len(args) in (1, 2) and kwargs.keys() <= {"dim"}


def _is_image(x: Tensor) -> bool:
    return (
        x.dim() == 4
        and x.numel() > 0
        and x.dtype is torch.float
        and x.is_contiguous(memory_format=torch.channels_last)
    )


def channels_last(x: Tensor) -> Tensor:
    """An image with its channels last in memory; a tape notes the copy, if there is one."""
    result = x.contiguous(memory_format=torch.channels_last)
    tape = running_tape()
    if tape is not None and result.data_ptr() != x.data_ptr():
        tape.add_copy(x, result)
    return result


def pooled(kernels: Kernels, x: Tensor, pool: MaxPool) -> Tensor:
    """The greatest value of each window of an image that is channels last."""
    height, width = pool.sides(x.shape[2:])
    shape = (*x.shape[:2], height, width)
    result = torch.empty(shape, memory_format=torch.channels_last)
    places = *pool.kernel, *pool.stride, *pool.padding, 1, 1
    kernels.pool(x, result, (*x.shape, height, width, *places))
    return result


def _mean(kernels: Kernels, x: Tensor) -> Tensor | None:
    if not _is_image(x):
        return None
    result = torch.empty(*x.shape[:2], 1, 1, memory_format=torch.channels_last)
    kernels.mean(x, result)
    return result
