"""Layers that keep their weight packed, one packing for each kind of input."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

import torch
from torch import Tensor, nn

from symfx.optimization.runtime.activations import PostOp
from symfx.optimization.runtime.conv_form import Kernel
from symfx.optimization.runtime.leaf_calls import Effect

__all__ = ["PackedLayer", "Run"]

Run = Callable[[], Tensor]
"""A run of a layer on given arguments."""

#: The number of kinds of input for which a layer remembers its packed weight.
_REMEMBERED = 64
#: The activations of oneDNN that return a number for NaN.
_LOSES_NAN = frozenset({"relu", "hardtanh", "hardsigmoid"})


class PackedLayer(nn.Module):
    """A layer with the sum and the activation behind it, and a kernel for each kind of input.

    Args:
        weight: of the layer.
        bias: of the layer, or None.
        post: the activation behind it.
        adds: the module takes a second argument, which is added before ``post``.
        second: the layer's result is the second term of that sum, and not the first. The strides
            of a sum depend on the order where those of its terms differ.

    Attributes:
        available: this machine's torch has the fused operator.
    """

    symfx_effect = Effect.FRESH

    def __init__(
        self, weight: Tensor, bias: Tensor | None, post: PostOp, *, adds: bool, second: bool
    ) -> None:
        super().__init__()
        self.register_buffer("weight", weight.detach())
        self.register_buffer("bias", None if bias is None else bias.detach())
        self.post, self.adds, self.second = post, adds, second
        self.available = True
        self._kernels: dict[Hashable, Kernel] = {}
        self._packed_from: tuple[Tensor | None, Tensor | None] = (None, None)

    weight: Tensor
    bias: Tensor | None
    available: bool

    @property
    def loses_nan(self) -> bool:
        """Whether the operator returns numbers for NaN."""
        return self.post.name in _LOSES_NAN

    @property
    def usable(self) -> bool:
        """Whether the operator is there, and no gradient of the weights is recorded."""
        return self.available and not (
            torch.is_grad_enabled()
            and any(given is not None and given.requires_grad for given in self._buffers.values())
        )

    def finish(self, result: Tensor, other: Tensor | None) -> Tensor:
        """The sum and the activation behind the layer, by torch's ordinary operators."""
        if other is not None:
            result = other + result if self.second else result + other
        return self.post.function(result) if self.post.function else result

    def _make(self, key: Hashable) -> Kernel:
        """A new kernel for a kind of input; see `kernel`."""
        raise NotImplementedError

    def kernel(self, key: Hashable) -> Kernel:
        """The kernel for a kind of input, with the weight packed.

        Args:
            key: the kind, as the subclass tells inputs apart.
        """
        buffers = self._buffers
        # `torch.func.functional_call` and others put different tensors here for one call.
        if (
            self._packed_from[0] is not buffers["weight"]
            or self._packed_from[1] is not buffers["bias"]
        ):
            self._kernels.clear()
            self._packed_from = buffers["weight"], buffers["bias"]
        found = self._kernels.get(key)
        if found is None:
            while len(self._kernels) >= _REMEMBERED:
                self._kernels.pop(next(iter(self._kernels)), None)
            found = self._kernels[key] = self._make(key)
        return found

    def _forget(self) -> None:
        """Drop the packed weights, since the weight or its dtype changes."""
        self._packed_from = (None, None)

    def __getstate__(self) -> dict[str, Any]:
        # Packed tensors can neither be copied nor stored.
        return {**vars(self), "_kernels": {}, "_packed_from": (None, None)}

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
        self._forget()
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        self._forget()
        super()._load_from_state_dict(*args, **kwargs)
