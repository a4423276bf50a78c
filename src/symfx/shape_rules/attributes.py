"""Attributes that programs read: ``x.dtype`` of tensors, ``torch.max(x, 1).values`` of results."""

from __future__ import annotations

import functools

import torch

__all__ = ["SETTINGS", "is_known", "place_of"]

#: Attributes of a tensor that are neither tensors nor sizes.
SETTINGS = frozenset(
    {
        "dtype",
        "device",
        "layout",
        "is_cpu",
        "is_cuda",
        "is_leaf",
        "is_meta",
        "is_mkldnn",
        "is_mps",
        "is_nested",
        "is_quantized",
        "is_sparse",
        "is_sparse_csr",
        "is_xla",
        "is_xpu",
        "requires_grad",
    }
)


def is_known(name: str) -> bool:
    """Whether tensors, dtypes, devices or the results of operators have this attribute."""
    owners = (torch.Tensor, torch.dtype, torch.device)
    return any(hasattr(owner, name) for owner in owners) or any(
        name == part for _, part in _places()
    )


def place_of(name: str, count: int) -> int | None:
    """The index of the result of this name among `count` results; ``None`` if it is not known."""
    places = _places().get((count, name), set())
    return min(places) if len(places) == 1 else None


@functools.cache
def _places() -> dict[tuple[int, str], set[int]]:
    found: dict[tuple[int, str], set[int]] = {}
    for kind in vars(torch.return_types).values():
        names = getattr(kind, "__match_args__", ())
        for place, name in enumerate(names):
            found.setdefault((len(names), name), set()).add(place)
    return found
