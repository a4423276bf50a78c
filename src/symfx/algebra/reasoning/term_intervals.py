"""Intervals and congruences of terms, by arithmetic on those of their parts."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from symfx.algebra.reasoning import intervals
from symfx.algebra.reasoning.facts import Facts
from symfx.algebra.reasoning.intervals import (
    ANYTHING,
    Congruence,
    Interval,
    all_of,
    any_of,
    at_least,
)
from symfx.algebra.reasoning.limits import BITS, DEEP
from symfx.algebra.reasoning.real_intervals import RealInterval, integer_interval, real_interval
from symfx.algebra.terms.table import Term
from symfx.algebra.terms.term import by_uid, postorder

__all__ = ["TermIntervals"]


_BITWISE: dict[str, Callable[[Interval, Interval], Interval]] = {
    "bit_and": intervals.bit_and,
    "bit_or": intervals.bit_or,
    "bit_xor": intervals.bit_xor,
}


class TermIntervals:
    """Interval and congruence arithmetic over a store of facts.

    Args:
        facts: the store of facts about symbols and atoms.
    """

    def __init__(self, facts: Facts) -> None:
        self.facts = facts
        self.table = facts.table
        self._ranges: dict[Term, tuple[int, Interval]] = {}
        self._reals: dict[Term, tuple[int, RealInterval | None]] = {}
        self._congruences: dict[Term, tuple[int, Congruence]] = {}
        # How deep the running computation is inside of a term.
        self._level = 0

    def without_exact_divisions(self, p: Term) -> Term:
        """p, or a multiple of p without one ``x // d`` or ``x % d`` whose remainder is known."""
        table = self.table
        for atom, coeff in p.coeffs.items():
            if atom.op not in ("floordiv", "mod") or atom.args[1].op != "const":
                continue
            x, d = atom.args[0], atom.args[1].const
            m, r = self.congruence(x)
            if m % d:
                continue
            rest = table.sub(p, table.mul(table.const(coeff), atom))
            if atom.op == "mod":
                return table.add(rest, table.const(coeff * (r % d)))
            # d * (x // d) = x - r
            exact = table.sub(x, table.const(r % d))
            return table.add(table.mul(table.const(d), rest), table.mul(table.const(coeff), exact))
        return p

    def congruence(self, p: Term) -> Congruence:
        """(m, r) for an integer term that is r modulo m; (1, 0) if nothing is known."""
        total: Congruence = (0, p.const)
        for monomial, coeff in p.coeffs.items():
            part: Congruence = (0, coeff)
            for factor in monomial.factors:
                part = intervals.congruence_multiply(part, self._atom_congruence(factor))
            total = intervals.congruence_add(total, part)
            if total[0] == 1:
                break  # nothing is known of the sum, whatever the other summands are
        return total

    def _atom_congruence(self, atom: Term) -> Congruence:
        known = self.facts.congruences.get(atom, ANYTHING)
        if atom.op != "mod" or atom.args[1].op != "const":
            return known
        stamp = self.facts.stamp(atom)
        cached = self._congruences.get(atom)
        if cached is not None and cached[0] == stamp:
            return cached[1]
        if self._level > DEEP:
            self._prepare_congruences(atom)
        d = atom.args[1].const
        self._level += 1
        try:
            m, r = self.congruence(atom.args[0])
        finally:
            self._level -= 1
        result = (0, r % d) if m % d == 0 else known
        self._congruences[atom] = (stamp, result)
        return result

    def _prepare_congruences(self, atom: Term) -> None:
        """Find the congruences of all remainders in a remainder, without recursion."""
        found, stamp = self._congruences, self.facts.stamp

        def waits(t: Term) -> bool:
            if t.op in ("sum", "product"):
                return True
            if t.op != "mod" or t.args[1].op != "const":
                return False
            cached = found.get(t)
            return cached is None or cached[0] != stamp(t)

        with self._from_the_top():
            for part in postorder(atom, waits):
                if part.op == "mod" and part is not atom:
                    self._atom_congruence(part)

    @contextlib.contextmanager
    def _from_the_top(self) -> Iterator[None]:
        """Run a computation whose recursion is not part of the running one's."""
        level, self._level = self._level, 0
        try:
            yield
        finally:
            self._level = level

    def of(self, term: Term) -> Interval:
        """The interval of an integer term."""
        if term.op not in ("sum", "product", "const"):
            return self.of_atom(term)
        low: int | None = term.const
        high: int | None = term.const
        for monomial, coeff in term.coeffs.items():
            if monomial.op == "product":
                least, most = self._product_interval(monomial)
            else:
                least, most = self.of_atom(monomial)
            if coeff < 0:
                least, most = most, least
            low = None if low is None or least is None else low + coeff * least
            high = None if high is None or most is None else high + coeff * most
            if low is None and high is None:
                break
        return low, high

    def _product_interval(self, product: Term) -> Interval:
        stamp = self.facts.stamp(product)
        cached = self._ranges.get(product)
        if cached is not None and cached[0] == stamp:
            return cached[1]
        powers: dict[Term, int] = {}
        for factor in product.args:
            powers[factor] = powers.get(factor, 0) + 1
        result: Interval = (1, 1)
        for factor, n in powers.items():
            result = _clipped(intervals.multiply(result, intervals.power(self.of(factor), n)))
        result = intervals.intersect(result, self.facts.bounds(product))
        if len(powers) == 1:
            result = intervals.to_powers(result, len(product.args))
        self._ranges[product] = (stamp, result)
        return result

    def of_atom(self, atom: Term) -> Interval:
        """The interval of an atom."""
        facts = self.facts
        if atom.op == "symbol" and atom not in facts.congruences and atom not in facts.excluded:
            return facts.bounds(atom)
        stamp = self.facts.stamp(atom)
        cached = self._ranges.get(atom)
        if cached is not None and cached[0] == stamp:
            return cached[1]
        if self._level > DEEP:
            self._prepare(atom)
        self._level += 1
        try:
            inside = self._structural_interval(atom)
        finally:
            self._level -= 1
        result = intervals.intersect(inside, self.facts.bounds(atom))
        m, r = self.facts.congruences.get(atom, ANYTHING)
        if m > 1:  # the ends move inwards to the next value that has the remainder
            low, high = result
            result = (
                None if low is None else low + (r - low) % m,
                None if high is None else high - (high - r) % m,
            )
        excluded = self.facts.excluded.get(atom)
        if excluded:
            low, high = result
            while low in excluded:
                low += 1
            while high in excluded:
                high -= 1
            result = low, high
        self._ranges[atom] = (stamp, result)
        return result

    def _prepare(self, atom: Term) -> None:
        """Find the intervals of all terms in an atom, the innermost first, without recursion."""
        ranges, reals, stamp = self._ranges, self._reals, self.facts.stamp

        def waits(t: Term) -> bool:
            if t.sort == "bool":
                return False
            cached = (ranges if t.sort == "int" else reals).get(t)
            return cached is None or cached[0] != stamp(t)

        with self._from_the_top():
            for part in postorder(atom, waits):
                if part is not atom and part.op not in ("const", "sum"):
                    if part.sort == "int":
                        self.of(part)
                    else:
                        self._real(part)

    def _structural_interval(self, atom: Term) -> Interval:
        """The interval of an atom from those of its operands."""
        op = atom.op
        if op == "floordiv":
            return intervals.floordiv(*map(self.of, atom.args))
        if op == "mod":
            m, r = self._atom_congruence(atom)
            if m == 0:
                return r, r
            return intervals.modulo(*map(self.of, atom.args))
        if op in ("min", "max"):
            parts = [self.of(a) for a in atom.args]
            lows, highs = [p[0] for p in parts], [p[1] for p in parts]
            if op == "min":
                return all_of(min, lows), any_of(min, highs)
            return any_of(max, lows), all_of(max, highs)
        if op == "abs":
            low, high = self.of(atom.args[0])
            largest = None if low is None or high is None else max(abs(low), abs(high))
            least = max(0, low or 0, -(high or 0))
            x = atom.args[0]
            if not least and -x.const in self.facts.excluded.get(x.base, ()):
                least = 1  # x is not 0
            return least, largest
        if op == "where":
            return intervals.hull(self.of(atom.args[1]), self.of(atom.args[2]))
        if op == "pow":
            base, exponent = map(self.of, atom.args)
            if base[0] is not None and base[0] >= 1:
                if exponent[0] is None or exponent[0] < 0:
                    return 0, None
                # Larger base and larger exponent give a larger power.
                least = base[0] ** min(exponent[0], 64)
                if base[1] is not None and exponent[1] is not None and 0 <= exponent[1] <= 64:
                    return least, base[1] ** exponent[1]
                return least, None
            return (0, None) if base[0] is not None and base[0] >= 0 else intervals.ANY
        if op in _BITWISE:
            a, b = atom.args
            inside = _BITWISE[op](self.of(a), self.of(b))
            return (0, 0) if op == "bit_and" and self._share_no_bit(a, b) else inside
        if op in ("floor", "ceil", "trunc", "round"):
            return integer_interval(atom, self.real_range)
        if op == "lshift":
            return intervals.shifted_left(*map(self.of, atom.args))
        if op == "rshift":
            return intervals.shifted_right(*map(self.of, atom.args))
        return intervals.ANY

    def _share_no_bit(self, a: Term, b: Term) -> bool:
        """Whether one is a multiple of 2**k, and the other one of the numbers below 2**k."""
        for multiple, part in (a, b), (b, a):
            low, high = self.of(part)
            if at_least(low, 0) and high is not None:
                m, r = self.congruence(multiple)
                below = 1 << high.bit_length()
                if m % below == 0 and r % below == 0:
                    return True
        return False

    def real_range(self, term: Term) -> RealInterval | None:
        """The interval of a real term; None if the term may be NaN."""
        return self._real(self.facts.resolve(term))

    def _real(self, term: Term) -> RealInterval | None:
        """The interval of a real term without replaced symbols."""
        stamp = self.facts.stamp(term)
        cached = self._reals.get(term)
        if cached is not None and cached[0] == stamp:
            return cached[1]
        if self._level > DEEP:
            self._prepare(term)
        self._level += 1
        try:
            result = real_interval(term, self._real, self.of, self.facts.real_bounds)
            if term in self.facts.equal_reals:
                self._reals[term] = (stamp, result)  # an equal term may have this one in it
                for other in sorted(self.facts.equal_reals[term], key=by_uid):
                    theirs = self._real(other)
                    if theirs is not None and result is not None:
                        result = max(theirs[0], result[0]), min(theirs[1], result[1])
                    result = result or theirs
        finally:
            self._level -= 1
        self._reals[term] = (stamp, result)
        return result


def _clipped(interval: Interval) -> Interval:
    """An interval around another whose ends have not too many bits."""
    low, high = interval
    if low is not None and low.bit_length() > BITS:
        low = None if low < 0 else 1 << BITS
    if high is not None and high.bit_length() > BITS:
        high = None if high > 0 else -(1 << BITS)
    return low, high
