"""``detach`` in a graph, where it is ``alias``."""

from __future__ import annotations

from typing import Any

import torch

__all__ = ["alias_of_dense"]


def alias_of_dense(tensor: torch.Tensor) -> Any:
    """The decomposition of ``detach`` into ``alias``, which nested tensors do not have."""
    if tensor.is_nested:
        return NotImplemented
    # Autograd detaches the results that it saves for a backward pass. As a view in autograd's
    # eyes, the alias would keep such a result, whose history keeps the alias: none would be freed.
    with torch._C._AutoDispatchBelowADInplaceOrView():
        return torch.ops.aten.alias.default(tensor)
