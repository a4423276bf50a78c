"""Methods of ShapeEnv that make the inputs of a trace symbolic.

Each function is a method of `ShapeEnv`; `Inputs` does the work.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import sympy
import torch

from symfx.sym_node import SymTypes
from symfx.symbolic_shapes.torch_api.contexts import StatelessSymbolicContext
from symfx.torch_bridge.identity import DimDynamic

if TYPE_CHECKING:
    from torch._guards import Source

    from symfx.symbolic_shapes.environment.inputs import Layout
    from symfx.symbolic_shapes.shape_env import ShapeEnv

__all__ = [
    "_create_symbolic_sizes_strides_storage_offset",
    "_record_exclusion_constraint",
    "create_symbol",
    "create_symbolic_sizes_strides_storage_offset",
    "create_unspecified_symbol",
    "create_unspecified_symint_and_symbol",
    "transfer_symbols_from_foreign_shape_env",
]

SymbolicLayout = tuple[tuple[Any, ...], tuple[Any, ...], Any]
"""The sizes, strides and storage offset of a tensor as torch's numbers."""

# -- numbers ------------------------------------------------------------------------------------


def create_symbol(
    env: ShapeEnv,
    val: Any,
    source: Source,
    dynamic_dim: Any = DimDynamic.DUCK,
    constraint_dim: Any = None,
    positive: bool | None = True,
    do_not_specialize_zero_one: bool = False,
    symbolic_context: Any = None,
) -> sympy.Basic:
    """Make a symbol for a number that comes with the inputs, as sympy.

    Args:
        val: its value at tracing, an int, a float or a nested int.
        source: where it comes from.
        dynamic_dim: DYNAMIC for a symbol of its own, DUCK to share one by value, STATIC
            for a constant, UNBACKED for a symbol without a value.
        constraint_dim: a promise about it, a `StrictMinMaxConstraint` or a
            `RelaxedUnspecConstraint`, with which it gets a symbol of its own.
        positive: whether it is a size or a stride, and so never negative.
        do_not_specialize_zero_one: whether 0 and 1 get symbols too.
        symbolic_context: the context of the tensor it belongs to; a
            `StatefulSymbolicContext` keeps the symbol for the next time.

    Raises:
        ConstraintViolationError: the value breaks the promise.
    """
    return env.inputs.symbol_for(
        val,
        source,
        dynamic_dim,
        constraint_dim,
        positive=bool(positive),
        specialize_zero_one=not do_not_specialize_zero_one,
        context=symbolic_context,
    )


def create_unspecified_symbol(
    env: ShapeEnv,
    val: Any,
    source: Source,
    dynamic_dim: Any = DimDynamic.DUCK,
    constraint_dim: Any = None,
    symbolic_context: Any = None,
) -> sympy.Basic:
    """`create_symbol` for a number that may be anything: negative, 0 or 1."""
    return env.create_symbol(
        val,
        source,
        dynamic_dim,
        constraint_dim,
        positive=None,
        do_not_specialize_zero_one=True,
        symbolic_context=symbolic_context,
    )


def create_unspecified_symint_and_symbol(
    env: ShapeEnv,
    value: int,
    source: Source,
    dynamic_dim: Any,
    excluded_value: int | None = None,
) -> Any:
    """The torch.SymInt of a fresh symbol for an integer input.

    Args:
        value: its value at tracing.
        source: where it comes from.
        dynamic_dim: as for `create_symbol`.
        excluded_value: a value that an earlier trace serves; see `exclusion_constraints`.
    """
    symbol = env.create_unspecified_symbol(value, source, dynamic_dim)
    if excluded_value is not None and isinstance(symbol, sympy.Symbol):
        env._record_exclusion_constraint(symbol, excluded_value)
    return env.create_symintnode(symbol, hint=value, source=source)


def _record_exclusion_constraint(env: ShapeEnv, sym: sympy.Symbol, val: int) -> None:
    """Leave a value of a symbol to the earlier trace that serves it."""
    env.exclusion_constraints.append((sym, val))


# -- tensors ------------------------------------------------------------------------------------


def _create_symbolic_sizes_strides_storage_offset(
    env: ShapeEnv,
    ex_size: Sequence[Any],
    ex_stride: Sequence[Any],
    ex_storage_offset: Any,
    is_dim_dynamic: Sequence[bool],
    source: Source,
    *,
    symbolic_context: Any = None,
    hint_overrides: Mapping[int, int] | None = None,
) -> SymbolicLayout:
    """Make an input tensor symbolic; called by torch's FakeTensorMode.

    Args:
        ex_size: the sizes at tracing.
        ex_stride: the strides.
        ex_storage_offset: the storage offset.
        is_dim_dynamic: which sizes are symbolic, where there is no context and
            `assume_static_by_default`.
        source: where the tensor comes from.
        symbolic_context: which sizes are symbolic, and how.
        hint_overrides: values at tracing to assume for dimensions, by index.

    Raises:
        SymfxError: the context describes a tensor of another rank.
        ConstraintViolationError: a size breaks a promise of the context.
    """
    layout = env.inputs.layout_for(
        ex_size,
        ex_stride,
        ex_storage_offset,
        is_dim_dynamic,
        source,
        symbolic_context,
        hint_overrides,
    )
    return _wrapped(env, layout)


