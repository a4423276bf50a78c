"""Tensors in the file of a trace: their elements in safetensors, their layouts as data.

safetensors keeps tensors without strides, so the elements of a tensor are kept as its storage has
them, and the sizes and strides beside.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from symfx.errors import TraceFileError
from symfx.untrusted import Item, shown

__all__ = ["TensorReader", "TensorWriter", "read_device", "read_dtype"]

#: The dtypes that safetensors lacks, and the dtype as which a file has their elements.
_AS_OTHERS = {
    torch.complex32: torch.float16,
    torch.complex64: torch.float32,
    torch.complex128: torch.float64,
}
_DTYPES = {
    name: value
    for name, value in vars(torch).items()
    if isinstance(value, torch.dtype) and str(value) == f"torch.{name}" and not name.startswith("q")
}
#: The most elements of a tensor that a file may describe; a size of 0 in the stride repeats them.
_ELEMENTS = 1 << 40
_RANK = 64


class TensorWriter:
    """Writes tensors, each once.

    Attributes:
        stored: the elements of the tensors by their key in the file.
    """

    def __init__(self) -> None:
        self.stored: dict[str, torch.Tensor] = {}

    def describe(self, tensor: torch.Tensor, key: str, *, data: bool = True) -> dict[str, Any]:
        """A tensor as data.

        Args:
            tensor: the tensor.
            key: the key of its elements in the file.
            data: whether the file gets its elements.

        Raises:
            TraceFileError: the tensor is not dense, or of a class of its own.
        """
        kind = type(tensor)
        plain = kind in (torch.Tensor, torch.nn.Parameter, torch.nn.Buffer, FakeTensor)
        if tensor.layout is not torch.strided or tensor.is_quantized or not plain:
            what = kind.__name__ if not plain else f"a tensor of layout {tensor.layout}"
            raise TraceFileError(
                f"{key} is {what}, which a file of a trace cannot hold",
                fix="make it a dense torch.Tensor before tracing",
            )
        stored = data and not (tensor.is_meta or isinstance(tensor, FakeTensor))
        if stored:
            self.stored[key] = _elements(tensor)
        return {
            "data": key if stored else None,
            "dtype": str(tensor.dtype).removeprefix("torch."),
            "shape": [int(n) for n in tensor.shape],
            "stride": [int(n) for n in tensor.stride()],
            "offset": int(tensor.storage_offset()),
            "device": str(tensor.device),
            "requires_grad": tensor.requires_grad,
        }


def _extent(shape: Sequence[int], stride: Sequence[int], offset: int) -> int:
    """How many elements of a storage a tensor reaches over."""
    if 0 in shape:
        return 0
    return offset + 1 + sum((n - 1) * step for n, step in zip(shape, stride, strict=True))


def _elements(tensor: torch.Tensor) -> torch.Tensor:
    """The elements in the order of the storage, from the tensor's first one on."""
    tensor = tensor.detach().resolve_conj().resolve_neg()
    extent = _extent(tensor.shape, tensor.stride(), 0)
    if extent == tensor.numel():  # no gaps, and no element twice
        flat = tensor.as_strided((extent,), (1,)).contiguous().clone()
    elif extent < tensor.numel():
        flat = tensor.as_strided((extent,), (1,)).clone()
    else:
        # The gaps belong to other tensors, and stay out of the file.
        flat = tensor.new_zeros((extent,))
        flat.as_strided(tensor.shape, tensor.stride()).copy_(tensor)
    other = _AS_OTHERS.get(flat.dtype)
    return (flat if other is None else torch.view_as_real(flat)).cpu()


