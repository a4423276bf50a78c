"""Kernels that look at the strides of dimensions of size 1 to choose a memory format.

A convolution, a pooling, a padding or a normalization makes a channels-last result from a
channels-last argument. torch decides that by all strides, those of dimensions of size 1 included,
although they mean nothing: kernels and callers choose them as they like. The order of the other
dimensions of the result then depends on them. So before the program is told whether a tensor is
contiguous, such a stride is made sure of in each argument that the tensor comes from.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import fx
from torch._ops import OpOverload
from torch._subclasses.fake_tensor import FakeTensor

from symfx.errors import TracingError
from symfx.symbolic_shapes import statically_known_true

if TYPE_CHECKING:
    from symfx.proxy_tensor.exact_strides import Exact, ExactStrides

__all__ = ["SuggestedFormats"]

# Parts of the names of the operators whose kernels choose a memory format.
_CHOOSE = ("conv", "pad", "pool", "upsample", "norm", "shuffle", "grid_sampler", "unpool")


class SuggestedFormats:
    """The memory formats that kernels of one graph choose.

    Args:
        exact: knows the strides that are exact at size 1.
        is_exact: makes sure, by guards, of what a stride needs to be exact.
    """

    def __init__(self, exact: ExactStrides, is_exact: Callable[[Exact | None], bool]) -> None:
        self._exact = exact
        self._is_exact = is_exact
        self._settled: set[fx.Node] = set()

    def settle(self, node: fx.Node) -> None:
        """Make sure of the formats of a tensor and of all that it comes from.

        Args:
            node: the node of the tensor.

        Raises:
            TracingError: a format depends on a stride that tracing cannot know.
        """
        waiting = [node]
        while waiting:
            top = waiting.pop()
            if top in self._settled:
                continue
            self._settled.add(top)
            if _chooses(top):
                for source in top.all_input_nodes:
                    self._make_sure(top, source)
            waiting += top.all_input_nodes

    def _make_sure(self, node: fx.Node, source: fx.Node) -> None:
        """Make sure that the format of one argument of a kernel is that of its fake tensor."""
        tensor, made = source.meta.get("val"), node.meta.get("val")
        if not isinstance(tensor, FakeTensor) or tensor.dim() not in (4, 5):
            return
        if not _is_open(tensor, made):
            return
        loose = _loose(tensor)
        if all(self._is_exact(self._exact.stride(source, d)) for d in loose):
            return
        for d in loose:
            size = tensor.shape[d]
            if isinstance(size, torch.SymInt) and size.node.has_hint() and size.node.hint >= 2:
                bool(size >= 2)  # a guard
        if _is_open(tensor, made):
            dims = ", ".join(map(str, _loose(tensor)))
            raise TracingError(
                f"the program asks whether a tensor is contiguous that comes from {node.target}: "
                f"its memory format depends on the stride of dimension {dims} of the argument, "
                "which has size 1: kernels choose such a stride as they like",
                fix="give the operator a clone(memory_format=torch.contiguous_format) of the "
                "argument",
            )


def _chooses(node: fx.Node) -> bool:
    """Whether the kernel of a node chooses a memory format by its arguments."""
    target = node.target
    return isinstance(target, OpOverload) and any(part in target._schema.name for part in _CHOOSE)


def _loose(tensor: torch.Tensor) -> list[int]:
    """The dimensions whose size may be 1."""
    return [d for d, n in enumerate(tensor.shape) if not statically_known_true(n >= 2)]


def _is_open(tensor: torch.Tensor, made: Any) -> bool:
    """Whether the strides of dimensions of size 1 may decide if a tensor is channels-last.

    Args:
        tensor: the tensor.
        made: the result of the kernel. Its format has a meaning only if it has two channels, and
            two places in a row, or more.
    """
    order = (1, *range(tensor.dim() - 1, 1, -1), 0)
    results = made if isinstance(made, (list, tuple)) else (made,)
    if all(isinstance(r, torch.Tensor) and _has_one_format(r) for r in results):
        return False
    loose = _loose(tensor)
    return any(
        _may_follow(tensor, [d for d in order if d not in ones])
        for count in range(1, len(loose) + 1)
        for ones in itertools.combinations(loose, count)
    )


def _has_one_format(made: torch.Tensor) -> bool:
    """Whether row-major and channels-last are the same for a result of a kernel."""
    return (
        made.dim() not in (4, 5)
        or statically_known_true(made.shape[1] == 1)
        or all(statically_known_true(n == 1) for n in made.shape[2:])
    )


def _may_follow(tensor: torch.Tensor, order: Sequence[int]) -> bool:
    """Whether dimensions may lie in an order in memory, from the innermost."""
    sizes, strides = tensor.shape, tensor.stride()
    return not any(
        statically_known_true(strides[outer] < strides[inner] * sizes[inner])
        for inner, outer in itertools.pairwise(order)
    )
