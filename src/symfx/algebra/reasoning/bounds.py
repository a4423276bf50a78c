"""The best lower bound of an integer term that a search finds.

Each way of the search gives a true bound, so the best of them is one; a search that is cut short
loses strength, never soundness.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import TypeAlias

from symfx.algebra.reasoning import intervals
from symfx.algebra.reasoning.equalities import LONG
from symfx.algebra.reasoning.facts import Facts, is_order
from symfx.algebra.reasoning.term_intervals import Intervals, all_of, any_of
from symfx.algebra.terms.monomials import multiset_divide, product
from symfx.algebra.terms.table import Term

__all__ = ["Bounds"]

# How deep the search for a bound may nest, and how many terms it may look at in all.
DEPTH = 4
FUEL = 120
# Longer sums have no squares completed in them: it makes them longer still.
_SHORT = 8
CHOICES = frozenset(("min", "max", "abs", "where"))
DIVISIONS = frozenset(("floordiv", "mod"))

# Takes a sum without constant, the depth left, and the bound at which the search may stop.
_Way: TypeAlias = "Callable[[Term, int, float], int | None]"


class Bounds(Intervals):
    """Lower bounds: by intervals, by orders, by what operations mean, by facts."""

    def __init__(self, facts: Facts) -> None:
        super().__init__(facts)
        # For a sum without constant, the best bound found, with the stamp of the facts it rests
        # on and the depth of the search.
        self._least: dict[Term, tuple[int, int, int | None]] = {}
        self._fuel = 0

    def _lower_bound(self, p: Term, depth: int, enough: float = math.inf) -> int | None:
        """The best k that is found with p >= k, or None; the search may stop at `enough`."""
        if p.op == "const":
            return p.const
        best = self._interval(p)[0]
        if best is not None and best >= enough:
            return best
        coeffs = p.coeffs
        if len(coeffs) > LONG:
            assumed = self.facts.lower.get(p.base)
            return best if assumed is None else _better(best, assumed + p.const)
        facts = self.facts
        if len(coeffs) == 1:
            (only,) = coeffs
            if only.op == "symbol" and only not in facts.touching:
                return best
        base, const = p.base, p.const
        goal = enough - const
        stamp = facts.stamp(base)
        cached = self._least.get(base)
        if cached is not None and cached[0] == stamp:
            _, searched, found = cached
            if depth <= searched or (found is not None and found >= goal):
                return None if found is None else found + const
        if self._fuel <= 0:
            return best
        self._fuel -= 1
        # Terms that lead back to themselves find the weaker bound here, and end.
        known = None if best is None else best - const
        self._least[base] = (stamp, depth, known)
        found = self._search(base, depth, known, goal)
        # A search that stopped early says nothing of what more depth would have found.
        cut_short = found is not None and found >= goal
        self._least[base] = (stamp, -1 if cut_short else depth, found)
        return None if found is None else found + const

    def _search(self, p: Term, depth: int, best: int | None, goal: float) -> int | None:
        """`_lower_bound` for a sum without constant that is not cached."""
        best = _better(best, self.facts.lower.get(p))
        best = _better(best, self._by_order(p))
        if depth > 0:
            for way in self._ways(p):
                if best is not None and best >= goal:
                    return best
                best = _better(best, way(p, depth - 1, goal))
            if best is not None:
                m, r = self.congruence(p)
                if m > 1:
                    best += (r - best) % m
            while best is not None and best in self.facts.excluded.get(p, ()):
                best += 1
            if best == 0 and p.op == "product" and all(map(self._cannot_be_zero, p.factors)):
                best = 1
        return best

    def _ways(self, p: Term) -> list[_Way]:
        """What may bound a sum of such monomials, the cheapest first."""
        ways: list[_Way] = []
        kinds = {m.op for m in p.coeffs}
        if kinds & DIVISIONS:
            ways.append(self._by_divisions)
        if kinds & CHOICES:
            ways.append(self._by_choices)
        if "product" in kinds:
            ways += self._by_squares, self._by_product, self._by_quotients, self._by_factors
            ways.append(self._by_completing_a_square)
        if "pow" in kinds:
            ways.append(self._by_powers)
        ways.append(self._by_facts)
        return ways

    def _cannot_be_zero(self, atom: Term) -> bool:
        low, high = self._atom_interval(atom)
        nonzero = (low is not None and low > 0) or (high is not None and high < 0)
        return nonzero or 0 in self.facts.excluded.get(atom, ())

    def _by_order(self, p: Term) -> int | None:
        """x - y >= k through a chain of known differences (longest path from y to x)."""
        if len(p.coeffs) != 2:
            return None
        (x, c), (y, d) = p.coeffs.items()
        if c == -1 and d == 1:
            x, y = y, x
        elif not (c == 1 and d == -1):
            return None
        after = self.facts.after
        if y not in after:
            return None
        # Bellman and Ford's relaxation, kept to what is reachable from y; facts that
        # contradict each other would make it run for ever, hence the limit.
        distance: dict[Term, int] = {y: 0}
        frontier = [y]
        for _ in range(4 * len(after) + 4):
            changed: dict[Term, None] = {}
            for at in frontier:
                for target, least in after.get(at, {}).items():
                    reached = distance[at] + least
                    if target not in distance or distance[target] < reached:
                        if target is y:
                            return None  # a cycle that grows: the facts contradict
                        distance[target] = reached
                        changed[target] = None
            if not changed:
                break
            frontier = list(changed)
        else:
            return None
        return distance.get(x)

    def _by_choices(self, p: Term, depth: int, goal: float) -> int | None:
        """Replace min, max, abs and where by their branches."""
        table = self.table
        best: int | None = None
        for atom, coeff in p.coeffs.items():
            if atom.op in ("min", "max"):
                options: Iterable[Term] = atom.args
                # c*max(a, b) is the larger of c*a and c*b for c > 0, the smaller for c < 0.
                largest = (atom.op == "max") == (coeff > 0)
            elif atom.op == "abs":
                options = (atom.args[0], table.neg(atom.args[0]))
                largest = coeff > 0
            elif atom.op == "where":
                options = atom.args[1:]
                largest = False
            else:
                continue
            scale = table.const(coeff)
            rest = table.sub(p, table.mul(scale, atom))
            bounds = [
                self._lower_bound(table.add(rest, table.mul(scale, option)), depth, goal)
                for option in options
            ]
            best = _better(best, any_of(max, bounds) if largest else all_of(min, bounds))
        return best

    def _by_divisions(self, p: Term, depth: int, goal: float) -> int | None:
        """Replace x // d and x % d by what their definitions say, for constant d > 0."""
        table = self.table
        best: int | None = None
        for atom, coeff in p.coeffs.items():
            if atom.op not in ("floordiv", "mod"):
                continue
            x, divisor = atom.args
            rest = table.sub(p, table.mul(table.const(coeff), atom))
            if divisor.op == "const":
                d = divisor.const
                scaled_x = table.mul(table.const(coeff), x)
                if atom.op == "floordiv":
                    # d * (x // d) = x - m for some m in 0..d-1
                    loss = max(0, coeff * (d - 1))
                    low = self._lower_bound(
                        table.add(table.mul(table.const(d), rest), scaled_x),
                        depth,
                        d * (goal - 1) + 1 + loss,
                    )
                    if low is not None:
                        best = _better(best, -((loss - low) // d))
                elif coeff < 0 and self._known_nonnegative(x, depth):
                    # x % d <= x for x >= 0
                    best = _better(best, self._lower_bound(table.add(rest, scaled_x), depth, goal))
            else:
                for end in self._ends_of_division(atom, coeff > 0, depth):
                    swapped = table.add(rest, table.mul(table.const(coeff), end))
                    best = _better(best, self._lower_bound(swapped, depth, goal))
        return best

    def _ends_of_division(self, atom: Term, below: bool, depth: int) -> list[Term]:
        """What ``x // d`` or ``x % d`` is at least, or at most: for a divisor d of known sign."""
        table = self.table
        x, d = atom.args
        ends: list[Term] = []
        if at_least(self._lower_bound(d, depth, 1), 1):
            if not below and self._known_nonnegative(x, depth):
                ends.append(x)  # x // d <= x and x % d <= x
            if not below and atom.op == "mod":
                ends.append(table.sub(d, table.one))
            if below and atom.op == "floordiv" and self._known_nonnegative(table.neg(x), depth):
                ends.append(x)  # x // d >= x
        elif at_least(self._lower_bound(table.neg(d), depth, 1), 1):
            if below and atom.op == "mod":
                ends.append(table.add(d, table.one))
            # -x over a positive divisor, rounded down: no further from 0 than -x is
            signed = x if below else table.neg(x)
            if atom.op == "floordiv" and self._known_nonnegative(signed, depth):
                ends.append(table.neg(x))
        return ends

    def _by_powers(self, p: Term, depth: int, goal: float) -> int | None:
        """b**e >= 1 + (b - 1)*e, for b >= 1 (Bernoulli's inequality; e is never negative)."""
        table = self.table
        best: int | None = None
        for atom, coeff in p.coeffs.items():
            if atom.op != "pow" or coeff < 0:
                continue
            base, exponent = atom.args
            if not at_least(self._lower_bound(base, depth, 1), 1):
                continue
            line = table.add(table.one, table.mul(table.sub(base, table.one), exponent))
            scale = table.const(coeff)
            rest = table.sub(p, table.mul(scale, atom))
            swapped = table.add(rest, table.mul(scale, line))
            best = _better(best, self._lower_bound(swapped, depth, goal))
        return best

    def _by_completing_a_square(self, p: Term, depth: int, goal: float) -> int | None:
        """p = a*x*x + b*x + c >= c - b*b / (4*a), for a > 0 and terms b and c without x."""
        if len(p.coeffs) > _SHORT:
            return None
        table = self.table
        best: int | None = None
        for square, x, a in _positive_squares(p):
            b: dict[Term, int] = {}
            c: dict[Term, int] = {}
            const = 0
            for monomial, coeff in p.coeffs.items():
                factors = list(monomial.factors)
                if monomial is square:
                    continue
                if x not in factors:
                    c[monomial] = coeff
                    continue
                factors.remove(x)
                if x in factors:
                    break
                if factors:
                    b[product(table, tuple(factors))] = coeff
                else:
                    const = coeff
            else:
                if not b:
                    continue  # `_by_squares` has looked at the parabola itself
                slope = table.linear(b, const)
                scaled = table.mul(table.const(4 * a), table.linear(c))
                rest = table.sub(scaled, table.mul(slope, slope))
                low = self._lower_bound(rest, depth, goal * 4 * a)
                if low is not None:
                    best = _better(best, -(-low // (4 * a)))
        return best

    def _by_quotients(self, p: Term, depth: int, goal: float) -> int | None:
        """d * (x // d) = x - x % d, for a divisor d of any sign."""
        table = self.table
        best: int | None = None
        for monomial, coeff in p.coeffs.items():
            form = self._without_quotient(monomial)
            if form is not None:
                scale = table.const(coeff)
                rest = table.sub(p, table.mul(scale, monomial))
                swapped = table.add(rest, table.mul(scale, form))
                best = _better(best, self._lower_bound(swapped, depth, goal))
        return best

    def _without_quotient(self, monomial: Term) -> Term | None:
        """The monomial with one d * (x // d) in it written as x - x % d, if it has one."""
        factors = monomial.factors
        if len(factors) < 2:
            return None
        for quotient in factors:
            if quotient.op != "floordiv":
                continue
            x, d = quotient.args
            if not d.is_monomial:
                continue
            rest = multiset_divide(factors, (quotient, *d.factors))
            if rest is None:
                continue
            table = self.table
            form = table.sub(x, table.mod(x, d))
            return table.mul(product(table, rest), form) if rest else form
        return None

    def _known_nonnegative(self, x: Term, depth: int) -> bool:
        return at_least(self._lower_bound(x, depth, 0), 0)

    def _by_factors(self, p: Term, depth: int, goal: float) -> int | None:
        """x*A + B >= least(x)*A + B, where A is not negative."""
        counts: dict[Term, int] = {}
        for monomial in p.coeffs:
            if len(monomial.factors) > 1:
                for factor in set(monomial.factors):
                    counts[factor] = counts.get(factor, 0) + 1
        if not counts:
            return None
        table = self.table
        best: int | None = None
        for x in counts:
            low_x = self._lower_bound(x, depth)
            if low_x is None:
                continue
            inside: dict[Term, int] = {}
            outside: dict[Term, int] = {}
            const = 0
            for monomial, coeff in p.coeffs.items():
                factors = list(monomial.factors)
                if x not in factors:
                    outside[monomial] = coeff
                    continue
                factors.remove(x)
                if factors:
                    inside[product(table, tuple(factors))] = coeff
                else:
                    const += coeff
            a = table.linear(inside, const)
            low_a = self._lower_bound(a, depth)
            if low_a is None or low_a < 0:
                continue
            rest = table.add(table.mul(table.const(low_x), a), table.linear(outside))
            best = _better(best, self._lower_bound(rest, depth, goal))
            if best is not None and best >= goal:
                return best
            if low_x >= 0 and outside:
                # The other way to let go of the product: bounds of x and A by themselves.
                low_b = self._lower_bound(table.linear(outside), depth)
                if low_b is not None:
                    best = _better(best, low_x * low_a + low_b)
        return best

    def _by_squares(self, p: Term, depth: int, goal: float) -> int | None:
        """The least value of a*x*x + b*x for a > 0 lies where the parabola turns, or at an end."""
        table = self.table
        best: int | None = None
        for square, x, a in _positive_squares(p):
            b = p.coeffs.get(x, 0)
            low, high = self._atom_interval(x)
            turn = -b // (2 * a)  # the turning point, rounded down
            ends = [turn, turn + 1]
            if low is not None and low > turn:
                ends = [low]
            elif high is not None and high < turn + 1:
                ends = [high]
            least = min(a * v * v + b * v for v in ends)
            rest = {m: c for m, c in p.coeffs.items() if m is not square and m is not x}
            others = self._lower_bound(table.linear(rest), depth, goal - least)
            if others is not None:
                best = _better(best, least + others)
        return best

    def _by_product(self, p: Term, depth: int, goal: float) -> int | None:
        """Bounds of a product that was multiplied out, from those of its factors."""
        best: int | None = None
        for sign in (1, -1):
            known = self.table.products.get(p if sign > 0 else self.table.neg(p))
            if known is None:
                continue
            product, factors = known
            total: intervals.Interval = (1, 1)
            for factor, times in Counter(factors).items():
                least = self._lower_bound(factor, depth)
                most = self._lower_bound(self.table.neg(factor), depth)
                part = (least, None if most is None else -most)
                total = intervals.multiply(total, intervals.power(part, times))
            low, high = total
            # p is the product less its constant, or minus that.
            if sign > 0 and low is not None:
                best = _better(best, low - product.const)
            elif sign < 0 and high is not None:
                best = _better(best, product.const - high)
        return best

    def _by_facts(self, p: Term, depth: int, goal: float) -> int | None:
        """p = q + f with a known bound of f: least(q) + least(f), where f shortens p."""
        table = self.table
        lower = self.facts.lower
        best: int | None = None
        tried: set[Term] = set()
        coeffs = p.coeffs
        # Of symbols alone, orders and intervals have used every fact that is an order.
        simple = len(coeffs) <= 2 and is_order(p)
        for monomial in coeffs:
            for fact in self.facts.touching.get(monomial, ()):
                if fact in tried or fact is p:
                    continue
                tried.add(fact)
                if len(tried) > 32:
                    return best
                theirs = fact.coeffs
                if simple and is_order(fact):
                    continue
                if len(theirs) == 1:
                    continue  # a plain bound: interval arithmetic has used it
                ratio, odd = divmod(coeffs[monomial], theirs[monomial])
                if odd or ratio <= 0:
                    continue
                gone = sum(coeffs.get(m) == ratio * c for m, c in theirs.items())
                new = sum(m not in coeffs for m in theirs)
                if new - gone >= (depth > 1):
                    continue  # the rest would be no shorter
                rest = table.sub(p, table.mul(table.const(ratio), fact))
                known = ratio * lower[fact]
                low = self._lower_bound(rest, depth, goal - known)
                if low is not None:
                    best = _better(best, low + known)
                    if best is not None and best >= goal:
                        return best
        return best


def _positive_squares(p: Term) -> Iterator[tuple[Term, Term, int]]:
    """The monomials x*x of a sum that have a positive coefficient: each with x and that."""
    for square, coeff in p.coeffs.items():
        if square.op == "product" and len(square.args) == 2 and coeff > 0:
            x = square.args[0]
            if x is square.args[1]:
                yield square, x, coeff


def _better(a: int | None, b: int | None) -> int | None:
    return b if a is None else a if b is None else max(a, b)


def at_least(bound: int | None, k: int) -> bool:
    """Whether a bound is known and that large."""
    return bound is not None and bound >= k
