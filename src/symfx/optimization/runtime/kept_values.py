"""A module that keeps the tensors which it computes from sizes, for inputs of the same sizes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils._pytree import tree_leaves

from symfx.optimization.runtime.leaf_calls import Effect, leaf_forward

__all__ = ["KeptValues"]

#: So many sets of values are kept: a model that is run at two sizes in turn computes each once.
_SETS = 4
#: Values that need more bytes than this are computed anew in each run.
_BYTES = 64 << 20

Key = tuple[Any, ...]


@dataclass(frozen=True)
class _Kept:
    """The values of one run.

    Attributes:
        constants: the constants of the run.
        memory: tensors that share memory with them, so that no other tensor gets it.
        values: the values.
    """

    constants: tuple[Tensor, ...]
    memory: tuple[Tensor, ...]
    values: tuple[Tensor, ...]

    def is_of(self, constants: tuple[Tensor, ...]) -> bool:
        """Whether the constants are those of the run, with the same memory."""
        for constant, old, memory in zip(constants, self.constants, self.memory, strict=True):
            if constant is not old or constant.data_ptr() != memory.data_ptr():
                return False
        return True


class KeptValues(nn.Module):
    """Computes tensors from sizes and constants, and keeps them for the next run.

    Masks and tables of positions depend on the sizes of a model's inputs alone. They are computed
    anew where a constant is another tensor or was written to, where gradients of a constant are
    wanted, under autocast, and in tracers and other modes of torch: these see each operator.

    Args:
        graph: computes a tuple of tensors. No caller may write to them.
    """

    symfx_effect = Effect.VIEW  # each run may return the same memory

    def __init__(self, graph: fx.GraphModule) -> None:
        super().__init__()
        self.graph_module = graph
        self._kept: dict[Key, _Kept] = {}

    @leaf_forward
    def forward(self, *given: Any) -> tuple[Tensor, ...]:
        """The tensors.

        Args:
            *given: sizes and other properties of tensors, and the constants.
        """
        constants = tuple(each for each in given if isinstance(each, Tensor))
        if not _may_keep(constants):
            return self.graph_module(*given)  # type: ignore[no-any-return]
        key = (
            tuple(each for each in given if not isinstance(each, Tensor)),
            tuple(each._version for each in constants),
            torch.get_default_dtype(),
            torch.is_inference_mode_enabled(),
        )
        kept = self._kept.get(key)
        if kept is not None and kept.is_of(constants):
            return kept.values
        values: tuple[Tensor, ...] = self.graph_module(*given)
        if _size_of(values) <= _BYTES:
            while len(self._kept) >= _SETS:
                self._kept.pop(next(iter(self._kept)), None)
            self._kept[key] = _Kept(constants, tuple(c.detach() for c in constants), values)
        return values

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_kept": {}}


def _may_keep(constants: tuple[Tensor, ...]) -> bool:
    """Whether values of earlier runs may be used, and those of this run later."""
    grad = torch.is_grad_enabled()
    return not (
        torch.is_autocast_enabled("cpu")
        or torch._C._len_torch_dispatch_stack()
        or torch._C._len_torch_function_stack()
        or torch.compiler.is_compiling()
        or torch._C._get_tracing_state() is not None
        or any(
            type(each) not in (Tensor, nn.Parameter)
            or each.is_inference()
            or (grad and each.requires_grad)
            for each in constants
        )
    )


def _size_of(values: tuple[Tensor, ...]) -> int:
    """The bytes of memory that tensors hold."""
    tensors = [each for each in tree_leaves(values) if isinstance(each, Tensor)]
    storages = {each.untyped_storage()._cdata: each.untyped_storage() for each in tensors}
    return sum(storage.nbytes() for storage in storages.values())
