"""The symbols of a trace: their names, sources, values at tracing, and sympy symbols."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sympy
from torch.utils._sympy.symbol import SymT, symbol_is_type

from symfx.algebra import Scalar, Sort, Table, Term
from symfx.algebra.languages.sympy import SympyReader, to_sympy
from symfx.errors import SymfxError
from symfx.symbolic_shapes.dims import Dim, DimExpression
from symfx.symbolic_shapes.environment.switches import ignoring_fresh_symbols
from symfx.symbolic_shapes.explain.logs import log_symbol
from symfx.symbolic_shapes.explain.provenance import Provenance

if TYPE_CHECKING:
    from torch._guards import Source

__all__ = ["SymbolRecord", "Symbols", "as_python_number"]

# torch tells the kind of a sympy symbol by its name: a size is "s" and a number, or begins with
# "s_". A user's name gets this prefix in sympy, because Inductor refuses symbols of other names.
_OWN_NAME = re.compile(r"s\d+")


@dataclass
class SymbolRecord:
    """The record of one symbol.

    Attributes:
        term: the symbol.
        sources: the inputs that the symbol stands for; sources that outlast the trace come first.
        unbacked: whether only the running program knows the value.
        provenance: the line that made the symbol.
        is_size: whether the symbol was made for a size or stride, which is never negative.
    """

    term: Term
    sources: list[Source]
    unbacked: bool
    provenance: Provenance
    is_size: bool = False


class Symbols:
    """The symbols of one environment.

    Args:
        table: the terms.
        here: returns the current provenance: the user's line and the operator that run now.

    Attributes:
        table: the terms.
        records: the record of each symbol, in the order in which the symbols were made.
        by_name: the symbol of each name.
        by_sympy: the symbol of each sympy symbol.
        reader: reads sympy expressions of these symbols as terms.
        shown_as: the sympy symbol to print instead of one that was renamed for torch.
        hints: the value at tracing of each backed symbol.
        real_tensor_prop_unbacked_vals: values of unbacked symbols in a run on real tensors.
        stacks: the stacks that torch noted for unbacked symbols.
        dims: the names that users gave to dimensions, by input and index.
        unbacked_inputs: the unbacked symbols that stand for inputs rather than for data.
        pending_fresh_unbacked_symbols: unbacked symbols that no operator's output has shown yet.
        ignorable_fresh_unbacked_symbols: pending symbols that no output has to show.
        unique_ids: the numbers in the names of symbols.
        unbacked_symint_counter: how many unbacked integers and booleans were made.
        unbacked_symfloat_counter: how many unbacked floats were made.
        counter: how many symbols of each kind were made.
    """

    def __init__(self, table: Table, here: Callable[[], Provenance]) -> None:
        self.table = table
        self._here = here
        self.records: dict[Term, SymbolRecord] = {}
        self.by_name: dict[str, Term] = {}
        self.by_sympy: dict[sympy.Symbol, Term] = {}
        self.reader = SympyReader(table, self.by_sympy)
        self.shown_as: dict[sympy.Symbol, sympy.Symbol] = {}
        self.hints: dict[Term, Scalar] = {}
        self.real_tensor_prop_unbacked_vals: dict[sympy.Symbol, sympy.Basic] = {}
        self.stacks: dict[sympy.Symbol, Any] = {}
        self.dims: dict[tuple[str, int], Dim | DimExpression] = {}
        self.unbacked_inputs: dict[sympy.Symbol, None] = {}
        self.pending_fresh_unbacked_symbols: list[sympy.Symbol] = []
        self.unique_ids: set[int] = set()
        self.ignorable_fresh_unbacked_symbols: list[sympy.Symbol] = []
        self._sympy_names: set[str] = set()
        self.unbacked_symint_counter = 0
        self.unbacked_symfloat_counter = 0
        self.counter: Counter[str] = Counter()

    # -- making symbols -------------------------------------------------------------------------

    def new(
        self,
        name: str,
        sort: Sort,
        *,
        source: Source | None = None,
        hint: Scalar | None = None,
        low: int | None = None,
    ) -> Term:
        """Make a symbol.

        Args:
            name: its name, which no other symbol has.
            sort: its sort.
            source: the input that it stands for.
            hint: its value at tracing; None makes it unbacked.
            low: the least value of a size or stride. The caller states the bound as a fact.
        """
        term = self.table.symbol(name, sort)
        sympy_name = name
        if hint is not None and sort == "int" and not _OWN_NAME.fullmatch(name):
            sympy_name = f"s_{name}"
        while sympy_name in self._sympy_names:  # another symbol is called s_x in truth
            sympy_name += "_"
        self._sympy_names.add(sympy_name)
        kinds: dict[str, bool] = {}
        if low is not None and low >= 0:
            # A symbol that may be 0 is not `positive` for sympy.
            kinds["positive" if low >= 1 else "nonnegative"] = True
        kinds["real" if sort == "real" else "integer"] = True  # torch.export saves this order
        view = sympy.Symbol(sympy_name, **kinds)
        if sympy_name != name:
            self.shown_as[view] = sympy.Symbol(name, **kinds)
        self._register(term, view, [source] if source else [], hint, is_size=low is not None)
        log_symbol(term, source, hint, low, self.records[term].provenance)
        return term

    def new_unbacked(self, sort: Sort, source: Source | None = None) -> Term:
        """Make an unbacked symbol, an integer or a real.

        An operator's output has to show it, unless `ignoring_fresh_symbols` says otherwise.
        """
        while True:
            if sort == "int":
                name = f"u{self.unbacked_symint_counter}"
                self.unbacked_symint_counter += 1
            else:
                name = f"zuf{self.unbacked_symfloat_counter}"
                self.unbacked_symfloat_counter += 1
            if name not in self.by_name:  # a user's dimension may be called u0
                break
        term = self.new(name, sort, source=source)
        self.counter["create_unbacked_symbol"] += 1
        if not ignoring_fresh_symbols():
            self.pending_fresh_unbacked_symbols.append(to_sympy(term))
        return term

    def adopt(self, symbol: sympy.Symbol, hint: Scalar | None = None) -> Term:
        """Make a symbol for a sympy symbol that came from outside, of the sort that it claims.

        Raises:
            SymfxError: another symbol has the name.
        """
        sort: Sort = "int" if symbol.is_integer else "real" if symbol.is_real else "int"
        if symbol.name in self.by_name:
            raise SymfxError(
                f"{symbol.name} is a symbol of this ShapeEnv already, with other assumptions",
                fix="use the sympy symbol that the ShapeEnv made",
            )
        term = self.table.symbol(symbol.name, sort)
        self._register(term, symbol, [], hint, is_size=bool(symbol.is_positive))
        return term

    def _register(
        self,
        term: Term,
        view: sympy.Symbol,
        sources: list[Source],
        hint: Scalar | None,
        *,
        is_size: bool,
    ) -> None:
        term.sympy = view
        self.by_sympy[view] = term
        self.by_name[term.name] = term
        if hint is not None:
            self.hints[term] = hint
        self.records[term] = SymbolRecord(term, sources, hint is None, self._here(), is_size)

    def free_name(self, prefix: str, source_name: str) -> str:
        """Return a name for the symbol of an input that no symbol has.

        The number in it comes from the name of the input, so that the symbol of an input has
        the same name in every trace.
        """
        number = int(hashlib.sha256(source_name.encode()).hexdigest(), 16) % 100
        while True:
            while number in self.unique_ids:
                number += 1
            self.unique_ids.add(number)
            name = f"{prefix}{number}"
            if name not in self.by_name:  # a user's dimension may be called s5
                return name

    def add_source(self, symbol: Term, source: Source) -> None:
        """Note another input that a symbol stands for."""
        sources = self.records[symbol].sources
        sources.append(source)
        if sources[0].is_ephemeral() and not source.is_ephemeral():
            sources[0], sources[-1] = sources[-1], sources[0]

    # -- asking ---------------------------------------------------------------------------------

    def term_of(self, symbol: sympy.Symbol) -> Term:
        """The term of a sympy symbol of this environment, without replacements.

        Raises:
            SymfxError: this environment did not make the symbol.
        """
        term = self.by_sympy.get(symbol)
        if term is None:
            raise SymfxError(
                f"{symbol} is no symbol of this ShapeEnv",
                fix="use the symbols that the ShapeEnv made",
            )
        return term

    def is_backed(self, term: Term) -> bool:
        """Whether every symbol of a term has a value at tracing."""
        return term.free_symbols <= self.hints.keys()

    def is_ephemeral(self, symbol: Term) -> bool:
        """Whether a symbol stands for inputs only, and none of them outlasts the trace."""
        record = self.records.get(symbol)
        sources = record.sources if record is not None else []
        return bool(sources) and all(source.is_ephemeral() for source in sources)

    def is_unbacked_input(self, symbol: Term) -> bool:
        """Whether a symbol is an unbacked one that stands for an input."""
        return to_sympy(symbol) in self.unbacked_inputs

    def is_of_data(self, symbol: Term) -> bool:
        """Whether an operator made a symbol from data, rather than an input."""
        return symbol not in self.hints and not self.is_unbacked_input(symbol)

    def is_unbacked_symint(self, symbol: sympy.Symbol) -> bool:
        """Whether a sympy symbol is an unbacked integer."""
        term = self.by_sympy.get(symbol)
        if term is None:
            return symbol_is_type(symbol, SymT.UNBACKED_INT)  # another environment's
        return term.sort == "int" and self.records[term].unbacked

    def source_name(self, symbol: sympy.Symbol) -> str | None:
        """The name of the input that a sympy symbol stands for; None for a symbol of no input."""
        term = self.by_sympy.get(symbol)
        sources = [] if term is None else self.records[term].sources
        return sources[0].name if sources else None

    def origin_of(self, symbol: Term) -> str:
        """The line or the operator that made a symbol, in words."""
        record = self.records.get(symbol)
        if record is None:
            return "by a rewrite"
        provenance = record.provenance
        return f"by {provenance}" if provenance.operator else str(provenance)


def as_python_number(value: Any) -> Scalar:
    """Return a number that may be sympy's as Python's."""
    if not isinstance(value, sympy.Basic):
        number: Scalar = value
        return number
    if value in (sympy.true, sympy.false):
        return bool(value)
    return int(value) if value.is_Integer else float(value)
