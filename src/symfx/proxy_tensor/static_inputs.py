"""Fake tensors for many static inputs of equal layout, as the parameters of a model are.

torch makes the first one of each layout, and its metadata is copied for the others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import fx
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from symfx.fake_operators.descriptions import TensorState, state_of
from symfx.proxy_tensor import slots
from symfx.symbolic_shapes import InputFact
from symfx.torch_bridge.fake_tensors import (
    attributes_at_birth,
    copy_metadata,
    fake_from_meta,
    plain_alias,
    remember_fake,
    storage_marker,
)
from symfx.torch_bridge.modes import BelowTorch

__all__ = ["StaticInputs", "track_like_others"]

_PLAIN = (torch.Tensor, torch.nn.Parameter)


class StaticInputs:
    """The fake tensors of the static inputs of one trace.

    Args:
        mode: the mode that makes them.
        inputs: all inputs of the trace. Those that share memory with another are left to torch.
    """

    def __init__(self, mode: FakeTensorMode, inputs: Iterable[Any]) -> None:
        self._mode = mode
        storages: Counter[int] = Counter()
        plain: dict[int, int] = {}
        for tensor in {id(t): t for t in inputs if type(t) in _PLAIN}.values():
            if tensor.layout is torch.strided:
                storage = tensor.untyped_storage()
                storages[storage._cdata] += 1
                if _is_plain(tensor, storage):
                    plain[id(tensor)] = storage._cdata
        self._alone = {key for key, storage in plain.items() if storages[storage] == 1}
        self._known: dict[Any, tuple[FakeTensor, torch.Tensor, str]] = {}
        self._facts: dict[str, list[tuple[str, InputFact]]] = {}
        self._waiting: list[tuple[list[Any], int, torch.Tensor, FakeTensor, torch.Tensor]] = []

    def fake(self, tensor: Any, name: str, make: Callable[[], Any], inputs: list[Any]) -> None:
        """Append the fake tensor for a static input; one like an earlier one comes by `finish`.

        Args:
            tensor: the input.
            name: the name of its source.
            make: makes the fake tensor in torch's way.
            inputs: the list.
        """
        if id(tensor) not in self._alone:
            inputs.append(make())
            return
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
            inputs.append(fake)
            return
        like, template, first = known
        self._waiting.append((inputs, len(inputs), tensor, like, template))
        inputs.append(None)
        self._copy_facts(first, name)

    def finish(self) -> None:
        """Put the fake tensors that wait into their lists."""
        mark = storage_marker(self._mode)
        converter = self._mode.fake_tensor_converter
        births: dict[torch.device, dict[str, Any]] = {}
        with BelowTorch():
            for inputs, place, tensor, like, template in self._waiting:
                device = like.fake_device
                attributes = births.get(device)
                if attributes is None:
                    attributes = births[device] = attributes_at_birth(self._mode, device)
                elem = copy_metadata(template)
                mark(elem)
                fake = fake_from_meta(elem, device, attributes)
                own = fake.__dict__
                if "_is_param" in like.__dict__:
                    own["_is_param"] = True
                if tensor.requires_grad:
                    fake.requires_grad_(True)
                state = own["_symfx"] = TensorState()
                state.elem = elem
                state.like = like
                remember_fake(converter, tensor, fake)
                inputs[place] = fake
        self._waiting.clear()

    def _copy_facts(self, like: str, name: str) -> None:
        """Note in the environment what it knows of another input with the same layout."""
        env: Any = self._mode.shape_env
        noted = env.inputs.facts
        known = self._facts.get(like)
        if known is None:
            known = [
                (source[len(like) :], fact)
                for source, fact in noted.items()
                if source.startswith(f"{like}.")
            ]
            self._facts[like] = known
        for measure, fact in known:
            source = name + measure
            noted[source] = InputFact(source, fact.kind, fact.term, fact.asked)


def _is_plain(tensor: torch.Tensor, storage: torch.UntypedStorage) -> bool:
    """Whether a tensor has nothing but a dtype, a device, sizes, strides and memory of its own.

    Args:
        tensor: the tensor.
        storage: its storage.
    """
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
        and storage.nbytes() == tensor.numel() * tensor.element_size()
        and not vars(tensor)
    )


def track_like_others(
    inputs: Iterable[tuple[fx.Node, Any]], tracer: slots.TracerWithSlots
) -> Iterator[tuple[fx.Node, Any]]:
    """Make placeholders the nodes of static inputs, with the metadata of equal ones.

    Args:
        inputs: the placeholder of each input of the trace, and the input; the caller tracks those
            that are given back before it asks for the next.
        tracer: the tracer whose graph has the nodes.

    Yields:
        The pairs of the inputs that are like no other one, so that they are to be looked at.
    """
    waiting: list[tuple[fx.Node, Any, TensorState, torch.Tensor, torch.Tensor]] = []
    for node, tensor in inputs:
        state: TensorState | None = getattr(tensor, "_symfx", None)
        if state is None or state.like is None or state.elem is None:
            yield node, tensor
        else:
            waiting.append((node, tensor, state, state.like, state.elem))
            state.like = None  # the program may change both
    others = []
    births: dict[torch.device, dict[str, Any]] = {}
    with BelowTorch():
        for node, tensor, state, other, elem in waiting:
            like = state_of(other)
            if like.tracer is not tracer or like.description is None:
                others.append((node, tensor))
                continue
            state.description = like.description
            slots.set_node_of_tensor(tensor, tracer, node, None)
            device = tensor.fake_device
            if device not in births:
                births[device] = attributes_at_birth(tensor.fake_mode, device)
            node.meta["val"] = fake_from_meta(elem, device, births[device])
            node.meta["tensor_meta"] = like.node.meta["tensor_meta"]
    yield from others
