"""The decision procedure: do the facts imply a condition, refute it, or leave it open?

Every comparison of integers comes down to one question, the best lower bound of a term
(`symfx.algebra.reasoning.lower_bounds`). An open condition is rewritten by known equations and
remainders, then decided case by case (`symfx.algebra.reasoning.cases`). A search that is cut short
is weaker, never wrong.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from functools import partial, reduce

from symfx.algebra.reasoning.cases import by_cases
from symfx.algebra.reasoning.condition_forms import (
    check_condition,
    is_linear,
    is_long,
    is_order,
    without_remainders,
)
from symfx.algebra.reasoning.effort import Effort
from symfx.algebra.reasoning.factors import known_factors_of
from symfx.algebra.reasoning.facts import Facts
from symfx.algebra.reasoning.intervals import Interval, at_least
from symfx.algebra.reasoning.limits import LONG, NESTED, REDUCED, STEPS, TRIES_OF_A_WAY
from symfx.algebra.reasoning.lower_bounds import LowerBounds
from symfx.algebra.reasoning.lower_bounds.known_sums import by_orders
from symfx.algebra.reasoning.real_intervals import RealInterval
from symfx.algebra.reasoning.refutation import Refuter
from symfx.algebra.reasoning.second_try import is_hopeless, second_try
from symfx.algebra.reasoning.term_intervals import TermIntervals
from symfx.algebra.terms.definedness import UNDEFINED
from symfx.algebra.terms.interpret import substitute
from symfx.algebra.terms.table import Scalar, Term

__all__ = ["Prover"]


class Prover:
    """Decides conditions from a store of facts.

    Args:
        facts: the store of facts.
        witness: the function that gives the value of a term in one situation in which all facts
            hold (for the inputs of a trace), or None if it has none. A condition that holds
            there cannot be refuted, so the prover does not try to refute it.

    Attributes:
        intervals: the intervals of terms.
        bounds: the search for lower bounds of integer terms.
        refuter: the search for contradictions.
        effort: the work that the running question has taken so far.
        splits: the number of suppositions that may still be made within each other.
        divided: the number of divisions by remainders, and of replacements of products, around the
            running question.

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
        _effort: Effort | None = None,
    ) -> None:
        self.facts = facts
        self.table = facts.table
        self.intervals = TermIntervals(facts)
        self.effort = _effort or Effort()
        self.bounds = LowerBounds(facts, self.intervals, self.effort)
        self.refuter = Refuter(facts, self.intervals)
        # Bound here, because every question asks these.
        self._interval = self.intervals.of
        self._least = self.bounds.search
        self.congruence = self.intervals.congruence
        self.real_range = self.intervals.real_range
        self.witness = witness or (lambda term: None)
        self.splits = _splits
        self.divided = 0
        self._branches: dict[tuple[Term, ...], tuple[int, Prover]] = {}
        self._decided: dict[Term, bool] = {}
        # Open questions, with the version of the facts: after the first try, and after the second.
        self._open: dict[Term, int] = {}
        self._open_still: dict[Term, int] = {}

    # -- asking ------------------------------------------------------------------------------

    def decide(self, condition: Term) -> bool | None:
        """True if the facts imply the condition, False if they refute it, else None.

        Raises:
            ExpressionError: the condition is not a term, or not a condition.
        """
        if condition.__class__ is not Term or condition.sort != "bool":
            check_condition(condition)
        if condition.op == "const":
            return bool(condition.args[0])
        facts = self.facts
        known = facts.known.get(condition)
        if known is None:
            known = self._decided.get(condition)
        if known is not None:
            return known
        effort = self.effort
        nested = effort.nested
        again = not nested or effort.again
        asked = (self._open_still if again else self._open).get(condition)
        if asked is not None and facts.stamp(condition) <= asked:
            return None
        if facts.replacements and (resolved := facts.resolve(condition)) is not condition:
            answer = self.decide(resolved)
        else:
            if not nested:
                effort.begin()
            elif nested > NESTED or effort.steps > STEPS:
                return None
            else:
                effort.steps += 1
            effort.nested = nested + 1
            try:
                answer = self._first_then_second_try(condition, again)
            finally:
                effort.nested = nested
        if answer is not None:
            # Facts only grow: a conclusion stays true.
            self._decided[condition] = answer
        return answer

    def decide_at_first(self, condition: Term) -> bool | None:
        """`decide` without its second try, which finds more and takes many times as long."""
        effort = self.effort
        effort.begin()
        effort.nested += 1
        try:
            return self.decide(condition)
        finally:
            effort.nested -= 1

    def forget(self) -> None:
        """Forget the conclusions, after facts were taken back; see `Facts.scope`.

        Memos of bounds have stamps, by which they know that they are out of date.
        """
        self._decided.clear()
        self._open.clear()
        self._open_still.clear()

    def _first_then_second_try(self, condition: Term, again: bool) -> bool | None:
        facts, effort = self.facts, self.effort
        comparison = condition.op in ("eq", "ge")
        if comparison and self._knows_orders_alone() and is_order(condition.args[0]):
            # Intervals and orders decide such a comparison, or leave it open for good.
            p = condition.args[0]
            if condition.op == "ge":
                answer = self._at_least_zero(p, ordered=not facts.excluded)
            else:
                answer = self._is_zero(p)
            if answer is None:
                self._open[condition] = self._open_still[condition] = facts.version
            return answer
        asked = self._open.get(condition) if again else None
        if asked is None or effort.again or facts.stamp(condition) > asked:
            answer = self._searched(condition)
            if answer is not None:
                return answer
            if effort.nested == 1 or not effort.spent:
                self._open[condition] = facts.version
        if not again or is_hopeless(self, condition):
            return None
        answer = None
        first = not effort.again
        if first:
            effort.again, effort.left = True, TRIES_OF_A_WAY
        try:
            if effort.left > 0:
                effort.left -= 1
                answer = second_try(self, condition, first=first)
            if answer is None and effort.left > 0 and not effort.spent:
                self._open_still[condition] = facts.version
        finally:
            effort.again = not first
        if answer is None and first:
            self._open_still[condition] = facts.version
        return answer

    def range(self, term: Term) -> Interval:
        """The tightest interval that the search finds for an integer term."""
        if not self.effort.nested:
            self.effort.begin()
        term = self.facts.resolve(term)
        low = self._least(term)
        high = self._least(self.table.neg(term))
        return low, None if high is None else -high

    def core(self, condition: Term) -> tuple[bool | None, list[Term]]:
        """The answer of a stronger prover and the facts that it used: of this one, no answer."""
        return None, []

    def reduce(self, condition: Term) -> Term:
        """A condition that is equivalent, given the facts, without its parts that are known.

        Factors that are known not to be zero leave an equation, positive ones an inequality;
        parts that are known to hold leave a conjunction, parts known to fail a disjunction.
        """
        return self._reduced(self.facts.resolve(condition), 0)

    def _reduced(self, condition: Term, depth: int) -> Term:
        table = self.table
        if condition.op in ("and", "or"):
            if depth > REDUCED:
                return condition
            drop = condition.op == "and"
            left = [p for p in condition.args if self.decide(p) is not drop]
            parts = [self._reduced(self.facts.resolve(p), depth + 1) for p in left]
            return table.and_(*parts) if drop else table.or_(*parts)
        negated = condition.op == "not"
        inner = condition.args[0] if negated else condition
        if inner.op not in ("eq", "ge"):
            return condition
        p = inner.args[0]
        factors = known_factors_of(p)
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

    def under(self, supposed: Term, *near: Term) -> Prover | None:
        """A prover that supposes a condition, beside the facts near it and near some terms.

        None if the facts exclude the condition.
        """
        facts = self.facts
        key = (supposed, *facts.connections.components(supposed, *near))
        stamp = max(map(facts.stamp, (supposed, *near)))
        cached = self._branches.get(key)
        if cached is None or cached[0] != stamp:
            layer = facts.layer(supposed, *near)
            layer.assume(facts.resolve(supposed))
            cached = stamp, Prover(layer, _splits=self.splits - 1, _effort=self.effort)
            if layer.barred and layer.contradiction is None:
                cached[1]._notice_barred()
            self._branches[key] = cached
        return None if cached[1].facts.contradiction is not None else cached[1]

    def _notice_barred(self) -> None:
        """Notice that the remainders known of a term leave it no value but an excluded one."""
        for base, values in self.facts.excluded.items():
            if base.op != "symbol":
                m, r = self.congruence(base)
                if m == 0 and r in values:
                    self.facts.contradiction = self.table.ne(base, self.table.const(r))

    # -- searching ---------------------------------------------------------------------------

    def _searched(self, condition: Term) -> bool | None:
        answer = self.by_form(condition)
        if answer is None and not (self._knows_bounds_alone() and is_linear(condition)):
            answer = self._rewritten(condition)
            if answer is None:
                answer = by_cases(self, condition)
        return answer

    def _knows_bounds_alone(self) -> bool:
        """Whether all facts are bounds of sums, which decide a linear condition at once."""
        facts = self.facts
        return not (facts.solved or facts.congruences or facts.alternatives)

    def _knows_orders_alone(self) -> bool:
        """Whether all facts compare symbols with each other and with constants."""
        facts = self.facts
        if facts.entangled or facts.nonlinear or facts.multiplied or facts.choosing or facts.barred:
            return False
        return self._knows_bounds_alone()

    def by_form(self, condition: Term) -> bool | None:
        """Decide a comparison by bounds, any other condition by its parts."""
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

    def _rewritten(self, condition: Term) -> bool | None:
        """Decide the condition in terms of other symbols, which known equations offer."""
        rewrites: list[Callable[[Term], Term]] = [self.facts.solve]
        if not is_long(condition):
            rewrites.append(self._divided)
            if condition.op not in ("and", "or") and not is_linear(condition):
                rewrites.append(partial(without_remainders, everywhere=False))
        for rewrite in rewrites:
            # A form without a value says nothing: where facts hold, the condition has none.
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

    def by_known_multiples(self, condition: Term) -> Term:
        """The condition with each product of known remainder modulo m as m*(product//m) + r."""
        table = self.table
        forms = {}
        for product, (m, r) in self.facts.congruences.items():
            if product.op != "symbol" and m > 1 and product.free_symbols <= condition.free_symbols:
                quotient = table.floordiv(product, table.const(m))
                forms[product] = table.add(table.mul(table.const(m), quotient), table.const(r))
        return substitute(condition, forms) if forms else condition

    def _compare_casts(self, op: str, a: Term, b: Term) -> bool | None:
        """Compare integers that are cast to doubles: different ones may be equal beyond 2**53."""
        table = self.table
        if op == "flt" and self.decide(table.le(b, a)):
            return False
        if op == "fle" and self.decide(table.le(a, b)):
            return True
        exact = all(
            end is not None and abs(end) <= 2**53 for x in (a, b) for end in self._interval(x)
        )
        if op == "feq":
            answer = self.decide(table.eq(a, b))
            return answer if answer or exact else None
        return self.decide(table.lt(a, b) if op == "flt" else table.le(a, b)) if exact else None

    def _compare_reals(self, op: str, a: Term, b: Term) -> bool | None:
        if a.op == b.op == "to_real":
            answer = self._compare_casts(op, a.args[0], b.args[0])
            if answer is not None:
                return answer
        left, right = self._range_of_number(a), self._range_of_number(b)
        if left is None or right is None:
            return None
        if op == "feq":
            if a is b:
                return True  # it has an interval, so it is not NaN
            if left == right and left[0] == left[1]:
                return True
            return False if left[1] < right[0] or right[1] < left[0] else None
        if op == "flt":
            return True if left[1] < right[0] else False if right[1] <= left[0] else None
        return True if left[1] <= right[0] else False if right[1] < left[0] else None

    def _range_of_number(self, a: Term) -> RealInterval | None:
        if a.sort == "real":
            return self.real_range(a)
        low, high = self._interval(a)  # integers compare exactly with doubles
        return -math.inf if low is None else low, math.inf if high is None else high

    # -- comparisons of integers -------------------------------------------------------------

    def _at_least_zero(self, p: Term, *, ordered: bool = False) -> bool | None:
        low, high = self._interval(p)
        if low is not None and low >= 0:
            return True
        if high is not None and high < 0:
            return False
        if len(p.coeffs) > LONG:
            return self._sign_assumed(p)
        if ordered or self._only_ordered(p):
            low = by_orders(self.bounds, p.base)
            if low is not None and low + p.const >= 0:
                return True
            if len(p.coeffs) == 1 or not self.facts.before:
                return None
            low = by_orders(self.bounds, self.table.neg(p.base))
            return False if low is not None and low - p.const >= 1 else None
        seen = self.witness(p)
        if (seen is None or seen >= 0) and at_least(self._least(p, 0), 0):
            return True
        if (seen is None or seen < 0) and at_least(self._least(self.table.neg(p), 1), 1):
            return False
        return None

    def _sign_assumed(self, p: Term) -> bool | None:
        """Whether p >= 0, as far as an assumed bound of p itself tells."""
        lower = self.facts.lower
        if at_least(lower.get(p.base), -p.const):
            return True
        return False if at_least(lower.get(self.table.neg(p.base)), p.const + 1) else None

    def _only_ordered(self, p: Term) -> bool:
        """Whether all that is known of a sum are orders and intervals."""
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
        exact = self.intervals.without_exact_divisions(p)
        if exact is not p:
            answer = self.decide(self.table.eq(exact, self.table.zero))
            if answer is not None:
                return answer
        factors = known_factors_of(p)
        if len(factors) > 1:
            # A product is zero just if one of its factors is.
            answers = [self.decide(self.table.eq(f, self.table.zero)) for f in factors]
            if any(answers):
                return True
            if all(a is False for a in answers):
                return False
        seen = self.witness(p)
        low = high = None
        if seen is None or seen >= 0:
            low = self._least(p, 1)
            if at_least(low, 1):
                return False
        if seen is None or seen <= 0:
            high = self._least(self.table.neg(p), 1)
            if at_least(high, 1):
                return False
        return True if low == 0 and high == 0 else None
