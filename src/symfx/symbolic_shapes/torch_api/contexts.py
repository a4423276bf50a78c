"""Symbolic contexts: which dimensions of an input are made symbolic, and how."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from symfx.errors import SymfxError
from symfx.torch_bridge.identity import (
    DimDynamic,
    TorchStatefulSymbolicContext,
    TorchStatelessSymbolicContext,
    TorchSubclassSymbolicContext,
    TorchSymbolicContext,
    TorchSymIntSymbolicContext,
    TorchTrackedFake,
)
from symfx.torch_bridge.twins import Twin

if TYPE_CHECKING:
    import sympy
    from torch._guards import Source

__all__ = ["StatefulSymbolicContext", "StatelessSymbolicContext", "SubclassSymbolicContext",
           "SymIntSymbolicContext", "SymbolicContext", "TrackedFake"]  # fmt: skip

_Range = tuple[int | None, int | None]

_STRIDES = (DimDynamic.INFER_STRIDE, DimDynamic.DYNAMIC, DimDynamic.DUCK)


@dataclass(frozen=True)
class SymbolicContext(metaclass=Twin, of=TorchSymbolicContext):
    """The base of the classes that say how an input is made symbolic."""


@dataclass(frozen=True)
class SymIntSymbolicContext(SymbolicContext, of=TorchSymIntSymbolicContext):
    """How an integer input is made symbolic.

    Attributes:
        constraint: a promise about it, or None.
    """

    constraint: Any


def _fill(context: Any) -> None:
    """Fill in the defaults of a tensor's context, and check the fields that were given."""
    rank = len(context.dynamic_sizes)
    for name, default in (
        ("dynamic_strides", [DimDynamic.INFER_STRIDE] * rank),
        ("constraint_sizes", [None] * rank),
        ("constraint_strides", [None] * rank),
        ("specialize_on", [[] for _ in range(rank)]),
    ):
        value = getattr(context, name)
        if value is None:
            object.__setattr__(context, name, default)
        elif len(value) != rank:
            raise SymfxError(
                f"{name} describes {len(value)} dimensions, dynamic_sizes {rank}",
                fix=f"give {name} one entry for each dimension",
            )
    wrong = [kind for kind in context.dynamic_strides if kind not in _STRIDES]
    if wrong:
        raise SymfxError(
            f"{wrong[0]} does not say how to make a stride symbolic",
            fix="use INFER_STRIDE, DYNAMIC or DUCK",
        )


@dataclass(frozen=True)
class StatelessSymbolicContext(SymbolicContext, of=TorchStatelessSymbolicContext):
    """Which dimensions of a tensor are symbolic.

    Attributes:
        dynamic_sizes: a `DimDynamic` for each dimension.
        dynamic_strides: a `DimDynamic` for each stride: INFER_STRIDE (a product of sizes where
            it is one), DYNAMIC or DUCK.
        constraint_sizes: a promise, or None, for each dimension.
        constraint_strides: a promise, or None, for each stride.
        specialize_on: for each dimension, functions that say whether a size is a case worth a
            variant of its own; see `Specialization`.
        view_base_context: for a view, how its base is made symbolic.
        shape_ids: for a dimension that is UNBACKED, a name; dimensions of one name are equal.
        unbacked_bounds: for a dimension that is UNBACKED, its least and greatest size.

    Raises:
        SymfxError: lists of different lengths, or a stride of another kind.

    Example:
        >>> StatelessSymbolicContext([DimDynamic.DYNAMIC, DimDynamic.STATIC]).dynamic_strides
        [<DimDynamic.INFER_STRIDE: 4>, <DimDynamic.INFER_STRIDE: 4>]
    """

    dynamic_sizes: list[Any]
    dynamic_strides: Sequence[Any] = None  # type: ignore[assignment]
    constraint_sizes: list[Any] = None  # type: ignore[assignment]
    constraint_strides: Sequence[Any] = None  # type: ignore[assignment]
    specialize_on: Sequence[Sequence[Callable[..., Any]]] | None = None
    view_base_context: Any = None
    shape_ids: Mapping[int, str | None] | None = None
    unbacked_bounds: Mapping[int, _Range] | None = None

    def __post_init__(self) -> None:
        _fill(self)


@dataclass(frozen=True, kw_only=True)
class StatefulSymbolicContext(StatelessSymbolicContext, of=TorchStatefulSymbolicContext):
    """A `StatelessSymbolicContext` that gives a tensor the same symbols each time.

    Attributes:
        tensor_source: where the tensor comes from.
        shape_env_to_source_to_symbol_cache: the symbols given so far, by the `id` of the
            ShapeEnv and the name of the size, stride or offset.
        excluded_sizes: for each dimension, a size that an earlier trace serves, or None.
    """

    tensor_source: Source
    shape_env_to_source_to_symbol_cache: dict[int, dict[str, sympy.Basic]] = field(
        default_factory=dict
    )
    excluded_sizes: Sequence[int | None] | None = None


@dataclass(frozen=True, kw_only=True)
class SubclassSymbolicContext(StatefulSymbolicContext, of=TorchSubclassSymbolicContext):
    """A `StatefulSymbolicContext` for a tensor that wraps others.

    Attributes:
        inner_contexts: how the tensors inside are made symbolic, by attribute.
        track_outer_size_stride: whether guards look at the wrapper's own sizes and strides.
    """

    inner_contexts: dict[str, Any] = field(default_factory=dict)
    track_outer_size_stride: bool = True


@dataclass(eq=False)
class TrackedFake(metaclass=Twin, of=TorchTrackedFake):
    """An input that was made symbolic, and its source.

    Attributes:
        fake: the symbolic tensor or number.
        source: where it comes from.
        symbolic_context: how it was made symbolic.
    """

    fake: Any
    source: Source
    symbolic_context: Any

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, TrackedFake):
            return NotImplemented
        return self.fake is other.fake and self.source.name == other.source.name

    def __hash__(self) -> int:
        return hash((id(self.fake), self.source.name))
