"""The ground of a ShapeEnv: its terms, what is known of them, their values and their nodes."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sympy
import torch

from symfx import config
from symfx.algebra import Scalar, Sort, Table, Term, evaluate, relation
from symfx.algebra.languages.sympy import SympyReader
from symfx.algebra.reasoning.facts import Facts
from symfx.algebra.reasoning.prover import Prover
from symfx.errors import SymfxError
from symfx.sym_node import SymNode, SymTypes, wrap_node
from symfx.sym_node.comparisons import RELATIONS
from symfx.symbolic_shapes.checks.validation import TranslationValidator
from symfx.symbolic_shapes.environment.switches import Suppression
from symfx.symbolic_shapes.explain.logs import log_symbol
from symfx.symbolic_shapes.explain.provenance import Provenance, current_provenance
from symfx.symbolic_shapes.records import (
    Dim,
    InputFact,
    RuntimeAssert,
    ShapeGuard,
    SpecializationRecord,
    SymbolInfo,
)
from symfx.symbolic_shapes.settings import ShapeEnvSettings
from symfx.torch_bridge.fake_cache import mode_asking_for_a_key, refuse_dispatch_cache

if TYPE_CHECKING:
    from torch._guards import Source

__all__ = ["EnvCore", "SymbolRecord"]

_METHODS = {in_sympy: name for name, in_sympy in RELATIONS.items()}

# torch tells the kind of a sympy symbol by how its name starts; a user's name must not mislead.
_TORCH_PREFIXES = ("u", "z", "i", "r", "p", "x", "y", "t", "a")


@dataclass
class SymbolRecord:
    """What is kept of a symbol.

    Attributes:
        term: the symbol.
        sources: the inputs it stands for, those that last first.
        unbacked: whether only running the program tells the value.
        provenance: where it came up.
        is_size: whether it was made for a size or stride, which is never negative.
    """

    term: Term
    sources: list[Source]
    unbacked: bool
    provenance: Provenance
    is_size: bool = False


class EnvCore:
    """Terms, facts, hints and nodes of one trace; see `ShapeEnv`."""

    def __init__(self, settings: ShapeEnvSettings) -> None:
        self._settings = settings
        self.table = Table()
        self.facts = Facts(self.table)
        self.prover = self._prover_of(self.facts)
        self.nodes: dict[Term, SymNode] = {}
        # How the program wrote a comparison: the method and both sides.
        self.asked: dict[Term, tuple[str, Term, Term]] = {}
        self.guards: list[ShapeGuard] = []
        self.current_operator: object = None
        self.frozen = False
        self.runtime_asserts_frozen = False
        self._error_on_new_guards = False
        self._hints: dict[Term, Scalar] = {}
        self._hint_memo: dict[Term, Any] = {}
        self._symbols: dict[Term, SymbolRecord] = {}
        self._by_sympy: dict[sympy.Symbol, Term] = {}
        # What users call dimensions whose name in sympy torch would take for another kind.
        self._as_named: dict[sympy.Symbol, sympy.Symbol] = {}
        self._reader = SympyReader(self.table, self._by_sympy)
        self._dims: dict[tuple[str, int], Dim] = {}
        self._input_facts: dict[str, InputFact] = {}
        self._asserts: list[RuntimeAssert] = []
        self._specializations: list[SpecializationRecord] = []
        self._suppressed = Suppression()
        self.validator = TranslationValidator(self.table) if config.translation_validation else None

    def _prover_of(self, facts: Facts) -> Prover:
        """A prover from these facts, of the kind that the settings ask for."""
        if self._settings.prover == "z3":
            from symfx.algebra.reasoning.z3_prover import Z3Prover

            return Z3Prover(facts, self.hint_of, budget_ms=self._settings.prover_budget_ms)
        return Prover(facts, self.hint_of)

    # -- settings, under the names that torch reads --------------------------------------------

    @property
    def settings(self) -> ShapeEnvSettings:
        """The settings, as they were given."""
        mode = mode_asking_for_a_key()
        if mode is not None:
            from symfx.fake_operators.cache import adopt  # costly, and for tracers alone

            adopt(mode, self)
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

    @property
    def trace_asserts(self) -> bool:
        """See `ShapeEnvSettings`."""
        return self._settings.trace_asserts

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
                    sources=tuple(source.name for source in record.sources),
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
            node = self.nodes[term] = SymNode.of(self, term, hint)
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
            owner: object = node.shape_env
            if owner is self:
                known: SymNode = node
                return known
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
        # Symbols of another environment may have the names of symbols of this one.
        if getattr(node, "shape_env", None) is self and isinstance(expr, sympy.Basic):
            theirs: SymNode = self.node_for(self.read(expr))
            return theirs
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

    def read_registering(self, expr: Any, hint: Scalar | None = None) -> Term:
        """`read`, making unknown sympy symbols symbols of this environment.

        Args:
            expr: the expression.
            hint: its value at tracing, which becomes that of the symbol where it is one.
        """
        if isinstance(expr, sympy.Basic):
            for symbol in sorted(expr.free_symbols, key=str):
                if symbol not in self._by_sympy:
                    self.register_symbol(symbol, hint if symbol == expr else None)
        return self.read(expr)

    def _read_asked(self, expr: sympy.Basic, hint: Any = None) -> Term:
        """The term of a question; a comparison's sides are remembered as they were written."""
        term = self.read_registering(expr, hint)
        if isinstance(expr, sympy.core.relational.Relational) and term.op != "const":
            sides = (self.read(side) for side in expr.args)
            self.asked.setdefault(term, (_METHODS[type(expr)], *sides))  # type: ignore[arg-type]
        return term

    def register_symbol(self, symbol: sympy.Symbol, hint: Scalar | None = None) -> Term:
        """The term of a sympy symbol that somebody else made, of the sort that it claims.

        Raises:
            SymfxError: another symbol has the name.
        """
        sort: Sort = "int" if symbol.is_integer else "real" if symbol.is_real else "int"
        known = self.table.symbols.get(symbol.name)
        if known is not None and known in self._symbols:
            raise SymfxError(
                f"{symbol.name} is a symbol of this ShapeEnv already, with other assumptions",
                fix="use the sympy symbol that the ShapeEnv made",
            )
        term = self.table.symbol(symbol.name, sort)
        term.sympy = symbol
        self._by_sympy[symbol] = term
        if hint is not None:
            self._hints[term] = hint
        self._symbols[term] = SymbolRecord(
            term,
            [],
            hint is None,
            current_provenance(self.current_operator),
            bool(symbol.is_positive),
        )
        if symbol.is_positive and sort == "int":
            self._begin_with(self.table.le(self.table.one, term))
        elif symbol.is_nonnegative and sort == "int":
            self._begin_with(self.table.le(self.table.zero, term))
        return term

    def hint_of(self, term: Term) -> Scalar | None:
        """The value of a term at tracing; None where it depends on unbacked symbols."""
        known = self._hint_memo.get(term)
        if known is not None:
            result: Scalar = known
            return result
        term = self.facts.resolve(term)
        hints = self._hints
        if not term.free_symbols <= hints.keys():
            return None
        return self._evaluate(term, hints, self._hint_memo)

    def _evaluate(
        self, term: Term, values: Mapping[Term, Scalar], memo: dict[Term, Any] | None = None
    ) -> Scalar | None:
        """The value of a term; None where the operation is undefined."""
        try:
            return evaluate(term, values, memo)
        except (ZeroDivisionError, OverflowError, ValueError):
            # The value at tracing is undefined; whoever asks for it finds out in the user's code.
            return None
        except RuntimeError:
            if any(isinstance(values[s], torch.SymInt) for s in term.free_symbols):
                return self._evaluate_ragged(term, values)
            raise

    def _evaluate_ragged(self, term: Term, values: Mapping[Term, Scalar]) -> Scalar | None:
        """The value of a comparison of ragged sizes, which are not subtracted from each other.

        None where it has none, as that with a number above 2.
        """
        inner = term.args[0] if term.op == "not" else term
        if inner.op not in ("eq", "ge"):
            return None
        name, left, right = relation(inner)
        try:
            holds: Any = getattr(operator, name)(evaluate(left, values), evaluate(right, values))
            return bool(holds) is (inner is term)
        except RuntimeError:
            return None

    # -- symbols, the mechanics ----------------------------------------------------------------

    def name_dimension(self, source: str, index: int, dim: Dim) -> None:
        """Give a dimension of an input a name before it is made symbolic.

        Args:
            source: the input's name.
            index: which dimension.
            dim: the name, with bounds if it has any.
        """
        self._dims[(source, index)] = dim

    def _new_symbol(
        self,
        name: str,
        sort: Sort,
        *,
        source: Source | None,
        hint: Scalar | None,
        low: int | None = None,
    ) -> Term:
        term = self.table.symbol(name, sort)
        sympy_name = name
        if hint is not None and name.startswith(_TORCH_PREFIXES) and sort == "int":
            sympy_name = f"s_{name}"
        kinds: dict[str, bool] = {"real": True} if sort == "real" else {"integer": True}
        if low is not None and low >= 0:
            # A symbol that may be 0 is not `positive` for sympy.
            kinds["positive" if low >= 1 else "nonnegative"] = True
        view = sympy.Symbol(sympy_name, **kinds)
        if sympy_name != name:
            self._as_named[view] = sympy.Symbol(name, **kinds)
        term.sympy = view
        self._by_sympy[view] = term
        if hint is not None:
            self._hints[term] = hint
        self._symbols[term] = SymbolRecord(
            term,
            [source] if source else [],
            hint is None,
            current_provenance(self.current_operator),
            low is not None,
        )
        log_symbol(term, source, hint)
        if low is not None:
            self._begin_with(self.table.le(self.table.const(low), term))
        return term

    def _begin_with(self, condition: Term) -> None:
        """Take as a fact what holds of a symbol by the way it came about."""
        self.facts.assume(condition)
        if self.validator is not None and not self.is_backed(condition):
            self.validator.state(condition)

    def symbol_term(self, symbol: sympy.Symbol) -> Term:
        """The term of a sympy symbol of this environment, not replaced.

        Raises:
            SymfxError: it is none of this environment's.
        """
        term = self._by_sympy.get(symbol)
        if term is None:
            raise SymfxError(
                f"{symbol} is no symbol of this ShapeEnv",
                fix="use the symbols that the ShapeEnv made",
            )
        return term

    def is_backed(self, term: Term) -> bool:
        """Whether every symbol of a term has a value at tracing."""
        return all(s in self._hints for s in term.free_symbols)
