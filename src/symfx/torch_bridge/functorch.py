"""Tensors inside of torch.func's transforms: what one of them looks like without its transforms."""

from __future__ import annotations

import contextlib
import functools
from typing import Any

import torch
from torch._functorch.pyfunctorch import temporarily_clear_interpreter_stack
from torch.utils import _pytree as pytree

__all__ = ["inside_transform", "outside_transforms", "sample_of"]

_functorch: Any = torch._C._functorch


def inside_transform(values: Any) -> bool:
    """Whether a tree of values has a tensor of vmap, grad or jvp that is running."""
    if _functorch.peek_interpreter_stack() is None:
        return False
    return any(
        isinstance(leaf, torch.Tensor) and _functorch.is_functorch_wrapped_tensor(leaf)
        for leaf in pytree.tree_leaves(values)
    )


def sample_of(values: Any) -> Any:
    """The values as a program would get them outside of the transforms.

    A batch of vmap becomes its first member.
    """

    def sample(tensor: torch.Tensor) -> torch.Tensor:
        if not _functorch.is_functorch_wrapped_tensor(tensor):
            return tensor
        inside = sample(_functorch.get_unwrapped(tensor))
        if not _functorch.is_batchedtensor(tensor):
            return inside
        dim = _functorch.maybe_get_bdim(tensor)
        if inside.shape[dim] > 0:
            return inside.select(dim, 0)
        return inside.new_zeros([n for i, n in enumerate(inside.shape) if i != dim])

    _sizes_of_batches()
    with outside_transforms(), torch.no_grad():
        return pytree.tree_map_only(torch.Tensor, sample, values)


@functools.cache
def _sizes_of_batches() -> Any:
    """Let vmap run the operators of a symbolic graph that ask for sizes; torch has no rules."""
    libraries: Any = torch.library  # torch gives it no types
    library = libraries.Library("aten", "IMPL", "FuncTorchBatched")
    library.impl("sym_size.int", lambda tensor, dim: tensor.shape[dim])
    library.impl("sym_numel", lambda tensor: tensor.numel())
    return library


def outside_transforms() -> contextlib.AbstractContextManager[Any]:
    """A context in which no transform is running."""
    return temporarily_clear_interpreter_stack()
