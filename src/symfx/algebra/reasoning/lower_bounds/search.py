"""The search for the best lower bound of an integer term.

Each way of the search gives a true bound, so the best of them is one. A search that is cut short
is weaker, never wrong.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from symfx.algebra.reasoning.condition_forms import CHOICES, DIVISIONS
from symfx.algebra.reasoning.intervals import at_least, better
from symfx.algebra.reasoning.limits import DEPTH, FUEL, LONG, LOOKED
from symfx.algebra.reasoning.lower_bounds import known_sums, operations, products
from symfx.algebra.terms.term import Term

if TYPE_CHECKING:
    from symfx.algebra.reasoning.effort import Effort
    from symfx.algebra.reasoning.facts import Facts
    from symfx.algebra.reasoning.term_intervals import TermIntervals

__all__ = ["LowerBounds"]

_Way: TypeAlias = "Callable[[LowerBounds, Term, int, float], int | None]"
"""A way to bound a sum without constant, given the depth left and the bound that is enough."""


class LowerBounds:
    """Lower bounds of integer terms: by intervals, orders, the meaning of operations, and facts.

    Args:
        facts: the store of facts.
        intervals: the intervals of terms, from the same store.
        effort: the work of the running question, to which each search adds its own.
    """

    def __init__(self, facts: Facts, intervals: TermIntervals, effort: Effort) -> None:
        self.facts = facts
        self.table = facts.table
        self.intervals = intervals
        self._effort = effort
        self._interval = intervals.of
        # For a sum without constant, the best bound found, with the stamp of the facts that it
        # rests on and the depth of the search.
        self._found: dict[Term, tuple[int, int, int | None]] = {}
        self._fuel = 0
        # Whether the running search has less fuel than others, as its question is near its limit.
        self._scant = False

    def search(self, p: Term, enough: float = math.inf) -> int | None:
        """The best k found with p >= k, or None: a new search, which may stop at `enough`."""
        effort = self._effort
        fuel = LOOKED - effort.looked
        if fuel >= FUEL:
            fuel = FUEL
            self._scant = False
        else:
            fuel = max(1, fuel)
            self._scant = True
        self._fuel = fuel
        found = self.least(p, DEPTH, enough)
        effort.looked += fuel - self._fuel
        return found

    def least(self, p: Term, depth: int, enough: float = math.inf) -> int | None:
        """The best k found with p >= k, or None: a step of the running search."""
        if p.op == "const":
            return p.const
        best = self._interval(p)[0]
        if best is not None and best >= enough:
            return best
        coeffs = p.coeffs
        if len(coeffs) > LONG:
            assumed = self.facts.lower.get(p.base)
            return best if assumed is None else better(best, assumed + p.const)
        facts = self.facts
        if len(coeffs) == 1:
            (only,) = coeffs
            if only.op == "symbol" and only not in facts.touching:
                return best
        base, const = p.base, p.const
        goal = enough - const
        stamp = facts.stamp(base)
        cached = self._found.get(base)
        if cached is not None and cached[0] == stamp:
            _, searched, found = cached
            if depth <= searched or (found is not None and found >= goal):
                return None if found is None else found + const
        if self._fuel <= 0:
            return best
        self._fuel -= 1
        # Terms that lead back to themselves find the weaker bound here, and end.
        known = None if best is None else best - const
        self._found[base] = (stamp, depth, known)
        found = self._try_all(base, depth, known, goal)
        # A search that stopped early says nothing about the bounds that more depth would find.
        cut_short = (found is not None and found >= goal) or (self._scant and self._fuel <= 0)
        self._found[base] = (stamp, -1 if cut_short else depth, found)
        return None if found is None else found + const

    def is_nonnegative(self, x: Term, depth: int) -> bool:
        """Whether the running search finds x >= 0."""
        return at_least(self.least(x, depth, 0), 0)

    def _try_all(self, p: Term, depth: int, best: int | None, goal: float) -> int | None:
        """`least` of a sum without constant that has no cached bound."""
        best = better(best, self.facts.lower.get(p))
        best = better(best, known_sums.by_orders(self, p))
        if depth > 0:
            for way in self._ways(p):
                if best is not None and best >= goal:
                    return best
                best = better(best, way(self, p, depth - 1, goal))
            if best is not None:
                m, r = self.intervals.congruence(p)
                if m > 1:
                    best += (r - best) % m
            while best is not None and best in self.facts.excluded.get(p, ()):
                best += 1
            if best == 0 and p.op == "product" and all(map(self._cannot_be_zero, p.factors)):
                best = 1
        return best

    def _ways(self, p: Term) -> list[_Way]:
        """The ways to bound a sum of such monomials, the cheapest first."""
        ways: list[_Way] = []
        kinds = {m.op for m in p.coeffs}
        if kinds & DIVISIONS:
            ways.append(operations.by_divisions)
        if kinds & CHOICES:
            ways.append(operations.by_choices)
        if "product" in kinds:
            ways.append(products.by_squares)
            # A product of very many factors has a smaller one for each of them.
            if all(m.op != "product" or len(m.args) <= LONG for m in p.coeffs):
                ways += products.by_known_product, products.by_quotients
                ways += products.by_factors, products.by_completing_a_square
        if "pow" in kinds:
            ways.append(operations.by_powers)
        ways.append(known_sums.by_known_sums)
        return ways

    def _cannot_be_zero(self, atom: Term) -> bool:
        low, high = self.intervals.of_atom(atom)
        nonzero = (low is not None and low > 0) or (high is not None and high < 0)
        return nonzero or 0 in self.facts.excluded.get(atom, ())
