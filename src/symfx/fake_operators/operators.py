"""What never changes about an operator, looked up once: tags, aliasing, how to name its nodes."""

from __future__ import annotations

from typing import Any

import torch
from torch._ops import OpOverload

from symfx.fake_operators.kernels import ASKED_FIRST, KERNELS
from symfx.fake_operators.rules import RULES

__all__ = ["OperatorFacts", "facts_of", "running"]

_aten = torch.ops.aten

# Operators that symfx's cache must not answer although their schema looks harmless:
# lifting makes constants, and storage surgery changes what a tensor is.
_NEVER_CACHED = frozenset(
    {
        _aten.lift_fresh.default,
        _aten.lift_fresh_copy.default,
        _aten.lift.default,
        _aten.is_same_size.default,
        _aten.set_.source_Storage,
        _aten.set_.source_Storage_storage_offset,
        _aten.set_.source_Tensor,
        _aten.set_.default,
        _aten.set_.source_Tensor_storage_offset,
        _aten.set_data.default,
        _aten.resize_.default,
        _aten.resize_as_.default,
        _aten._resize_output_.default,
        _aten.record_stream.default,
    }
)

# Asked for by C++ where a composite kernel would decompose to nothing that can be recorded.
_KEPT_WHOLE = frozenset({_aten.size.default, _aten.stride.default, _aten.storage_offset.default})

# Their output's shape depends on data only where a mask indexes.
_MASK_INDEXERS = frozenset({_aten.index.Tensor, _aten.index_put.default, _aten.index_put_.default})


class OperatorFacts:
    """What symfx asks about one operator again and again.

    One object stands for one operator, so that it can serve as part of a key.

    Attributes:
        func: the operator.
        name: what its nodes are called before they are numbered.
        composite: autograd would decompose it, were it reached from above.
        data_dependent: its result is a number read from a tensor's data.
        seeded: it draws random numbers.
        mutated: positions of the arguments it writes to.
        mutated_names: names of the keyword arguments it writes to.
        cacheable: what it returns depends on the metadata of its arguments alone.
        mask_indexer: `cacheable` holds only while no argument is a mask.
        rule: what it does to sizes and strides, where symfx says so itself.
        kernel: what it returns by size, where torch does not say or says it wrongly.
        kernel_first: torch says it wrongly.
        exact_strides: a compiler must keep the strides of its inputs as they are.
    """

    __slots__ = (
        "cacheable",
        "composite",
        "data_dependent",
        "exact_strides",
        "func",
        "kernel",
        "kernel_first",
        "lift",
        "mask_indexer",
        "mutated",
        "mutated_names",
        "name",
        "rule",
        "seeded",
    )

    def __init__(self, func: OpOverload[..., Any]) -> None:
        self.func = func
        tags = func.tags
        arguments = func._schema.arguments
        self.name = func.overloadpacket.__name__
        # Operators of TorchScript alone (prim.layout) are unknown to the dispatcher.
        self.composite = (
            func not in _KEPT_WHOLE
            and torch._C._dispatch_has_kernel(func.name())  # type: ignore[no-untyped-call]
            and func._can_decompose()
        )
        self.data_dependent = torch.Tag.data_dependent_output in tags
        self.seeded = torch.Tag.nondeterministic_seeded in tags
        self.lift = func is _aten.lift_fresh.default
        written = [a.alias_info is not None and a.alias_info.is_write for a in arguments]
        self.mutated = tuple(i for i, w in enumerate(written) if w)
        self.mutated_names = tuple(
            a.name for a, w in zip(arguments, written, strict=True) if w and a.kwarg_only
        )
        self.mask_indexer = func in _MASK_INDEXERS
        self.cacheable = (
            func.namespace in ("aten", "prims")
            and not self.data_dependent
            and (torch.Tag.dynamic_output_shape not in tags or self.mask_indexer)
            and torch.Tag.inplace_view not in tags
            and func not in _NEVER_CACHED
            and bool(func._schema.returns)
        )
        self.rule = RULES.get(func) if self.cacheable else None
        self.kernel: Any = KERNELS.get(func)
        self.kernel_first = func in ASKED_FIRST
        self.exact_strides = torch.Tag.needs_exact_strides in tags

    def __repr__(self) -> str:
        return f"<facts of {self.func}>"


_BY_IDENTITY: dict[int, OperatorFacts] = {}


def facts_of(func: OpOverload[..., Any]) -> OperatorFacts:
    """The facts of an operator, found once.

    Args:
        func: the operator, with its overload (``torch.ops.aten.add.Tensor``).

    Example:
        >>> facts_of(torch.ops.aten.add.Tensor).name
        'add'
    """
    # Keyed by identity because hashing an operator calls back into Python; the facts keep the
    # operator alive, so that its identity cannot pass to another.
    facts = _BY_IDENTITY.get(id(func))
    if facts is None:
        facts = _BY_IDENTITY[id(func)] = OperatorFacts(func)
    return facts


class running:
    """While an operator runs, what it asks is put down to it, and afterwards no longer.

    What an operator calls on its way is its own affair: the outermost one is what the user knows.

    Args:
        env: the environment that is asked; None where there is none.
        func: the operator.
    """

    __slots__ = ("env", "func")

    def __init__(self, env: Any, func: OpOverload[..., Any]) -> None:
        self.env = env if env is not None and env.current_operator is None else None
        self.func = func

    def __enter__(self) -> None:
        if self.env is not None:
            self.env.current_operator = self.func

    def __exit__(self, *_: object) -> None:
        if self.env is not None:
            self.env.current_operator = None
