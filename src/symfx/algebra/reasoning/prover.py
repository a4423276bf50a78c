"""The decision procedure: do the facts imply a condition, refute it, or leave it open?

Everything rests on one question, the best lower bound of an integer term (`Prover._lower_bound`),
answered by interval arithmetic, known orders, shared factors, and the defining inequalities
of ``//``, ``%``, ``min`` and ``max``. What that leaves open is tried case by case, where there
are few: the values of a symbol with a small range, and the alternatives of a known "or".
Each way of answering gives a true bound, so the best of them is one; a search that is cut short
loses strength, never soundness.
"""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Callable, Iterable
from functools import reduce

from symfx.algebra.reasoning.bounds import DEPTH, FUEL, Bounds, at_least
from symfx.algebra.reasoning.equalities import LONG, UNDEFINED
from symfx.algebra.reasoning.facts import Facts, is_order
from symfx.algebra.reasoning.inspection import (
    choices,
    is_linear,
    is_long,
    moduli,
    nonlinear_symbols,
    options,
    without_remainders,
)
from symfx.algebra.reasoning.intervals import ANYTHING, Interval
from symfx.algebra.terms.interpret import substitute
from symfx.algebra.terms.monomials import common_factors, divide_out
from symfx.algebra.terms.table import Scalar, Term

__all__ = ["Prover"]

# How many cases may be looked at: values of symbols with small ranges, known alternatives, and
# how many facts may be carried over into each of the latter.
_VALUES = 24
_ALTERNATIVES = 3
_BRANCHES = 16
_CARRIED = 100
# How many questions may lead from one to the next.
_NESTED = 40
_IN_TURN = 2


