"""Indexing by sizes and by integers in tensors, as operators that take symbolic numbers.

Where an index is a `torch.SymInt` or an integer tensor without dimensions, Python's indexing in
torch asks it for a number, and a trace would bake the number in. The functions here select and
slice by the symbolic number itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from symfx.proxy_tensor.number_tensors import has_symbol, tensor_of_numbers

__all__ = ["get_item", "set_item"]

_aten = torch.ops.aten
_MASKS = (torch.bool, torch.uint8)
# The end that torch gives to a slice without one.
_TO_THE_END = 2**63 - 1


def get_item(x: torch.Tensor, index: Any) -> Any:
    """``x[index]``; NotImplemented where torch's own form bakes in no number.

    Args:
        x: the tensor.
        index: any index that torch takes.
    """
    items = _symbolic_items(x, index)
    if items is None:
        return NotImplemented
    view, masks_and_indices = _view(x, items)
    return view if masks_and_indices is None else view[masks_and_indices]


def set_item(x: torch.Tensor, index: Any, value: Any) -> Any:
    """``x[index] = value``; NotImplemented where torch's own form bakes in no number.

    Args:
        x: the tensor.
        index: any index that torch takes.
        value: a tensor or a number.
    """
    items = _symbolic_items(x, index)
    if items is None or not isinstance(
        value, (torch.Tensor, int, float, complex, torch.SymInt, torch.SymFloat)
    ):
        return NotImplemented
    view: Any
    view, masks_and_indices = _view(x, items)
    if masks_and_indices is not None:
        view[masks_and_indices] = value
    elif isinstance(value, torch.Tensor):
        # An assignment ignores leading dimensions of size 1, which copy_ would refuse.
        while value.dim() > view.dim() and value.shape[0] == 1:
            value = value.squeeze(0)
        view.copy_(value)
    else:
        view.fill_(value)
    return None


def _is_number(item: Any) -> bool:
    """Whether an item of an index is an integer tensor that stands for one number."""
    return (
        isinstance(item, torch.Tensor)
        and item.dim() == 0
        and not item.dtype.is_floating_point
        and not item.dtype.is_complex
        and item.dtype not in _MASKS
    )


def _is_symbolic(item: Any) -> bool:
    """Whether torch would ask this item of an index for a Python number."""
    kind = type(item)
    if kind is int or item is None or item is Ellipsis:
        return False
    if kind is slice:
        return any(
            isinstance(bound, (torch.SymInt, torch.Tensor))
            for bound in (item.start, item.stop, item.step)
        )
    if kind in (list, tuple):
        return has_symbol(item)
    return kind is torch.SymInt or _is_number(item)


def _symbolic_items(x: torch.Tensor, index: Any) -> list[Any] | None:
    """The items of an index, one for each dimension of `x` that it names.

    Returns:
        None where no item is symbolic, or one is of a kind that is left to torch.
    """
    items = list(index) if type(index) is tuple else [index]
    if not any(_is_symbolic(item) for item in items):
        return None
    plain = (int, slice, torch.SymInt, torch.Tensor)
    for i, item in enumerate(items):
        if type(item) in (list, tuple):
            items[i] = tensor_of_numbers(item, device=x.device)
        elif type(item) is bool or not (
            item is None or item is Ellipsis or isinstance(item, plain)
        ):
            return None
    named = sum(
        item.dim() if isinstance(item, torch.Tensor) and item.dtype in _MASKS else 1
        for item in items
        if item is not None and item is not Ellipsis
    )
    for i, item in enumerate(items):
        if item is Ellipsis:
            items[i : i + 1] = [slice(None)] * max(x.dim() - named, 0)
            break
    return items


def _view(x: torch.Tensor, items: Sequence[Any]) -> tuple[torch.Tensor, tuple[Any, ...] | None]:
    """Apply the numbers, slices and Nones of an index.

    Returns:
        The view, and the index by masks and tensors of indices that remains to be applied to
        it; None where none remains.
    """
    rest: list[Any] = []
    remains = False
    for item in items:
        dim = sum(i.dim() if isinstance(i, torch.Tensor) and i.dtype in _MASKS else 1 for i in rest)
        if item is None:
            x = x.unsqueeze(dim)
            rest.append(slice(None))
        elif isinstance(item, slice):
            # A step that is a size would be guarded where it is compared.
            whole = item.step is None or (type(item.step) is int and item.step == 1)
            if not (item.start is None and item.stop is None and whole):
                x = _aten.slice.Tensor(
                    x,
                    dim,
                    0 if item.start is None else _number(item.start),
                    _TO_THE_END if item.stop is None else _number(item.stop),
                    1 if item.step is None else _number(item.step),
                )
            rest.append(slice(None))
        elif isinstance(item, torch.Tensor) and not _is_number(item):
            rest.append(item)
            remains = True
        else:
            at = _number(item)
            if dim < x.dim():
                _refuse_out_of_range(at, x.shape[dim], dim)
            x = x.select(dim, at)
    return x, tuple(rest) if remains else None


def _number(item: Any) -> Any:
    """The number that an item of an index stands for."""
    if not isinstance(item, torch.Tensor):
        return item
    if isinstance(getattr(item, "item_memo", None), torch.SymInt):
        # An input of one integer comes with a symbol that has a hint. Guards on the symbol
        # would hold the trace to the example's value, and an index needs none.
        item.item_memo = None  # type: ignore[attr-defined]
    return item.item()


def _refuse_out_of_range(at: Any, size: Any, dim: int) -> None:
    """Raise torch's error where an index is out of range in the example."""
    example, length = _hint(at), _hint(size)
    if example is not None and length is not None and not -length <= example < length:
        raise IndexError(f"index {example} is out of bounds for dimension {dim} with size {length}")


def _hint(number: Any) -> int | None:
    if not isinstance(number, torch.SymInt):
        return int(number)
    hint: int | None = number.node.hint
    return hint
