"""ShapeEnv: the symbols of a trace, what is known of them, and the guards that tracing needs."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sympy
import torch

from symfx.algebra import Scalar, Sort, Table, Term, evaluate, substitute
from symfx.algebra.facts import Facts
from symfx.algebra.proofs import Proof, prove
from symfx.algebra.prove import Prover
from symfx.algebra.sympy_view import SympyReader, to_sympy
from symfx.errors import SymfxError
from symfx.sym_node import SymNode, SymTypes, wrap_node
from symfx.symbolic_shapes.data_dependent import data_dependent_error
from symfx.symbolic_shapes.errors import ConstraintViolationError
from symfx.symbolic_shapes.provenance import Provenance, capture
from symfx.symbolic_shapes.records import (
    Dim,
    InputFact,
    RuntimeAssert,
    ShapeGuard,
    SpecializationRecord,
    SymbolInfo,
)
from symfx.torch_bridge.fake_cache import refuse_dispatch_cache
from symfx.torch_bridge.identity import DimDynamic, TorchShapeEnv

if TYPE_CHECKING:
    from torch._guards import Source

__all__ = ["ShapeEnv", "ShapeEnvSettings"]

# torch tells the kind of a sympy symbol by how its name starts; a user's name must not mislead.
_TORCH_PREFIXES = ("u", "z", "i", "r", "p", "x", "y", "t", "a")


@dataclass(frozen=True)
class ShapeEnvSettings:
    """What a `ShapeEnv` does where there is a choice.

    Attributes:
        allow_scalar_outputs: ``item()`` gives an unbacked symbol rather than an error.
        allow_dynamic_output_shape_ops: operators whose output size depends on data
            (``nonzero``) give unbacked symbols rather than an error.
        assume_static_by_default: dimensions without a context are static.
        specialize_zero_one: sizes 0 and 1 become constants when an input has them.
        duck_shape: dimensions that have the same size at tracing share a symbol.
        prefer_deferred_runtime_asserts_over_guards: what the program relies on becomes an
            assertion in the program rather than a guard, where either would do.
        trace_asserts: kept for torch, which reads it as a cache key.
    """

    allow_scalar_outputs: bool = True
    allow_dynamic_output_shape_ops: bool = True
    assume_static_by_default: bool = False
    specialize_zero_one: bool = True
    duck_shape: bool = True
    prefer_deferred_runtime_asserts_over_guards: bool = False
    trace_asserts: bool = False


@dataclass
class _Symbol:
    """The record behind a `SymbolInfo`."""

    term: Term
    sources: list[str]
    unbacked: bool
    provenance: Provenance


class _SuppressedGuards(threading.local):
    depth = 0


class ShapeEnv:
    """The home of a trace's symbols, facts and guards.

    Args:
        settings: the fields of `ShapeEnvSettings`, by name.

    Attributes:
        settings: the settings.
        table: the terms.
        facts: what is known.
        prover: decides what follows.
        guards: the conditions on the inputs that tracing relied on.
        nodes: the node of each term that has one.
        current_operator: the operator that is being traced, for the provenance of guards.

    Example:
        >>> env = ShapeEnv()
        >>> u = env.create_unbacked_symint()
        >>> torch._check(u >= 4)
        >>> bool(u > 3)
        True
    """

    _translation_validation_enabled = False

    # FakeTensorMode and others test for torch's class.
    __class__ = TorchShapeEnv  # type: ignore[assignment]

    def __init__(
        self,
        *,
        allow_scalar_outputs: bool = True,
        allow_dynamic_output_shape_ops: bool = True,
        assume_static_by_default: bool = False,
        specialize_zero_one: bool = True,
        duck_shape: bool | None = None,
        prefer_deferred_runtime_asserts_over_guards: bool = False,
        trace_asserts: bool = False,
    ) -> None:
        self._settings = ShapeEnvSettings(
            allow_scalar_outputs=allow_scalar_outputs,
            allow_dynamic_output_shape_ops=allow_dynamic_output_shape_ops,
            assume_static_by_default=assume_static_by_default,
            specialize_zero_one=specialize_zero_one,
            duck_shape=True if duck_shape is None else duck_shape,
            prefer_deferred_runtime_asserts_over_guards=(
                prefer_deferred_runtime_asserts_over_guards
            ),
            trace_asserts=trace_asserts,
        )
        self.table = Table()
        self.facts = Facts(self.table)
        self.prover = Prover(self.facts, self.hint_of)
        self.nodes: dict[Term, SymNode] = {}
        self.guards: list[ShapeGuard] = []
        self.current_operator: object = None
        self.pending_fresh_unbacked_symbols: list[sympy.Symbol] = []
        self.fake_tensor_cache: dict[Any, Any] = {}
        self.tracked_fakes: list[Any] | None = None
        self.frozen = False
        self._hints: dict[Term, Scalar] = {}
        self._hint_memo: dict[Term, Any] = {}
        self._symbols: dict[Term, _Symbol] = {}
        self._by_sympy: dict[sympy.Symbol, Term] = {}
        self._reader = SympyReader(self.table, self._by_sympy)
        self._duck: dict[int, Term] = {}
        self._dims: dict[tuple[str, int], Dim] = {}
        self._dim_terms: dict[str, Term] = {}
        self._input_facts: dict[str, InputFact] = {}
        self._asserts: list[RuntimeAssert] = []
        self._specializations: list[SpecializationRecord] = []
        self._counters: dict[str, int] = {}
        self._suppressed = _SuppressedGuards()
        self._ignoring_fresh = 0

    def __repr__(self) -> str:
        names = ", ".join(s.name for s in self._symbols)
        return f"<ShapeEnv of {names or 'no symbols'}, {len(self.guards)} guards>"

    def __deepcopy__(self, memo: dict[int, Any]) -> ShapeEnv:
        # Terms live and die with their table: a copied graph module keeps speaking of this one.
        return self

    # -- settings, under the names that torch reads --------------------------------------------

    @property
    def settings(self) -> ShapeEnvSettings:
        """The settings, as they were given."""
        refuse_dispatch_cache()
        return self._settings

    @property
    def allow_scalar_outputs(self) -> bool:
        """See `ShapeEnvSettings`."""
        return self._settings.allow_scalar_outputs

    @property
    def allow_dynamic_output_shape_ops(self) -> bool:
        """See `ShapeEnvSettings`."""
        return self._settings.allow_dynamic_output_shape_ops

    @property
    def assume_static_by_default(self) -> bool:
        """See `ShapeEnvSettings`."""
        return self._settings.assume_static_by_default

    @property
    def specialize_zero_one(self) -> bool:
        """See `ShapeEnvSettings`."""
        return self._settings.specialize_zero_one

    @property
    def duck_shape(self) -> bool:
        """See `ShapeEnvSettings`."""
        return self._settings.duck_shape

    @property
    def prefer_deferred_runtime_asserts_over_guards(self) -> bool:
        """See `ShapeEnvSettings`."""
        return self._settings.prefer_deferred_runtime_asserts_over_guards

    # -- what is known, for people and tools ---------------------------------------------------

    @property
    def epoch(self) -> int:
        """How many symbols have been replaced; cached results hold within one epoch."""
        return self.facts.epoch

    def symbol_table(self) -> list[SymbolInfo]:
        """The symbols in the order they came up, with what is known of each."""
        table = []
        for term, record in self._symbols.items():
            lower, upper = self.prover.range(term) if term.sort == "int" else (None, None)
            table.append(
                SymbolInfo(
                    name=term.name,
                    term=term,
                    sources=tuple(record.sources),
                    hint=self._hints.get(term),
                    lower=lower,
                    upper=upper,
                    unbacked=record.unbacked,
                )
            )
        return table

    def input_facts(self) -> list[InputFact]:
        """What sizes, strides and offsets of the inputs must be, beside the guards."""
        return list(self._input_facts.values())

    def deferred_asserts(self) -> list[RuntimeAssert]:
        """The conditions on unbacked symbols that the running program has to check."""
        return list(self._asserts)

    def specializations(self) -> list[SpecializationRecord]:
        """The symbols that tracing pinned to one value, and why."""
        return list(self._specializations)

    @property
    def deferred_runtime_asserts(self) -> dict[sympy.Symbol | None, list[RuntimeAssert]]:
        """`deferred_asserts` by the newest unbacked symbol of each, as torch reads them."""
        result: dict[sympy.Symbol | None, list[RuntimeAssert]] = {}
        for record in self._asserts:
            unbacked = [s for s in record.term.free_symbols if s not in self._hints]
            newest = max(unbacked, key=lambda s: s.uid, default=None)
            key = None if newest is None else to_sympy(newest)
            result.setdefault(key, []).append(record)
        return result

    @property
    def backed_var_to_val(self) -> dict[sympy.Symbol, sympy.Basic]:
        """The values at tracing, by sympy symbol."""
        return {to_sympy(t): sympy.sympify(v) for t, v in self._hints.items()}

    @property
    def replacements(self) -> dict[sympy.Symbol, sympy.Basic]:
        """What each replaced symbol equals, as sympy."""
        return {to_sympy(s): to_sympy(t) for s, t in self.facts.replacements.items()}

    @property
    def var_to_range(self) -> dict[sympy.Symbol, Any]:
        """The bounds of each integer symbol, as torch's value ranges."""
        from torch.utils._sympy.numbers import int_oo
        from torch.utils._sympy.value_ranges import ValueRanges

        ranges = {}
        for info in self.symbol_table():
            if info.term.sort == "int":
                ranges[to_sympy(info.term)] = ValueRanges(
                    -int_oo if info.lower is None else sympy.Integer(info.lower),
                    int_oo if info.upper is None else sympy.Integer(info.upper),
                )
        return ranges

    # -- terms, nodes and sympy ----------------------------------------------------------------

    def node_for(self, term: Term, hint: Scalar | None = None) -> SymNode:
        """The node of a term, made at the first call."""
        node = self.nodes.get(term)
        if node is None:
            value = term.value
            # A hint that is not at hand is computed when somebody asks for it: doing so for
            # each partial sum of n terms would cost n times n.
            if value is not None:
                hint = value
            node = self.nodes[term] = SymNode(self, term, hint)
        return node

    def wrap(self, term: Term) -> Any:
        """The number, torch.SymInt, torch.SymFloat or torch.SymBool of a term."""
        return wrap_node(self.node_for(term))

    def adopt(self, node: Any) -> SymNode:
        """A node of this environment for one that torch or another environment made.

        Raises:
            SymfxError: the node is not a constant, and its symbols are not of this environment.
        """
        if type(node) is SymNode:
            if node.shape_env is self:
                return node
            value: Any = node.constant
            if value is None:
                raise SymfxError(
                    f"{node.term} belongs to another ShapeEnv",
                    fix="trace all inputs of a program with one ShapeEnv",
                )
            return self.node_for(self.table.const(value))
        for read in ("maybe_as_int", "constant_int", "constant_bool"):
            method = getattr(node, read, None)
            value = method() if callable(method) else None
            if value is not None:
                return self.node_for(self.table.const(value))
        expr = getattr(node, "expr", None)
        if isinstance(expr, sympy.Basic) and all(s in self._by_sympy for s in expr.free_symbols):
            return self.node_for(self.read(expr))
        raise SymfxError(
            f"{node} cannot take part in arithmetic with symbols of this ShapeEnv",
            fix="nested ints and symbols of torch's own ShapeEnv do not mix with symfx's",
        )

    def read(self, expr: Any) -> Term:
        """The term of a sympy expression or number, replacements applied.

        Raises:
            SymfxError: a symbol that this environment did not make.
        """
        if isinstance(expr, Term):
            return self.facts.resolve(expr)
        if isinstance(expr, (bool, int, float)):
            return self.table.const(expr)
        if isinstance(expr, SymTypes):
            return self.adopt(expr.node).term
        return self.facts.resolve(self._reader.read(expr))

    def hint_of(self, term: Term) -> Scalar | None:
        """The value of a term at tracing; None where it depends on unbacked symbols."""
        known = self._hint_memo.get(term)
        if known is not None:
            result: Scalar = known
            return result
        term = self.facts.resolve(term)
        hints = self._hints
        if not all(s in hints for s in term.free_symbols):
            return None
        try:
            return evaluate(term, hints, self._hint_memo)
        except (ZeroDivisionError, OverflowError, ValueError):
            # The value at tracing is undefined; whoever asks for it finds out in the user's code.
            return None

    # -- symbols -------------------------------------------------------------------------------

    def name_dimension(self, source: str, index: int, dim: Dim) -> None:
        """Give a dimension of an input a name before it is made symbolic.

        Args:
            source: the input's name.
            index: which dimension.
            dim: the name, with bounds if it has any.
        """
        self._dims[(source, index)] = dim

    def _fresh_name(self, prefix: str) -> str:
        while True:
            n = self._counters.get(prefix, 0)
            self._counters[prefix] = n + 1
            name = f"{prefix}{n}"
            if name not in self.table._symbols:
                return name

    def _new_symbol(
        self,
        name: str,
        sort: Sort,
        *,
        source: str | None,
        hint: Scalar | None,
        size: bool = False,
    ) -> Term:
        term = self.table.symbol(name, sort)
        sympy_name = name
        if hint is not None and name.startswith(_TORCH_PREFIXES) and sort == "int":
            sympy_name = f"s_{name}"
        kinds: dict[str, bool] = {"real": True} if sort == "real" else {"integer": True}
        if size:
            kinds["positive"] = True
        view = sympy.Symbol(sympy_name, **kinds)
        term.sympy = view
        self._by_sympy[view] = term
        if hint is not None:
            self._hints[term] = hint
        self._symbols[term] = _Symbol(
            term, [source] if source else [], hint is None, capture(self.current_operator)
        )
        return term

    def _backed_size(
        self,
        value: int,
        source: str,
        *,
        duck: bool,
        specialize: bool,
        dim: Dim | None,
        positive: bool,
    ) -> Term:
        """The symbol (or the constant) that stands for an input's size, stride or number."""
        table, facts = self.table, self.facts
        if dim is not None:
            term = self._dim_terms.get(dim.name)
            if term is None:
                low = 2 if dim.min is None else dim.min
                if value < low or (dim.max is not None and value > dim.max):
                    raise ConstraintViolationError(
                        f"{source} is {value}, but dimension {dim.name} admits "
                        f"{low}..{'' if dim.max is None else dim.max}",
                        fix="trace with a size inside the range, or widen the range",
                    )
                # A symbol that may be 0 is not `positive` for sympy either.
                term = self._new_symbol(dim.name, "int", source=source, hint=value, size=low >= 1)
                facts.assume(table.le(table.const(low), term))
                if dim.max is not None:
                    facts.assume(table.le(term, table.const(dim.max)))
                self._dim_terms[dim.name] = term
                return term
            known = self._hints[term]
            if known != value:
                raise ConstraintViolationError(
                    f"{source} is {value}, but dimension {dim.name} is {known} elsewhere",
                    fix="give dimensions that differ different names",
                )
            self._symbols[term].sources.append(source)
            return term
        if value in (0, 1) and specialize:
            return table.const(value)
        if duck and value in self._duck:
            term = self._duck[value]
            self._symbols[term].sources.append(source)
            return term
        term = self._new_symbol(
            self._fresh_name("s"), "int", source=source, hint=value, size=positive
        )
        if positive:
            facts.assume(table.le(table.const(2 if specialize else 0), term))
        if duck:
            self._duck[value] = term
        return term

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
            val: its value at tracing.
            source: where it comes from.
            dynamic_dim: DYNAMIC for a symbol of its own, DUCK to share one by value, STATIC
                for a constant, UNBACKED for a symbol without a value.
            constraint_dim: a promise about it; must be None here.
            positive: whether it is a size or a stride, and so never negative.
            do_not_specialize_zero_one: whether 0 and 1 get symbols too.
            symbolic_context: not used for a single number.
        """
        if constraint_dim is not None:
            raise SymfxError(
                "constraints on a symbol are not supported yet",
                where=source.name,
                fix="give the dimension a range by symfx.Dim(name, min=..., max=...)",
            )
        name = source.name
        if dynamic_dim is DimDynamic.UNBACKED:
            symint = self.create_unbacked_symint(source)
            self.facts.assume(self.table.le(self.table.zero, symint.node.term))
            return symint.node.expr
        if isinstance(val, torch.SymInt):
            val = int(val)
        if dynamic_dim is DimDynamic.STATIC:
            term = self.table.const(val)
        elif isinstance(val, float):
            term = self._new_symbol(self._fresh_name("zf"), "real", source=name, hint=val)
        else:
            index = getattr(source, "idx", None)
            base = getattr(getattr(source, "base", None), "name", name)
            is_size = "SIZE" in str(getattr(source, "prop", ""))
            key = (base, index) if is_size and index is not None else (name, 0)
            term = self._backed_size(
                int(val),
                name,
                duck=dynamic_dim is DimDynamic.DUCK and self.duck_shape,
                specialize=self.specialize_zero_one and not do_not_specialize_zero_one,
                dim=self._dims.get(key),
                positive=bool(positive),
            )
        self._note_input(name, term)
        result: sympy.Basic = to_sympy(term)
        return result

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

    def create_symintnode(
        self, sym: sympy.Basic, *, hint: int | None = None, source: Source | None = None
    ) -> Any:
        """The torch.SymInt (or int, for a constant) of a sympy expression."""
        return self.wrap(self.read(sym))

    def create_symfloatnode(
        self, sym: sympy.Basic, *, hint: float | None = None, source: Source | None = None
    ) -> Any:
        """The torch.SymFloat (or float) of a sympy expression."""
        return self.wrap(self.read(sym))

    def create_symboolnode(self, sym: sympy.Basic) -> Any:
        """The torch.SymBool (or bool) of a sympy condition."""
        return self.wrap(self.read(sym))

    def create_unspecified_symint_and_symbol(
        self, value: int, source: Source, dynamic_dim: Any
    ) -> Any:
        """The torch.SymInt of a fresh symbol for an integer input."""
        return self.create_symintnode(
            self.create_unspecified_symbol(value, source, dynamic_dim), hint=value, source=source
        )

    def _create_unbacked(self, prefix: str, sort: Sort, source: Source | None) -> Term:
        name = None if source is None else source.name
        term = self._new_symbol(self._fresh_name(prefix), sort, source=name, hint=None)
        if not self._ignoring_fresh:
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
        self.facts.assume(self.table.le(self.table.zero, symbol))
        self.facts.assume(self.table.le(symbol, self.table.one))
        result: torch.SymBool = self.wrap(self.table.eq(symbol, self.table.one))
        return result

    def is_unbacked_symint(self, symbol: sympy.Symbol) -> bool:
        """Whether a symbol has no value at tracing."""
        term = self._by_sympy.get(symbol)
        return term is not None and term not in self._hints

    @contextlib.contextmanager
    def ignore_fresh_unbacked_symbols(self) -> Iterator[None]:
        """Unbacked symbols made inside need not show up in an operator's output."""
        self._ignoring_fresh += 1
        try:
            yield
        finally:
            self._ignoring_fresh -= 1

    # -- inputs --------------------------------------------------------------------------------

    def _create_symbolic_sizes_strides_storage_offset(
        self,
        size: Sequence[Any],
        stride: Sequence[Any],
        offset: Any,
        is_dim_dynamic: Sequence[bool],
        source: Source,
        *,
        symbolic_context: Any = None,
        hint_overrides: Mapping[int, int] | None = None,
    ) -> tuple[tuple[Any, ...], tuple[Any, ...], Any]:
        """Symbols for an input tensor; called by torch's FakeTensorMode.

        A stride is the product of the sizes and stride it follows from (the tensor's layout at
        tracing is kept for every size); one that follows from none gets a symbol.
        """
        from torch._dynamo.source import TensorProperty, TensorPropertySource

        rank = len(size)
        if symbolic_context is not None:
            kinds = list(symbolic_context.dynamic_sizes)
        elif self.assume_static_by_default:
            kinds = [DimDynamic.DYNAMIC if d else DimDynamic.STATIC for d in is_dim_dynamic]
        else:
            kinds = [DimDynamic.DUCK] * rank
        if len(kinds) != rank:
            raise SymfxError(
                f"{source.name} has {rank} dimensions, its symbolic context describes {len(kinds)}"
            )
        static = all(kind is DimDynamic.STATIC for kind in kinds)
        rest = DimDynamic.STATIC if static else DimDynamic.DUCK

        def symbol(value: Any, prop: Any, index: int | None, kind: Any) -> Term:
            at = TensorPropertySource(source, prop, index)
            return self.read(self.create_symbol(value, at, kind))

        sizes = [symbol(n, TensorProperty.SIZE, i, kinds[i]) for i, n in enumerate(size)]
        strides: list[Term] = [self.table.zero] * rank
        follows: dict[Any, Term] = {}
        # Smallest first; of equal strides the last dimension first, as in a row-major tensor.
        for value, i in sorted(((int(st), i) for i, st in enumerate(stride)),
                               key=lambda pair: (pair[0], -pair[1])):  # fmt: skip
            packed = i + 1 < rank and value == size[i + 1] * stride[i + 1]
            name = TensorPropertySource(source, TensorProperty.STRIDE, i).name
            if value in (0, 1) and not packed:
                term = self.table.const(value)
                self._note_input(name, term)
            elif value in follows:
                term = follows[value]
                self._note_input(name, term)
            else:
                term = symbol(value, TensorProperty.STRIDE, i, rest)
            strides[i] = term
            follows[int(size[i]) * value] = self.table.mul(sizes[i], term)
        start = symbol(offset, TensorProperty.STORAGE_OFFSET, None, rest)
        return (
            tuple(self.wrap(t) for t in sizes),
            tuple(self.wrap(t) for t in strides),
            self.wrap(start),
        )

    def create_symbolic_sizes_strides_storage_offset(
        self, ex: torch.Tensor, source: Source, *, symbolic_context: Any = None
    ) -> tuple[tuple[Any, ...], tuple[Any, ...], Any]:
        """Symbols for the sizes, strides and storage offset of a tensor."""
        return self._create_symbolic_sizes_strides_storage_offset(
            ex.size(),
            ex.stride(),
            ex.storage_offset(),
            [False] * ex.dim(),
            source,
            symbolic_context=symbolic_context,
        )

    # -- facts that the program states ---------------------------------------------------------

    def _constrain_range_for_size(
        self, a: sympy.Symbol, min: int | None = None, max: int | None = None
    ) -> None:
        """An unbacked symbol is a size: not negative, and between `min` and `max`."""
        self.constrain_range(self.read(a), 0 if min is None else min, max)

    def constrain_symbol_range(self, s: sympy.Symbol, compiler_min: int, compiler_max: int) -> None:
        """A symbol is between two bounds."""
        self.constrain_range(self.read(s), compiler_min, compiler_max)

    def constrain_range(self, term: Term, low: int | None, high: int | None) -> None:
        """A term is between two bounds, which may be infinite.

        Raises:
            ConstraintViolationError: no value is.
        """
        if low is not None and high is not None and high < low:
            raise ConstraintViolationError(f"{term} cannot be between {low} and {high}")
        for bound, below in ((low, True), (high, False)):
            if bound is None or not _is_finite(bound):
                continue
            k = self.table.const(int(bound))
            self._learn(self.table.le(k, term) if below else self.table.le(term, k))

    def _learn(self, condition: Term, provenance: Provenance | None = None) -> None:
        """Take a condition as a fact; symbols that it fixes are replaced from now on."""
        condition = self.facts.resolve(condition)
        parts = condition.args if condition.op == "and" else (condition,)
        self.facts.assume(condition)
        for part in parts:
            if part.op == "eq":
                self._replace_by(part.args[0], provenance)

    def _replace_by(self, p: Term, provenance: Provenance | None) -> None:
        """Solve p == 0 for a symbol, unbacked ones and young ones first."""
        candidates = []
        for monomial, coeff in p.coeffs.items():
            if monomial.op != "symbol" or coeff not in (1, -1):
                continue
            rest = self.table.sub(p, self.table.mul(self.table.const(coeff), monomial))
            if monomial in rest.free_symbols:
                continue
            backed = monomial in self._hints
            if backed and any(s not in self._hints for s in rest.free_symbols):
                continue  # a size of an input must not come to depend on data
            if backed and rest.op not in ("const", "symbol"):
                continue  # inputs' sizes keep their names where two of them are merely related
            candidates.append((backed, -monomial.uid, monomial, coeff, rest))
        if not candidates:
            return
        _, _, symbol, coeff, rest = min(candidates, key=lambda c: c[:2])
        by = self.table.mul(self.table.const(-coeff), rest)
        self.facts.replace(symbol, by)
        if by.op == "const":
            where = provenance or capture(self.current_operator)
            self._specializations.append(SpecializationRecord(symbol.name, by.args[0], where))

    # -- decisions -----------------------------------------------------------------------------

    def evaluate_term(
        self, term: Term, *, size_oblivious: bool = False, fallback: Scalar | None = None
    ) -> Scalar:
        """The value of a term: what follows from the facts, else its hint, guarded.

        Args:
            term: an integer, real or boolean term.
            size_oblivious: take unbacked symbols that are sizes to be at least 2.
            fallback: what to answer where the value depends on data.

        Raises:
            GuardOnDataDependentSymNode: the value depends on data and there is no fallback.
        """
        term = self.facts.resolve(term)
        if term.op == "const":
            value: Scalar = term.args[0]
            return value
        if term.sort == "bool":
            known = self.prover.decide(term)
            if known is not None:
                return known
            term = self.prover.reduce(term)
        hint = self.hint_of(term)
        if hint is None:
            if size_oblivious and term.sort == "bool":
                general = self._decide_as_size(term)
                if general is not None:
                    return general
            if fallback is not None:
                return fallback
            raise data_dependent_error(self, term)
        if self._suppressed.depth == 0:
            self._guard(term, hint)
        return hint

    def settle_extremum(self, term: Term) -> Term:
        """A minimum or maximum without the operands that the facts show another one to beat."""
        kept: list[Term] = []
        for part in term.args:
            if any(self._beats(term.op, other, part) for other in kept):
                continue
            kept = [k for k in kept if not self._beats(term.op, part, k)]
            kept.append(part)
        result = kept[0]
        for part in kept[1:]:
            result = getattr(self.table, term.op)(result, part)
        return result

    def _beats(self, op: str, a: Term, b: Term) -> bool:
        """Whether `a` makes `b` superfluous in a minimum or maximum."""
        order = self.table.le(a, b) if op == "min" else self.table.le(b, a)
        return self.prover.decide(order) is True

    def _decide_as_size(self, term: Term) -> bool | None:
        """Decide a condition as if every unbacked size in it were at least 2."""
        shadows = {}
        for symbol in term.free_symbols:
            low = self.prover.range(symbol)[0] if symbol.sort == "int" else None
            if symbol in self._hints or low is None or low < 0:
                continue
            shadow = self.table.symbol(f"{symbol.name}@size")
            self.facts.assume(self.table.le(self.table.const(max(2, low)), shadow))
            shadows[symbol] = shadow
        return self.prover.decide(substitute(term, shadows)) if shadows else None

    def _guard(self, term: Term, value: Scalar) -> None:
        if term.sort == "bool":
            condition = term if value else self.table.not_(term)
        else:
            condition = self.table.eq(term, self.table.const(value))
        if self.frozen:
            raise SymfxError(
                f"the guards are frozen, but {condition} was needed",
                where=str(capture(self.current_operator)),
                fix="ask before freeze(), or use guard_or_false where either answer is right",
            )
        provenance = capture(self.current_operator)
        self.guards.append(ShapeGuard(condition, provenance))
        self._learn(condition, provenance)

    def has_value(self, symbol: Term) -> bool:
        """Whether a symbol has a value at tracing."""
        return symbol in self._hints

    def values(self) -> Mapping[Term, Scalar]:
        """The value at tracing of each symbol that has one."""
        return self._hints

    def origin_of(self, symbol: Term) -> str:
        """Where a symbol came up, in words."""
        record = self._symbols.get(symbol)
        if record is None:
            return "by a rewrite"
        provenance = record.provenance
        return f"by {provenance}" if provenance.operator else str(provenance)

    def proof(self, condition: Any) -> Proof:
        """Why a condition holds, or why its opposite does, as far as the facts say.

        Args:
            condition: a torch.SymBool, a bool, a term or a sympy condition.

        Example:
            >>> env = ShapeEnv()
            >>> u, v = env.create_unbacked_symint(), env.create_unbacked_symint()
            >>> torch._check(u >= 4); torch._check(v > u)
            >>> print(env.proof(v >= 5))
            u1 >= 5 holds, because u0 >= 4 and u1 > u0
        """
        return prove(self.facts, self.read(condition))

    def expect(self, condition: Term, message: str = "") -> bool:
        """Rely on a condition: a guard where it has a value, else an assertion at run time.

        Raises:
            RuntimeError: the condition is false.
        """
        condition = self.facts.resolve(condition)
        known = self.prover.decide(condition)
        if known is not None:
            if known:
                return True
            raise RuntimeError(f"{condition} is false for every admissible input. {message}")
        hint = self.hint_of(condition)
        if hint is not None and not self.prefer_deferred_runtime_asserts_over_guards:
            return bool(self.evaluate_term(condition))
        provenance = capture(self.current_operator)
        self._asserts.append(RuntimeAssert(condition, message, provenance))
        self._learn(condition, provenance)
        return True

    # -- the same questions in sympy, as torch asks them ---------------------------------------

    def evaluate_sym_node(
        self, sym_node: Any, size_oblivious: bool = False, fallback_value: Any = None
    ) -> Scalar:
        """The value of a node, guarded; see `evaluate_term`."""
        node = self.adopt(sym_node)
        return self.evaluate_term(node.term, size_oblivious=size_oblivious, fallback=fallback_value)

    def evaluate_expr(
        self,
        orig_expr: sympy.Basic,
        hint: Any = None,
        fx_node: Any = None,
        size_oblivious: bool = False,
        fallback_value: Any = None,
        *,
        forcing_spec: bool = False,
    ) -> sympy.Basic:
        """The value of a sympy expression, guarded, as sympy."""
        value = self.evaluate_term(
            self.read(orig_expr), size_oblivious=size_oblivious, fallback=fallback_value
        )
        return sympy.sympify(value)

    def guard_or_defer_runtime_assert(
        self, orig_expr: sympy.Basic, msg: str, fx_node: Any = None
    ) -> bool:
        """Rely on a condition; see `expect`."""
        return self.expect(self.read(orig_expr), msg)

    def _maybe_evaluate_static(
        self,
        expr: sympy.Basic,
        *,
        unbacked_only: bool = False,
        compute_hint: bool = False,
        size_oblivious: bool = False,
        axioms: Any = None,
        var_to_range: Any = None,
    ) -> sympy.Basic | None:
        """The value of a sympy expression where the facts fix it, as sympy; never guards."""
        term = self.read(expr)
        if term.op == "const":
            return sympy.sympify(term.args[0])
        if compute_hint:
            hint = self.hint_of(term)
            return None if hint is None else sympy.sympify(hint)
        if term.sort == "bool":
            known = self.prover.decide(term)
            if known is None and size_oblivious:
                known = self._decide_as_size(term)
            return None if known is None else sympy.sympify(known)
        if term.sort == "int":
            low, high = self.prover.range(term)
            if low is not None and low == high:
                return sympy.Integer(low)
        return None

    def simplify(self, expr: sympy.Basic, size_oblivious: bool = False) -> sympy.Basic:
        """A sympy expression in symfx's normal form, replacements applied."""
        result: sympy.Basic = to_sympy(self.read(expr))
        return result

    replace = simplify

    def bound_sympy(self, expr: sympy.Basic, size_oblivious: bool = False) -> Any:
        """The bounds of a sympy expression, as torch's value range."""
        from torch.utils._sympy.numbers import int_oo
        from torch.utils._sympy.value_ranges import ValueRanges

        low, high = self.prover.range(self.read(expr))
        return ValueRanges(
            -int_oo if low is None else sympy.Integer(low),
            int_oo if high is None else sympy.Integer(high),
        )

    @contextlib.contextmanager
    def suppress_guards(self) -> Iterator[None]:
        """Answer from hints inside, recording no guards."""
        self._suppressed.depth += 1
        try:
            yield
        finally:
            self._suppressed.depth -= 1

    def freeze(self) -> None:
        """Refuse guards from now on."""
        self.frozen = True

    def cleanup(self) -> None:
        """Called by torch after a trace; terms die with the environment: nothing to do."""


def _is_finite(bound: Any) -> bool:
    # torch passes int_oo and sympy.oo for "no bound".
    return isinstance(bound, int) or bool(getattr(bound, "is_finite", False))
