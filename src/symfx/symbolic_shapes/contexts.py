"""How an input tensor is made symbolic: which dimensions, and how."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from symfx.torch_bridge.identity import DimDynamic, TorchStatelessSymbolicContext

__all__ = ["StatelessSymbolicContext"]


@dataclass(frozen=True, init=False)
class StatelessSymbolicContext:
    """Which dimensions of a tensor are symbolic.

    Args:
        dynamic_sizes: a `DimDynamic` for each dimension.
        view_base_context: how the tensor that this is a view of is made symbolic, if any.
    """

    # torch's converter from real to fake tensors tests for its own class.
    __class__ = TorchStatelessSymbolicContext  # type: ignore[assignment]

    dynamic_sizes: list[Any]
    dynamic_strides: list[Any]
    constraint_sizes: list[Any]
    constraint_strides: list[Any]
    view_base_context: Any
    specialize_on: list[list[Any]]
    shape_ids: Any
    unbacked_bounds: Any

    def __init__(self, dynamic_sizes: Sequence[Any], view_base_context: Any = None) -> None:
        rank = len(dynamic_sizes)
        for name, value in (
            ("dynamic_sizes", list(dynamic_sizes)),
            ("dynamic_strides", [DimDynamic.INFER_STRIDE] * rank),
            ("constraint_sizes", [None] * rank),
            ("constraint_strides", [None] * rank),
            ("view_base_context", view_base_context),
            ("specialize_on", [[] for _ in range(rank)]),
            ("shape_ids", None),
            ("unbacked_bounds", None),
        ):
            object.__setattr__(self, name, value)
