"""Layers that keep their weights packed, as oneDNN wants them for the inputs that come."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

import torch
from torch import Tensor, nn

from symfx.optimization.graphs.effects import Effect
from symfx.optimization.runtime.kernels import Kernel, PostOp

__all__ = ["Packed"]

#: For how many shapes of the input a layer remembers its packed weight.
_REMEMBERED = 64
#: The activations of oneDNN that give a number for NaN.
_LOSES_NAN = frozenset({"relu", "hardtanh", "hardsigmoid"})


class Packed(nn.Module):
    """A layer with what follows it, and a kernel for each shape of input that has come.

    Args:
        weight: of the layer.
        bias: of the layer, or None.
        post: the activation behind it.
        adds: is a second argument added before ``post``?
        second: is what the layer computes the second term of that sum? The strides of a sum
            depend on it where those of its terms differ.

    Attributes:
        available: does this machine's torch have the operator?
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
        """Does the operator give numbers for NaN?"""
        return self.post.name in _LOSES_NAN

    @property
    def usable(self) -> bool:
        """Can the operator be called, and is nobody asking for gradients of the weights?"""
        return self.available and not (
            torch.is_grad_enabled()
            and any(given is not None and given.requires_grad for given in self._buffers.values())
        )

    def _make(self, key: Hashable) -> Kernel:
        """A new kernel for a kind of input; see `kernel`."""
        raise NotImplementedError

    def kernel(self, key: Hashable) -> Kernel:
        """The kernel for a kind of input, with the weight packed.

        Args:
            key: what the subclass tells inputs apart by.
        """
        buffers = self._buffers
        # `torch.func.functional_call` and others put different tensors here for a while.
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
        """The weight has changed, or what it is computed with."""
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