def create_symbolic_sizes_strides_storage_offset(
    env: ShapeEnv, ex: torch.Tensor, source: Source, *, symbolic_context: Any = None
) -> SymbolicLayout:
    """Make the sizes, strides and storage offset of a tensor symbolic.

    A tensor that is symbolic in another environment gets symbols of the same kinds here.

    Args:
        ex: the tensor.
        source: where it comes from.
        symbolic_context: which sizes are symbolic, and how.
    """
    layout = (ex.size(), ex.stride(), ex.storage_offset())
    foreign = getattr(getattr(ex, "fake_mode", None), "shape_env", env)
    if foreign is not env:
        return env.transfer_symbols_from_foreign_shape_env(
            *layout, source, symbolic_context=symbolic_context
        )
    return env._create_symbolic_sizes_strides_storage_offset(
        *layout, [False] * ex.dim(), source, symbolic_context=symbolic_context
    )


def transfer_symbols_from_foreign_shape_env(
    env: ShapeEnv,
    sizes: Sequence[Any],
    strides: Sequence[Any],
    storage_offset: Any,
    source: Source,
    *,
    symbolic_context: Any = None,
    hint_overrides: dict[int, int] | None = None,
) -> SymbolicLayout:
    """Make a tensor symbolic here that is symbolic in another environment.

    Args:
        sizes: the sizes there.
        strides: the strides there.
        storage_offset: the storage offset there.
        source: where the tensor comes from.
        symbolic_context: which sizes are symbolic here; where not given, those that are
            symbolic there, unbacked where they are unbacked there.
        hint_overrides: values at tracing to assume for dimensions, by index.
    """
    from torch._dynamo.source import TensorProperty, TensorPropertySource

    context = symbolic_context
    if context is None:
        context = StatelessSymbolicContext([_kind_of(size) for size in sizes])
    kinds = context.dynamic_sizes
    overrides = dict(hint_overrides or {})
    for i, size in enumerate(sizes):
        if kinds[i] is DimDynamic.UNBACKED and isinstance(size, SymTypes):
            told = getattr(size.node.shape_env, "var_to_hint_override", {})
            if size.node.expr in told:
                overrides.setdefault(i, told[size.node.expr])
    if all(kind is not DimDynamic.UNBACKED for kind in kinds):
        return env._create_symbolic_sizes_strides_storage_offset(
            [_hint(n) for n in sizes],
            [_hint(n) for n in strides],
            _hint(storage_offset),
            [False] * len(sizes),
            source,
            symbolic_context=context,
            hint_overrides=overrides,
        )
    here: dict[sympy.Basic, sympy.Basic] = {}
    for number in (*sizes, *strides, storage_offset):
        if isinstance(number, SymTypes):
            # An unbacked symbol of the other environment is one here, whatever tensor has it.
            here |= env.inputs.transferred.get(number.node.shape_env, {})

    def moved(number: Any, at: Source, kind: Any) -> sympy.Basic:
        """A number of the other environment here: rewritten where its symbols are, else new."""
        if not isinstance(number, SymTypes):
            return sympy.Integer(number)
        there = number.node.expr
        if there in here:
            return here[there]
        # Both environments may have symbols of one name, so what is rewritten are known symbols.
        if there.free_symbols <= here.keys():
            return there.xreplace({symbol: here[symbol] for symbol in there.free_symbols})
        made = env.create_symbol(_hint(number), at, kind, symbolic_context=context)
        here[there] = made
        if kind is DimDynamic.UNBACKED:
            env.inputs.transferred.setdefault(number.node.shape_env, {})[there] = made
            bounds = number.node.shape_env.bound_sympy(there)
            env.constrain_range(env.read(made), _finite(bounds.lower), _finite(bounds.upper))
        return made

    moved_sizes: dict[int, sympy.Basic] = {}
    # Symbols come first: what is derived from them is written with them.
    order = sorted(range(len(sizes)), key=lambda i: not _is_symbol(sizes[i]))
    for i in order:
        at = TensorPropertySource(source, TensorProperty.SIZE, i)
        symbol = moved_sizes[i] = moved(sizes[i], at, kinds[i])
        if i in overrides and isinstance(symbol, sympy.Symbol):
            env.var_to_hint_override[symbol] = overrides[i]
    new_sizes = [env.read(moved_sizes[i]) for i in range(len(sizes))]
    new_strides = [
        env.read(moved(n, TensorPropertySource(source, TensorProperty.STRIDE, i), _kind_of(n)))
        for i, n in enumerate(strides)
    ]
    start = TensorPropertySource(source, TensorProperty.STORAGE_OFFSET, None)
    offset = env.read(moved(storage_offset, start, _kind_of(storage_offset)))
    return _wrapped(env, (new_sizes, new_strides, offset))


def _wrapped(env: ShapeEnv, layout: Layout) -> SymbolicLayout:
    sizes, strides, offset = layout
    return tuple(map(env.wrap, sizes)), tuple(map(env.wrap, strides)), env.wrap(offset)


def _kind_of(number: Any) -> Any:
    """How a number of another environment is made symbolic here."""
    if not isinstance(number, SymTypes):
        return DimDynamic.STATIC
    return DimDynamic.DUCK if number.node.has_hint() else DimDynamic.UNBACKED


def _is_symbol(number: Any) -> bool:
    return isinstance(number, SymTypes) and isinstance(number.node.expr, sympy.Symbol)


def _finite(bound: sympy.Basic) -> int | None:
    return int(bound) if isinstance(bound, sympy.Integer) else None


def _hint(number: Any) -> Any:
    return number.node.hint if isinstance(number, SymTypes) else number
