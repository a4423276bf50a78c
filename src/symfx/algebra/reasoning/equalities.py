"""What is known to be equal: symbols that a term stands for, everywhere or in proofs."""

from __future__ import annotations

import contextlib
from abc import abstractmethod

from symfx.algebra.reasoning.connections import Connections
from symfx.algebra.terms.interpret import substitute
from symfx.algebra.terms.monomials import common_factors, divide_out
from symfx.algebra.terms.table import Table, Term

__all__ = ["LONG", "UNDEFINED", "Equalities"]

# What substitution raises where a term has no value, as ``1 // x`` for x = 0.
UNDEFINED = (ZeroDivisionError, OverflowError, ValueError)
# Longer sums are bounded by intervals and by what was assumed of them alone, and equations of
# them are not solved: every fact would grow by their terms.
LONG = 24


class Equalities(Connections):
    """The equations of a fact store.

    Attributes:
        table: the table whose terms the facts are about.
        replacements: symbols that equal a term without them, which stands for them everywhere.
        solved: symbols that equal a term without them, which stands for them in proofs only.
        epoch: how many replacements have been learned.
        contradiction: the first condition that the others exclude, if any does.
    """

    def __init__(self, table: Table) -> None:
        super().__init__()
        self.table = table
        self.replacements: dict[Term, Term] = {}
        self.solved: dict[Term, Term] = {}
        self.epoch = 0
        self.contradiction: Term | None = None
        self._resolved: dict[Term, Term] = {}
        self._solutions: dict[Term, Term] = {}
        self._mentioning: dict[Term, list[Term]] = {}
        self._reasons: dict[Term, Term] = {}

    @abstractmethod
    def assume(self, condition: Term, because: Term | None = None) -> None:
        """Learn that a condition holds; see `Facts`."""

    @abstractmethod
    def _is_not_zero(self, atom: Term) -> bool:
        """Whether an atom is known not to be zero."""

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

    def solve(self, term: Term) -> Term:
        """The term with every replaced and every solved symbol gone."""
        term = self.resolve(term)
        if not self.solved:
            return term
        found = self._solutions.get(term)
        if found is None:
            if self.solved.keys() & term.free_symbols:
                found = substitute(term, self.solved)
            else:
                found = term
            self._solutions[term] = found
        return found

    def replace(self, symbol: Term, by: Term) -> None:
        """Learn that a symbol equals a term: it stands for it from now on.

        What was known of the symbol is kept, as facts about the term.

        Raises:
            ValueError: the symbol is replaced already, or the term depends on it.
        """
        by = self.resolve(by)
        if symbol in by.free_symbols or symbol in self.replacements:
            raise ValueError(f"{symbol} cannot stand for {by}: one of both depends on the other")
        self._touch(self.table.sub(symbol, by))
        for key, old in self.replacements.items():
            if symbol in old.free_symbols:
                self.replacements[key] = substitute(old, {symbol: by})
        self.replacements[symbol] = by
        self._resolved.clear()
        self.epoch += 1
        if symbol in self.solved:
            # What it was solved for is one more equation between the symbols that are left.
            other = self.solved.pop(symbol)
            self._solutions.clear()
            self._restate(symbol, by)
            self.assume(self.table.eq(by, other))
            return
        for key, old in list(self.solved.items()):
            if symbol in old.free_symbols:
                new = substitute(old, {symbol: by})
                if key in new.free_symbols:
                    del self.solved[key]  # a fact about it is left, restated below
                else:
                    self.solved[key] = new
        self._solutions.clear()
        self._restate(symbol, by)

    def _restate(self, symbol: Term, by: Term) -> None:
        """Carry what is known of a symbol over to the term that it equals."""
        for condition in list(self._mentioning.get(symbol, ())):
            with contextlib.suppress(*UNDEFINED):  # then it says nothing about the values left
                now = substitute(condition, {symbol: by})
                self.assume(now, because=self._reasons.get(condition, condition))

    def _solve_for_a_symbol(self, p: Term, because: Term) -> None:
        """Learn from p == 0 what one of its symbols equals."""
        table = self.table
        p = self.solve(p)
        if p.op == "const":
            if p.const:
                self.contradiction = because
            return
        if len(p.coeffs) > LONG:
            return
        shared = common_factors(p)
        idle = [f for f in shared if self._is_not_zero(f)]
        if idle:
            p = divide_out(table, p, idle, 1)
            self.assume(table.eq(p, table.zero), because)
            return
        others = divide_out(table, p, shared, 1)
        factors = [f for f in dict.fromkeys((*shared, others)) if f.op != "const"]
        if len(factors) > 1:
            # One of the factors is zero; which one may come to be known later.
            self.assume(table.or_(*(table.eq(f, table.zero) for f in factors)), because)
            return
        best: tuple[bool, int] | None = None
        for monomial, coeff in p.coeffs.items():
            if monomial.op != "symbol" or coeff not in (1, -1):
                continue
            rest = table.sub(p, table.mul(table.const(coeff), monomial))
            # Constants first, young symbols before old ones: what is left is what the inputs say.
            rank = rest.op != "const", -monomial.uid
            if monomial not in rest.free_symbols and (best is None or rank < best):
                best, symbol, by = rank, monomial, table.mul(table.const(-coeff), rest)
        if best is None:
            return
        forms = {
            key: substitute(old, {symbol: by})
            for key, old in self.solved.items()
            if symbol in old.free_symbols
        }
        self._touch(p)
        self.solved.update(forms)
        self.solved[symbol] = by
        self._solutions.clear()
        self._restate(symbol, by)
