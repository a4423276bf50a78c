"""Values of symbols that satisfy conditions, drawn at random.

A draw takes the symbols in a random order. Once a symbol is the only one of a condition that has no
value, the condition says which values it may have: those at which a linear comparison changes its
answer are computed, and others are found by trying. So ``n == 1000*m + 7`` is met as easily as
``n >= m``.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence

from symfx.algebra.terms.interpret import evaluate, substitute
from symfx.algebra.terms.linear import solved_for
from symfx.algebra.terms.term import Term

__all__ = ["drawn_values", "satisfies"]

#: How many values are tried one after the other, from a bound or from where an answer changes.
_SPAN = 2_000
#: How many of the values that were found by trying are kept.
_FOUND = 64
#: How many conditions are evaluated before the search ends, and how many draws may fail in a row.
_EVALUATIONS, _FAILURES = 150_000, 200
#: The distances from a value at which an answer changes.
_NEAR = (0, 1, -1, 2, 3, 5, 11)


def satisfies(conditions: Iterable[Term], values: Mapping[Term, int]) -> bool:
    """Whether values satisfy conditions; a division by zero satisfies none."""
    try:
        return all(evaluate(condition, values) for condition in conditions)
    except ZeroDivisionError:
        return False


def drawn_values(
    conditions: Sequence[Term],
    ranges: Mapping[Term, tuple[int | None, int | None]],
    preferred: Mapping[Term, Sequence[int]],
    rng: random.Random,
) -> Iterator[dict[Term, int]]:
    """Values that satisfy conditions, each once, until no others are met or the search costs much.

    Args:
        conditions: the conditions; those with other symbols than the ranges are left out.
        ranges: the least and the largest value of each symbol; None where there is none.
        preferred: values to try first, by symbol.
        rng: the source of random choices.

    Example:
        >>> from symfx.algebra import Table
        >>> table = Table()
        >>> n, m = table.symbol("n"), table.symbol("m")
        >>> ranges = {n: (2, None), m: (2, None)}
        >>> values = next(drawn_values([n.eq(1000 * m + 7)], ranges, {}, random.Random(0)))
        >>> values[n] == 1000 * values[m] + 7
        True
    """
    return _Draws(conditions, ranges, preferred, rng).draws()


class _Draws:
    """The draws of one search; see `drawn_values`."""

    def __init__(
        self,
        conditions: Sequence[Term],
        ranges: Mapping[Term, tuple[int | None, int | None]],
        preferred: Mapping[Term, Sequence[int]],
        rng: random.Random,
    ) -> None:
        self._parts = [
            part
            for condition in conditions
            for part in _conjuncts(condition)
            if part.free_symbols <= ranges.keys()
        ]
        self._limited = {s for p in self._parts if len(p.free_symbols) == 1 for s in p.free_symbols}
        self._ranges = ranges
        self._preferred = preferred
        self._rng = rng
        self._left = _EVALUATIONS
        self._known: dict[object, list[int]] = {}

    def draws(self) -> Iterator[dict[Term, int]]:
        failures = draw = 0
        seen: set[tuple[int, ...]] = set()
        if not satisfies((p for p in self._parts if not p.free_symbols), {}):
            return
        while self._left > 0 and failures < _FAILURES:
            values = self._draw(wide=draw % 2 == 1)
            draw += 1
            drawn = None if values is None else {s: values[s] for s in self._ranges}
            if drawn is None or (key := tuple(drawn.values())) in seen:
                failures += 1
                continue
            seen.add(key)
            failures = 0
            yield drawn

    def _draw(self, *, wide: bool) -> dict[Term, int] | None:
        """One draw; None if it came to a symbol without a value that fits."""
        values: dict[Term, int] = {}
        order = list(self._ranges)
        self._rng.shuffle(order)
        if self._rng.random() < 0.5:
            # Those that have a condition of their own, since few values may fit it.
            order.sort(key=lambda symbol: symbol not in self._limited)
        for symbol in order:
            now = values.keys() | {symbol}
            about = [p for p in self._parts if symbol in p.free_symbols and p.free_symbols <= now]
            others = {s: values[s] for p in about for s in p.free_symbols if s is not symbol}
            key = (symbol, wide, tuple(about), tuple(others.values()))
            if key not in self._known:
                self._known[key] = self._fitting(symbol, about, others, wide=wide)
            fitting = self._known[key]
            if not fitting:
                return None
            values[symbol] = self._rng.choice(fitting)
        return values

    def _fitting(
        self, symbol: Term, about: Sequence[Term], others: Mapping[Term, int], *, wide: bool
    ) -> list[int]:
        """Values of a symbol that satisfy conditions on it, given the values of the others."""
        low, high = self._ranges[symbol]
        changes = [c for part in about for c in _changes(part, symbol, others)]
        first = [*self._preferred.get(symbol, ()), *(c + step for c in changes for step in _NEAR)]
        found = self._those(first, symbol, about, others)
        if any(part.op == "eq" and [*_changes(part, symbol, others)] for part in about):
            return found  # an equation has one solution
        if found and not (wide and about):
            return found
        # Values in a row satisfy conditions that say nothing of how near they are.
        if low is None:
            low = 0 if high is None else high - _SPAN
        starts = [low, *changes]
        for start in dict.fromkeys(starts):
            if len(found) >= _FOUND:
                break
            span = range(start, start + _SPAN)
            found += self._those(span, symbol, about, others, most=_FOUND)
        return list(dict.fromkeys(found))

    def _those(
        self,
        values: Iterable[int],
        symbol: Term,
        about: Sequence[Term],
        others: Mapping[Term, int],
        most: int | None = None,
    ) -> list[int]:
        """The values among these that are in the range of a symbol and satisfy conditions."""
        low, high = self._ranges[symbol]
        found: list[int] = []
        for value in dict.fromkeys(values):
            if (low is not None and value < low) or (high is not None and value > high):
                continue
            self._left -= len(about) + 1
            if satisfies(about, {**others, symbol: value}):
                found.append(value)
                if len(found) == most:
                    break
            if self._left <= 0:
                break
        return found


def _conjuncts(condition: Term) -> Iterator[Term]:
    """The conditions that together are a condition."""
    if condition.op == "and":
        for part in condition.args:
            yield from _conjuncts(part)
    else:
        yield condition


def _changes(condition: Term, symbol: Term, others: Mapping[Term, int]) -> Iterator[int]:
    """The values of a symbol at which linear comparisons in a condition change their answers."""
    if condition.op in ("and", "or", "not"):
        for part in condition.args:
            yield from _changes(part, symbol, others)
    elif condition.op in ("eq", "ge"):
        table = condition.table
        side = substitute(condition.args[0], {s: table.const(v) for s, v in others.items()})
        solution = solved_for(side, symbol) if isinstance(side, Term) else None
        if solution is not None and solution[1].value is not None:
            yield -int(solution[1].value) // solution[0]