class TensorReader:
    """Makes the tensors of a file.

    Args:
        stored: the elements of the tensors by their key in the file.
    """

    def __init__(self, stored: Mapping[str, torch.Tensor]) -> None:
        self._stored = stored
        self._without_data = FakeTensorMode(allow_non_fake_inputs=True)

    def difference(self, item: Item, tensor: torch.Tensor) -> str | None:
        """How the tensor that data describe differs from one of a model; None if it does not.

        The tensor is not made.
        """
        entries = item.entries()
        for part, own, now in (
            ("shape", [*tensor.shape], tuple(tensor.shape)),
            ("dtype", str(tensor.dtype).removeprefix("torch."), tensor.dtype),
            ("device", str(tensor.device), tensor.device),
        ):
            theirs = entries[part].value if part in entries else None
            if theirs != own:
                return f"{part} {now}, and that of the file {shown(theirs)}"
        return None

    def read(self, item: Item) -> torch.Tensor:
        """The tensor that data describe; a fake one where the file does not have its elements."""
        fields = item.fields(
            "data", "dtype", "shape", "stride", "offset", "device", "requires_grad"
        )
        dtype, device = read_dtype(fields["dtype"]), read_device(fields["device"])
        shape = [n.whole(0, _ELEMENTS) for n in fields["shape"].items(_RANK)]
        stride = [n.whole(0, _ELEMENTS) for n in fields["stride"].items(exactly=len(shape))]
        offset = fields["offset"].whole(0, _ELEMENTS)
        wants_grad = fields["requires_grad"].truth()
        if math.prod(shape) > _ELEMENTS or _extent(shape, stride, offset) > _ELEMENTS:
            raise item.refusal(f"a tensor of a trace may have {_ELEMENTS} elements")
        if wants_grad and not (dtype.is_floating_point or dtype.is_complex):
            raise fields["requires_grad"].refusal(f"a tensor of {dtype} has no gradient")
        with item.source.guarding("the tensor cannot be made", item.path):
            if fields["data"].value is None:
                made = self._fake(shape, stride, offset, dtype, device)
            else:
                flat = fields["data"].choice(self._stored, "tensor in the file that is called")
                made = _on_storage(flat, shape, stride, offset, dtype, fields["data"]).to(device)
            return made.requires_grad_(wants_grad)

    def _fake(
        self,
        shape: list[int],
        stride: list[int],
        offset: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> torch.Tensor:
        extent = _extent(shape, stride, offset)
        if device.type == "meta":
            whole = torch.empty((extent,), dtype=dtype, device="meta")
            return whole.as_strided(shape, stride, offset)
        with self._without_data:
            return torch.empty((extent,), dtype=dtype, device=device).as_strided(
                shape, stride, offset
            )


def _on_storage(
    flat: torch.Tensor,
    shape: list[int],
    stride: list[int],
    offset: int,
    dtype: torch.dtype,
    item: Item,
) -> torch.Tensor:
    """The tensor of these sizes and strides whose elements a file has."""
    other = _AS_OTHERS.get(dtype)
    if other is not None and flat.dtype is other and flat.dim() == 2 and flat.shape[1] == 2:
        flat = torch.view_as_complex(flat.contiguous())
    extent = _extent(shape, stride, 0)
    if flat.dtype is not dtype or flat.shape != (extent,):
        raise item.refusal(
            f"the file has {shown(tuple(flat.shape))} elements of {flat.dtype} here, and "
            f"{extent} of {dtype} are needed"
        )
    if offset:
        if offset > _padding(flat.numel()):
            raise item.refusal(f"an offset of {offset} is too large for this tensor")
        flat = torch.cat([flat.new_zeros(offset), flat])
    return flat.as_strided(shape, stride, offset)


def _padding(elements: int) -> int:
    """The largest storage offset that a file may ask for: memory that it does not pay for."""
    return max(1 << 20, 64 * elements)


def read_dtype(item: Item) -> torch.dtype:
    """A dtype by torch's name of it."""
    return item.choice(_DTYPES, "dtype")


def read_device(item: Item) -> torch.device:
    """A device that this machine has."""
    text = item.text(50)
    with item.source.guarding("there is no such device", item.path):
        device = torch.device(text)
    if device.type not in ("cpu", "meta"):
        count = _count_of(device.type)
        if (device.index or 0) >= count:
            raise item.refusal(
                f"the trace was made on {device}, and this machine has {count} devices of that "
                "kind",
                fix="load it on a machine with that device, or trace again on this one",
            )
    return device


def _count_of(kind: str) -> int:
    module = getattr(torch, kind, None)
    count = getattr(module, "device_count", None)
    return int(count()) if callable(count) else 0
