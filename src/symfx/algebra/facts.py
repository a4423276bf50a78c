"""What is known about the terms of one table, growing only: bounds, orders, divisibility,
equalities. The prover reads it; each entry names the condition that it came from.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from symfx.algebra import domains
from symfx.algebra.domains import ANY, ANYTHING, Congruence, Interval
from symfx.algebra.expr import Table, Term
from symfx.algebra.interpret import substitute

__all__ = ["Bound", "Facts"]


@dataclass(frozen=True, slots=True)
class Bound:
    """``term >= least``, and the condition that said so."""

    least: int
    because: Term


class Facts:
    """A store of conditions that hold, indexed for the prover.

    Symbols that some fact mentions together are *connected*; a fact about one can only decide
    questions about symbols connected with it. `stamp` tells whether anything has been learned
    that could matter to a term.

    Attributes:
        table: the table whose terms the facts are about.
        known: each condition that was assumed, with its truth.
        lower: for a sum without constant, the best bound known: ``sum >= bound.least``.
        after: for an atom y, the atoms x with ``x >= y + k``, and the condition that said so.
        touching: for a monomial, the sums with a known bound in which it occurs.
        excluded: for a sum without constant, the values it is known not to have.
        congruences: for an atom, what it is modulo something.
        replacements: symbols that equal a term without them.
        epoch: how many replacements have been learned.
    """

    def __init__(self, table: Table) -> None:
        self.table = table
        self.known: dict[Term, bool] = {}
        self.lower: dict[Term, Bound] = {}
        self.after: dict[Term, dict[Term, Bound]] = {}
        self.touching: dict[Term, dict[Term, None]] = {}
        self.excluded: dict[Term, set[int]] = {}
        self.congruences: dict[Term, Congruence] = {}
        self.replacements: dict[Term, Term] = {}
        self.epoch = 0
        self.contradiction: Term | None = None
        self._version = 0
        self._parent: dict[Term, Term] = {}
        self._changed: dict[Term, int] = {}
        self._stamps: dict[Term, tuple[int, int]] = {}
        self._resolved: dict[Term, Term] = {}

    # -- who is connected with whom ------------------------------------------------------

    def _root(self, symbol: Term) -> Term:
        parent = self._parent
        root = symbol
        while (above := parent.get(root, root)) is not root:
            root = above
        while symbol is not root:
            parent[symbol], symbol = root, parent.get(symbol, symbol)
        return root

    def stamp(self, term: Term) -> int:
        """A number that grows when a fact comes about a symbol connected with the term's."""
        memo = self._stamps.get(term)
        if memo is not None and memo[0] == self._version:
            return memo[1]
        newest = 0
        changed = self._changed
        for symbol in term.free_symbols:
            newest = max(newest, changed.get(self._root(symbol), 0))
        self._stamps[term] = (self._version, newest)
        return newest

    def _touch(self, term: Term) -> None:
        self._version += 1
        roots = {self._root(s) for s in term.free_symbols}
        if roots:
            head = roots.pop()
            for other in roots:
                self._parent[other] = head
            self._changed[head] = self._version

    # -- equalities ------------------------------------------------------------------------

    def resolve(self, term: Term) -> Term:
        """The term with every replaced symbol gone."""
        if not self.replacements:
            return term
        found = self._resolved.get(term)
        if found is None:
            if self.replacements.keys() & term.free_symbols:
                found = substitute(term, self.replacements)
            else:
                found = term
            self._resolved[term] = found
        return found

    def replace(self, symbol: Term, by: Term) -> None:
        """Learn that a symbol equals a term: it stands for it from now on.

        What was known of the symbol is kept, as facts about the term.
        """
        by = self.resolve(by)
        if symbol in by.free_symbols or symbol in self.replacements:
            raise ValueError(f"{symbol} cannot stand for {by}: one of both depends on the other")
        table = self.table
        carried = [c for c in self.known if symbol in c.free_symbols]
        self._touch(table.sub(symbol, by))
        for key, old in self.replacements.items():
            if symbol in old.free_symbols:
                self.replacements[key] = substitute(old, {symbol: by})
        self.replacements[symbol] = by
        self._resolved.clear()
        self.epoch += 1
        for condition in carried:
            truth = self.known[condition]
            now = self.resolve(condition)
            self.assume(now if truth else table.not_(now), because=condition)

    # -- learning --------------------------------------------------------------------------

    def assume(self, condition: Term, because: Term | None = None) -> None:
        """Learn that a condition holds."""
        condition = self.resolve(condition)
        if condition.op == "const":
            if not condition.args[0]:
                self.contradiction = condition if because is None else because
            return
        if condition in self.known:
            return
        if because is None:
            because = condition
        negated = self.table.not_(condition)
        self.known[condition] = True
        self.known[negated] = False
        self._touch(condition)
        if condition.op == "and":
            for part in condition.args:
                self.assume(part, because)
        elif condition.op == "ge":
            self._bound(condition.args[0], because)
        elif condition.op == "eq":
            p: Term = condition.args[0]
            self._bound(p, because)
            self._bound(self.table.neg(p), because)
            self._divisible(p)
        elif condition.op == "not" and condition.args[0].op == "eq":
            q: Term = condition.args[0].args[0]
            base = self.table.linear(q.coeffs)
            self.excluded.setdefault(base, set()).add(-q.const)
            self.excluded.setdefault(self.table.neg(base), set()).add(q.const)

    def _bound(self, p: Term, because: Term) -> None:
        """p >= 0"""
        base = self.table.linear(p.coeffs)
        least = -p.const
        old = self.lower.get(base)
        if old is not None and old.least >= least:
            return
        bound = self.lower[base] = Bound(least, because)
        coeffs = base.coeffs
        for monomial in coeffs:
            self.touching.setdefault(monomial, {})[base] = None
        if len(coeffs) == 2:
            (x, c), (y, d) = coeffs.items()
            if c == -1 and d == 1:
                x, y, c, d = y, x, d, c
            if c == 1 and d == -1:  # x - y >= least
                self.after.setdefault(y, {})[x] = bound

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
        both = domains.meet(old, (m, value))
        if both is None:
            self.contradiction = self.table.eq(p, self.table.zero)
        elif both != old:
            self.congruences[x] = both
            self._touch(x)

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

    def bounds(self, atom: Term) -> Interval:
        """The bounds that were assumed of an atom, nothing derived."""
        low = self.lower.get(atom)
        high = self.lower.get(self.table.neg(atom)) if low or atom in self.touching else None
        if low is None and high is None:
            return ANY
        return (low.least if low else None), (-high.least if high else None)