class Prover(Bounds):
    """Decides conditions from a store of facts.

    Args:
        facts: what is known.
        witness: gives the value of a term in one state of affairs in which all facts hold
            (the inputs that are being traced), or None where it has none. What holds there
            cannot be refuted, so no search is wasted on it.

    Example:
        >>> from symfx.algebra import Table
        >>> t = Table(); a, b, c = map(t.symbol, "abc")
        >>> facts = Facts(t); prover = Prover(facts)
        >>> facts.assume(a < b); facts.assume(b < c)
        >>> prover.decide(a + 1 < c), prover.decide(a >= c), prover.decide(a >= 0)
        (True, False, None)
    """

    def __init__(
        self,
        facts: Facts,
        witness: Callable[[Term], Scalar | None] | None = None,
        *,
        _splits: int = 2,
    ) -> None:
        super().__init__(facts)
        self._splits = _splits
        self._nested = 0
        self._divided_in_turn = 0
        self._branches: dict[tuple[Term, ...], tuple[int, Prover]] = {}
        self._witness = witness or (lambda term: None)
        self._decided: dict[Term, bool] = {}
        self._open: dict[Term, int] = {}

    def decide(self, condition: Term) -> bool | None:
        """True where the facts imply the condition, False where they refute it, else None."""
        if condition.op == "const":
            return bool(condition.args[0])
        facts = self.facts
        known = facts.known.get(condition)
        if known is None:
            known = self._decided.get(condition)
        if known is not None:
            return known
        asked = self._open.get(condition)
        if asked is not None and facts.stamp(condition) <= asked:
            return None
        resolved = facts.resolve(condition)
        if resolved is not condition:
            answer = self.decide(resolved)
        elif self._nested > _NESTED:
            return None
        else:
            self._nested += 1
            try:
                answer = self._searched(condition)
            finally:
                self._nested -= 1
        if answer is None:
            self._open[condition] = facts.version
        else:
            # Facts only grow: what follows today follows for ever.
            self._decided[condition] = answer
        return answer

    def forget(self) -> None:
        """Forget all answers, after facts were taken back; see `Facts.scope`."""
        for answers in (self._least, self._decided, self._open, self._branches):
            answers.clear()

    def _searched(self, condition: Term) -> bool | None:
        self._fuel = FUEL
        answer = self._decide(condition)
        if answer is None and not (self._nothing_to_try() and is_linear(condition)):
            answer = self._rewritten(condition)
            if answer is None:
                answer = self._by_cases(condition)
        return answer

    def _nothing_to_try(self) -> bool:
        """Whether only bounds and orders are known, which say of a linear condition what they can
        at first sight."""
        facts = self.facts
        return not (facts.solved or facts.congruences or facts.alternatives)

    def core(self, condition: Term) -> tuple[bool | None, list[Term]]:
        """What a prover beyond this one says of a condition, and the facts used: there is none."""
        return None, []

    def reduce(self, condition: Term) -> Term:
        """An equivalent condition, given the facts, without what is known of its parts.

        Factors that are known not to be zero leave an equation, positive ones an inequality;
        parts that are known to hold leave a conjunction, parts known to fail a disjunction.
        """
        condition = self.facts.resolve(condition)
        table = self.table
        if condition.op in ("and", "or"):
            drop = condition.op == "and"
            parts = [self.reduce(p) for p in condition.args if self.decide(p) is not drop]
            return table.and_(*parts) if drop else table.or_(*parts)
        negated = condition.op == "not"
        inner = condition.args[0] if negated else condition
        if inner.op not in ("eq", "ge"):
            return condition
        p = inner.args[0]
        factors = self._factors(p)
        if len(factors) == 1:
            return condition
        kept = [f for f in factors if not self._is_idle(f, inner.op)]
        if len(kept) == len(factors):
            return condition
        rest = reduce(table.mul, kept, table.one)
        if inner.op == "ge":
            return table.ge_zero(rest if reduce(table.mul, factors) is p else table.neg(rest))
        reduced = table.eq(rest, table.zero)
        return table.not_(reduced) if negated else reduced

    def _is_idle(self, factor: Term, op: str) -> bool:
        """Whether a product has the same sign ("ge") or the same zeros ("eq") without a factor."""
        table = self.table
        if op == "eq":
            return self.decide(table.eq(factor, table.zero)) is False
        return self.decide(table.lt(table.zero, factor)) is True

    def _rewritten(self, condition: Term) -> bool | None:
        """Decide the condition in terms of other symbols, where equalities offer some."""
        rewrites: list[Callable[[Term], Term]] = [self.facts.solve]
        if not is_long(condition):
            rewrites.append(self._divided)
            if not is_linear(condition):
                rewrites.append(without_remainders)
        for rewrite in rewrites:
            # A form without a value says nothing: the condition is never asked where facts hold.
            with contextlib.suppress(*UNDEFINED):
                form = rewrite(condition)
                answer = None if form is condition else self.decide(form)
                if answer is not None:
                    return answer
        return None

    def _divided(self, condition: Term) -> Term:
        """The condition with each symbol of known remainder written as m*q + r."""
        congruences = self.facts.congruences
        forms = {}
        for symbol in condition.free_symbols & congruences.keys():
            form = self.facts.as_multiple(symbol)
            if form is not None:
                forms[symbol] = form
        return substitute(condition, forms) if forms else condition

    def range(self, term: Term) -> Interval:
        """The tightest interval that the search finds for an integer term."""
        term = self.facts.resolve(term)
        self._fuel = FUEL
        low = self._lower_bound(term, DEPTH)
        self._fuel = FUEL
        high = self._lower_bound(self.table.neg(term), DEPTH)
        return low, None if high is None else -high

    def _decide(self, condition: Term) -> bool | None:
        op = condition.op
        if op == "ge":
            return self._at_least_zero(condition.args[0])
        if op == "eq":
            return self._is_zero(condition.args[0])
        if op == "not":
            inner = self.decide(condition.args[0])
            return None if inner is None else not inner
        if op in ("flt", "fle", "feq"):
            return self._compare_reals(op, *condition.args)
        if op in ("and", "or"):
            settles = op == "or"  # one True settles an or, one False an and
            unknown = False
            for part in condition.args:
                answer = self.decide(part)
                if answer is settles:
                    return settles
                unknown |= answer is None
            return None if unknown else not settles
        return None

    # -- case by case -----------------------------------------------------------------------

    def _by_cases(self, condition: Term) -> bool | None:
        if is_long(condition):
            return None
        ways: list[Callable[[Term], bool | None]] = []
        if not is_linear(condition):
            ways += self._by_values, self._by_remainders, self._by_choices_made
        if self._splits and self.facts.alternatives:
            ways.append(self._by_alternatives)
        if self._splits and condition.op in ("and", "or"):
            ways.append(self._by_denial)
        for way in ways:
            # A case in which the condition has no value says nothing.
            with contextlib.suppress(*UNDEFINED):
                answer = way(condition)
                if answer is not None:
                    return answer
        return None

    def _by_values(self, condition: Term) -> bool | None:
        """Decide for each value of the symbols that have few."""
        if condition.op not in ("eq", "ge", "not"):
            return None
        chosen: list[Term] = []
        values: list[list[int]] = []
        cases = 1
        for symbol in sorted(nonlinear_symbols(condition), key=lambda s: s.uid):
            low, high = self._atom_interval(symbol)
            if low is None or high is None or not 0 <= high - low < _VALUES // cases:
                continue
            m, r = self.facts.congruences.get(symbol, ANYTHING)
            excluded = self.facts.excluded.get(symbol, ())
            chosen.append(symbol)
            values.append(
                [v for v in range(low, high + 1) if v not in excluded and (m < 2 or v % m == r)]
            )
            cases *= high - low + 1
        if not chosen:
            return None
        const = self.table.const
        return self._agreed(
            self.decide(substitute(condition, dict(zip(chosen, map(const, case), strict=True))))
            for case in itertools.product(*values)
        )

    def _by_remainders(self, condition: Term) -> bool | None:
        """Decide for each remainder of the symbols in products that are divided by a constant.

        So ``s * (s + 1) % 2`` is 0: s is 2*q or 2*q + 1.
        """
        by = moduli(condition)
        # The quotients q are symbols that could be divided in turn, for ever.
        if not by or math.prod(by.values()) > _VALUES or self._divided_in_turn >= _IN_TURN:
            return None
        table = self.table
        forms: list[list[Term]] = []
        for symbol, m in by.items():
            q = table.symbol(f"({symbol.name} by {m})")
            known, rest = self.facts.congruences.get(symbol, ANYTHING)
            shared = math.gcd(known, m)
            forms.append([m * q + r for r in range(m) if (r - rest) % shared == 0])
        self._divided_in_turn += 1
        try:
            return self._agreed(
                self.decide(substitute(condition, dict(zip(by, case, strict=True))))
                for case in itertools.product(*forms)
            )
        finally:
            self._divided_in_turn -= 1

    def _by_choices_made(self, condition: Term) -> bool | None:
        """Decide for each way that a min, max, abs or where in the condition can turn out."""
        for atom in choices(condition):
            ways = [(c, v) for c, v in options(atom) if self.decide(c) is not False]
            for assumed, value in ways:
                if len(ways) == 1 or self.decide(assumed):
                    return self.decide(substitute(condition, {atom: value}))
            if not self._splits:
                continue
            answer = self._agreed(
                branch.decide(substitute(condition, {atom: value}))
                for assumed, value in ways
                if (branch := self._under(assumed, condition)) is not None
            )
            if answer is not None:
                return answer
        return None

    def _by_denial(self, condition: Term) -> bool | None:
        """Decide each part of a short "or" supposing that the others fail; of an "and", hold."""
        if len(condition.args) > _ALTERNATIVES:
            return None
        settles = condition.op == "or"
        seen = self._witness(condition)
        if seen is not None and bool(seen) is not settles:
            return None
        table = self.table
        for last in condition.args:
            others = [part for part in condition.args if part is not last]
            supposed = table.and_(*(map(table.not_, others) if settles else others))
            branch = self._under(supposed, condition)
            # Where the others cannot all fail, one of them holds.
            if branch is None or branch.decide(last) is settles:
                return settles
        return None

    def _by_alternatives(self, condition: Term) -> bool | None:
        """Decide under each alternative of a disjunction that is known to hold."""
        facts = self.facts
        near = facts.connected(condition)
        if len(near) > _CARRIED:
            return None
        tried = 0
        for fact in near:
            for either in tuple(facts.alternatives.get(fact, ())):
                if len(either.args) > _BRANCHES:
                    continue
                if any(facts.known.get(part) for part in either.args):
                    facts.settle(either, fact)
                    continue
                live = [p for p in either.args if not facts.known.get(self.table.not_(p))]
                if len(live) == 1:
                    # Settled by this: were it tried again, it would lead back to here.
                    facts.settle(either, fact)
                    facts.assume(live[0], because=fact)
                    return self.decide(condition)
                answer = self._agreed(
                    branch.decide(condition)
                    for part in live
                    if (branch := self._under(part, either, condition)) is not None
                )
                if answer is not None:
                    return answer
                tried += 1
                if tried == _ALTERNATIVES:
                    return None
        return None

    def _under(self, supposed: Term, *near: Term) -> Prover | None:
        """A prover that supposes a condition, beside what is known near it and some terms.

        None where that cannot be.
        """
        facts = self.facts
        key = (supposed, *facts.components(supposed, *near))
        stamp = max(map(facts.stamp, (supposed, *near)))
        cached = self._branches.get(key)
        if cached is None or cached[0] != stamp:
            layer = facts.layer(supposed, *near)
            layer.assume(facts.resolve(supposed))
            cached = stamp, Prover(layer, _splits=self._splits - 1)
            self._branches[key] = cached
        return None if cached[1].facts.contradiction is not None else cached[1]

    @staticmethod
    def _agreed(answers: Iterable[bool | None]) -> bool | None:
        """The answer that all give; None where one is None or two differ, or there are none."""
        common: bool | None = None
        for answer in answers:
            if answer is None or (common is not None and answer is not common):
                return None
            common = answer
        return common

    # -- reals ------------------------------------------------------------------------------

    def _compare_reals(self, op: str, a: Term, b: Term) -> bool | None:
        left, right = self.real_range(a), self.real_range(b)
        if left is None or right is None:
            return None
        if op == "feq":
            if left == right and left[0] == left[1]:
                return True
            return False if left[1] < right[0] or right[1] < left[0] else None
        if op == "flt":
            return True if left[1] < right[0] else False if right[1] <= left[0] else None
        return True if left[1] <= right[0] else False if right[1] < left[0] else None

    # -- the two questions about integers -----------------------------------------------------

    def _at_least_zero(self, p: Term) -> bool | None:
        low, high = self._interval(p)
        if low is not None and low >= 0:
            return True
        if high is not None and high < 0:
            return False
        if len(p.coeffs) > LONG:
            return self._sign_assumed(p)
        if self._only_ordered(p):
            low = self._by_order(p.base)
            if low is not None and low + p.const >= 0:
                return True
            if len(p.coeffs) == 1 or not self.facts.before:
                return None
            low = self._by_order(self.table.neg(p.base))
            return False if low is not None and low - p.const >= 1 else None
        seen = self._witness(p)
        if (seen is None or seen >= 0) and at_least(self._lower_bound(p, DEPTH, 0), 0):
            return True
        if seen is None or seen < 0:
            self._fuel = FUEL
            if at_least(self._lower_bound(self.table.neg(p), DEPTH, 1), 1):
                return False
        return None

    def _sign_assumed(self, p: Term) -> bool | None:
        """Whether p >= 0, as far as a bound of p itself was assumed."""
        lower = self.facts.lower
        if at_least(lower.get(p.base), -p.const):
            return True
        return False if at_least(lower.get(self.table.neg(p.base)), p.const + 1) else None

    def _only_ordered(self, p: Term) -> bool:
        """Whether orders and intervals say all that is known of a sum."""
        facts = self.facts
        return p.base not in facts.excluded and is_order(p) and facts.entangled.isdisjoint(p.coeffs)

    def _is_zero(self, p: Term) -> bool | None:
        m, r = self.congruence(p)
        if m == 0:
            return r == 0
        if r % m:
            return False
        if len(p.coeffs) > LONG:
            low, high = self._interval(p)
            outside = at_least(low, 1) or (high is not None and high < 0)
            return False if outside or self._sign_assumed(p) is False else None
        exact = self._without_exact_divisions(p)
        if exact is not p:
            return self.decide(self.table.eq(exact, self.table.zero))
        factors = self._factors(p)
        if len(factors) > 1:
            # A product is zero just when one of its factors is.
            answers = [self.decide(self.table.eq(f, self.table.zero)) for f in factors]
            if any(answers):
                return True
            if all(a is False for a in answers):
                return False
            self._fuel = FUEL
        seen = self._witness(p)
        low = high = None
        if seen is None or seen >= 0:
            low = self._lower_bound(p, DEPTH, 1)
            if at_least(low, 1):
                return False
        if seen is None or seen <= 0:
            self._fuel = FUEL
            high = self._lower_bound(self.table.neg(p), DEPTH, 1)
            if at_least(high, 1):
                return False
        return True if low == 0 and high == 0 else None

    def _factors(self, p: Term) -> tuple[Term, ...]:
        """Terms whose product is p or -p, as far as they are known: p alone, if not."""
        for form in (p, self.table.neg(p)):
            known = self.table.products.get(form.base)
            if known is not None and known[0] is form:
                return known[1]
        if p.is_monomial:
            return p.factors
        common = common_factors(p)
        if not common:
            return (p,)
        return (*common, *self._factors(divide_out(self.table, p, common, 1)))
