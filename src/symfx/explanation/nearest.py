"""The inputs nearest to others for which a trace holds: a search over the values of its symbols."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from symfx.algebra import Term, evaluate
from symfx.algebra.reasoning.facts import Facts
from symfx.algebra.reasoning.proofs import example
from symfx.algebra.terms.linear import solved_for
from symfx.tracing.admission import Admission, holds
from symfx.tracing.mismatches import LeafMeasure, differences

__all__ = ["nearest_values"]

#: How far from a size others are tried, one at a time; and how many combinations of several.
_FAR, _COMBINATIONS = 4_096, 40_000
#: How many symbols are changed at once, before all that a condition connects are.
_AT_ONCE = 3


def nearest_values(admission: Admission, leaves: Sequence[Any]) -> dict[Term, int]:
    """Values of the symbols that a trace admits, nearest to those of inputs.

    The fewest numbers of the inputs change, and of such values those count that change them least.
    The search tries one symbol, then two, then three; where none of these is enough, a prover looks
    for any values that fit, and the example's are the last resort.

    Args:
        admission: the conditions of the trace.
        leaves: flat inputs, which may have other types than the trace needs.
    """
    return _Search(admission, leaves).best()


class _Search:
    """Looks for admitted values of symbols near to given inputs."""

    def __init__(self, admission: Admission, leaves: Sequence[Any]) -> None:
        self.admission = admission
        env = admission.env
        alike = {
            leaf: value
            for leaf, entry, value in zip(
                admission.layout.leaves, admission.entries, leaves, strict=True
            )
            if all(m.kind in ("dtype", "device") for m in differences(leaf, entry, value))
        }
        #: What each number of the inputs is, where an input has such a number.
        self.actual: dict[LeafMeasure, int] = {}
        items = admission.items_of(alike)
        for number, term in admission.facts.items():
            if number.leaf not in alike or number.measure.kind not in ("size", "value", "item"):
                continue
            if number.measure.kind == "item":
                if term in items:
                    self.actual[number] = items[term]
            else:
                self.actual[number] = number.of(alike[number.leaf])
        self.info = {info.term: info for info in env.symbol_table()}
        at_inputs = {s for n, t in admission.facts.items() for s in t.free_symbols}
        self.symbols = [
            symbol
            for symbol in self.info
            if symbol in at_inputs and (symbol in env.symbols.hints or symbol in admission.items)
        ]
        self.example = admission.values_of([leaf.example for leaf in admission.layout.leaves])
        self.conditions = [term for term, _ in admission.conditions]

    def best(self) -> dict[Term, int]:
        """The nearest values that are admitted."""
        values = {s: self._nearest_of(s) for s in self.symbols}
        # Groups of symbols that no condition and no size connects are searched one by one.
        for group in self._groups():
            broken = [c for c in self.conditions if not self._holds(c, values)]
            if any(condition.free_symbols & group for condition in broken):
                values |= self._best_of([s for s in self.symbols if s in group], values)
        return values if self._admits(values) else self._any(values)

    def _best_of(self, group: Sequence[Term], start: dict[Term, int]) -> dict[Term, int]:
        """The nearest values of a group of symbols that are admitted; none if none are found."""
        for count in range(1, min(_AT_ONCE, len(group)) + 1):
            found = list(self._changed(start, group, count))
            if found:
                return min(found, key=self._cost)
        return {}

    # -- where the search begins ----------------------------------------------------------------

    def _nearest_of(self, symbol: Term) -> int:
        """The value of a symbol for which the fewest numbers of the inputs change, and least."""
        proposed = []
        for number, term in self.admission.facts.items():
            if number not in self.actual or symbol not in term.free_symbols:
                continue
            if term is symbol:
                proposed.append(self.actual[number])
                continue
            solution = solved_for(term, symbol)
            if solution is not None and solution[1].op == "const":
                factor, rest = solution[0], int(solution[1].value or 0)
                quotient = (self.actual[number] - rest) / factor
                proposed += [int(quotient // 1), int(-(-quotient // 1))]
        proposed = proposed or [self._hint(symbol)]
        proposed = [self._inside(symbol, value) for value in dict.fromkeys(proposed)]
        return min(proposed, key=lambda value: self._cost({symbol: value}))

    def _hint(self, symbol: Term) -> int:
        value = self.example.get(symbol, self.info[symbol].hint)
        return int(value) if value is not None else 0

    def _inside(self, symbol: Term, value: int) -> int:
        """The value nearest to one that lies in the range of a symbol."""
        low, high = self.info[symbol].lower, self.info[symbol].upper
        value = value if low is None else max(value, low)
        return value if high is None else min(value, high)

    def _cost(self, values: Mapping[Term, int]) -> tuple[int, int]:
        """How many numbers of the inputs change, and by how much together."""
        changed = distance = 0
        for number, actual in self.actual.items():
            term = self.admission.facts[number]
            if term.free_symbols and term.free_symbols <= values.keys():
                difference = abs(int(evaluate(term, values)) - actual)
                changed += difference > 0
                distance += difference
        return changed, distance

    # -- the search -----------------------------------------------------------------------------

    def _admits(self, values: Mapping[Term, int]) -> bool:
        for symbol, value in values.items():
            if self._inside(symbol, value) != value:
                return False
        return all(self._holds(condition, values) for condition in self.conditions)

    def _groups(self) -> list[set[Term]]:
        """The symbols, those together that a condition or a number of the inputs connects."""
        sizes = [self.admission.facts[number] for number in self.actual]
        terms = [*self.conditions, *sizes]
        groups: list[set[Term]] = []
        for symbols in [{s} for s in self.symbols] + [set(t.free_symbols) for t in terms]:
            near = [group for group in groups if group & symbols]
            groups = [group for group in groups if not group & symbols]
            groups.append(symbols.union(*near))
        return groups

    def _changed(
        self, start: dict[Term, int], changing: Sequence[Term], count: int
    ) -> Iterator[dict[Term, int]]:
        """Admitted values that differ from the first ones in so many symbols."""
        near = [c for c in self.conditions if c.free_symbols.intersection(changing)]
        broken = [c for c in near if not self._holds(c, start)]
        for chosen in itertools.combinations(changing, count):
            if not all(c.free_symbols.intersection(chosen) for c in broken):
                continue  # some condition would stay broken
            concerned = [c for c in near if c.free_symbols.intersection(chosen)]
            most = _FAR if count == 1 else int(_COMBINATIONS ** (1 / count)) // 2
            choices = [list(self._near(symbol, start[symbol], most)) for symbol in chosen]
            for values in itertools.product(*choices):
                tried = {**start, **dict(zip(chosen, values, strict=True))}
                if all(self._holds(c, tried) for c in concerned):
                    yield tried
                    if count == 1:
                        break  # the values of one symbol come with growing distance

    def _holds(self, condition: Term, values: Mapping[Term, int]) -> bool:
        """Whether a condition holds, or has a symbol whose value only data give."""
        return not condition.free_symbols <= values.keys() or holds(condition, values)

    def _near(self, symbol: Term, start: int, most: int) -> Iterator[int]:
        """Other values of a symbol, the nearest first, and last those that conditions name."""
        tried = {start}
        far = [self._hint(symbol), self.info[symbol].lower, self.info[symbol].upper]
        for condition in self.conditions:
            if symbol in condition.free_symbols and condition.op in ("eq", "ge"):
                const = abs(condition.args[0].const)
                far += [const - 1, const, const + 1]
        near = (start + sign * step for step in range(1, most) for sign in (1, -1))
        rest = sorted({v for v in far if v is not None}, key=lambda v: abs(v - start))
        for value in itertools.chain(near, rest):
            if value not in tried and self._inside(symbol, value) == value:
                tried.add(value)
                yield value

    def _any(self, start: Mapping[Term, int]) -> dict[Term, int]:
        """Values that are admitted, wherever they lie."""
        env = self.admission.env
        facts = Facts(env.table)
        for condition in self.conditions:
            facts.assume(condition)
        for symbol, info in self.info.items():
            for bound, is_low in ((info.lower, True), (info.upper, False)):
                if bound is not None and abs(bound) < 1 << 62 and symbol in start:
                    const = env.table.const(bound)
                    ordered = (const, symbol) if is_low else (symbol, const)
                    facts.assume(env.table.le(*ordered))
        for symbol in start:
            found = example(facts, env.table.eq(symbol, env.table.const(start[symbol])), start)
            if found is not None:
                values = {**self._examples(), **{s: v for s, v in found.items() if s in start}}
                if self._admits(values):
                    return values
        return self._examples()

    def _examples(self) -> dict[Term, int]:
        """The values of the example, for which the trace holds."""
        return {symbol: self._hint(symbol) for symbol in self.symbols}
