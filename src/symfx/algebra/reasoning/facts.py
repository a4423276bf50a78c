"""Facts: conditions that are known to hold of the terms of one table, indexed for the prover.

Facts only grow. The store keeps each condition that was learned together with the assumption that
it came from. `inequalities` learns from comparisons, `equations` from equations.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from symfx.algebra.reasoning import equations, inequalities
from symfx.algebra.reasoning.condition_forms import check_condition, choices, compared, is_linear
from symfx.algebra.reasoning.connections import Connections
from symfx.algebra.reasoning.intervals import ANY, ANYTHING, Congruence, Interval
from symfx.algebra.reasoning.limits import FOLLOWING, LONG
from symfx.algebra.terms.definedness import UNDEFINED
from symfx.algebra.terms.table import Table, Term

__all__ = ["UNDEFINED", "Facts"]

_MULTIPLY = frozenset(("product", "pow", "lshift", "rshift"))
# The indexes whose entries are collections that grow.
_NESTED = ("before", "after", "touching", "excluded", "equal_reals", "alternatives", "mentioning")


class Facts:
    """A store of conditions that hold.

    Attributes:
        table: the table whose terms the facts are about.
        connections: which symbols are connected through facts.
        known: for each condition that was learned, True; for its opposite, False. (Inequalities
            have no entry for the opposite, which `lower` decides better.)
        reasons: for each condition that was learned, the assumption that it follows from.
        mentioning: for a symbol, the conditions that were learned about it.
        contradiction: the first assumption that the others exclude, or None.
        replacements: for a symbol, the term without it that stands for it everywhere.
        epoch: the number of replacements that have been learned.
        solved: for a symbol, the term without it that stands for it in proofs only.
        lower: for a sum without constant, the best lower bound known.
        after: for an atom y, the atoms x with ``x >= y + k``, with the largest such k.
        before: the same by x: the atoms y with ``x >= y + k``.
        touching: for a monomial, the sums with a known bound in which it occurs.
        sides: (monomial, whether its coefficient is positive) for the sums in `touching`.
        entangled: the monomials of sums with a known bound, other than differences of two symbols.
        excluded: for a sum without constant, the values that it is known not to have.
        congruences: for an atom, its known remainder modulo something.
        real_bounds: for a real term that is known not to be NaN, its interval.
        equal_reals: for a real term, those that were assumed to equal it.
        alternatives: for an assumption, the disjunctions that hold because of it.
        nonlinear: the symbols of assumed comparisons that have a product or an operation.
        multiplied: those of them with a product, a power, or a remainder by a divisor that is no
            constant.
        barred: the symbols of equations with an operation that are known not to hold.
        apart: the symbols of sums of symbols that are known not to have a value.
        tiled: the symbols of assumed equations with larger coefficients, as of flattened indices.
        choosing: for an assumption, the first few choices (min, max, abs, where) in it.
        stamp: see `Connections.stamp`.
    """

    def __init__(self, table: Table) -> None:
        self.table = table
        self._connect(Connections())
        self.known: dict[Term, bool] = {}
        self.reasons: dict[Term, Term] = {}
        self.mentioning: dict[Term, list[Term]] = {}
        self.contradiction: Term | None = None
        # Equations.
        self.replacements: dict[Term, Term] = {}
        self.epoch = 0
        self.solved: dict[Term, Term] = {}
        self._resolved: dict[Term, Term] = {}
        self._solutions: dict[Term, Term] = {}
        # Inequalities.
        self.lower: dict[Term, int] = {}
        self._intervals: dict[Term, Interval] = {}
        self.before: dict[Term, dict[Term, int]] = {}
        self.after: dict[Term, dict[Term, int]] = {}
        self.touching: dict[Term, dict[Term, None]] = {}
        self.sides: set[tuple[Term, bool]] = set()
        self.entangled: set[Term] = set()
        self.excluded: dict[Term, set[int]] = {}
        self.congruences: dict[Term, Congruence] = {}
        self.real_bounds: dict[Term, tuple[float, float]] = {}
        self.equal_reals: dict[Term, set[Term]] = {}
        self.alternatives: dict[Term, list[Term]] = {}
        self.nonlinear: set[Term] = set()
        self.multiplied: set[Term] = set()
        self.barred: set[Term] = set()
        self.apart: set[Term] = set()
        self.tiled: set[Term] = set()
        self.choosing: dict[Term, list[Term]] = {}
        self._nested = 0

    def _connect(self, connections: Connections) -> None:
        self.connections = connections
        self.stamp = connections.stamp  # bound here, because every question asks for stamps

    @property
    def version(self) -> int:
        """The number of facts that have been learned."""
        return self.connections.version

    def connected(self, *terms: Term) -> list[Term]:
        """The assumptions about symbols connected with those of the terms, oldest first."""
        return self.connections.connected(*terms)

    # -- stores beside this one --------------------------------------------------------------

    def layer(self, *terms: Term) -> Facts:
        """A new store of the facts connected with some terms, for a what-if."""
        near = Facts(self.table)
        for condition in self.connected(*terms):
            near.assume(self.resolve(condition))
        return near

    @contextlib.contextmanager
    def scope(self) -> Iterator[None]:
        """Inside, facts may be learned; afterwards they are forgotten.

        The store stays the same object. Its provers have to forget their conclusions at the end;
        see `Prover.forget`.
        """
        before = self.copy()
        try:
            yield
        finally:
            epoch = self.epoch + 1  # keeps growing, as `version` does
            for name, value in vars(before).items():
                if name not in ("connections", "stamp"):
                    setattr(self, name, value)
            self.connections.take_back(before.connections)
            self.epoch = epoch

    def copy(self) -> Facts:
        """A new store of all facts, which learns independently of this one."""
        other = Facts(self.table)
        for name, value in vars(self).items():
            if name in ("connections", "stamp"):
                continue
            copied: Any
            if name in _NESTED:
                copied = {key: inner.copy() for key, inner in value.items()}
            else:
                copied = value.copy() if isinstance(value, (dict, set)) else value
            setattr(other, name, copied)
        other._connect(self.connections.copy())
        return other

    # -- learning --------------------------------------------------------------------------

    resolve, solve, replace = equations.resolve, equations.solve, equations.replace

    def assume(self, condition: Term, because: Term | None = None) -> None:
        """Learn that a condition holds.

        Args:
            condition: the condition.
            because: the assumption that the condition follows from; None if the condition is
                an assumption itself.

        Raises:
            ExpressionError: the condition is not a term, or not a condition.
        """
        check_condition(condition)
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
        if self._nested > FOLLOWING:
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
        self.reasons[condition] = because
        for symbol in condition.free_symbols:
            self.mentioning.setdefault(symbol, []).append(condition)
        self.connections.touch(condition)
        if because is condition and condition.free_symbols:
            self.connections.add(condition)
            compares = compared(condition)
            if compares is not None and not is_linear(condition):
                if condition.op == "not":
                    self.barred |= condition.free_symbols
                else:
                    self.nonlinear |= condition.free_symbols
                if any(map(_multiplies, compares.coeffs)):
                    self.multiplied |= condition.free_symbols
                if found := choices(condition):
                    self.choosing[condition] = found
            elif condition.op == "not" and compares is not None and len(compares.coeffs) > 1:
                self.apart |= condition.free_symbols
            elif condition.op == "eq" and _tiles(condition.args[0]):
                self.tiled |= condition.free_symbols
        if condition.op == "and":
            for part in condition.args:
                self.assume(part, because)
        elif condition.op == "or":
            self.alternatives.setdefault(because, []).append(condition)
            inequalities.learn_hull(self, condition, because)
        elif condition.op == "ge":
            inequalities.learn(self, condition.args[0], because)
        elif condition.op == "eq":
            p: Term = condition.args[0]
            inequalities.learn(self, p, because)
            inequalities.learn(self, self.table.neg(p), because)
            equations.learn_remainder(self, p)
            equations.learn_root(self, p, because)
            with contextlib.suppress(*UNDEFINED):  # as where a divisor in it is known to be 0
                equations.learn_solution(self, p, because)
        elif condition.op in ("flt", "fle", "feq"):
            inequalities.learn_real(self, condition)
        elif condition.op == "not" and condition.args[0].op == "eq":
            q: Term = condition.args[0].args[0]
            base = q.base
            self.excluded.setdefault(base, set()).add(-q.const)
            self.excluded.setdefault(self.table.neg(base), set()).add(q.const)
        if self.solved:
            with contextlib.suppress(*UNDEFINED):
                self.assume(self.solve(condition), because)

    def settle(self, disjunction: Term, because: Term) -> None:
        """Drop a disjunction from `alternatives`, because one of its parts is known to hold."""
        left = self.alternatives[because]
        left.remove(disjunction)
        if not left:
            del self.alternatives[because]

    def as_multiple(self, symbol: Term) -> Term | None:
        """m*q + r for a symbol that is known to be r modulo m, with a symbol q of its own.

        In that form, divisions are gone that the remainder settles: of a multiple of 2,
        ``x // 2`` is q and ``x % (x // 2)`` is 0. None if no remainder is known.
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
        """The interval known of a monomial, by assumption or along the known orders."""
        return self._intervals.get(monomial, ANY)

    def is_not_zero(self, atom: Term) -> bool:
        """Whether an atom is known not to be zero."""
        low, high = self.bounds(atom)
        outside = (low is not None and low > 0) or (high is not None and high < 0)
        return outside or 0 in self.excluded.get(atom, ())


def _multiplies(monomial: Term) -> bool:
    """Whether a monomial is a product, a power, or a remainder by more than a constant."""
    op = monomial.op
    return op in _MULTIPLY or (op == "mod" and monomial.args[1].op != "const")


def _tiles(p: Term) -> bool:
    """Whether a sum may be one of flattened indices, which are equal if their parts are."""
    coeffs = p.coeffs
    return 4 <= len(coeffs) <= LONG and any(abs(c) > 1 for c in coeffs.values())
