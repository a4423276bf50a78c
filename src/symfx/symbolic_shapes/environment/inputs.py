"""How the numbers and tensors that come into a trace are made symbolic.

The module is long because sizes, strides and numbers share the tables of what inputs stand for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import sympy
import torch

from symfx import config
from symfx.algebra import Scalar, Sort, Term
from symfx.algebra.languages.sympy import to_sympy
from symfx.errors import SymfxError
from symfx.shape_language.lowering import size_term
from symfx.symbolic_shapes.dims import Dim, DimExpression
from symfx.symbolic_shapes.environment.knowledge import Knowledge
from symfx.symbolic_shapes.environment.ledger import Ledger
from symfx.symbolic_shapes.errors import ConstraintViolationError
from symfx.symbolic_shapes.records import InputFact
from symfx.symbolic_shapes.settings import ShapeEnvSettings
from symfx.symbolic_shapes.torch_api.constraints import Specialization, StrictMinMaxConstraint
from symfx.symbolic_shapes.torch_api.contexts import (
    StatefulSymbolicContext,
    StatelessSymbolicContext,
    SymbolicContext,
)
from symfx.torch_bridge.identity import DimDynamic

if TYPE_CHECKING:
    from torch._guards import Source

__all__ = ["Inputs", "Layout", "is_nested_int"]

Layout = tuple[list[Term], list[Term], Term]
"""The sizes, strides and storage offset of a tensor."""

_LEAST = 2
"""The least value of a symbol where 0 and 1 are constants."""


class Inputs:
    """The symbolic inputs of one environment.

    Args:
        knowledge: the facts and symbols.
        ledger: records the bounds of unbacked inputs as runtime assertions.
        settings: `specialize_zero_one`, `duck_shape` and `assume_static_by_default` count here.
        owner: the id of the environment, under which a `StatefulSymbolicContext` keeps symbols.
        new_ragged_size: called with the symbol of a nested tensor's ragged size, and its value.

    Attributes:
        facts: the term that each size, stride, offset and number of the inputs equals, by source.
        source_to_var: the symbol first given to each size or number, by the name of its source.
        val_to_var: the symbol of each value, for duck sizing.
        exclusion_constraints: pairs of a symbol and a value that an earlier trace serves.
        var_to_hint_override: values to assume of symbols in decisions about speed.
        transferred: by another environment, its expressions that are unbacked symbols here.
        source_name_to_debug_name: the name of a size in messages, by the name of its source.
        specializations_asked: the cases of sizes for which `specialize_on` asked, in order.
        offsets_asked: whether the program asked for a storage offset.
        named: the symbol of each name that the user gave to dimensions.
    """

    def __init__(
        self,
        knowledge: Knowledge,
        ledger: Ledger,
        settings: ShapeEnvSettings,
        owner: int,
        new_ragged_size: Callable[[Term, Any], object],
    ) -> None:
        self._knowledge = knowledge
        self._symbols = knowledge.symbols
        self._table = knowledge.table
        self._ledger = ledger
        self._settings = settings
        self._owner = owner
        self._new_ragged_size = new_ragged_size
        self.facts: dict[str, InputFact] = {}
        self.source_to_var: dict[str, sympy.Symbol] = {}
        self.val_to_var: dict[Any, sympy.Symbol] = {}
        self.exclusion_constraints: list[tuple[sympy.Symbol, int]] = []
        self.var_to_hint_override: dict[sympy.Symbol, int] = {}
        # By another environment, its expressions that became unbacked symbols here.
        self.transferred: WeakKeyDictionary[Any, dict[sympy.Basic, sympy.Basic]] = (
            WeakKeyDictionary()
        )
        self.source_name_to_debug_name: dict[str, str] = {}
        self.specializations_asked: dict[Specialization, None] = {}
        self.offsets_asked = False
        self.named: dict[str, Term] = {}
        self._by_shape_id: dict[str, Term] = {}

    def own(self, env: object) -> None:
        """Make these inputs, a copy, belong to the copy of their environment."""
        self._owner = id(env)

    # -- numbers --------------------------------------------------------------------------------

    def symbol_for(
        self,
        value: Any,
        source: Source,
        kind: Any = DimDynamic.DUCK,
        promise: Any = None,
        *,
        positive: bool = True,
        specialize_zero_one: bool = True,
        context: Any = None,
    ) -> sympy.Basic:
        """Make a number of the inputs symbolic; see `ShapeEnv.create_symbol`.

        Args:
            value: its value at tracing, an int, a float or a nested int.
            source: where it comes from.
            kind: how it is made symbolic.
            promise: a promise about it, a `StrictMinMaxConstraint` or a
                `RelaxedUnspecConstraint`; a number with a promise gets a symbol of its own.
            positive: whether it is a size or a stride, and so never negative.
            specialize_zero_one: whether 0 and 1 are constants, if the settings agree.
            context: the context of the tensor it belongs to.

        Returns:
            The symbol, or a constant, as sympy.

        Raises:
            ConstraintViolationError: the value breaks the promise.
        """
        cache = None
        if isinstance(context, StatefulSymbolicContext) and source.name:
            cache = context.shape_env_to_source_to_symbol_cache.setdefault(self._owner, {})
            if source.name in cache:
                return cache[source.name]
        strict = isinstance(promise, StrictMinMaxConstraint)
        if strict and promise.vr.lower == promise.vr.upper:
            if promise.vr.lower != value:
                raise ConstraintViolationError(
                    f"Static shape constraint of {promise.vr.lower} does not match input size of "
                    f"{value}, for {source.name}",
                    fix="trace with the size that was promised, or drop the constraint",
                )
            _make_static(context, source)
            kind, promise, strict = DimDynamic.STATIC, None, False
        if kind is DimDynamic.UNBACKED:
            term = self._unbacked(source, context)
        else:
            term = self._backed(
                value,
                source,
                DimDynamic.DYNAMIC if promise is not None else kind,
                positive,
                specialize_zero_one
                and self._settings.specialize_zero_one
                # A promise of 1 to 2 leaves the size one value, unless it may be 1 after all.
                and not (strict and promise.vr.upper == value == _LEAST),
            )
        if strict:
            low, high = promise.vr.lower, promise.vr.upper
            if not low <= value <= high:
                raise ConstraintViolationError(
                    f"{value} not in range [{low}, {high}], which was promised for {source.name}",
                    fix="trace with a size inside the range, or widen the range",
                )
            self._knowledge.constrain_range(term, low, high)
        self._note(source.name, term)
        result: sympy.Basic = to_sympy(term)
        if cache is not None:
            cache[source.name] = result
        return result

    def _new(
        self, name: str, sort: Sort, source: Source | None, hint: Scalar, low: int | None
    ) -> Term:
        """Make the symbol of an input, and state its least value."""
        term = self._symbols.new(name, sort, source=source, hint=hint, low=low)
        if low is not None:
            self._knowledge.begin_at(low, term)
        return term

    def _backed(
        self, value: Any, source: Source, kind: Any, positive: bool, specialize: bool
    ) -> Term:
        """The term of a number that tracing knows the value of."""
        if isinstance(value, torch.SymInt) and not is_nested_int(value):
            value = int(value)
        if kind is DimDynamic.STATIC:
            return self._table.const(value)
        if kind not in (DimDynamic.DUCK, DimDynamic.DYNAMIC):
            raise SymfxError(
                f"{kind} does not say how to make a symbol of its own",
                where=source.name,
                fix="use DYNAMIC, DUCK, STATIC or UNBACKED; INFER_STRIDE is for strides",
            )
        dim = self._symbols.dims.get(_dimension_key(source))
        if isinstance(value, (float, torch.SymFloat)):
            # Never duck sized: that two floats are equal by chance does not make them one.
            name = self._symbols.free_name("zf", source.name)
            term = self._new(name, "real", source, float(value), low=None)
        elif dim is not None:
            term = self._dimension_of(int(value), source, dim)
        else:
            duck = kind is DimDynamic.DUCK and self._settings.duck_shape
            term = self._integer(value, source, duck=duck, positive=positive, specialize=specialize)
        if term.op == "symbol":
            self.source_to_var[source.name] = to_sympy(term)
        return term

    def _dimension_of(self, value: int, source: Source, dim: Dim | DimExpression) -> Term:
        """The term of a dimension that the user described."""
        if isinstance(dim, Dim):
            return self._named_dimension(value, source, dim)
        for name, part in dim.dims.items():
            if name not in self.named:
                # No input is read for the symbol yet: the sizes that are expressions of it say
                # its value.
                self._new_dimension(dim.sizes[name], None, part)
        term = size_term(self._table, dim.tree, self.named)
        hint = self._knowledge.hint_of(term)
        if hint != value:
            raise ConstraintViolationError(
                f"{source.name} is {value}, but {dim} is {hint}",
                fix="trace with a size that the expression has",
            )
        return term

    def _new_dimension(self, value: int, source: Source | None, dim: Dim) -> Term:
        """Make the symbol of a name."""
        table = self._table
        if value < dim.least or (dim.max is not None and value > dim.max):
            place = dim.name if source is None else source.name
            raise ConstraintViolationError(
                f"{place} is {value}, but dimension {dim.name} admits "
                f"{dim.least}..{'' if dim.max is None else dim.max}",
                fix="trace with a size inside the range, or widen the range",
            )
        term = self._new(dim.name, "int", source, value, dim.least)
        if dim.max is not None:
            self._knowledge.begin_with(table.le(term, table.const(dim.max)))
        self.named[dim.name] = term
        return term

    def _named_dimension(self, value: int, source: Source, dim: Dim) -> Term:
        """The symbol of a dimension that the user gave a name."""
        term = self.named.get(dim.name)
        if term is None:
            return self._new_dimension(value, source, dim)
        known = self._symbols.hints[term]
        if known != value:
            raise ConstraintViolationError(
                f"{source.name} is {value}, but dimension {dim.name} is {known} elsewhere",
                fix="give dimensions that differ different names",
            )
        self._symbols.add_source(term, source)
        return term

    def _integer(
        self, value: Any, source: Source, *, duck: bool, positive: bool, specialize: bool
    ) -> Term:
        """The symbol, or the constant, of a size, a stride or an integer."""
        nested = is_nested_int(value)
        if not nested:
            if value in (0, 1) and specialize:
                return self._table.const(int(value))
            if positive and value < 0:
                raise SymfxError(
                    f"{source.name} is {value}, but sizes and strides are never negative",
                    fix="use create_unspecified_symbol for a number that may be negative",
                )
        if duck and value in self.val_to_var:
            shared = self._symbols.term_of(self.val_to_var[value])
            self._symbols.add_source(shared, source)
            return shared
        # A nested int is at least 2, as far as torch compares it with numbers.
        low = (_LEAST if specialize else 0) if positive else None
        name = self._symbols.free_name("s", source.name)
        term = self._new(name, "int", source, value, low)
        self._symbols.counter["create_symbol"] += 1
        if nested:
            self._new_ragged_size(term, value)
        if duck:
            self.val_to_var[value] = to_sympy(term)
        return term

    def _unbacked(self, source: Source, context: Any) -> Term:
        """The symbol of a dimension whose size tracing must not know."""
        term = self._symbols.new_unbacked("int", source)
        view = to_sympy(term)
        self._knowledge.constrain_as_size(view)
        self._symbols.unbacked_inputs[view] = None
        table, expect = self._table, self._ledger.expect
        index = getattr(source, "idx", None)
        bounds = (getattr(context, "unbacked_bounds", None) or {}).get(index)
        if bounds is not None:
            low, high = bounds
            if low is not None:
                expect(table.le(table.const(low), term), f"{source.name} >= {low}")
            if high is not None:
                expect(table.le(term, table.const(high)), f"{source.name} <= {high}")
        shape_id = (getattr(context, "shape_ids", None) or {}).get(index)
        if shape_id is not None:
            first = self._by_shape_id.setdefault(shape_id, term)
            if first is not term:
                expect(table.eq(term, first), f"dimensions {shape_id} are equal")
        return term

    def _note(self, source: str, term: Term) -> None:
        kind = "static" if term.op == "const" else "symbol" if term.op == "symbol" else "expression"
        self.facts[source] = InputFact(source, kind, term)  # type: ignore[arg-type]

    # -- tensors --------------------------------------------------------------------------------

    def layout_for(
        self,
        ex_size: Sequence[Any],
        ex_stride: Sequence[Any],
        ex_storage_offset: Any,
        is_dim_dynamic: Sequence[bool],
        source: Source,
        context: Any = None,
        hint_overrides: Mapping[int, int] | None = None,
    ) -> Layout:
        """Make a tensor symbolic.

        A stride is the product of the sizes and stride it follows from (the tensor's layout at
        tracing is kept for every size); a stride that follows from none gets a symbol.

        Args:
            ex_size: the sizes at tracing.
            ex_stride: the strides.
            ex_storage_offset: the storage offset.
            is_dim_dynamic: which sizes are symbolic, where there is no context and
                `assume_static_by_default`.
            source: where the tensor comes from.
            context: which sizes are symbolic, and how.
            hint_overrides: values at tracing to assume for dimensions, by index.

        Raises:
            SymfxError: the context describes a tensor of another rank.
            ConstraintViolationError: a size breaks a promise of the context.
        """
        from torch._dynamo.source import TensorProperty, TensorPropertySource

        rank = len(ex_size)
        if context is None:
            context = self._default_context(rank, is_dim_dynamic)
        if len(context.dynamic_sizes) != rank:
            raise SymfxError(
                f"{source.name} has {rank} dimensions, "
                f"its symbolic context describes {len(context.dynamic_sizes)}"
            )
        overrides = hint_overrides or {}
        oblivious: bool = config.backed_size_oblivious
        # Read before promises of a single value make dimensions static.
        static = all(kind is DimDynamic.STATIC for kind in context.dynamic_sizes)

        sizes: list[Term] = []
        for i, value in enumerate(ex_size):
            at = TensorPropertySource(source, TensorProperty.SIZE, i)
            symbol = self.symbol_for(
                overrides.get(i, value),
                at,
                context.dynamic_sizes[i],
                context.constraint_sizes[i],
                specialize_zero_one=not oblivious,
                context=context,
            )
            if oblivious and isinstance(symbol, sympy.Symbol):
                self._knowledge.size_like.add(symbol)
            for check in (context.specialize_on or [()] * rank)[i]:
                self.specializations_asked[Specialization(at, check)] = None
            if i in overrides and isinstance(symbol, sympy.Symbol):
                self.var_to_hint_override[symbol] = overrides[i]
            if context.dynamic_sizes[i] is DimDynamic.UNBACKED:
                # Under its own name, also where it equals another size (`shape_ids`): torch looks
                # for each fresh symbol in the tensor.
                sizes.append(self._symbols.reader.read(symbol))
            else:
                sizes.append(self._current(symbol))
        self._note_exclusions(context, sizes, overrides)
        strides = self._strides(source, sizes, ex_size, ex_stride, context, static)
        offset = self.symbol_for(
            ex_storage_offset,
            TensorPropertySource(source, TensorProperty.STORAGE_OFFSET, None),
            DimDynamic.STATIC if static else DimDynamic.DUCK,
            context=context,
        )
        return sizes, strides, self._current(offset)

    def _default_context(self, rank: int, is_dim_dynamic: Sequence[bool]) -> SymbolicContext:
        kinds = [DimDynamic.DUCK] * rank
        if self._settings.assume_static_by_default:
            kinds = [DimDynamic.DYNAMIC if d else DimDynamic.STATIC for d in is_dim_dynamic]
        return StatelessSymbolicContext(dynamic_sizes=kinds)

    def _current(self, number: sympy.Basic) -> Term:
        """The term of a symbol or constant of `symbol_for`, replacements applied."""
        return self._knowledge.facts.resolve(self._symbols.reader.read(number))

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
        strides: list[Term] = [self._table.zero] * rank
        # The stride that follows a dimension in a tensor without gaps, by its value.
        follows: dict[Any, Term] = {}
        # Smallest first; of equal strides the last dimension first, as in a row-major tensor.
        ascending = sorted(range(rank), key=lambda i: (*_nested_last(ex_stride[i]), -i))
        # The stride of a dimension of size 1 means nothing. It may follow from other strides of
        # the tensor, or equal one. No other stride may follow from it, or share its symbol: that
        # would be wrong for inputs that have another number there.
        meaningless = []
        for i in ascending:
            value = ex_stride[i]
            packed = i + 1 < rank and value == ex_size[i + 1] * ex_stride[i + 1]
            at = TensorPropertySource(source, TensorProperty.STRIDE, i)
            infer = context.dynamic_strides[i] is DimDynamic.INFER_STRIDE
            if value in (0, 1) and not packed:
                term = self._table.const(int(value))
                self._note(at.name, term)
            elif infer and value in follows:
                term = follows[value]
                self._note(at.name, term)
            elif infer and not static and not self._is_above_one(sizes[i]):
                meaningless.append(i)
                continue
            else:
                kind = context.dynamic_strides[i]
                if infer:
                    kind = DimDynamic.STATIC if static else DimDynamic.DUCK
                term = self._stride_symbol(value, at, kind, context)
            strides[i] = term
            follows[ex_size[i] * value] = self._table.mul(sizes[i], term)
        known = {ex_stride[i]: strides[i] for i in range(rank) if i not in meaningless} | follows
        for i in meaningless:
            value = ex_stride[i]
            at = TensorPropertySource(source, TensorProperty.STRIDE, i)
            if value in known:
                strides[i] = known[value]
                self._note(at.name, strides[i])
            else:
                strides[i] = self._stride_symbol(value, at, DimDynamic.DYNAMIC, context)
        if self._layout_is_open(source, sizes, ex_size):
            return self._open_strides(source, strides, ex_stride)
        return strides

    def _layout_is_open(
        self, source: Source, sizes: Sequence[Term], ex_size: Sequence[Any]
    ) -> bool:
        """Whether the strides at tracing leave open how the tensor lies in memory at other sizes.

        A tensor with a dimension of one element, or of none, may have any stride there.
        """
        return any(
            term.op != "const" and not is_nested_int(size) and size <= 1
            for term, size in zip(sizes, ex_size, strict=True)
        ) and any((source.name, i) in self._symbols.dims for i in range(len(sizes)))

    def _open_strides(
        self, source: Source, strides: Sequence[Term], ex_stride: Sequence[Any]
    ) -> list[Term]:
        """Symbols for strides, which equal `strides` as soon as a question needs to know them."""
        from torch._dynamo.source import TensorProperty, TensorPropertySource

        made: list[tuple[str, Term, Term]] = []

        def learn() -> None:
            for name, symbol, stride in made:
                asked = self.facts[name].asked
                self._note(name, stride)
                self.facts[name] = self.facts[name]._replace(asked=asked)
                self._knowledge.equate(symbol, stride)

        result: list[Term] = []
        for i, (stride, value) in enumerate(zip(strides, ex_stride, strict=True)):
            at = TensorPropertySource(source, TensorProperty.STRIDE, i)
            record = self._symbols.records.get(stride)
            if record is not None and record.sources[:1] == [at]:
                result.append(stride)  # it follows from no other number
                continue
            symbol = self._integer(value, at, duck=False, positive=True, specialize=False)
            self.source_to_var[at.name] = to_sympy(symbol)
            self._note(at.name, symbol)
            made.append((at.name, symbol, stride))
            result.append(symbol)
            self._ledger.deferred.add(symbol, learn)
        return result

    def _is_above_one(self, size: Term) -> bool:
        """Whether a size is known to be at least 2."""
        return self._knowledge.prover.decide(self._table.lt(self._table.one, size)) is True

    def _stride_symbol(self, value: Any, at: Any, kind: Any, context: Any) -> Term:
        promise = context.constraint_strides[at.idx]
        return self._current(self.symbol_for(value, at, kind, promise, context=context))

    def _note_exclusions(
        self, context: Any, sizes: Sequence[Term], overrides: Mapping[int, int]
    ) -> None:
        """Note the sizes that an earlier trace serves; see `exclusion_constraints`."""
        excluded = getattr(context, "excluded_sizes", None)
        if not excluded or len(excluded) != len(sizes):
            return
        for i, (value, term) in enumerate(zip(excluded, sizes, strict=True)):
            if value is not None and term.op == "symbol" and i not in overrides:
                self.exclusion_constraints.append((to_sympy(term), value))


def is_nested_int(value: Any) -> bool:
    """Whether a number is the ragged size of a nested tensor."""
    return isinstance(value, torch.SymInt) and bool(value.node.is_nested_int())


def _make_static(context: Any, source: Source) -> None:
    """Make a dimension whose promised range is one value static for the rest of its life."""
    index = getattr(source, "idx", None)
    if isinstance(context, StatelessSymbolicContext) and index is not None:
        context.dynamic_sizes[index] = DimDynamic.STATIC
        context.constraint_sizes[index] = None


def _dimension_key(source: Source) -> tuple[str, int]:
    """The input and index by which `ShapeEnv.name_dimension` names the dimension of a source."""
    index = getattr(source, "idx", None)
    if "SIZE" in str(getattr(source, "prop", "")) and index is not None:
        base: Any = getattr(source, "base", None)
        return getattr(base, "name", source.name), index
    return source.name, 0


def _nested_last(stride: Any) -> tuple[int, Any]:
    """A key that sorts strides, those of ragged dimensions last, by their factor."""
    if is_nested_int(stride):
        return 1, stride.node.nested_int_coeff()
    return 0, int(stride)
