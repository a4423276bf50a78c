"""The state of a ShapeEnv under the names by which torch's tools read it.

Each function is an attribute of `ShapeEnv`, computed when it is read. An entry that is written
into one of the dicts is told to the environment; see `ViewDict`.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import sympy
from torch.utils._ordered_set import OrderedSet
from torch.utils._sympy.functions import Mod
from torch.utils._sympy.numbers import int_oo
from torch.utils._sympy.singleton_int import SingletonInt
from torch.utils._sympy.value_ranges import ValueRanges

from symfx.algebra import Term
from symfx.algebra.languages.sympy import to_sympy
from symfx.errors import SymfxError
from symfx.symbolic_shapes.environment.inputs import is_nested_int
from symfx.symbolic_shapes.environment.symbols import as_python_number
from symfx.symbolic_shapes.explain.provenance import Provenance
from symfx.symbolic_shapes.records import RuntimeAssert, ValueRangesSLoc
from symfx.symbolic_shapes.torch_api.numbers import read_question
from symfx.symbolic_shapes.torch_api.views import ViewDict, ViewList

if TYPE_CHECKING:
    from symfx.symbolic_shapes.shape_env import ShapeEnv

__all__ = [
    "as_value_ranges",
    "axioms",
    "backed_var_to_val",
    "deferred_runtime_asserts",
    "divisible",
    "replacements",
    "replacements_slocs",
    "specialization_stacks",
    "specializations",
    "symbol_guard_counter",
    "unbacked_alloc_order",
    "var_to_range",
    "var_to_range_sloc",
    "var_to_sources",
    "var_to_stack",
]


def backed_var_to_val(env: ShapeEnv) -> dict[sympy.Symbol, Any]:
    """The value at tracing of each backed symbol; a new symbol may be given one."""
    hints = env.symbols.hints

    def write(symbol: sympy.Symbol, value: Any) -> Any:
        term = env.symbols.by_sympy.get(symbol)
        if term is None or hints.get(term) != value:
            env.add_backed_var_to_val(symbol, as_python_number(value))
        return _as_sympy(value)

    known = {to_sympy(t): _as_sympy(v) for t, v in hints.items()}
    return ViewDict("backed_var_to_val", known, write)


def var_to_range(env: ShapeEnv) -> dict[sympy.Symbol, Any]:
    """The bounds of each symbol, as torch's value ranges; narrower ones may be written."""

    def write(symbol: sympy.Symbol, bounds: Any) -> Any:
        env.constrain_symbol_range(symbol, bounds.lower, bounds.upper)
        return _range_of(env, env.symbols.term_of(symbol))

    known = {to_sympy(term): _range_of(env, term) for term in env.symbols.records}
    return ViewDict("var_to_range", known, write)


def _range_of(env: ShapeEnv, term: Term) -> Any:
    if term.sort != "int":
        return ValueRanges(-sympy.oo, sympy.oo)
    return as_value_ranges(*env.prover.range(term))


def var_to_range_sloc(env: ShapeEnv) -> dict[sympy.Symbol, ValueRangesSLoc]:
    """The provenance of the bounds of each symbol."""
    origins: dict[sympy.Symbol, ValueRangesSLoc] = {}
    for term, record in env.symbols.records.items():
        sides = env.knowledge.bound_origins.get(term, {})
        origins[to_sympy(term)] = ValueRangesSLoc(
            sides.get("lower", record.provenance), sides.get("upper", record.provenance)
        )
    return ViewDict("var_to_range_sloc", origins)


def var_to_sources(env: ShapeEnv) -> dict[sympy.Symbol, list[Any]]:
    """The inputs' sizes, strides and numbers that each symbol stands for; more may be written."""

    def write(symbol: sympy.Symbol, sources: list[Any]) -> list[Any]:
        record = env.symbols.records[env.symbols.term_of(symbol)]
        record.sources = list(sources)
        return record.sources

    known = {
        to_sympy(term): record.sources
        for term, record in env.symbols.records.items()
        if record.sources and not record.unbacked
    }
    return ViewDict("var_to_sources", known, write)


def var_to_stack(env: ShapeEnv) -> dict[sympy.Symbol, Any]:
    """The line that made each unbacked symbol, or the stack that torch wrote here."""
    written = env.symbols.stacks

    def write(symbol: sympy.Symbol, stack: Any) -> Any:
        written[symbol] = stack
        return stack

    known: dict[sympy.Symbol, Any] = {
        to_sympy(term): record.provenance
        for term, record in env.symbols.records.items()
        if record.unbacked
    }
    return ViewDict("var_to_stack", known | written, write)


