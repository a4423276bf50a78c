"""What is known about the terms of one table, growing only: bounds, orders, divisibility,
equalities. The prover reads it; each condition knows the assumption it came from.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import Any

from symfx.algebra.reasoning import intervals
from symfx.algebra.reasoning.equalities import LONG, UNDEFINED, Equalities
from symfx.algebra.reasoning.intervals import ANY, ANYTHING, Congruence, Interval
from symfx.algebra.terms.table import Table, Term

__all__ = ["UNDEFINED", "Facts", "is_order"]

# How many bounds one new bound may move along the known orders. (Orders that contradict each
# other would move them for ever.)
_PROPAGATED = 512
# The indexes whose entries are collections that grow.
_NESTED = (
    "before",
    "after",
    "touching",
    "excluded",
    "alternatives",
    "_members",
    "_mentioning",
)
# How many symbols a search for a cycle of orders may look at.
_CYCLE = 32
# How many facts may follow from one another in a row. All are true, so none has to be drawn.
_FOLLOWING = 40


def is_order(p: Term) -> bool:
    """Whether an integer term is a symbol or the difference of two, up to sign and a constant."""
    coeffs = p.coeffs
    if len(coeffs) > 2:
        return False
    total = 0
    for monomial, coeff in coeffs.items():
        if monomial.op != "symbol" or coeff not in (1, -1):
            return False
        total += coeff
    return len(coeffs) == 1 or not total


class Facts(Equalities):
    """A store of conditions that hold, indexed for the prover.

    Attributes:
        known: each condition that was assumed, with its truth, and the opposites of those that
            are no inequalities: `lower` knows better of these.
        lower: for a sum without constant, the best bound known: ``sum >= lower[sum]``.
        after: for an atom y, the atoms x with ``x >= y + k``, with the largest such k.
        before: the same the other way round: for x, the atoms y.
        touching: for a monomial, the sums with a known bound in which it occurs.
        entangled: the monomials in sums with a known bound that are more than the difference of
            two symbols.
        excluded: for a sum without constant, the values it is known not to have.
        congruences: for an atom, what it is modulo something.
        real_bounds: for a real term that is known not to be NaN, the interval it lies in.
        alternatives: for an assumption, the disjunctions that hold because of it.
    """

    def __init__(self, table: Table) -> None:
        super().__init__(table)
        self.known: dict[Term, bool] = {}
        self.lower: dict[Term, int] = {}
        self._intervals: dict[Term, Interval] = {}
        self.before: dict[Term, dict[Term, int]] = {}
        self.after: dict[Term, dict[Term, int]] = {}
        self.touching: dict[Term, dict[Term, None]] = {}
        self.entangled: set[Term] = set()
        self.excluded: dict[Term, set[int]] = {}
        self.congruences: dict[Term, Congruence] = {}
        self.real_bounds: dict[Term, tuple[float, float]] = {}
        self.alternatives: dict[Term, list[Term]] = {}
        self._nested = 0

    # -- stores beside this one --------------------------------------------------------------

    def layer(self, *terms: Term) -> Facts:
        """A store of its own of what is known near some terms: for what-ifs, then dropped."""
        near = Facts(self.table)
        for condition in self.connected(*terms):
            near.assume(self.resolve(condition))
        return near

    @contextlib.contextmanager
    def scope(self) -> Iterator[None]:
        """Inside, facts may be learned; afterwards the store knows what it knew before.

        A prover of this store has to forget its answers then; see `Prover.forget`.
        """
        before = self._copy()
        try:
            yield
        finally:
            # Both counters keep growing: a cache must not take what comes for what was inside.
            epoch, version = self.epoch + 1, self.version + 1
            vars(self).update(vars(before))
            self.epoch, self.version = epoch, version

    def _copy(self) -> Facts:
        other = Facts(self.table)
        for name, value in vars(self).items():
            copied: Any
            if name in _NESTED:
                copied = {key: inner.copy() for key, inner in value.items()}
            else:
                copied = value.copy() if isinstance(value, (dict, set)) else value
            setattr(other, name, copied)
        return other

    # -- learning --------------------------------------------------------------------------

    def assume(self, condition: Term, because: Term | None = None) -> None:
        """Learn that a condition holds.

        Args:
            condition: what holds.
            because: the condition that was assumed and that this one follows from; itself
                where None.
        """
        condition = self.resolve(condition)
        if because is None:
            because = condition
        if condition.op == "const":
            if not condition.args[0]:
                self.contradiction = because
            return
        known = self.known.get(condition)
        if known is not None:
            if not known:
                self.contradiction = because
            return
        if self._nested > _FOLLOWING:
            return
        self._nested += 1
        try:
            self._learn(condition, because)
        finally:
            self._nested -= 1

    def _learn(self, condition: Term, because: Term) -> None:
        """Learn that a resolved condition holds that is not known yet."""
        self.known[condition] = True
        if condition.op != "ge":
            self.known[self.table.not_(condition)] = False
        self._reasons[condition] = because
        for symbol in condition.free_symbols:
            self._mentioning.setdefault(symbol, []).append(condition)
        self._touch(condition)
        if because is condition and condition.free_symbols:
            self._order[condition] = len(self._order)
            root = self._root(next(iter(condition.free_symbols)))
            self._members.setdefault(root, []).append(condition)
        if condition.op == "and":
            for part in condition.args:
                self.assume(part, because)
        elif condition.op == "or":
            self.alternatives.setdefault(because, []).append(condition)
            self._bound_alternatives(condition, because)
        elif condition.op == "ge":
            self._bound(condition.args[0], because)
        elif condition.op == "eq":
            p: Term = condition.args[0]
            self._bound(p, because)
            self._bound(self.table.neg(p), because)
            self._divisible(p)
            self._take_root(p, because)
            with contextlib.suppress(*UNDEFINED):  # as where a divisor in it is known to be 0
                self._solve_for_a_symbol(p, because)
        elif condition.op in ("flt", "fle", "feq"):
            self._bound_real(condition)
        elif condition.op == "not" and condition.args[0].op == "eq":
            q: Term = condition.args[0].args[0]
            base = q.base
            self.excluded.setdefault(base, set()).add(-q.const)
            self.excluded.setdefault(self.table.neg(base), set()).add(q.const)
        if self.solved:
            with contextlib.suppress(*UNDEFINED):
                self.assume(self.solve(condition), because)

    def _is_not_zero(self, atom: Term) -> bool:
        low, high = self.bounds(atom)
        outside = (low is not None and low > 0) or (high is not None and high < 0)
        return outside or 0 in self.excluded.get(atom, ())

    def settle(self, disjunction: Term, because: Term) -> None:
        """Ask no more which part of a disjunction in `alternatives` holds: it is known."""
        left = self.alternatives[because]
        left.remove(disjunction)
        if not left:
            del self.alternatives[because]

    def _bound_alternatives(self, condition: Term, because: Term) -> None:
        """The hull of alternatives that all bound the same sum, as of ``s in {1, 2, 4}``."""
        lowest: dict[Term, int] = {}
        for i, part in enumerate(condition.args):
            if part.op not in ("eq", "ge"):
                return
            p: Term = part.args[0]
            sides = (p, self.table.neg(p)) if part.op == "eq" else (p,)
            bounds = {side.base: -side.const for side in sides}
            if i == 0:
                lowest = bounds
            else:
                lowest = {b: min(k, bounds[b]) for b, k in lowest.items() if b in bounds}
        for base, least in lowest.items():
            self._bound(self.table.sub(base, self.table.const(least)), because)

    def _bound(self, p: Term, because: Term) -> None:
        """p >= 0"""
        base = p.base
        least = -p.const
        old = self.lower.get(base)
        if old is not None and old >= least:
            return
        self.lower[base] = least
        coeffs = base.coeffs
        if len(coeffs) == 1:
            ((monomial, sign),) = coeffs.items()
            if abs(sign) == 1:
                self._narrow(monomial, least if sign > 0 else None, None if sign > 0 else -least)
                low, high = self.bounds(monomial)
                if low is not None and high is not None and low >= high:
                    if low > high:
                        self.contradiction = because
                    else:
                        self.assume(self.table.eq(monomial, self.table.const(low)), because)
                elif monomial.op in ("floordiv", "abs", "min", "max"):
                    self._bound_operands(monomial, sign, least, because)
                return  # intervals say it all
        if len(coeffs) > LONG:
            self._meet(least, self.lower.get(self.table.neg(base)), base, because)
            return
        for monomial in coeffs:
            self.touching.setdefault(monomial, {})[base] = None
        if not is_order(base):
            self.entangled.update(coeffs)
        if len(coeffs) == 2 and sorted(coeffs.values()) == [-1, 1]:
            x, y = coeffs if next(iter(coeffs.values())) == 1 else reversed(coeffs)
            # x - y >= least
            self.after.setdefault(y, {})[x] = least
            self.before.setdefault(x, {})[y] = least
            low, high = self.bounds(y)[0], self.bounds(x)[1]
            self._narrow(x, None if low is None else low + least, None)
            self._narrow(y, None, None if high is None else high - least)
            greatest = self._difference(y, x)
        else:
            greatest = self.lower.get(self.table.neg(base))
        self._meet(least, greatest, base, because)

    def _meet(self, least: int, opposite: int | None, base: Term, because: Term) -> None:
        """Learn from base >= least and -base >= opposite together."""
        if opposite is None or opposite < -least:
            return
        if opposite > -least:
            self.contradiction = because
        elif len(base.coeffs) <= LONG:
            self.assume(self.table.eq(base, self.table.const(least)), because)

    def _bound_operands(self, atom: Term, sign: int, least: int, because: Term) -> None:
        """What sign * atom >= least says of the operands of the atom."""
        table = self.table
        op, args = atom.op, atom.args
        if op == "floordiv" and args[1].op == "const":
            # x // d >= k just when x >= k*d; x // d <= k just when x <= k*d + d - 1.
            x, d = args[0], args[1].const
            if sign > 0:
                implied = [x - least * d]
            else:
                implied = [(1 - least) * d - 1 - x]
        elif op == "abs" and sign < 0:
            implied = [args[0] - least, -args[0] - least]
        elif op == ("min" if sign > 0 else "max"):
            implied = [sign * x - least for x in args]
        else:
            return
        for p in implied:
            self.assume(table.ge_zero(p), because)

    def _difference(self, x: Term, y: Term) -> int | None:
        """The largest k with x >= y + k that a few known orders in a row give."""
        farthest = {y: 0}
        waiting = [y]
        for at in waiting:
            if len(waiting) > _CYCLE:
                break
            for target, least in self.after.get(at, {}).items():
                reached = farthest[at] + least
                if target not in farthest:
                    waiting.append(target)
                if reached > farthest.get(target, reached - 1):
                    farthest[target] = reached
        return farthest.get(x)

    def _narrow(self, atom: Term, low: int | None, high: int | None) -> None:
        """Take bounds of an atom, and pass them on along the known orders."""
        waiting = [(atom, low, high)]
        for _ in range(_PROPAGATED):
            if not waiting:
                return
            at, low, high = waiting.pop()
            old = self._intervals.get(at, ANY)
            new = intervals.intersect(old, (low, high))
            if new == old:
                continue
            self._intervals[at] = new
            if new[0] != old[0] and new[0] is not None:
                waiting += [(x, new[0] + k, None) for x, k in self.after.get(at, {}).items()]
            if new[1] != old[1] and new[1] is not None:
                waiting += [(y, None, new[1] - k) for y, k in self.before.get(at, {}).items()]

    def _bound_real(self, condition: Term) -> None:
        """A comparison with a constant that holds; then neither side is NaN."""
        a, b = condition.args
        sides = [(a, b, math.inf)] if b.op == "const" else []
        sides += [(b, a, -math.inf)] if a.op == "const" else []
        for term, limit, direction in sides:
            low, high = self.real_bounds.get(term, (-math.inf, math.inf))
            end = limit.args[0]
            if math.isnan(end):
                continue
            if condition.op == "feq":
                low, high = max(low, end), min(high, end)
            else:
                if condition.op == "flt":
                    end = math.nextafter(end, -direction)
                low, high = (low, min(high, end)) if direction > 0 else (max(low, end), high)
            self.real_bounds[term] = low, high

    def _divisible(self, p: Term) -> None:
        """Learn what the equality p == 0 says about remainders."""
        if len(p.coeffs) != 1:
            return
        ((atom, coeff),) = p.coeffs.items()
        if coeff not in (1, -1) or atom.op != "mod" or atom.args[1].op != "const":
            return
        # x % m == r, with r = -const/coeff
        inner, m, r = atom.args[0], atom.args[1].const, -p.const * coeff
        if len(inner.coeffs) != 1:
            return
        ((x, scale),) = inner.coeffs.items()
        if math.gcd(scale, m) != 1:
            return
        # scale*x + const = r (mod m), and scale has an inverse modulo m.
        value = (r - inner.const) * pow(scale, -1, m) % m
        old = self.congruences.get(x, ANYTHING)
        both = intervals.meet(old, (m, value))
        if both is None:
            self.contradiction = self.table.eq(p, self.table.zero)
        elif both != old:
            self.congruences[x] = both
            self._touch(x)

    def _take_root(self, p: Term, because: Term) -> None:
        """Learn from x*x == k what x can be."""
        if len(p.coeffs) != 1:
            return
        ((power, coeff),) = p.coeffs.items()
        if power.op != "product" or len(power.args) != 2 or power.args[0] is not power.args[1]:
            return
        square = -p.const // coeff
        root = math.isqrt(square) if square >= 0 else 0
        if root * root != square or p.const % coeff:
            self.contradiction = because
            return
        x = power.args[0]
        roots = [v for v in (root, -root) if intervals.intersect(self.bounds(x), (v, v)) == (v, v)]
        self.assume(self.table.or_(*map(x.eq, roots)), because)

    def as_multiple(self, symbol: Term) -> Term | None:
        """m*q + r for a symbol that is known to be r modulo m, with a symbol q of its own.

        In that form the divisions that the remainder settles are gone: of a multiple of 2,
        ``x // 2`` is q and ``x % (x // 2)`` is 0. None where no remainder is known.
        """
        m, r = self.congruences.get(symbol, ANYTHING)
        if m <= 1:
            return None
        table = self.table
        q = table.symbol(f"{symbol.name}//{m}")
        form = table.add(table.mul(table.const(m), q), table.const(r))
        low, high = self.bounds(symbol)
        if low is not None:
            self.assume(table.le(table.const(low), form))
        if high is not None:
            self.assume(table.le(form, table.const(high)))
        return form

    # -- asking ------------------------------------------------------------------------------

    def bounds(self, monomial: Term) -> Interval:
        """The bounds known of a monomial, by assumption or along the known orders."""
        return self._intervals.get(monomial, ANY)
