"""Fake tensors for many static inputs of equal layout, as the parameters of a model are.

torch makes the first one of each layout, and its metadata is copied for the others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from symfx.fake_operators.descriptions import state_of
from symfx.symbolic_shapes import InputFact
from symfx.torch_bridge.fake_tensors import (
    attributes_at_birth,
    copy_metadata,
    fake_from_meta,
    plain_alias,
    storage_id,
    storage_marker,
)
from symfx.torch_bridge.modes import BelowTorch

__all__ = ["StaticInputs"]

_PLAIN = (torch.Tensor, torch.nn.Parameter)


class StaticInputs:
    """The fake tensors of the static inputs of one trace.

    Args:
        mode: the mode that makes them.
        inputs: all inputs of the trace. Those that share memory with another are left to torch.
    """

    def __init__(self, mode: FakeTensorMode, inputs: Iterable[Any]) -> None:
        self._mode = mode
        plain = [t for t in inputs if type(t) in _PLAIN and t.layout is torch.strided]
        counts = Counter(storage_id(t) for t in {id(t): t for t in plain}.values())
        self._alone = {id(t) for t in plain if counts[storage_id(t)] == 1 and _is_plain(t)}
        self._known: dict[Any, tuple[FakeTensor, torch.Tensor, str]] = {}
        self._facts: dict[str, list[InputFact]] = {}
        self._attributes: dict[torch.device, dict[str, Any]] = {}
        self._mark = storage_marker(mode)

    def fake(self, tensor: Any, name: str, make: Callable[[], Any]) -> Any:
        """The fake tensor for a static input.

        Args:
            tensor: the input.
            name: the name of its source.
            make: makes the fake tensor in torch's way.
        """
        if id(tensor) not in self._alone:
            return make()
        self._alone.discard(id(tensor))  # torch remembers one that is given twice
        key = (
            type(tensor), tensor.dtype, tensor.device, tensor.shape, tensor.stride(),
            tensor.requires_grad,
        )  # fmt: skip
        known = self._known.get(key)
        if known is None:
            fake = make()
            if type(fake) is FakeTensor:
                self._known[key] = fake, plain_alias(fake), name
            return fake
        like, template, first = known
        attributes = self._attributes.get(like.fake_device)
        if attributes is None:
            attributes = attributes_at_birth(self._mode, like.fake_device)
            self._attributes[like.fake_device] = attributes
        with BelowTorch():
            elem = copy_metadata(template)
            self._mark(elem)
            fake = fake_from_meta(elem, like.fake_device, attributes)
            if "_is_param" in vars(like):
                fake._is_param = True
            fake.requires_grad_(tensor.requires_grad)
        state = state_of(fake)
        state.elem = elem
        state.like = like
        self._mode.fake_tensor_converter.set_tensor_memo(tensor, fake)
        self._copy_facts(first, name)
        return fake

    def _copy_facts(self, like: str, name: str) -> None:
        """Note in the environment what it knows of another input with the same layout."""
        env: Any = self._mode.shape_env
        noted = env.inputs.facts
        known = self._facts.get(like)
        if known is None:
            known = [fact for source, fact in noted.items() if source.startswith(f"{like}.")]
            self._facts[like] = known
        for fact in known:
            source = name + fact.source[len(like) :]
            noted[source] = replace(fact, source=source)


def _is_plain(tensor: torch.Tensor) -> bool:
    """Whether a tensor has nothing but a dtype, a device, sizes, strides and memory of its own."""
    return (
        tensor.dim() > 0
        and tensor.is_leaf
        and not tensor._is_view()
        and tensor.grad is None
        and tensor.storage_offset() == 0
        and not (tensor.is_quantized or tensor.is_conj() or tensor.is_neg())
        and not tensor.is_inference()
        and tensor.device.type != "meta"
        and not torch._C._functorch.is_functorch_wrapped_tensor(tensor)
        and tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()
        and not vars(tensor)
    )
