"""Facts about symbols that are learned when a guard first needs them.

The layout of a tensor whose dimension has one element is open: an input at another size, or a
kernel, may choose other strides. A number of such a layout gets a symbol of its own, with its value
at tracing. What the symbol equals is learned only if a question depends on it, because the fact
costs inputs: it needs guards, or a comparison of strides.
"""

from __future__ import annotations

from collections.abc import Callable

from symfx.algebra import Scalar, Term
from symfx.symbolic_shapes.environment.knowledge import Knowledge
from symfx.symbolic_shapes.environment.switches import _ignore_fresh_unbacked_symbols_tls_context

__all__ = ["DeferredFacts"]


class DeferredFacts:
    """The facts of one environment that wait for a question.

    Args:
        knowledge: the facts and symbols.
    """

    def __init__(self, knowledge: Knowledge) -> None:
        self._knowledge = knowledge
        self._waiting: dict[Term, Callable[[], None]] = {}
        self._at_end: dict[Term, Callable[[], None]] = {}
        self._hidden: set[Term] = set()

    def add(
        self,
        symbol: Term,
        learn: Callable[[], None],
        at_end: Callable[[], None] | None = None,
        *,
        in_graph: bool = True,
    ) -> None:
        """Let the fact about a symbol wait.

        Args:
            symbol: the symbol.
            learn: learns the fact, with the guards that it needs.
            at_end: called at the end of the trace, if no question needed the fact.
            in_graph: whether a node of the graph may compute the symbol.
        """
        self._waiting[symbol] = learn
        if at_end is not None:
            self._at_end[symbol] = at_end
        if not in_graph:
            self._hidden.add(symbol)

    def new_number(self, value: Scalar) -> Term:
        """A symbol for a number with a value at tracing and, so far, no equal term."""
        with _ignore_fresh_unbacked_symbols_tls_context():
            symbol = self._knowledge.symbols.new_unbacked("int")
        self._knowledge.begin_at(0, symbol)
        self._knowledge.set_hint(symbol, value)
        return symbol

    def equate(self, symbol: Term, by: Term) -> None:
        """Learn that a symbol of `new_number` equals a term."""
        self._waiting.pop(symbol, None)
        self._knowledge.set_hint(symbol, None)
        self._knowledge.equate(symbol, self._knowledge.facts.resolve(by))

    def waits(self, term: Term) -> bool:
        """Whether the fact about a symbol of a term waits."""
        return bool(self._waiting) and any(s in self._waiting for s in term.free_symbols)

    def learn_about(self, term: Term) -> bool:
        """Learn the facts about the symbols of a term; whether any waited."""
        return bool(self._waiting) and self._learn(
            [symbol for symbol in term.free_symbols if symbol in self._waiting]
        )

    def computable(self, term: Term) -> Term:
        """A term without symbols that no node computes, after the facts about them are learned."""
        hidden = [s for s in term.free_symbols if s in self._hidden and s in self._waiting]
        return self._knowledge.facts.resolve(term) if self._learn(hidden) else term

    def _learn(self, symbols: list[Term]) -> bool:
        for symbol in symbols:
            # One fact may need guards that need another one.
            learn = self._waiting.pop(symbol, None)
            if learn is not None:
                learn()
        return bool(symbols)

    def end(self) -> None:
        """Note that the trace has ended: what waits now is not learned any more."""
        for symbol in list(self._waiting):
            if symbol in self._at_end and symbol in self._waiting:
                self._at_end[symbol]()
        self._waiting.clear()
        self._at_end.clear()
        self._hidden.clear()