def replacements(env: ShapeEnv) -> dict[sympy.Symbol, sympy.Basic]:
    """The expression that replaces each replaced symbol; a replacement may be written."""

    def write(symbol: sympy.Symbol, by: Any) -> Any:
        env.read_registering(symbol)
        env._set_replacement(symbol, sympy.sympify(by), "written into replacements")
        return env._find(symbol)

    known = {to_sympy(s): to_sympy(t) for s, t in env.facts.replacements.items()}
    return ViewDict("replacements", known, write)


def replacements_slocs(env: ShapeEnv) -> dict[sympy.Symbol, Provenance]:
    """The provenance of each replacement."""
    return {to_sympy(s): origin for s, origin in env.knowledge.replacement_origins.items()}


def divisible(env: ShapeEnv) -> set[sympy.Basic]:
    """The remainders of symbols that are known to be zero."""
    return {
        Mod(to_sympy(atom), m, evaluate=False)
        for atom, (m, r) in env.facts.congruences.items()
        if r == 0 and m > 1
    }


def axioms(env: ShapeEnv) -> dict[sympy.Basic, sympy.Basic]:
    """The conditions that guards and assertions settle by themselves; see `get_implications`."""
    settled: dict[sympy.Basic, sympy.Basic] = {}
    for condition in env.get_axioms():
        settled.update(env.get_implications(env.replace(condition)))
    return settled


def deferred_runtime_asserts(
    env: ShapeEnv,
) -> dict[sympy.Symbol | None, list[RuntimeAssert]]:
    """The runtime assertions, each under its newest unbacked symbol; None where it has none.

    New ones may be written.
    """
    asserts = env.ledger.asserts
    by_symbol: dict[sympy.Symbol | None, list[RuntimeAssert]] = {}
    for record in asserts:
        unbacked = [s for s in record.term.free_symbols if s not in env.symbols.hints]
        newest = max(unbacked, key=lambda s: s.uid, default=None)
        key = None if newest is None else to_sympy(newest)
        by_symbol.setdefault(key, []).append(record)

    def add(record: Any) -> Any:
        known = len(asserts)
        if not env.expect(read_question(env, record.expr), record.msg):
            raise SymfxError(
                f"{record.expr} cannot hold, so it cannot be asserted",
                fix="look at ShapeEnv.proof of it",
            )
        return asserts[-1] if len(asserts) > known else record

    def write(key: sympy.Symbol | None, records: list[Any]) -> list[Any]:
        view = ViewList((), add)
        view.extend(records)
        return view

    known = {key: ViewList(records, add) for key, records in by_symbol.items()}
    return ViewDict("deferred_runtime_asserts", known, write)


def unbacked_alloc_order(env: ShapeEnv) -> dict[sympy.Symbol, int]:
    """The position of each unbacked symbol in the order in which they were made."""
    unbacked = [to_sympy(t) for t, record in env.symbols.records.items() if record.unbacked]
    return {symbol: i for i, symbol in enumerate(unbacked)}


def symbol_guard_counter(env: ShapeEnv) -> Counter[sympy.Symbol]:
    """The number of guards in which each symbol of the inputs occurs."""
    count = Counter({to_sympy(t): 0 for t, r in env.symbols.records.items() if not r.unbacked})
    for guard in env.guards:
        count.update(to_sympy(s) for s in guard.term.free_symbols)
    return count


def specializations(env: ShapeEnv) -> OrderedSet[Any]:
    """The cases of sizes for which `specialize_on` asked."""
    return OrderedSet(env.inputs.specializations_asked)


def specialization_stacks(env: ShapeEnv) -> dict[Any, Any]:
    """The line that pinned each input's size to one value, by source."""
    stacks = {}
    for pinned in env.knowledge.specializations:
        record = env.symbols.records[env.symbols.by_name[pinned.symbol_name]]
        for source in record.sources:
            stacks[source] = pinned.provenance.summary()
    return stacks


def _as_sympy(value: Any) -> Any:
    """A value at tracing as sympy; that of a ragged dimension as torch's singleton."""
    if is_nested_int(value):
        return SingletonInt(value.node.nested_int(), coeff=value.node.nested_int_coeff())
    return sympy.sympify(value)


def as_value_ranges(low: int | None, high: int | None) -> Any:
    """Bounds of an integer as torch's value range; None is no bound."""
    return ValueRanges(
        -int_oo if low is None else sympy.Integer(low),
        int_oo if high is None else sympy.Integer(high),
    )
