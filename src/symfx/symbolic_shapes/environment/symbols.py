"""How a ShapeEnv makes symbols: for sizes and numbers of the inputs, and for what data decides."""

from __future__ import annotations

import contextlib
import hashlib
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import sympy
import torch
from torch.utils._sympy.symbol import SymT, symbol_is_type

from symfx.algebra import Scalar, Sort, Term
from symfx.algebra.languages.sympy import to_sympy
from symfx.errors import SymfxError
from symfx.sym_node import SymTypes
from symfx.symbolic_shapes.environment.ledger import Decisions
from symfx.symbolic_shapes.environment.switches import (
    _ignore_fresh_unbacked_symbols_tls_context,
    ignoring_fresh_symbols,
    set_ignoring_fresh_symbols,
)
from symfx.symbolic_shapes.errors import ConstraintViolationError
from symfx.symbolic_shapes.records import Dim, InputFact
from symfx.symbolic_shapes.settings import ShapeEnvSettings
from symfx.symbolic_shapes.torch_api.constraints import StrictMinMaxConstraint
from symfx.symbolic_shapes.torch_api.contexts import (
    StatefulSymbolicContext,
    StatelessSymbolicContext,
)
from symfx.torch_bridge.identity import DimDynamic

if TYPE_CHECKING:
    from torch._guards import Source

__all__ = ["Symbols"]


