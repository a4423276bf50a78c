"""Refutation: a comparison is proved if its opposite has no solution beside the facts.

The opposite, the facts near it and the meaning of the operations in both are inequalities and
equations of polynomials. Each monomial is taken as an unknown, and `elimination` looks for a
contradiction. Products of two inequalities relate the monomials of different degree. Nothing that
is learned here becomes a fact: no range gets narrower by it.
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from symfx.algebra.reasoning.condition_forms import nonlinear_symbols_of
from symfx.algebra.reasoning.elimination import Row, System
from symfx.algebra.reasoning.intervals import ANYTHING, Interval, at_least, better
from symfx.algebra.reasoning.limits import ATOMS, FACTORS, NEAR, PRODUCTS, SUMMANDS
from symfx.algebra.terms.definedness import UNDEFINED
from symfx.algebra.terms.monomials import multiset_divide
from symfx.algebra.terms.term import Scalar, Term, by_uid

if TYPE_CHECKING:
    from symfx.algebra.reasoning.facts import Facts
    from symfx.algebra.reasoning.term_intervals import TermIntervals

__all__ = ["Refuter"]


class Refuter:
    """Refutes conditions by linear arithmetic over monomials.

    Args:
        facts: the store of facts.
        intervals: the intervals of terms, from the same store.
    """

    def __init__(self, facts: Facts, intervals: TermIntervals) -> None:
        self.facts = facts
        self.intervals = intervals
        # For a sum without constant: the stamp of the facts, whether they could bound it at all,
        # and its lower bound where all of them are linear.
        self._bounds: dict[Term, tuple[int, bool, int | None]] = {}
        # For a sum without constant: the stamp of the facts, and bounds between which linear facts
        # leave open how large it is.
        self._open: dict[Term, tuple[int, float, float]] = {}

    def proves(self, p: Term, sign: int, k: int) -> bool:
        """Whether sign * p >= k is proved, for a sign of 1 or -1."""
        base = p.base if sign > 0 else p.table.neg(p.base)
        return self._at_least(base, k - sign * p.const)

    def may_bound(self, p: Term, sign: int) -> bool:
        """Whether the facts may bound sign * p from below; False for most open questions."""
        supported = True
        for monomial, coeff in p.coeffs.items():
            if monomial.op != "symbol":
                return True
            if supported and not self._is_supported(monomial, sign * coeff):
                supported = False
        return supported

    def note_open(self, p: Term, seen: Scalar | None = None) -> None:
        """Note, for a sum p of symbols, that linear facts have left p >= 0 open.

        Args:
            p: the sum.
            seen: its value in a situation in which all facts hold, if it is known.
        """
        base = p.base
        stamp = self.facts.stamp(base)
        ends = []
        for sign, side in (1, base), (-1, p.table.neg(base)):
            asked, worth_while, least = self._bounds.get(side, (-1, False, None))
            if asked == stamp and worth_while:
                return  # more than linear facts count, which may settle another comparison
            if asked == stamp:
                ends.append(-math.inf if least is None else least)
            elif seen is None:
                ends.append(-math.inf)
            elif seen.__class__ is int:  # no bound excludes a value that was seen
                ends.append(sign * (seen - p.const))
            else:
                return
        self._open[base] = stamp, ends[0], -ends[1]

    def leaves_open(self, p: Term) -> bool:
        """Whether it is noted that linear facts leave p >= 0 open."""
        base = p.base
        noted = self._open.get(base)
        if noted is None or noted[0] != self.facts.stamp(base):
            return False
        return noted[1] < -p.const <= noted[2]

    def _at_least(self, base: Term, k: int) -> bool:
        """Whether base >= k is proved, for a sum without constant."""
        stamp = self.facts.stamp(base)
        cached = self._bounds.get(base)
        if cached is None or cached[0] != stamp:
            least = None
            linear = all(m.op == "symbol" for m in base.coeffs)
            inside = () if linear else nonlinear_symbols_of(base)
            supported = all(
                m.op != "symbol" or m in inside or self._is_supported(m, c)
                for m, c in base.coeffs.items()
            )
            if linear and supported:
                mixed = self.facts.nonlinear
                near = self.facts.connected(base) if mixed else ()
                linear = not any(mixed & c.free_symbols for c in near)
            if linear and supported:
                least = self._least(base)
            cached = self._bounds[base] = stamp, supported and not linear, least
        _, worth_while, least = cached
        return at_least(least, k) or (worth_while and self._excludes(base, k))

    def _is_supported(self, symbol: Term, coeff: int) -> bool:
        """Whether an end of an interval or a fact may bound coeff * symbol from below."""
        facts = self.facts
        return (
            (symbol, coeff > 0) in facts.sides
            or symbol in facts.nonlinear
            or facts.bounds(symbol)[0 if coeff > 0 else 1] is not None
        )

    def _least(self, base: Term) -> int | None:
        """The lower bound of a sum of symbols about which all facts are linear."""
        known = _Known(self.facts, self.intervals)
        known.gather(base)
        if not known.says_more_than_orders:
            return None
        goal = "goal"  # an unknown of its own, equal to the sum
        unknowns: dict[Any, int] = {**base.coeffs, goal: -1}
        equations = [(unknowns, 0), *known.equations]
        return System(equations, known.inequalities, kept=frozenset((goal,))).least(goal)

    def _excludes(self, base: Term, k: int) -> bool:
        """Whether base <= k - 1 contradicts the facts."""
        table = base.table
        opposite = table.sub(table.const(k - 1), base)
        known = _Known(self.facts, self.intervals)
        known.gather(opposite)
        known.suppose(opposite)
        known.multiply()
        return not System(known.equations, known.inequalities).has_solution()

    def ends(self, p: Term) -> dict[Term, Interval]:
        """The intervals of monomials that follow from the facts near a sum, one by one."""
        known = _Known(self.facts, self.intervals)
        known.gather(p)
        opposites = [({m: -c for m, c in coeffs.items()}, -k) for coeffs, k in known.equations]
        ends = System((), [*known.inequalities, *known.equations, *opposites]).ends()
        return {monomial: end for monomial, end in ends.items() if isinstance(monomial, Term)}

    def facts_contradict(self, near: Term) -> bool:
        """Whether the facts about the symbols of a term are shown to have no solution."""
        known = _Known(self.facts, self.intervals)
        known.gather(near)
        known.multiply()
        return not System(known.equations, known.inequalities).has_solution()


class _Known:
    """The inequalities and equations about the monomials of a question."""

    def __init__(self, facts: Facts, intervals: TermIntervals) -> None:
        self.facts, self.intervals = facts, intervals
        self.table = facts.table
        self._zeros: dict[Term, None] = {}
        self._positives: dict[Term, None] = {}
        self._congruent: list[Row] = []
        self._atoms: dict[Term, None] = {}
        self._bounded: set[Term] = set()
        self.says_more_than_orders = False

    @property
    def equations(self) -> list[Row]:
        """The equations, by monomials."""
        return [(p.coeffs, p.const) for p in self._zeros] + self._congruent

    @property
    def inequalities(self) -> list[Row]:
        """The inequalities, by monomials."""
        return [(p.coeffs, p.const) for p in self._positives]

    # -- collecting ----------------------------------------------------------------------------

    def gather(self, p: Term) -> None:
        """Take the facts about the symbols of a sum, and the meaning of all operations."""
        facts = self.facts
        near = facts.connected(p)
        if len(near) > NEAR:
            symbols = p.free_symbols
            near = [c for c in near if symbols & c.free_symbols][-NEAR:]
        for condition in near:
            self._take(facts.resolve(condition))
        if p.sort == "int":
            self._explain(p)

    def suppose(self, p: Term) -> None:
        """Take p >= 0."""
        self._positives = {p: None, **self._positives}
        self._explain(p)

    def _take(self, condition: Term) -> None:
        if condition.op == "and":
            for part in condition.args:
                self._take(part)
        elif condition.op in ("eq", "ge"):
            p: Term = condition.args[0]
            (self._zeros if condition.op == "eq" else self._positives)[p] = None
            self.says_more_than_orders |= len(p.coeffs) > 1
            self._explain(p)

    def _explain(self, p: Term) -> None:
        """Take the meaning of the operations in a sum, and the intervals of its monomials."""
        waiting = [p]
        while waiting:
            for monomial in waiting.pop().coeffs:
                if monomial in self._bounded:
                    continue
                self._bounded.add(monomial)
                self._bound(monomial)
                for atom in dict.fromkeys(monomial.factors):
                    if atom not in self._atoms and len(self._atoms) < ATOMS:
                        self._atoms[atom] = None
                        self._bound(atom)
                        waiting += self._meaning(atom)

    def _bound(self, monomial: Term) -> None:
        """Take the interval of a monomial, and its remainder."""
        table = self.table
        low, high = self.intervals.of(monomial)
        if low is not None:
            self._positives[table.add(monomial, table.const(-low))] = None
        if high is not None:
            self._positives[table.sub(table.const(high), monomial)] = None
        m, r = self.facts.congruences.get(monomial, ANYTHING)
        if m > 1:
            self._congruent.append(({monomial: 1, ("quotient", monomial): -m}, -r))

    def _meaning(self, atom: Term) -> list[Term]:
        """Take the inequalities and equations that define an operation; the new terms in them."""
        if atom.op in ("floordiv", "mod"):
            return self._division(*atom.args)
        table = self.table
        if atom.op in ("min", "max"):
            sign = 1 if atom.op == "max" else -1
            sides = [sign * (atom - x) for x in atom.args]
        elif atom.op == "abs":
            (x,) = atom.args
            sides = [atom - x, atom + x]
        elif atom.op in ("lshift", "rshift"):
            x, k = atom.args
            sides = self._shift(atom, x, k)
        elif atom.op in ("bit_and", "bit_or", "bit_xor"):
            a, b = atom.args
            both = table.bit_and(a, b)
            if atom.op != "bit_and":
                # a | b = a + b - (a & b), and a ^ b = a + b - 2*(a & b).
                times = 1 if atom.op == "bit_or" else 2
                self._zeros[a + b - times * both - atom] = None
            # a & b <= a for b of any sign, if a is not negative; a negative b only clears bits.
            sides = [
                x - both
                for x, other in ((a, b), (b, a))
                if _at_least_zero(self.intervals.of(x)) or _below_zero(self.intervals.of(other))
            ]
            if _at_least_zero(self.intervals.of(a)) or _at_least_zero(self.intervals.of(b)):
                sides.append(both)
        else:
            return []
        self._positives.update(dict.fromkeys(sides))
        return sides

    def _shift(self, atom: Term, x: Term, k: Term) -> list[Term]:
        """The inequalities between a shift that has a value and its first operand."""
        low, high = self.intervals.of(x)
        further = atom - x if atom.op == "lshift" else x - atom
        if at_least(low, 1) and atom.op == "lshift":
            return [k, further - k]  # x * 2**k >= x + k
        if at_least(low, 0):
            return [k, further]
        return [k, -further] if high is not None and high <= 0 else [k]

    def _division(self, x: Term, d: Term) -> list[Term]:
        """Take x = d*q + m for the quotient q and the remainder m, and the bounds of m."""
        table = self.table
        try:
            quotient, remainder = table.floordiv(x, d), table.mod(x, d)
        except UNDEFINED:
            return []
        self._zeros[x - d * quotient - remainder] = None
        interval = self.intervals.of(d)
        sides: list[Term] = []
        # The divisor is not 0 where the question or the fact has a value.
        if _at_least_zero(interval):
            sides = [remainder, d - 1 - remainder, d - 1]
        elif interval[1] is not None and interval[1] <= 0:
            sides = [-remainder, remainder - d - 1, -1 - d]
        low, high = self.intervals.of(x - remainder)
        if at_least(low, 1) and sides:  # then neither is the quotient 0
            sides.append(quotient - 1 if _at_least_zero(interval) else -1 - quotient)
        if high is not None and high < 0 and sides:
            sides.append(-1 - quotient if _at_least_zero(interval) else quotient - 1)
        if at_least(self._least_known(x - d), 0) and sides and _at_least_zero(interval):
            sides.append(quotient - 1)  # d <= x, so x // d >= 1
        self._positives.update(dict.fromkeys(sides))
        return [x, d, d * quotient, remainder, *sides]

    def _least_known(self, p: Term) -> int | None:
        """The lower bound of a sum by its interval, or by a fact about this very sum."""
        known = self.facts.lower.get(p.base)
        return better(self.intervals.of(p)[0], None if known is None else known + p.const)

    # -- products ------------------------------------------------------------------------------

    def multiply(self) -> None:
        """Take the products of two inequalities, and of an equation with an atom, that may help."""
        wanted = self._products(self._all())
        if not wanted:
            return
        table = self.table
        for atom in self._atoms:
            if atom.op == "abs":
                square = table.mul(atom, atom) - table.mul(*atom.args, *atom.args)
                self._zeros[square] = None
        for factors in self._products(self._all()):
            if len(factors) == 2 and factors[0] is factors[1]:
                square = table.mul(*factors)  # x*x >= x and x*x >= -x
                self._positives |= {square - factors[0]: None, square + factors[0]: None}
        wanted = self._products(self._all())
        atoms = sorted({atom for factors in wanted for atom in factors}, key=by_uid)
        for p in [p for p in self._zeros if len(p.coeffs) <= SUMMANDS]:
            for atom in atoms:
                if any(_factors(m, atom) in wanted for m in p.coeffs):
                    self._zeros[table.mul(p, atom)] = None
        wanted |= self._products(self._zeros)
        for size in SUMMANDS, SUMMANDS // 3:
            # The products bring new monomials, which those of shorter inequalities bound.
            before = self._products(self._positives)
            self._multiply_inequalities(wanted, size)
            new = self._products(self._positives) - before - wanted
            if not new:
                return
            wanted = new

    def _multiply_inequalities(self, wanted: set[tuple[Term, ...]], size: int) -> None:
        """Take the products of two inequalities of few summands in which wanted monomials occur."""
        short = [p for p in self._positives if p.op != "const" and len(p.coeffs) <= size]
        # For the factors of a monomial, those of the monomials with which it makes a wanted one.
        partners: dict[tuple[Term, ...], set[tuple[Term, ...]]] = defaultdict(set)
        own = {p: {tuple(m.factors) for m in p.coeffs} for p in short}
        present = set().union(*own.values())
        for factors in wanted:
            for part, rest in _splits(factors, present):
                partners[part].add(rest)
        sought = {p: set().union(*(partners.get(m, ()) for m in own[p])) for p in short}
        helpful = (
            (p, q)
            for p, q in itertools.combinations_with_replacement(short, 2)
            if not sought[p].isdisjoint(own[q])
        )
        table = self.table
        products = [table.mul(p, q) for p, q in itertools.islice(helpful, PRODUCTS)]
        self._positives.update(dict.fromkeys(products))

    @staticmethod
    def _products(sums: Iterable[Term]) -> set[tuple[Term, ...]]:
        """The factors of the products in some sums."""
        return {m.args for p in sums for m in p.coeffs if m.op == "product"}

    def _all(self) -> list[Term]:
        return [*self._zeros, *self._positives]


def _factors(m: Term, n: Term) -> tuple[Term, ...]:
    """The factors of the product of two monomials, in their normal order."""
    return tuple(sorted((*m.factors, *n.factors), key=by_uid))


def _splits(
    factors: tuple[Term, ...], present: Collection[tuple[Term, ...]]
) -> Iterator[tuple[tuple[Term, ...], tuple[Term, ...]]]:
    """The ways to write a product, by its factors, as a product of two monomials.

    Args:
        factors: the factors of the product.
        present: the monomials that count. A product of many factors is divided by each of them,
            because it has too many ways.
    """
    if len(factors) > FACTORS:
        for part in present:
            rest = multiset_divide(factors, part)
            if part and rest:
                yield part, rest
        return
    places = range(len(factors))
    for count in range(1, len(factors)):
        for chosen in itertools.combinations(places, count):
            yield (
                tuple(factors[i] for i in chosen),
                tuple(factors[i] for i in places if i not in chosen),
            )


def _at_least_zero(interval: tuple[int | None, int | None]) -> bool:
    return interval[0] is not None and interval[0] >= 0


def _below_zero(interval: tuple[int | None, int | None]) -> bool:
    return interval[1] is not None and interval[1] < 0
