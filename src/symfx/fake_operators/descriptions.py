"""The descriptions of fake tensors: all that an operator's result can depend on but the data.

Equal descriptions are one object, so that the operation cache compares them by identity. A
description is remembered on its tensor, and forgotten when an operator writes to the tensor or
when the program replaces the tensor's ``data``. It holds within one epoch of the environment.
"""

from __future__ import annotations

from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from symfx.fake_operators.environment import Environment
from symfx.fake_operators.rules import Number
from symfx.sym_node import SymNode

__all__ = ["Description", "Descriptions", "TensorState", "forget", "state_of"]


class TensorState:
    """The attributes that symfx keeps on a fake tensor.

    Attributes:
        description: the tensor's description, or None where it is not known.
        elem: a plain meta tensor on the same storage, or None until one is needed.
        tracer: the tracer whose graph has a node for the tensor, or None.
        node: that node.
        like: for a new static input, another one whose metadata this one has; else None.
    """

    __slots__ = ("description", "elem", "like", "node", "tracer")

    def __init__(self) -> None:
        self.description: Description | None = None
        self.elem: torch.Tensor | None = None
        self.tracer: Any = None
        self.node: Any = None
        self.like: torch.Tensor | None = None

    # A copy of a tensor, or one that was saved, is not the tensor that was traced.
    def __deepcopy__(self, memo: dict[int, Any]) -> TensorState:
        return TensorState()

    def __reduce__(self) -> Any:
        return TensorState, ()


def state_of(fake: torch.Tensor) -> TensorState:
    """The state that symfx keeps on a fake tensor; the first call makes an empty one."""
    state: TensorState | None = getattr(fake, "_symfx", None)
    if state is None:
        state = fake._symfx = TensorState()  # type: ignore[attr-defined]
    return state


def forget(tensor: torch.Tensor) -> None:
    """Forget a tensor's description and its alias."""
    state: TensorState | None = getattr(tensor, "_symfx", None)
    if state is not None:
        state.description = None
        state.elem = None


class Description:
    """All that an operator can depend on in a tensor apart from its data.

    Attributes:
        owner: the table that made the description.
        epoch: the environment's epoch in which the terms were last known to be in normal form.
        dtype, device, sizes, strides, offset: those of the tensor, with terms for symbolic ones.
        inference: whether the tensor is an inference tensor.
        tensor_meta: the `TensorMetadata` of such a tensor, once a node asked for it.
    """

    __slots__ = (
        "device",
        "dtype",
        "epoch",
        "inference",
        "offset",
        "owner",
        "sizes",
        "strides",
        "tensor_meta",
    )

    def __init__(
        self,
        owner: Descriptions,
        epoch: int,
        dtype: torch.dtype,
        device: torch.device,
        sizes: tuple[Number, ...],
        strides: tuple[Number, ...],
        offset: Number,
        inference: bool,
    ) -> None:
        self.owner = owner
        self.epoch = epoch
        self.dtype = dtype
        self.device = device
        self.sizes = sizes
        self.strides = strides
        self.offset = offset
        self.inference = inference
        self.tensor_meta: Any = None


class Descriptions:
    """The descriptions of the tensors of one FakeTensorMode.

    Args:
        mode: the mode.
        env: the mode's environment, or None where that is not symfx's.

    Attributes:
        live: whether the mode dispatches through the cache of this table, which forgets the
            description of each tensor that an operator writes to.
    """

    def __init__(self, mode: FakeTensorMode, env: Environment | None) -> None:
        self.live = False
        self._mode = mode
        self._env = env
        self._known: dict[tuple[Any, ...], Description] = {}
        # Weights and other real tensors that met the mode; kept alive so that ids stay theirs.
        self._real: dict[int, tuple[torch.Tensor, FakeTensor]] = {}

    @property
    def epoch(self) -> int:
        """The environment's epoch; 0 without an environment."""
        return 0 if self._env is None else self._env.epoch

    def describe(self, fake: torch.Tensor) -> Description | None:
        """The description of a fake tensor; None for a tensor that must not be cached."""
        state: TensorState | None = getattr(fake, "_symfx", None)
        epoch = self.epoch
        if state is not None:
            known = state.description
            if known is not None and known.epoch == epoch and known.owner is self:
                return known
        key = self._key(fake)
        if key is None:
            return None
        description = self.with_key(key)
        if state is None:
            state = state_of(fake)
        state.description = description
        return description

    def with_key(self, key: tuple[Any, ...]) -> Description:
        """The one description of a dtype, device, sizes, strides, offset and inference flag."""
        epoch = self.epoch
        description = self._known.get(key)
        if description is None:
            description = self._known[key] = Description(self, epoch, *key)
        description.epoch = epoch
        return description

    def _key(self, fake: Any) -> tuple[Any, ...] | None:
        if type(fake) is not FakeTensor or fake.fake_mode is not self._mode:
            return None
        if fake.constant is not None:
            return None
        with torch._C.DisableTorchFunction():
            if fake.layout is not torch.strided or fake.is_quantized or fake.is_nested:
                return None
            if fake.is_conj() or fake.is_neg() or fake._is_zerotensor():
                return None
            device = fake.fake_device
            if device.type == "meta":
                return None
            numbers = (*fake.shape, *fake.stride(), fake.storage_offset())
            rank = fake.dim()
            terms: list[Number] = []
            for number in numbers:
                if type(number) is int:
                    terms.append(number)
                    continue
                term = self.term(number)
                if term is None:
                    return None
                terms.append(term)
            return (
                fake.dtype,
                device,
                tuple(terms[:rank]),
                tuple(terms[rank:-1]),
                terms[-1],
                fake.is_inference(),
            )

    def term(self, number: Any) -> Any:
        """The term of a symbolic number.

        Returns:
            The term; for a constant term its value; None for a number of another environment.
        """
        node = number.node
        if type(node) is not SymNode or node.shape_env is not self._env:
            return None
        term = node.term
        return term.args[0] if term.op == "const" else term

    def fake_of_real(self, real: torch.Tensor) -> FakeTensor | None:
        """The fake tensor that stands for a real one; None where the mode admits no real ones."""
        known = self._real.get(id(real))
        if known is not None:
            return known[1]
        if not self._mode.allow_non_fake_inputs:
            return None
        if type(real) not in (torch.Tensor, torch.nn.Parameter):
            return None
        if torch._C._functorch.is_functorch_wrapped_tensor(real):
            return None
        fake = self._mode.fake_tensor_converter.from_real_tensor(self._mode, real)
        self._real[id(real)] = (real, fake)
        return fake

    def fake_of(self, tensor: Any) -> FakeTensor:
        """A tensor argument as the mode sees it; the argument has a description."""
        if type(tensor) is FakeTensor:
            return tensor
        fake = self.fake_of_real(tensor)
        assert fake is not None  # the tensor had a description when the key was made
        return fake
