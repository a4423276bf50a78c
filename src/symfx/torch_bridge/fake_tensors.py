"""FakeTensors made quickly, equal to those of torch's own constructor."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch._subclasses.fake_tensor import (
    FakeTensor,
    FakeTensorConverter,
    FakeTensorMode,
    in_kernel_invocation_manager,
)

from symfx.torch_bridge.modes import BelowTorch

__all__ = [
    "FakeTensor",
    "FakeTensorMode",
    "attributes_at_birth",
    "copy_metadata",
    "fake_from_meta",
    "plain_alias",
    "remember_fake",
    "reset_layout_answers",
    "storage_id",
    "storage_marker",
    "view_metadata",
]

_META = torch.device("meta")
_make_subclass = torch.Tensor._make_subclass

copy_metadata: Callable[[torch.Tensor], torch.Tensor] = torch._lazy_clone
"""A meta tensor like another, with a storage of its own of the same size in bytes.

The function takes over sizes and strides, which for symbolic ones costs a small part of
computing them again.
"""

view_metadata: Callable[..., torch.Tensor] = torch.as_strided
"""A meta tensor on the storage of another, with sizes, strides and an offset of its own."""


@functools.cache
def _attribute_names() -> tuple[str, ...]:
    # Read from a new tensor rather than listed, so that attributes of other releases are there.
    mode = FakeTensorMode()
    with BelowTorch():
        elem = torch.empty(0, device="meta")
    return tuple(FakeTensor(mode, elem, torch.device("cpu")).__dict__)


def attributes_at_birth(mode: FakeTensorMode, device: torch.device) -> dict[str, Any]:
    """The contents of a new FakeTensor's ``__dict__``."""
    attributes: dict[str, Any] = dict.fromkeys(_attribute_names())
    attributes["_fake_device"] = device
    attributes["fake_mode"] = mode
    return attributes


def storage_marker(mode: FakeTensorMode) -> Callable[[torch.Tensor], None]:
    """The function that marks a storage, so that torch refuses to give its data to a kernel."""
    if mode._allow_unsafe_data_ptr_access:
        return torch._C._set_warn_deprecated_on_mutable_data_ptr
    return torch._C._set_throw_on_mutable_data_ptr


def fake_from_meta(
    elem: torch.Tensor, device: torch.device, attributes: dict[str, Any]
) -> FakeTensor:
    """A FakeTensor on the storage of a meta tensor; the caller is inside `BelowTorch`.

    Args:
        elem: a meta tensor with a marked storage (`storage_marker`).
        device: the device of the fake tensor, with its index.
        attributes: from `attributes_at_birth`.
    """
    fake = _make_subclass(
        FakeTensor, elem, False, dispatch_device=True, device_for_backend_keys=device
    )
    fake.__dict__.update(attributes)
    return fake


def plain_alias(fake: FakeTensor) -> torch.Tensor:
    """A plain meta tensor on the storage of a fake one, with its sizes and strides."""
    with torch._C._DisablePythonDispatcher(), in_kernel_invocation_manager(fake.fake_mode):
        alias = torch.ops.aten.detach.default(fake)
        # Without this, torch would dispatch the alias to the fake tensor's device.
        return _make_subclass(torch.Tensor, alias, False, device_for_backend_keys=_META)


def remember_fake(converter: FakeTensorConverter, real: torch.Tensor, fake: FakeTensor) -> None:
    """Have a mode find a fake tensor for a real one, as torch's ``set_tensor_memo`` does.

    torch looks up the real tensor three times, and each look-up makes a weak reference.
    """
    describer: Any = converter.meta_converter.describer
    number = describer.lookup_tensor.get(real)
    if number is None:
        number = describer.next_tensor_id
        describer.next_tensor_id = number + 1
        describer.lookup_tensor[real] = number
    converter.meta_converter.tensor_memo[number] = fake


def reset_layout_answers(fake: FakeTensor, untouched: torch.Tensor) -> None:
    """Have torch ask anew whether a tensor is contiguous or dense.

    torch keeps the answers to these questions on the tensor.

    Args:
        fake: the tensor.
        untouched: a fake tensor on the same storage, of the same sizes and strides, about which
            torch has not asked yet.
    """
    with BelowTorch():
        fake.data = untouched


def storage_id(tensor: torch.Tensor) -> int:
    """A number that is equal for tensors that share a storage, while one of them lives."""
    cdata: int = tensor.untyped_storage()._cdata
    return cdata
