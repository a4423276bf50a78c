"""Tensors made of Python and symbolic numbers: ``torch.tensor([h, w])``.

torch's own functions read each symbolic number, and a trace would bake the number in. The
functions here compute the same tensor by operators that take symbolic numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

__all__ = ["has_symbol", "tensor_of_numbers"]

_SYMBOLS = (torch.SymInt, torch.SymFloat, torch.SymBool)


def has_symbol(data: Any) -> bool:
    """Whether nested lists and tuples of numbers hold a symbolic number."""
    return any(isinstance(number, _SYMBOLS) for number in _numbers(data))


def _numbers(data: Any) -> Iterator[Any]:
    if isinstance(data, (list, tuple)):
        for part in data:
            yield from _numbers(part)
    else:
        yield data


def tensor_of_numbers(
    data: Any,
    *,
    dtype: torch.dtype | None = None,
    device: Any = None,
) -> torch.Tensor:
    """The tensor of nested lists and tuples of numbers and tensors of one element.

    Args:
        data: the numbers.
        dtype: the dtype of the tensor, or None for the dtype that `torch.tensor` chooses.
        device: the device of the tensor, or None for torch's default.

    Raises:
        ValueError: the lists have different lengths.
    """
    if dtype is None:
        dtype = _dtype_of(data)
    return _built(data, dtype, device)


def _dtype_of(data: Any) -> torch.dtype:
    """The dtype that `torch.tensor` chooses for numbers."""
    result: torch.dtype | None = None
    for number in _numbers(data):
        if isinstance(number, torch.Tensor):
            own = number.dtype
        elif isinstance(number, (bool, torch.SymBool)):
            own = torch.bool
        elif isinstance(number, (int, torch.SymInt)):
            own = torch.int64
        elif isinstance(number, complex):
            wide = torch.get_default_dtype() is torch.float64
            own = torch.complex128 if wide else torch.complex64
        else:
            own = torch.get_default_dtype()
        result = own if result is None else torch.promote_types(result, own)
    return torch.get_default_dtype() if result is None else result


def _built(data: Any, dtype: torch.dtype, device: Any) -> torch.Tensor:
    if not isinstance(data, (list, tuple)):
        if isinstance(data, torch.Tensor):
            return data.detach().to(device=device, dtype=dtype).reshape(())
        return torch.scalar_tensor(data, dtype=dtype, device=device)
    if not has_symbol(data) and not any(isinstance(n, torch.Tensor) for n in _numbers(data)):
        return torch.tensor(data, dtype=dtype, device=device)
    lengths = {len(part) if isinstance(part, (list, tuple)) else None for part in data}
    if len(lengths) > 1:
        raise ValueError(f"the parts of {data!r} have different lengths, so they make no tensor")
    return torch.stack([_built(part, dtype, device) for part in data])
