"""The state of a ShapeEnv under the names by which torch's tools read it."""

from __future__ import annotations

from collections import Counter
from typing import Any

import sympy
from torch.utils._sympy.numbers import int_oo
from torch.utils._sympy.value_ranges import ValueRanges

from symfx.algebra import Term
from symfx.algebra.languages.sympy import to_sympy
from symfx.errors import SymfxError
from symfx.symbolic_shapes.environment.inputs import Inputs
from symfx.symbolic_shapes.environment.ledger import plain
from symfx.symbolic_shapes.explain.provenance import Provenance
from symfx.symbolic_shapes.records import RuntimeAssert, SpecializationRecord, ValueRangesSLoc
from symfx.symbolic_shapes.settings import ShapeEnvSettings
from symfx.symbolic_shapes.torch_api.views import ViewDict, ViewList

__all__ = ["StateViews", "as_value_ranges"]


class StateViews(Inputs):
    """Views of what is known, each made when it is read; see `ShapeEnv`.

    They are dicts; what is written into one is told to the environment, see `ViewDict`.
    """

    def __init__(self, settings: ShapeEnvSettings) -> None:
        super().__init__(settings)
        self._stacks: dict[sympy.Symbol, Any] = {}

    @property
    def backed_var_to_val(self) -> dict[sympy.Symbol, Any]:
        """The values at tracing, by symbol; a new symbol may be given one."""

        def write(symbol: sympy.Symbol, value: Any) -> Any:
            term = self._by_sympy.get(symbol)
            if term is None or self._hints.get(term) != value:
                self.add_backed_var_to_val(symbol, plain(value))
            return _as_sympy(value)

        known = {to_sympy(t): _as_sympy(v) for t, v in self._hints.items()}
        return ViewDict("backed_var_to_val", known, write)

    @property
    def var_to_val(self) -> dict[sympy.Symbol, Any]:
        """`backed_var_to_val`, under its former name."""
        return self.backed_var_to_val

    @property
    def var_to_range(self) -> dict[sympy.Symbol, Any]:
        """The bounds of each symbol, as torch's value ranges; narrower ones may be written."""

        def write(symbol: sympy.Symbol, bounds: Any) -> Any:
            self.constrain_symbol_range(symbol, bounds.lower, bounds.upper)
            return self._range_of(self.symbol_term(symbol))

        known = {to_sympy(term): self._range_of(term) for term in self._symbols}
        return ViewDict("var_to_range", known, write)

    def _range_of(self, term: Term) -> Any:
        if term.sort != "int":
            return ValueRanges(-sympy.oo, sympy.oo)
        return as_value_ranges(*self.prover.range(term))

    @property
    def var_to_range_sloc(self) -> dict[sympy.Symbol, ValueRangesSLoc]:
        """What caused the bounds of each symbol."""
        origins: dict[sympy.Symbol, ValueRangesSLoc] = {}
        for term, record in self._symbols.items():
            sides = self.bound_origins.get(term, {})
            origins[to_sympy(term)] = ValueRangesSLoc(
                sides.get("lower", record.provenance), sides.get("upper", record.provenance)
            )
        return ViewDict("var_to_range_sloc", origins)

    @property
    def var_to_sources(self) -> dict[sympy.Symbol, list[Any]]:
        """The inputs' sizes, strides and numbers that each symbol stands for; there may be more."""

        def write(symbol: sympy.Symbol, sources: list[Any]) -> list[Any]:
            record = self._symbols[self.symbol_term(symbol)]
            record.sources = list(sources)
            return record.sources

        known = {
            to_sympy(term): record.sources
            for term, record in self._symbols.items()
            if record.sources and not record.unbacked
        }
        return ViewDict("var_to_sources", known, write)

    @property
    def var_to_stack(self) -> dict[sympy.Symbol, Any]:
        """Where each unbacked symbol was made, or what torch noted of it."""

        def write(symbol: sympy.Symbol, stack: Any) -> Any:
            self._stacks[symbol] = stack
            return stack

        known: dict[sympy.Symbol, Any] = {
            to_sympy(term): record.provenance
            for term, record in self._symbols.items()
            if record.unbacked
        }
        return ViewDict("var_to_stack", known | self._stacks, write)

    @property
    def replacements(self) -> dict[sympy.Symbol, sympy.Basic]:
        """What each replaced symbol equals; a symbol may be replaced."""

        def write(symbol: sympy.Symbol, by: Any) -> Any:
            self.read_registering(symbol)
            self._set_replacement(symbol, sympy.sympify(by), "written into replacements")
            return self._find(symbol)

        known = {to_sympy(s): to_sympy(t) for s, t in self.facts.replacements.items()}
        return ViewDict("replacements", known, write)

    @property
    def replacements_slocs(self) -> dict[sympy.Symbol, Provenance]:
        """What caused each replacement."""
        return {to_sympy(s): origin for s, origin in self.replacement_origins.items()}

    @property
    def divisible(self) -> set[sympy.Basic]:
        """The remainders of symbols that are known to be zero."""
        from torch.utils._sympy.functions import Mod

        return {
            Mod(to_sympy(atom), m, evaluate=False)
            for atom, (m, r) in self.facts.congruences.items()
            if r == 0 and m > 1
        }

    @property
    def deferred_runtime_asserts(self) -> dict[sympy.Symbol | None, list[RuntimeAssert]]:
        """`deferred_asserts` by the newest unbacked symbol of each; None where it has none."""
        by_symbol: dict[sympy.Symbol | None, list[RuntimeAssert]] = {}
        for record in self._asserts:
            unbacked = [s for s in record.term.free_symbols if s not in self._hints]
            newest = max(unbacked, key=lambda s: s.uid, default=None)
            key = None if newest is None else to_sympy(newest)
            by_symbol.setdefault(key, []).append(record)

        def add(record: Any) -> Any:
            known = len(self._asserts)
            if not self.expect(self._read_asked(record.expr), record.msg):
                raise SymfxError(
                    f"{record.expr} cannot hold, so it cannot be asserted",
                    fix="look at ShapeEnv.proof of it",
                )
            return self._asserts[-1] if len(self._asserts) > known else record

        def write(key: sympy.Symbol | None, records: list[Any]) -> list[Any]:
            view = ViewList((), add)
            view.extend(records)
            return view

        known = {key: ViewList(records, add) for key, records in by_symbol.items()}
        return ViewDict("deferred_runtime_asserts", known, write)

    @property
    def num_deferred_runtime_asserts(self) -> int:
        """How many assertions the running program has to check; writing it changes nothing."""
        return len(self._asserts)

    @num_deferred_runtime_asserts.setter
    def num_deferred_runtime_asserts(self, value: int) -> None:
        pass

    @property
    def unbacked_alloc_order(self) -> dict[sympy.Symbol, int]:
        """The unbacked symbols in the order in which they were made."""
        unbacked = [to_sympy(t) for t, record in self._symbols.items() if record.unbacked]
        return {symbol: i for i, symbol in enumerate(unbacked)}

    @property
    def symbol_guard_counter(self) -> Counter[sympy.Symbol]:
        """In how many guards each symbol of the inputs occurs."""
        count = Counter({to_sympy(t): 0 for t, r in self._symbols.items() if not r.unbacked})
        for guard in self.guards:
            count.update(to_sympy(s) for s in guard.term.free_symbols)
        return count

    @property
    def specializations(self) -> Any:
        """The cases of sizes for which `specialize_on` asked, as an ordered set."""
        from torch.utils._ordered_set import OrderedSet

        return OrderedSet(self.specializations_asked)

    def specialization_records(self) -> list[SpecializationRecord]:
        """The symbols that tracing pinned to one value, and why."""
        return list(self._specializations)

    @property
    def specialization_stacks(self) -> dict[Any, Any]:
        """Where each input's size was pinned to one value."""
        stacks = {}
        for record in self._specializations:
            term = self.table.symbols[record.symbol_name]
            for source in self._symbols[term].sources:
                stacks[source] = record.provenance.summary()
        return stacks

    @property
    def _replacements_version_counter(self) -> int:
        return self.epoch


def _as_sympy(value: Any) -> Any:
    """A value at tracing as sympy; that of a ragged dimension as torch's singleton."""
    import torch
    from torch.utils._sympy.singleton_int import SingletonInt

    if isinstance(value, torch.SymInt):
        return SingletonInt(value.node.nested_int(), coeff=value.node.nested_int_coeff())
    return sympy.sympify(value)


def as_value_ranges(low: int | None, high: int | None) -> Any:
    """Bounds of an integer as torch's value range."""
    return ValueRanges(
        -int_oo if low is None else sympy.Integer(low),
        int_oo if high is None else sympy.Integer(high),
    )
