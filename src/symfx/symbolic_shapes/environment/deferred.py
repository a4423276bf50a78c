"""Facts about symbols that are learned when a guard first needs them.

The layout of a tensor whose dimension has one element is open: an input at another size, or a
kernel, may choose other strides. A number of such a layout gets a symbol of its own, with its value
at tracing. What the symbol equals is learned only if a question depends on it, because the fact
costs inputs: it needs guards, or a comparison of strides.
"""

from __future__ import annotations

from collections.abc import Callable

from symfx.algebra import Term

__all__ = ["DeferredFacts"]


class DeferredFacts:
    """The facts of one environment that wait for a question."""

    def __init__(self) -> None:
        self._waiting: dict[Term, Callable[[], None]] = {}
        self._at_end: dict[Term, Callable[[], None]] = {}

    def add(
        self, symbol: Term, learn: Callable[[], None], at_end: Callable[[], None] | None = None
    ) -> None:
        """Let the fact about a symbol wait.

        Args:
            symbol: the symbol.
            learn: learns the fact, with the guards that it needs.
            at_end: called at the end of the trace, if no question needed the fact.
        """
        self._waiting[symbol] = learn
        if at_end is not None:
            self._at_end[symbol] = at_end

    def learn_about(self, term: Term) -> bool:
        """Learn the facts about the symbols of a term; whether any waited."""
        if not self._waiting:
            return False
        needed = [symbol for symbol in term.free_symbols if symbol in self._waiting]
        for symbol in needed:
            # One fact may need guards that need another one.
            learn = self._waiting.pop(symbol, None)
            if learn is not None:
                learn()
        return bool(needed)

    def end(self) -> None:
        """Note that the trace has ended: what waits now is not learned any more."""
        for symbol in self._waiting:
            if symbol in self._at_end:
                self._at_end[symbol]()
        self._waiting.clear()
        self._at_end.clear()
