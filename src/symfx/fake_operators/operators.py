"""The facts that never change about an operator, looked up once: tags, aliasing, node names."""

from __future__ import annotations

from typing import Any

import torch
from torch._ops import OpOverload

from symfx.fake_operators.kernels import ASKED_FIRST, KERNELS
from symfx.fake_operators.rules import RULES

__all__ = ["FROM_START", "OperatorFacts", "facts_of", "running"]

_aten = torch.ops.aten

# Operators that symfx's cache must not answer although their schema looks harmless:
# lifting makes constants, and the others change a tensor's storage or sizes.
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

FROM_START = frozenset(
    {
        _aten.as_strided.default,
        _aten.as_strided_.default,
        _aten.as_strided_copy.default,
        _aten.as_strided_scatter.default,
        _aten.set_.source_Storage_storage_offset,
        _aten.set_.source_Tensor_storage_offset,
    }
)
"""Operators that count from the start of a storage."""

# C++ calls these where a composite kernel would decompose to nothing that can be recorded.
_KEPT_WHOLE = frozenset({_aten.size.default, _aten.stride.default, _aten.storage_offset.default})

# The output's shape of these depends on data only where an index is a mask.
_MASK_INDEXERS = frozenset({_aten.index.Tensor, _aten.index_put.default, _aten.index_put_.default})


# These broadcast their mask.
_MASKED = frozenset({_aten.masked_select.default})

# Operators whose real kernels refuse the sizes that the fake ones exclude. Others do not, where
# sizes are data: they broadcast a size of 1, or leave out a dimension of it, and the graph asserts
# that it is another size. What an operator says of the sizes that it makes itself holds as well.
_REFUSES_SIZES = frozenset(
    {
        "_native_batch_norm_legit",
        "_native_batch_norm_legit_functional",
        "_native_batch_norm_legit_no_training",
        "_to_sparse",
        "_unsafe_view",
        "as_strided",
        "avg_pool2d",
        "avg_pool3d",
        "bmm",
        "cat",
        "chunk",
        "constant_pad_nd",
        "convolution",
        "dot",
        "embedding",
        "empty",
        "empty_permuted",
        "full",
        "gather",
        "index_select",
        "kthvalue",
        "max_pool2d_with_indices",
        "max_pool3d_with_indices",
        "mm",
        "mv",
        "narrow",
        "native_batch_norm",
        "native_group_norm",
        "native_layer_norm",
        "new_empty",
        "new_full",
        "new_ones",
        "new_zeros",
        "normal",
        "one_hot",
        "ones",
        "pixel_shuffle",
        "pixel_unshuffle",
        "rand",
        "randint",
        "randn",
        "randperm",
        "reflection_pad1d",
        "reflection_pad2d",
        "reflection_pad3d",
        "replication_pad1d",
        "replication_pad2d",
        "replication_pad3d",
        "reshape",
        "select",
        "slice",
        "split",
        "split_with_sizes",
        "stack",
        "topk",
        "unbind",
        "unfold",
        "vdot",
        "view",
        "view_as_complex",
        "view_copy",
        "zeros",
    }
)


class OperatorFacts:
    """The facts about one operator that symfx needs again and again.

    One object stands for one operator, so that it can serve as part of a key.

    Attributes:
        func: the operator.
        name: the name of its nodes before they are numbered.
        composite: whether autograd decomposes the operator when it is called from above.
        data_dependent: whether its result is a number read from a tensor's data.
        seeded: whether it draws random numbers.
        lift: whether it lifts a literal tensor into the trace.
        aliases_matter: whether the operator shows which tensors share memory.
        mutated: positions of the arguments it writes to.
        mutated_names: names of the keyword arguments it writes to.
        cacheable: whether its result depends on the metadata of its arguments alone.
        elementwise: whether it is cacheable, elementwise, and writes to no argument.
        mask_indexer: whether `cacheable` holds only while no argument is a mask.
        rule: symfx's rule for its result's sizes and strides, or None.
        kernel: symfx's fake kernel, where torch's is missing or wrong; else None.
        kernel_first: whether torch's own fake kernel is wrong, so that `kernel` goes first.
        exact_strides: whether a compiler must keep the strides of its inputs.
        checks_sizes: whether the real kernel refuses the sizes that the fake kernel excludes.
    """

    __slots__ = (
        "aliases_matter",
        "cacheable",
        "checks_sizes",
        "composite",
        "data_dependent",
        "elementwise",
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
        # The dispatcher does not know operators that only TorchScript has (prim.layout).
        self.composite = (
            func not in _KEPT_WHOLE
            and torch._C._dispatch_has_kernel(func.name())  # type: ignore[no-untyped-call]
            and func._can_decompose()
        )
        self.data_dependent = torch.Tag.data_dependent_output in tags
        self.seeded = torch.Tag.nondeterministic_seeded in tags
        self.lift = func is _aten.lift_fresh.default
        makes_sizes = torch.Tag.dynamic_output_shape in tags and func not in _MASKED
        of_others = func.namespace != "aten"  # whose fake kernels say what the real ones check
        self.checks_sizes = of_others or makes_sizes or self.name in _REFUSES_SIZES
        written = [a.alias_info is not None and a.alias_info.is_write for a in arguments]
        self.mutated = tuple(i for i, w in enumerate(written) if w)
        self.mutated_names = tuple(
            a.name for a, w in zip(arguments, written, strict=True) if w and a.kwarg_only
        )
        self.aliases_matter = bool(self.mutated or self.mutated_names) or func in FROM_START
        self.mask_indexer = func in _MASK_INDEXERS
        self.cacheable = (
            func.namespace in ("aten", "prims")
            and not self.data_dependent
            and (torch.Tag.dynamic_output_shape not in tags or self.mask_indexer)
            and torch.Tag.inplace_view not in tags
            and func not in _NEVER_CACHED
            and bool(func._schema.returns)
        )
        self.elementwise = (
            self.cacheable and torch.Tag.pointwise in tags and not self.aliases_matter
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
    # Keyed by identity, because hashing an operator calls back into Python. The facts keep the
    # operator alive, so that no other object can get its identity.
    facts = _BY_IDENTITY.get(id(func))
    if facts is None:
        facts = _BY_IDENTITY[id(func)] = OperatorFacts(func)
    return facts


class running:
    """A context manager that names the operator whose kernel runs, for guards' provenance.

    An operator's kernel may call other operators. The outermost one counts, because the user's
    program calls that one.

    Args:
        env: the environment that the kernel asks, or None.
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
