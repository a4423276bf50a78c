"""How a ShapeEnv makes an input tensor symbolic: its sizes, strides and storage offset."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import sympy
import torch

from symfx import config
from symfx.algebra import Term
from symfx.algebra.languages.sympy import to_sympy
from symfx.errors import SymfxError
from symfx.sym_node import SymTypes
from symfx.symbolic_shapes.environment.symbols import Symbols
from symfx.symbolic_shapes.settings import ShapeEnvSettings
from symfx.symbolic_shapes.torch_api.constraints import Specialization
from symfx.symbolic_shapes.torch_api.contexts import StatelessSymbolicContext, SymbolicContext
from symfx.torch_bridge.identity import DimDynamic

if TYPE_CHECKING:
    from torch._guards import Source

__all__ = ["Inputs"]

_Layout = tuple[tuple[Any, ...], tuple[Any, ...], Any]


class Inputs(Symbols):
    """Making tensors symbolic; see `ShapeEnv`.

    Attributes:
        specializations_asked: the cases of sizes for which `specialize_on` asked, in order.
        source_name_to_debug_name: what messages call a size, by the name of its source.
        tracked_fakes: the inputs, as whoever traces keeps them.
    """

    def __init__(self, settings: ShapeEnvSettings) -> None:
        super().__init__(settings)
        self.specializations_asked: dict[Specialization, None] = {}
        self.source_name_to_debug_name: dict[str, str] = {}
        self.tracked_fakes: list[Any] | None = None

    def _default_context(self, rank: int, is_dim_dynamic: Sequence[bool]) -> SymbolicContext:
        kinds = [DimDynamic.DUCK] * rank
        if self.assume_static_by_default:
            kinds = [DimDynamic.DYNAMIC if d else DimDynamic.STATIC for d in is_dim_dynamic]
        return StatelessSymbolicContext(dynamic_sizes=kinds)

    def _create_symbolic_sizes_strides_storage_offset(
        self,
        ex_size: Sequence[Any],
        ex_stride: Sequence[Any],
        ex_storage_offset: Any,
        is_dim_dynamic: Sequence[bool],
        source: Source,
        *,
        symbolic_context: Any = None,
        hint_overrides: Mapping[int, int] | None = None,
    ) -> _Layout:
        """Symbols for an input tensor; called by torch's FakeTensorMode.

        A stride is the product of the sizes and stride it follows from (the tensor's layout at
        tracing is kept for every size); one that follows from none gets a symbol.

        Args:
            ex_size: the sizes at tracing.
            ex_stride: the strides.
            ex_storage_offset: the storage offset.
            is_dim_dynamic: which sizes are symbolic, where there is no context and
                `assume_static_by_default`.
            source: where the tensor comes from.
            symbolic_context: which sizes are symbolic, and how.
            hint_overrides: sizes to take as the values at tracing instead, by dimension.

        Raises:
            SymfxError: the context describes a tensor of another rank.
            ConstraintViolationError: a size breaks what the context promises.
        """
        from torch._dynamo.source import TensorProperty, TensorPropertySource

        rank = len(ex_size)
        context = symbolic_context
        if context is None:
            context = self._default_context(rank, is_dim_dynamic)
        if len(context.dynamic_sizes) != rank:
            raise SymfxError(
                f"{source.name} has {rank} dimensions, "
                f"its symbolic context describes {len(context.dynamic_sizes)}"
            )
        overrides = hint_overrides or {}
        oblivious: bool = config.backed_size_oblivious
        # Before promises of a single value have made dimensions static.
        static = all(kind is DimDynamic.STATIC for kind in context.dynamic_sizes)

        sizes: list[Term] = []
        for i, value in enumerate(ex_size):
            at = TensorPropertySource(source, TensorProperty.SIZE, i)
            symbol = self.create_symbol(
                overrides.get(i, value),
                at,
                context.dynamic_sizes[i],
                context.constraint_sizes[i],
                do_not_specialize_zero_one=oblivious,
                symbolic_context=context,
            )
            if oblivious and isinstance(symbol, sympy.Symbol):
                self.size_like.add(symbol)
            for check in (context.specialize_on or [()] * rank)[i]:
                self.specializations_asked[Specialization(at, check)] = None
            if i in overrides and isinstance(symbol, sympy.Symbol):
                self.var_to_hint_override[symbol] = overrides[i]
            sizes.append(self.read(symbol))
        self._note_exclusions(context, sizes, overrides)
        strides = self._strides(source, sizes, ex_size, ex_stride, context, static)
        offset = self.create_symbol(
            ex_storage_offset,
            TensorPropertySource(source, TensorProperty.STORAGE_OFFSET, None),
            DimDynamic.STATIC if static else DimDynamic.DUCK,
            symbolic_context=context,
        )
        return (
            tuple(self.wrap(t) for t in sizes),
            tuple(self.wrap(t) for t in strides),
            self.wrap(self.read(offset)),
        )

    def _strides(
        self,
        source: Source,
        sizes: Sequence[Term],
        ex_size: Sequence[Any],
        ex_stride: Sequence[Any],
        context: Any,
        static: bool,
    ) -> list[Term]:
        from torch._dynamo.source import TensorProperty, TensorPropertySource

        rank = len(sizes)
        strides: list[Term] = [self.table.zero] * rank
        # What the stride after a dimension is, in a tensor without gaps, by its value.
        follows: dict[Any, Term] = {}
        # Smallest first; of equal strides the last dimension first, as in a row-major tensor.
        ascending = sorted(range(rank), key=lambda i: (*_nested_last(ex_stride[i]), -i))
        # The stride of a dimension of size 1 means nothing. It may follow from others of the tensor
        # or be equal to one; that any other stride follows from it, or is equal to it, would be
        # wrong at inputs with another number there.
        meaningless = []
        for i in ascending:
            value = ex_stride[i]
            packed = i + 1 < rank and value == ex_size[i + 1] * ex_stride[i + 1]
            at = TensorPropertySource(source, TensorProperty.STRIDE, i)
            infer = context.dynamic_strides[i] is DimDynamic.INFER_STRIDE
            if value in (0, 1) and not packed:
                term = self.table.const(int(value))
                self._note_input(at.name, term)
            elif infer and value in follows:
                term = follows[value]
                self._note_input(at.name, term)
            elif infer and not static and not self._surely_several(sizes[i]):
                meaningless.append(i)
                continue
            else:
                kind = context.dynamic_strides[i]
                if infer:
                    kind = DimDynamic.STATIC if static else DimDynamic.DUCK
                term = self._stride_symbol(value, at, kind, context)
            strides[i] = term
            follows[ex_size[i] * value] = self.table.mul(sizes[i], term)
        known = {ex_stride[i]: strides[i] for i in range(rank) if i not in meaningless} | follows
        for i in meaningless:
            value = ex_stride[i]
            at = TensorPropertySource(source, TensorProperty.STRIDE, i)
            if value in known:
                strides[i] = known[value]
                self._note_input(at.name, strides[i])
            else:
                strides[i] = self._stride_symbol(value, at, DimDynamic.DYNAMIC, context)
        return strides

    def _surely_several(self, size: Term) -> bool:
        return self.prover.decide(self.table.lt(self.table.one, size)) is True

    def _stride_symbol(self, value: Any, at: Any, kind: Any, context: Any) -> Term:
        constraint = context.constraint_strides[at.idx]
        return self.read(self.create_symbol(value, at, kind, constraint, symbolic_context=context))

    def _note_exclusions(
        self, context: Any, sizes: Sequence[Term], overrides: Mapping[int, int]
    ) -> None:
        """Remember which sizes an earlier trace serves; see `exclusion_constraints`."""
        excluded = getattr(context, "excluded_sizes", None)
        if not excluded or len(excluded) != len(sizes):
            return
        for i, (value, term) in enumerate(zip(excluded, sizes, strict=True)):
            if value is not None and term.op == "symbol" and i not in overrides:
                self._record_exclusion_constraint(to_sympy(term), value)

    def create_symbolic_sizes_strides_storage_offset(
        self, ex: torch.Tensor, source: Source, *, symbolic_context: Any = None
    ) -> _Layout:
        """Symbols for the sizes, strides and storage offset of a tensor.

        A tensor that is symbolic in another environment gets symbols of the same kinds here.

        Args:
            ex: the tensor.
            source: where it comes from.
            symbolic_context: which sizes are symbolic, and how.
        """
        layout = (ex.size(), ex.stride(), ex.storage_offset())
        foreign = getattr(getattr(ex, "fake_mode", None), "shape_env", self)
        if foreign is not self:
            return self.transfer_symbols_from_foreign_shape_env(
                *layout, source, symbolic_context=symbolic_context
            )
        return self._create_symbolic_sizes_strides_storage_offset(
            *layout, [False] * ex.dim(), source, symbolic_context=symbolic_context
        )

    # -- tensors of another environment ---------------------------------------------------------

    def transfer_symbols_from_foreign_shape_env(
        self,
        sizes: Sequence[Any],
        strides: Sequence[Any],
        storage_offset: Any,
        source: Source,
        *,
        symbolic_context: Any = None,
        hint_overrides: dict[int, int] | None = None,
    ) -> _Layout:
        """Symbols here for a tensor that is symbolic in another environment.

        Args:
            sizes: the sizes there.
            strides: the strides there.
            storage_offset: the storage offset there.
            source: where the tensor comes from.
            symbolic_context: which sizes are symbolic here; where not given, those that are
                there, unbacked where they are unbacked there.
            hint_overrides: sizes to assume, by dimension.
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
            return self._create_symbolic_sizes_strides_storage_offset(
                [_hint(n) for n in sizes],
                [_hint(n) for n in strides],
                _hint(storage_offset),
                [False] * len(sizes),
                source,
                symbolic_context=context,
                hint_overrides=overrides,
            )
        here: dict[sympy.Basic, sympy.Basic] = {}

        def moved(number: Any, at: Source, kind: Any) -> sympy.Basic:
            """What a number there is here: rewritten where its symbols are known, else new."""
            if not isinstance(number, SymTypes):
                return sympy.Integer(number)
            there = number.node.expr
            rewritten = there.xreplace(here)
            if rewritten.free_symbols <= set(here.values()):
                return rewritten
            made = self.create_symbol(_hint(number), at, kind, symbolic_context=context)
            here[there] = made
            return made

        new_sizes = []
        for i, size in enumerate(sizes):
            at = TensorPropertySource(source, TensorProperty.SIZE, i)
            symbol = moved(size, at, kinds[i])
            if i in overrides and isinstance(symbol, sympy.Symbol):
                self.var_to_hint_override[symbol] = overrides[i]
            new_sizes.append(self.read(symbol))
        new_strides = [
            self.read(moved(n, TensorPropertySource(source, TensorProperty.STRIDE, i), _kind_of(n)))
            for i, n in enumerate(strides)
        ]
        start = TensorPropertySource(source, TensorProperty.STORAGE_OFFSET, None)
        offset = self.read(moved(storage_offset, start, _kind_of(storage_offset)))
        return (
            tuple(self.wrap(t) for t in new_sizes),
            tuple(self.wrap(t) for t in new_strides),
            self.wrap(offset),
        )


def _kind_of(number: Any) -> Any:
    """How a size of another environment is made symbolic here."""
    if not isinstance(number, SymTypes):
        return DimDynamic.STATIC
    return DimDynamic.DUCK if number.node.has_hint() else DimDynamic.UNBACKED


def _hint(number: Any) -> Any:
    return number.node.hint if isinstance(number, SymTypes) else number


def _nested_last(stride: Any) -> tuple[int, Any]:
    """A key that sorts strides, those of ragged dimensions last, by their factor."""
    if isinstance(stride, torch.SymInt) and stride.node.is_nested_int():
        return 1, stride.node.nested_int_coeff()
    return 0, int(stride)
