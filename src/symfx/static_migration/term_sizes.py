"""Sizes as terms: sums and products of the names that the user gave.

A demand of a rule is decided from the known facts; a demand that they leave open becomes a fact.
Every demand that is not trivially true is kept with its node, for z3 and for messages.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch.fx import Node

from symfx.algebra import Facts, Prover, Table, Term, substitute
from symfx.algebra.terms.term import postorder
from symfx.shape_rules.errors import IllTypedError
from symfx.shape_rules.sizes import UNKNOWN, Dim, Size, Sizes
from symfx.static_migration.solver import Solver

__all__ = ["Demand", "OpenCondition", "TermSizes"]


@dataclass(frozen=True)
class Demand:
    """A condition that must hold, and its origin.

    Args:
        condition: the condition.
        what: the condition in words.
        node: the node whose operator demands it; ``None`` for a condition of the user.
        origin: for a guard of a trace, the line that caused it.
    """

    condition: Term
    what: str
    node: Node | None
    origin: str = ""


@dataclass(frozen=True)
class OpenCondition:
    """The value of a comparison of sizes that the known facts leave open."""

    condition: Term


#: A condition with more alternatives than this is kept as it is.
_MOST_ALTERNATIVES = 8


def _each(_: Term) -> bool:
    return True


_OPERATIONS: dict[str, Callable[[Table, Term, Term], Term]] = {
    "+": Table.add,
    "-": Table.sub,
    "*": Table.mul,
    "//": Table.floordiv,
    "%": Table.mod,
    "min": Table.min,
    "max": Table.max,
}


class TermSizes(Sizes):
    """Sizes as terms of one table.

    Args:
        table: the table that the terms are made in.

    Attributes:
        node: the node whose rule is being run.
        demands: the conditions that must hold, in the order of the graph.
        fresh_count: the number of sizes that depend on data.
    """

    def __init__(self, table: Table) -> None:
        self.table = table
        self.facts = Facts(table)
        self.prover = Prover(self.facts)
        self.node: Node | None = None
        self.demands: list[Demand] = []
        self.fresh_count = 0

    # -- in and out -------------------------------------------------------------------------------

    def term(self, size: Dim) -> Term:
        """A size as a term, with the known equalities put in."""
        if isinstance(size, Size):
            value: Term = size.value
            return self.facts.resolve(value)
        return self.table.const(size)

    def shown(self, size: Dim) -> Term:
        """A size as a term, without alternatives that the demands leave one outcome."""
        term = self.term(size)
        choices = [part for part in postorder(term, _each) if part.op == "where"]
        if choices:
            known = [self.facts.resolve(demand.condition) for demand in self.demands]
            solver = Solver(1.0)
            for choice in choices:
                test, *outcomes = choice.args
                for fact, outcome in zip((test, self.table.not_(test)), outcomes, strict=True):
                    if solver.follows(known, fact):
                        term = substitute(term, {choice: outcome})
                        break
        return term

    def size(self, term: Term) -> Dim:
        """A term as a size; a constant as a number."""
        term = self.facts.resolve(term)
        value = term.value
        return int(value) if value is not None else Size(self, term)

    def symbol(self, name: str, least: int | None = None) -> Term:
        """The size of this name; `least` is a lower bound."""
        symbol = self.table.symbol(name)
        if least is not None:
            self.demand(symbol >= least, f"{name} is at least {least}")
        return symbol

    def fresh(self, hint: str) -> Dim:
        """A new size that depends on data: ``u0``, ``u1``."""
        symbol = self.symbol(f"u{self.fresh_count}", 0)
        self.fresh_count += 1
        return self.size(symbol)

    # -- demands ----------------------------------------------------------------------------------

    def demand(self, condition: Term, what: str, origin: str = "", text: str = "") -> None:
        """Demand a condition.

        Args:
            condition: the condition.
            what: the condition in words.
            origin: the line that caused a guard of a trace.
            text: the condition as the rule writes it, before terms are brought to normal form.

        Raises:
            IllTypedError: the known facts refute it.
        """
        condition = self.facts.resolve(condition)
        truth = self.prover.decide(condition)
        if truth:
            return
        if truth is None and any(part.op == "where" for part in postorder(condition, _each)):
            condition = self._settled(condition)
        self.demands.append(Demand(condition, what, self.node, origin))
        if truth is False:
            raise IllTypedError(f"{what}: {text or condition} does not hold")
        self._learn(condition)

    def _settled(self, condition: Term) -> Term:
        """A condition with the outcomes that it allows in place of ``a if test else b``.

        ``(a if t >= 5 else b) == 5`` is ``t >= 5 and a == 5`` where ``b`` is never 5.
        """
        known = [self.facts.resolve(demand.condition) for demand in self.demands]
        solver, table = Solver(1.0), self.table
        left = [*condition.args] if condition.op == "or" else [condition]
        found: list[Term] = []
        while left:
            part = left.pop()
            choice = next((t for t in postorder(part, _each) if t.op == "where"), None)
            if choice is None:
                found.append(part)
            elif len(found) + len(left) >= _MOST_ALTERNATIVES:
                return condition
            else:
                test, *outcomes = choice.args
                for fact, outcome in zip((test, table.not_(test)), outcomes, strict=True):
                    if not solver.follows([*known, part], table.not_(fact)):
                        rest = substitute(part, {choice: outcome})
                        implied = solver.follows([*known, fact], rest)
                        left.append(fact if implied else table.and_(fact, rest))
        for part in [*found]:
            others = [other for other in found if other is not part]
            if others and solver.follows([*known, part], table.or_(*others)):
                found.remove(part)
        return table.or_(*found)

    def _learn(self, condition: Term) -> None:
        if condition.op == "and":
            for part in condition.args:
                self._learn(part)
            return
        if condition.op == "eq":
            solved = _solved(condition.args[0])
            if solved is not None:
                self.facts.replace(*solved)
                return
        self.facts.assume(condition)

    def compare(self, op: str, a: Dim, b: Dim) -> Any:
        """The truth of a comparison, or the comparison itself if the facts leave it open."""
        if isinstance(a, int) and isinstance(b, int):
            return super().compare(op, a, b)
        condition = self._condition(op, a, b)
        truth = self.prover.decide(condition)
        return OpenCondition(condition) if truth is None else truth

    def negation(self, condition: Any) -> Any:
        """The negation of a comparison that the facts leave open."""
        if not isinstance(condition, OpenCondition):
            return UNKNOWN
        return OpenCondition(self.table.not_(condition.condition))

    def _condition(self, op: str, a: Dim, b: Dim) -> Term:
        one, other = self.term(a), self.term(b)
        if op in ("==", "!="):
            return one.eq(other) if op == "==" else one.ne(other)
        if op in ("<", "<="):
            return one < other if op == "<" else one <= other
        return one > other if op == ">" else one >= other

    # -- the operations of rules ------------------------------------------------------------------

    def _compute(self, op: str, a: Dim, b: Dim) -> Dim:
        one, other = self.term(a), self.term(b)
        if op in ("min", "max"):
            less = self.prover.decide(one <= other)
            if less is None and self.prover.decide(other <= one):
                less = False
            if less is not None:
                return self.size(one if less is (op == "min") else other)
        if op in ("//", "%") and other.value is None:
            self.demand(other.ne(0), f"{one} is not divided by 0")
        return self.size(_OPERATIONS[op](self.table, one, other))

    def _require(self, op: str, a: Dim, b: Dim, what: str) -> None:
        text = f"{self.term(a)} {op} {self.term(b)}"
        self.demand(self._condition(op, a, b), what, text=text)

    def _equal(self, a: Dim, b: Dim, what: str) -> Dim:
        one, other = self.term(a), self.term(b)
        for whole, part in ((one, other), (other, one)):
            # x == min(x, y) is x <= y, a form that the prover can use.
            if part.op == "min" and whole in part.args:
                (bound,) = [arg for arg in part.args if arg is not whole]
                self.demand(whole <= bound, what)
                return self.size(whole)
        self.demand(one.eq(other), what, text=f"{one} == {other}")
        return self._shorter(a, b)

    def _shorter(self, a: Dim, b: Dim) -> Dim:
        """That of two equal sizes which is shorter to read."""
        return self.size(min(self.term(a), self.term(b), key=lambda term: len(str(term))))

    def _broadcast(self, a: Dim, b: Dim, what: str) -> Dim:
        one, other = self.term(a), self.term(b)
        if one is other:
            return self.size(one)
        a_is_1, b_is_1, same = one.eq(1), other.eq(1), one.eq(other)
        decide = self.prover.decide
        if decide(a_is_1):
            return self.size(other)
        if decide(b_is_1):
            return self.size(one)
        if decide(same):
            return self._shorter(a, b)
        not_a, not_b = decide(a_is_1) is False, decide(b_is_1) is False
        if not_a and not_b:
            return self._equal(a, b, what)
        # If `a` is 1 only where `b` is 1, `a` is never stretched.
        not_a = not_a or self._implies(a_is_1, b_is_1)
        not_b = not_b or self._implies(b_is_1, a_is_1)
        if not_a and not_b:
            return self._equal(a, b, what)
        choices = [same, *([] if not_a else [a_is_1]), *([] if not_b else [b_is_1])]
        self.demand(self.table.or_(*choices), what, text=f"{one} == {other}")
        if not_a or not_b:
            return self.size(one if not_a else other)
        return self.size(self.table.where(a_is_1, other, one))

    def _stretch(self, a: Dim, b: Dim, what: str) -> None:
        one, other = self.term(a), self.term(b)
        never = self.prover.decide(one.eq(1)) is False
        if never or self._implies(one.eq(1), other.eq(1)):
            self._equal(a, b, what)  # it is never stretched, or only from 1 to 1
        else:
            choices = self.table.or_(one.eq(1), one.eq(other))
            self.demand(choices, what, text=f"{one} == {other}")

    def _implies(self, premise: Term, conclusion: Term) -> bool:
        """Whether a premise and the demands so far imply a conclusion with the same symbols."""
        if not premise.free_symbols & conclusion.free_symbols:
            return False
        known = [self.facts.resolve(demand.condition) for demand in self.demands]
        return Solver(1.0).follows([*known, premise], conclusion)

    def _place(self, size: Dim, bound: Dim) -> Dim:
        front = self.term(bound) >= 0
        known = [self.facts.resolve(demand.condition) for demand in self.demands]
        solver = Solver(1.0)
        not_behind = solver.follows(known, self.term(bound) <= 0)
        at_front = 0 if not_behind else self.compute("min", size, bound)
        if solver.follows(known, front):
            return at_front
        at_end = self.compute("max", size + bound, 0)
        if solver.follows(known, self.table.not_(front)):
            return at_end
        return self.size(self.table.where(front, self.term(at_front), self.term(at_end)))

    def _fits(self, whole: Dim, part: Dim, what: str) -> Dim:
        one, other = self.term(whole), self.term(part)
        self.demand(other.ne(0), f"{one} is not divided by 0")
        self.demand((one % other).eq(0), what, text=f"{one} % {other} == 0")
        return self.size(self.facts.resolve(one // other))


def _solved(zero: Term) -> tuple[Term, Term] | None:
    """Solve ``zero == 0`` for a symbol: the symbol and the term that it equals."""
    table = zero.table
    # The newest symbol is eliminated first, so that the names of the inputs stay.
    candidates = sorted(zero.free_symbols, key=lambda s: s.uid, reverse=True)
    for symbol in candidates:
        factor = zero.coeffs.get(symbol)
        if factor not in (1, -1):
            continue
        rest = table.sub(zero, table.mul(table.const(factor), symbol))
        if symbol not in rest.free_symbols:
            return symbol, table.neg(rest) if factor == 1 else rest
    return None