class Symbols(Decisions):
    """Making symbols; see `ShapeEnv`.

    Attributes:
        pending_fresh_unbacked_symbols: unbacked symbols that no output has been found for yet.
        ignorable_fresh_unbacked_symbols: those of them that need none.
        source_to_var: the symbol first given to each input's size or number, by its name.
        val_to_var: the symbol of each size, for duck sizing.
        unique_ids: the numbers in the names of symbols.
        unbacked_symint_counter: how many unbacked integers (and booleans) were made.
        unbacked_symfloat_counter: how many unbacked floats were made.
        exclusion_constraints: values that this trace leaves to an earlier one, by symbol.
        var_to_hint_override: values to assume of symbols where it is only about speed.
        counter: how many symbols of each kind were made.
    """

    def __init__(self, settings: ShapeEnvSettings) -> None:
        super().__init__(settings)
        self.pending_fresh_unbacked_symbols: list[sympy.Symbol] = []
        self.ignorable_fresh_unbacked_symbols: list[sympy.Symbol] = []
        self.source_to_var: dict[str, sympy.Symbol] = {}
        self.val_to_var: dict[Any, sympy.Symbol] = {}
        self.unique_ids: set[int] = set()
        self.unbacked_symint_counter = 0
        self.unbacked_symfloat_counter = 0
        self.exclusion_constraints: list[tuple[sympy.Symbol, int]] = []
        self.var_to_hint_override: dict[sympy.Symbol, int] = {}
        self.counter: Counter[str] = Counter()
        self._dim_terms: dict[str, Term] = {}
        self._shape_ids: dict[str, Term] = {}

    # -- names ----------------------------------------------------------------------------------

    def _generate_unique_id(self, source_name: str) -> int:
        """The number of a symbol's name.

        It comes from the name of the input, so that an input's symbol is called the same in
        every trace, whatever else is traced.
        """
        number = int(hashlib.sha256(source_name.encode()).hexdigest(), 16) % 100
        while number in self.unique_ids:
            number += 1
        self.unique_ids.add(number)
        return number

    def _backed_name(self, prefix: str, source_name: str) -> str:
        while True:
            name = f"{prefix}{self._generate_unique_id(source_name)}"
            if name not in self.table.symbols:  # a user's dimension may be called s5
                return name

    # -- numbers of the inputs ------------------------------------------------------------------

    def _named_dimension(self, value: int, source: Source, dim: Dim) -> Term:
        """The symbol of a dimension that the user gave a name."""
        table = self.table
        term = self._dim_terms.get(dim.name)
        low = 2 if dim.min is None else dim.min
        if term is None:
            if value < low or (dim.max is not None and value > dim.max):
                raise ConstraintViolationError(
                    f"{source.name} is {value}, but dimension {dim.name} admits "
                    f"{low}..{'' if dim.max is None else dim.max}",
                    fix="trace with a size inside the range, or widen the range",
                )
            term = self._new_symbol(dim.name, "int", source=source, hint=value, low=low)
            if dim.max is not None:
                self.facts.assume(table.le(term, table.const(dim.max)))
            self._dim_terms[dim.name] = term
            return term
        known = self._hints[term]
        if known != value:
            raise ConstraintViolationError(
                f"{source.name} is {value}, but dimension {dim.name} is {known} elsewhere",
                fix="give dimensions that differ different names",
            )
        self._add_source(term, source)
        return term

    def _backed_number(
        self, value: Any, source: Source, *, duck: bool, positive: bool, specialize: bool
    ) -> Term:
        """The symbol (or the constant) that stands for an input's size, stride or number."""
        if not _is_nested(value):
            if value in (0, 1) and specialize:
                return self.table.const(int(value))
            if positive and value < 0:
                raise SymfxError(
                    f"{source.name} is {value}, but sizes and strides are never negative",
                    fix="use create_unspecified_symbol for a number that may be negative",
                )
        if duck and value in self.val_to_var:
            shared = self.symbol_term(self.val_to_var[value])
            self._add_source(shared, source)
            return shared
        # A nested int is at least 2, in as far as it is compared with numbers at all.
        low = (2 if specialize else 0) if positive else None
        name = self._backed_name("s", source.name)
        term = self._new_symbol(name, "int", source=source, hint=value, low=low)
        self.counter["create_symbol"] += 1
        if _is_nested(value):
            self.node_for(term, value)  # a node tells by its hint that it is a nested int
        if duck:
            self.val_to_var[value] = to_sympy(term)
        return term

    def _add_source(self, term: Term, source: Source) -> None:
        sources = self._symbols[term].sources
        sources.append(source)
        if sources[0].is_ephemeral() and not source.is_ephemeral():
            sources[0], sources[-1] = sources[-1], sources[0]

    def create_symbol(
        self,
        val: Any,
        source: Source,
        dynamic_dim: Any = DimDynamic.DUCK,
        constraint_dim: Any = None,
        positive: bool | None = True,
        do_not_specialize_zero_one: bool = False,
        symbolic_context: Any = None,
    ) -> sympy.Basic:
        """A symbol for a number that comes with the inputs, as sympy.

        Args:
            val: its value at tracing, an int, a float or a nested int.
            source: where it comes from.
            dynamic_dim: DYNAMIC for a symbol of its own, DUCK to share one by value, STATIC
                for a constant, UNBACKED for a symbol without a value.
            constraint_dim: a promise about it, a `StrictMinMaxConstraint` or a
                `RelaxedUnspecConstraint`; it gets a symbol of its own then.
            positive: whether it is a size or a stride, and so never negative.
            do_not_specialize_zero_one: whether 0 and 1 get symbols too.
            symbolic_context: the context of the tensor it belongs to; a
                `StatefulSymbolicContext` remembers the symbol for the next time.

        Raises:
            ConstraintViolationError: the value breaks the promise.
        """
        cache = None
        if isinstance(symbolic_context, StatefulSymbolicContext) and source.name:
            cache = symbolic_context.shape_env_to_source_to_symbol_cache.setdefault(id(self), {})
            if source.name in cache:
                return cache[source.name]
        strict = isinstance(constraint_dim, StrictMinMaxConstraint)
        if strict and constraint_dim.vr.lower == constraint_dim.vr.upper:
            if constraint_dim.vr.lower != val:
                raise ConstraintViolationError(
                    f"{source.name} is {val}, but {constraint_dim.vr.lower} was promised",
                    fix="trace with the size that was promised, or drop the constraint",
                )
            self._make_static(symbolic_context, source)
            dynamic_dim, constraint_dim, strict = DimDynamic.STATIC, None, False
        if dynamic_dim is DimDynamic.UNBACKED:
            term = self._unbacked_input(source, symbolic_context)
        else:
            term = self._backed_input(
                val,
                source,
                DimDynamic.DYNAMIC if constraint_dim is not None else dynamic_dim,
                bool(positive),
                self.specialize_zero_one and not do_not_specialize_zero_one,
            )
        if strict:
            low, high = constraint_dim.vr.lower, constraint_dim.vr.upper
            if not low <= val <= high:
                raise ConstraintViolationError(
                    f"{source.name} is {val}, but a size between {low} and {high} was promised",
                    fix="trace with a size inside the range, or widen the range",
                )
            self.constrain_range(term, low, high)
        self._note_input(source.name, term)
        result: sympy.Basic = to_sympy(term)
        if cache is not None:
            cache[source.name] = result
        return result

    @staticmethod
    def _make_static(context: Any, source: Source) -> None:
        """A dimension whose promised range is one value is static for the rest of its life."""
        index = getattr(source, "idx", None)
        if isinstance(context, StatelessSymbolicContext) and index is not None:
            context.dynamic_sizes[index] = DimDynamic.STATIC
            context.constraint_sizes[index] = None

    def _backed_input(
        self, val: Any, source: Source, kind: Any, positive: bool, specialize: bool
    ) -> Term:
        if isinstance(val, torch.SymInt) and not _is_nested(val):
            val = int(val)
        if kind is DimDynamic.STATIC:
            return self.table.const(val)
        if kind not in (DimDynamic.DUCK, DimDynamic.DYNAMIC):
            raise SymfxError(
                f"{kind} does not say how to make a symbol of its own",
                where=source.name,
                fix="use DYNAMIC, DUCK, STATIC or UNBACKED; INFER_STRIDE is for strides",
            )
        duck = kind is DimDynamic.DUCK and self.duck_shape
        if isinstance(val, (float, torch.SymFloat)):
            # Never duck sized: that two numbers are equal by chance says nothing about floats.
            name = self._backed_name("zf", source.name)
            term = self._new_symbol(name, "real", source=source, hint=float(val))
            self.source_to_var[source.name] = to_sympy(term)
            return term
        dim = self._dims.get(_dimension_key(source))
        if dim is not None:
            term = self._named_dimension(int(val), source, dim)
        else:
            term = self._backed_number(
                val, source, duck=duck, positive=positive, specialize=specialize
            )
        if term.op != "const":
            self.source_to_var[source.name] = to_sympy(term)
        return term

    def _unbacked_input(self, source: Source, context: Any) -> Term:
        """An input's dimension whose size tracing shall not know."""
        term = self._create_unbacked("u", "int", source)
        view = to_sympy(term)
        self._constrain_range_for_size(view)
        self.unbacked_inputs[view] = None
        index = getattr(source, "idx", None)
        bounds = (getattr(context, "unbacked_bounds", None) or {}).get(index)
        if bounds is not None:
            low, high = bounds
            table = self.table
            if low is not None:
                self.expect(table.le(table.const(low), term), f"{source.name} >= {low}")
            if high is not None:
                self.expect(table.le(term, table.const(high)), f"{source.name} <= {high}")
        shape_id = (getattr(context, "shape_ids", None) or {}).get(index)
        if shape_id is not None:
            first = self._shape_ids.setdefault(shape_id, term)
            if first is not term:
                self.expect(self.table.eq(term, first), f"dimensions {shape_id} are equal")
        return term

    def _note_input(self, source: str, term: Term) -> None:
        kind = "static" if term.op == "const" else "symbol" if term.op == "symbol" else "expression"
        self._input_facts[source] = InputFact(source, kind, term)  # type: ignore[arg-type]

    def create_unspecified_symbol(
        self,
        val: Any,
        source: Source,
        dynamic_dim: Any = DimDynamic.DUCK,
        constraint_dim: Any = None,
        symbolic_context: Any = None,
    ) -> sympy.Basic:
        """`create_symbol` for a number that may be anything: negative, 0 or 1."""
        return self.create_symbol(
            val,
            source,
            dynamic_dim,
            constraint_dim,
            positive=None,
            do_not_specialize_zero_one=True,
            symbolic_context=symbolic_context,
        )

    def create_unspecified_symint_and_symbol(
        self, value: int, source: Source, dynamic_dim: Any, excluded_value: int | None = None
    ) -> Any:
        """The torch.SymInt of a fresh symbol for an integer input.

        Args:
            value: its value at tracing.
            source: where it comes from.
            dynamic_dim: as for `create_symbol`.
            excluded_value: a value that an earlier trace serves; see `exclusion_constraints`.
        """
        symbol = self.create_unspecified_symbol(value, source, dynamic_dim)
        if excluded_value is not None and isinstance(symbol, sympy.Symbol):
            self._record_exclusion_constraint(symbol, excluded_value)
        return self.create_symintnode(symbol, hint=value, source=source)

    def _record_exclusion_constraint(self, sym: sympy.Symbol, val: int) -> None:
        self.exclusion_constraints.append((sym, val))

    def add_backed_var_to_val(self, expr: sympy.Symbol, val: Scalar) -> None:
        """Make a sympy symbol one of this environment, with a value at tracing.

        Raises:
            SymfxError: it has one already.
        """
        term = self._by_sympy.get(expr)
        if term is None:
            self.register_symbol(expr, val)
        elif term in self._hints:
            raise SymfxError(f"{expr} has the value {self._hints[term]} at tracing already")
        else:
            self._hints[term] = val

    add_var_to_val = add_backed_var_to_val

    # -- symbols as torch's numbers -------------------------------------------------------------

    def create_symintnode(
        self, sym: sympy.Basic, *, hint: Any = None, source: Source | None = None
    ) -> Any:
        """The torch.SymInt (or int, for a constant) of a sympy expression.

        Args:
            sym: the expression.
            hint: its value at tracing; used where the environment has none of its own.
            source: kept for callers of torch's method.
        """
        term = self.read_registering(sym, hint)
        if hint is not None and term.op == "const" and term.args[0] != hint:
            raise SymfxError(f"{term} was said to be {hint} at tracing")
        return self.wrap(term)

    def create_symfloatnode(
        self, sym: sympy.Basic, *, hint: Any = None, source: Source | None = None
    ) -> Any:
        """The torch.SymFloat (or float) of a sympy expression."""
        return self.wrap(self.table.to_real(self.read_registering(sym, hint)))

    def create_symboolnode(self, sym: sympy.Basic) -> Any:
        """The torch.SymBool of a sympy condition."""
        node = self.node_for(self.read_registering(sym))
        return torch.SymBool(node)  # type: ignore[no-untyped-call]

    # -- what only data tells -------------------------------------------------------------------

    def _create_unbacked(self, prefix: str, sort: Sort, source: Source | None) -> Term:
        while True:
            if prefix == "u":
                number = self.unbacked_symint_counter
                self.unbacked_symint_counter += 1
            else:
                number = self.unbacked_symfloat_counter
                self.unbacked_symfloat_counter += 1
            name = f"{prefix}{number}"
            if name not in self.table.symbols:  # a user's dimension may be called u0
                break
        term = self._new_symbol(name, sort, source=source, hint=None)
        self.counter["create_unbacked_symbol"] += 1
        if not ignoring_fresh_symbols():
            self.pending_fresh_unbacked_symbols.append(term.sympy)
        return term

    def create_unbacked_symint(self, source: Source | None = None) -> torch.SymInt:
        """An integer that only running the program tells."""
        result: torch.SymInt = self.wrap(self._create_unbacked("u", "int", source))
        return result

    def create_unbacked_symfloat(self) -> torch.SymFloat:
        """A float that only running the program tells."""
        result: torch.SymFloat = self.wrap(self._create_unbacked("zuf", "real", None))
        return result

    def create_unbacked_symbool(self) -> torch.SymBool:
        """A bool that only running the program tells."""
        symbol = self._create_unbacked("u", "int", None)
        self._begin_with(self.table.le(self.table.zero, symbol))
        self._begin_with(self.table.le(symbol, self.table.one))
        result: torch.SymBool = self.wrap(self.table.eq(symbol, self.table.one))
        return result

    def is_unbacked_symint(self, symbol: sympy.Symbol) -> bool:
        """Whether a symbol is an integer that only running the program tells."""
        term = self._by_sympy.get(symbol)
        if term is None:
            return symbol_is_type(symbol, SymT.UNBACKED_INT)  # another environment's
        return term.sort == "int" and self._symbols[term].unbacked

    @contextlib.contextmanager
    def ignore_fresh_unbacked_symbols(self) -> Iterator[None]:
        """Unbacked symbols made inside need not show up in an operator's output."""
        with _ignore_fresh_unbacked_symbols_tls_context():
            yield

    def _ignore_fresh_unbacked_symbols_tls(self) -> bool:
        return ignoring_fresh_symbols()

    def _ignore_fresh_unbacked_symbols_set(self, b: bool) -> bool:
        return set_ignoring_fresh_symbols(b)

    def term_from_outside(self, expr: Any, pytype: type, hint: Any) -> tuple[Term, Any]:
        """The term and hint of an expression that somebody gives as sympy; see `SymNode`.

        Raises:
            SymfxError: the expression is not of the type.
        """
        if isinstance(hint, SymTypes) and not _is_nested(hint):
            hint = hint.node.hint
        term = self.read_registering(expr, hint)
        if pytype is float and term.sort == "int":
            term = self.table.to_real(term)
        sorts = {int: "int", float: "real", bool: "bool"}
        if term.sort != sorts.get(pytype):
            raise SymfxError(f"{term} is no {pytype.__name__}")
        return term, hint


def _dimension_key(source: Source) -> tuple[str, int]:
    """How `name_dimension` names the dimension that a source is."""
    index = getattr(source, "idx", None)
    if "SIZE" in str(getattr(source, "prop", "")) and index is not None:
        base: Any = getattr(source, "base", None)
        return getattr(base, "name", source.name), index
    return source.name, 0


def _is_nested(value: Any) -> bool:
    return isinstance(value, torch.SymInt) and bool(value.node.is_nested_int())
