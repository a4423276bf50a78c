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
from collections.abc import Callable, Iterable

from symfx.algebra import domains
from symfx.algebra.domains import ANYTHING, Congruence, Interval
from symfx.algebra.expr import Scalar, Term
from symfx.algebra.facts import UNDEFINED, Facts, is_order
from symfx.algebra.interpret import substitute
from symfx.algebra.reals import RealInterval, integer_interval, real_interval
from symfx.algebra.terms import multiset_divide

__all__ = ["Prover"]

# How deep the search for a bound may nest, and how many terms it may look at in all.
_DEPTH = 4
_FUEL = 120
_CHOICES = frozenset(("min", "max", "abs", "where"))
_DIVISIONS = frozenset(("floordiv", "mod"))
# Longer sums are bounded by intervals alone; the search would not pay.
_LONG = 24
# How many cases may be looked at: values of symbols with small ranges, known alternatives, and
# how many facts may be carried over into each of the latter.
_VALUES = 24
_ALTERNATIVES = 3
_BRANCHES = 16
_CARRIED = 100


class Prover:
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
        self.facts = facts
        self._splits = _splits
        self._branches: dict[tuple[Term, Term], tuple[int, Prover]] = {}
        self._witness = witness or (lambda term: None)
        self.table = facts.table
        self._decided: dict[Term, bool] = {}
        self._open: dict[Term, int] = {}
        self._ranges: dict[Term, tuple[int, Interval]] = {}
        self._least: dict[tuple[Term, int], tuple[int, int | None]] = {}
        self._fuel = 0

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
        stamp = facts.stamp(condition)
        if self._open.get(condition) == stamp:
            return None
        resolved = facts.resolve(condition)
        if resolved is not condition:
            answer = self.decide(resolved)
        else:
            self._fuel = _FUEL
            answer = self._decide(condition)
            if answer is None:
                answer = self._rewritten(condition)
            if answer is None:
                answer = self._by_values(condition)
            if answer is None and self._splits:
                answer = self._by_alternatives(condition)
        if answer is None:
            self._open[condition] = stamp
        else:
            # Facts only grow: what follows today follows for ever.
            self._decided[condition] = answer
        return answer

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
        if inner.op != "eq":
            return condition
        common, rest = self._common_factor(inner.args[0])
        if not common:
            return condition
        for factor in common:
            if self.decide(table.eq(factor, table.zero)) is not False:
                rest = table.mul(rest, factor)
        reduced = table.eq(rest, table.zero)
        return table.not_(reduced) if negated else reduced

    def _rewritten(self, condition: Term) -> bool | None:
        """Decide the condition in terms of other symbols, where equalities offer some."""
        for rewrite in (self.facts.solve, self._divided):
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
        self._fuel = _FUEL
        low = self._lower_bound(term, _DEPTH)
        self._fuel = _FUEL
        high = self._lower_bound(self.table.neg(term), _DEPTH)
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

    def _by_values(self, condition: Term) -> bool | None:
        """Decide for each value of the symbols that have few."""
        if condition.op not in ("eq", "ge", "not"):
            return None
        chosen: list[Term] = []
        values: list[list[int]] = []
        cases = 1
        for symbol in sorted(_nonlinear_symbols(condition), key=lambda s: s.uid):
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
        try:
            return self._agreed(
                self.decide(substitute(condition, dict(zip(chosen, map(const, case), strict=True))))
                for case in itertools.product(*values)
            )
        except UNDEFINED:  # at one of the values
            return None

    def _by_alternatives(self, condition: Term) -> bool | None:
        """Decide under each alternative of a disjunction that is known to hold."""
        facts = self.facts
        if not facts.alternatives:
            return None
        near = facts.connected(condition)
        if len(near) > _CARRIED:
            return None
        tried = 0
        for fact in near:
            for either in fact.args if fact.op == "and" else (fact,):
                if either not in facts.alternatives or len(either.args) > _BRANCHES:
                    continue
                if any(facts.known.get(part) for part in either.args):
                    del facts.alternatives[either]  # settled
                    continue
                live = [part for part in either.args if facts.known.get(part) is not False]
                if len(live) == 1:
                    facts.assume(live[0], because=either)
                    return self.decide(condition)
                try:
                    answer = self._agreed(
                        branch.decide(condition)
                        for part in live
                        if (branch := self._under(either, part)) is not None
                    )
                except UNDEFINED:  # under one of the alternatives
                    answer = None
                if answer is not None:
                    return answer
                tried += 1
                if tried == _ALTERNATIVES:
                    return None
        return None

    def _under(self, either: Term, part: Term) -> Prover | None:
        """A prover that assumes one alternative too; None where that cannot be."""
        stamp = self.facts.stamp(either)
        cached = self._branches.get((either, part))
        if cached is None or cached[0] != stamp:
            layer = self.facts.layer(either)
            layer.assume(self.facts.resolve(part))
            cached = stamp, Prover(layer, _splits=self._splits - 1)
            self._branches[(either, part)] = cached
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

    def real_range(self, term: Term) -> RealInterval | None:
        """The interval that a real term lies in; None where it may be NaN."""
        return real_interval(self.facts.resolve(term), self._interval, self.facts.real_bounds)

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
        if self._only_ordered(p):
            low = self._by_order(p.base)
            if low is not None and low + p.const >= 0:
                return True
            low = self._by_order(self.table.neg(p.base)) if self.facts.before else None
            return False if low is not None and low - p.const >= 1 else None
        seen = self._witness(p)
        if (seen is None or seen >= 0) and _is_at_least(self._lower_bound(p, _DEPTH), 0):
            return True
        if seen is None or seen < 0:
            self._fuel = _FUEL
            if _is_at_least(self._lower_bound(self.table.neg(p), _DEPTH), 1):
                return False
        return None

    def _only_ordered(self, p: Term) -> bool:
        """Whether orders and intervals say all that is known of a sum."""
        facts = self.facts
        return (
            p.base not in facts.excluded
            and is_order(p)
            and not any(symbol in facts.entangled for symbol in p.coeffs)
        )

    def _is_zero(self, p: Term) -> bool | None:
        m, r = self.congruence(p)
        if m == 0:
            return r == 0
        if r % m:
            return False
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
            self._fuel = _FUEL
        seen = self._witness(p)
        low = high = None
        if seen is None or seen >= 0:
            low = self._lower_bound(p, _DEPTH)
            if _is_at_least(low, 1):
                return False
        if seen is None or seen <= 0:
            self._fuel = _FUEL
            high = self._lower_bound(self.table.neg(p), _DEPTH)
            if _is_at_least(high, 1):
                return False
        return True if low == 0 and high == 0 else None

    def _factors(self, p: Term) -> tuple[Term, ...]:
        """Terms whose product is p or -p, as far as they are known: p alone, if not."""
        known = self.table.products.get(p.base)
        if known is not None and known[0] in (p, self.table.neg(p)):
            return known[1]
        common, rest = self._common_factor(p)
        return (*common, *(self._factors(rest) if common else (rest,)))

    def _common_factor(self, p: Term) -> tuple[list[Term], Term]:
        """(factors, rest) with p their product; no factors where the monomials share none."""
        if p.const or not p.coeffs:
            return [], p
        if p.is_monomial:
            factors = p.factors
            if len(factors) == 1:
                return [], p
            return list(factors[:-1]), factors[-1]
        shared = list(next(iter(p.coeffs)).factors)
        for monomial in p.coeffs:
            left = list(monomial.factors)
            still = []
            for factor in shared:
                if factor in left:
                    left.remove(factor)
                    still.append(factor)
            shared = still
            if not shared:
                return [], p
        return shared, self.table._strip(p, shared, 1)

    def _without_exact_divisions(self, p: Term) -> Term:
        """A multiple of p in which ``x // d`` and ``x % d`` are gone where x % d is known."""
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

    # -- congruences -----------------------------------------------------------------------------

    def congruence(self, p: Term) -> Congruence:
        """What an integer term is modulo something: (m, r), and (1, 0) where nothing is known."""
        total: Congruence = (0, p.const)
        for monomial, coeff in p.coeffs.items():
            part: Congruence = (0, coeff)
            for factor in monomial.factors:
                part = domains.congruence_multiply(part, self._atom_congruence(factor))
            total = domains.congruence_add(total, part)
        return total

    def _atom_congruence(self, atom: Term) -> Congruence:
        known = self.facts.congruences.get(atom, ANYTHING)
        if atom.op == "mod" and atom.args[1].op == "const":
            d = atom.args[1].const
            m, r = self.congruence(atom.args[0])
            if m % d == 0:
                return 0, r % d
        return known

    # -- intervals ---------------------------------------------------------------------------------

    def _interval(self, term: Term) -> Interval:
        """An interval of an integer term by interval arithmetic alone."""
        if term.op == "const":
            return term.const, term.const
        if term.is_monomial and len(term.factors) == 1:
            return self._atom_interval(term)
        total: Interval = (term.const, term.const)
        for monomial, coeff in term.coeffs.items():
            total = domains.add(total, domains.scale(self._monomial_interval(monomial), coeff))
        return total

    def _monomial_interval(self, monomial: Term) -> Interval:
        factors = monomial.factors
        if len(factors) == 1:
            return self._atom_interval(monomial)
        powers: dict[Term, int] = {}
        for factor in factors:
            powers[factor] = powers.get(factor, 0) + 1
        result: Interval = (1, 1)
        for factor, n in powers.items():
            result = domains.multiply(result, domains.power(self._interval(factor), n))
        return domains.intersect(result, self.facts.bounds(monomial))

    def _atom_interval(self, atom: Term) -> Interval:
        facts = self.facts
        if atom.op == "symbol" and atom not in facts.congruences and atom not in facts.excluded:
            return facts.bounds(atom)
        stamp = self.facts.stamp(atom)
        cached = self._ranges.get(atom)
        if cached is not None and cached[0] == stamp:
            return cached[1]
        result = domains.intersect(self._structural_interval(atom), self.facts.bounds(atom))
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

    def _structural_interval(self, atom: Term) -> Interval:
        """What the operation of an atom says about its value."""
        op = atom.op
        if op == "floordiv":
            return domains.floordiv(*map(self._interval, atom.args))
        if op == "mod":
            m, r = self._atom_congruence(atom)
            if m == 0:
                return r, r
            return domains.modulo(*map(self._interval, atom.args))
        if op in ("min", "max"):
            parts = [self._interval(a) for a in atom.args]
            lows, highs = [p[0] for p in parts], [p[1] for p in parts]
            if op == "min":
                return _all_of(min, lows), _any_of(min, highs)
            return _any_of(max, lows), _all_of(max, highs)
        if op == "abs":
            low, high = self._interval(atom.args[0])
            largest = None if low is None or high is None else max(abs(low), abs(high))
            return (max(0, low or 0, -(high or 0) if high is not None else 0), largest)
        if op == "where":
            return domains.hull(self._interval(atom.args[1]), self._interval(atom.args[2]))
        if op == "pow":
            base, exponent = map(self._interval, atom.args)
            if base[0] is not None and base[0] >= 1:
                # Larger base and larger exponent give a larger power; an exponent is never
                # negative here, because the result is an integer.
                least = base[0] ** min(max(exponent[0] or 0, 0), 64)
                if base[1] is not None and exponent[1] is not None and 0 <= exponent[1] <= 64:
                    return least, base[1] ** exponent[1]
                return least, None
            return (0, None) if base[0] is not None and base[0] >= 0 else domains.ANY
        if op == "bit_and":
            lows = [self._interval(a)[0] for a in atom.args]
            highs = [self._interval(a)[1] for a in atom.args]
            if any(low is not None and low >= 0 for low in lows):
                # A mask that is not negative bounds the result; so does the other, if it is one.
                ends = [
                    h
                    for low, h in zip(lows, highs, strict=True)
                    if low is not None and low >= 0 and h is not None
                ]
                return 0, min(ends) if ends else None
            return domains.ANY
        if op in ("floor", "ceil", "trunc", "round"):
            return integer_interval(atom, self.real_range)
        if op in ("bit_or", "bit_xor", "lshift", "rshift"):
            lows = [self._interval(a)[0] for a in atom.args]
            operands = lows if op in ("bit_or", "bit_xor") else lows[:1]
            if all(low is not None and low >= 0 for low in operands):
                return 0, None
        return domains.ANY

    # -- lower bounds by search -----------------------------------------------------------------

    def _lower_bound(self, p: Term, depth: int) -> int | None:
        """The best k that is found with p >= k, or None."""
        if p.op == "const":
            return p.const
        best = self._interval(p)[0]
        coeffs = p.coeffs
        if len(coeffs) > _LONG:
            return best
        if len(coeffs) == 1:
            (only,) = coeffs
            if only.op == "symbol" and only not in self.facts.touching:
                return best
        base = p.base
        key = (base, depth)
        stamp = self.facts.stamp(base)
        cached = self._least.get(key)
        if cached is not None and cached[0] == stamp:
            found = cached[1]
        elif self._fuel <= 0:
            return best
        else:
            self._fuel -= 1
            # Terms that lead back to themselves find the weaker bound here, and end.
            interval_bound = None if best is None else best - p.const
            self._least[key] = (stamp, interval_bound)
            found = self._search(base, depth, interval_bound)
            self._least[key] = (stamp, found)
        return None if found is None else found + p.const

    def _search(self, p: Term, depth: int, best: int | None) -> int | None:
        """`_lower_bound` for a sum without constant that is not cached."""
        known = self.facts.lower.get(p)
        if known is not None:
            best = _better(best, known)
        best = _better(best, self._by_order(p))
        if depth <= 0:
            return best
        kinds = {m.op for m in p.coeffs}
        ways: list[Callable[[Term, int], int | None]] = []
        if "product" in kinds:
            ways += self._by_product, self._by_quotients, self._by_factors
        if kinds & _CHOICES:
            ways.append(self._by_choices)
        if kinds & _DIVISIONS:
            ways.append(self._by_divisions)
        for way in (*ways, self._by_facts):
            best = _better(best, way(p, depth - 1))
        if best is not None:
            m, r = self.congruence(p)
            if m > 1:
                best += (r - best) % m
        while best is not None and best in self.facts.excluded.get(p, ()):
            best += 1
        if best == 0 and p.op == "product" and all(map(self._cannot_be_zero, p.factors)):
            best = 1
        return best

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

    def _by_choices(self, p: Term, depth: int) -> int | None:
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
                self._lower_bound(table.add(rest, table.mul(scale, option)), depth)
                for option in options
            ]
            best = _better(best, _any_of(max, bounds) if largest else _all_of(min, bounds))
        return best

    def _by_divisions(self, p: Term, depth: int) -> int | None:
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
                    low = self._lower_bound(
                        table.add(table.mul(table.const(d), rest), scaled_x), depth
                    )
                    if low is not None:
                        low -= max(0, coeff * (d - 1))
                        best = _better(best, -((-low) // d))
                elif coeff < 0 and self._known_nonnegative(x, depth):
                    # x % d <= x for x >= 0
                    best = _better(best, self._lower_bound(table.add(rest, scaled_x), depth))
            elif coeff < 0 and _is_at_least(self._lower_bound(divisor, depth), 1):
                caps = []  # at most these, for a positive divisor
                if self._known_nonnegative(x, depth):
                    caps.append(x)  # x // d <= x and x % d <= x
                if atom.op == "mod":
                    caps.append(table.sub(divisor, table.one))
                for cap in caps:
                    swapped = table.add(rest, table.mul(table.const(coeff), cap))
                    best = _better(best, self._lower_bound(swapped, depth))
        return best

    def _by_quotients(self, p: Term, depth: int) -> int | None:
        """d * (x // d) = x - x % d, for a divisor d of any sign."""
        table = self.table
        best: int | None = None
        for monomial, coeff in p.coeffs.items():
            form = self._without_quotient(monomial)
            if form is not None:
                scale = table.const(coeff)
                rest = table.sub(p, table.mul(scale, monomial))
                swapped = table.add(rest, table.mul(scale, form))
                best = _better(best, self._lower_bound(swapped, depth))
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
            return table.mul(table._product(rest), form) if rest else form
        return None

    def _known_nonnegative(self, x: Term, depth: int) -> bool:
        low = self._lower_bound(x, depth)
        return low is not None and low >= 0

    def _by_factors(self, p: Term, depth: int) -> int | None:
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
                    inside[table._product(tuple(factors))] = coeff
                else:
                    const += coeff
            a = table.linear(inside, const)
            low_a = self._lower_bound(a, depth)
            if low_a is None or low_a < 0:
                continue
            rest = table.add(table.mul(table.const(low_x), a), table.linear(outside))
            best = _better(best, self._lower_bound(rest, depth))
            if low_x >= 0 and outside:
                # The other way to let go of the product: bounds of x and A by themselves.
                low_b = self._lower_bound(table.linear(outside), depth)
                if low_b is not None:
                    best = _better(best, low_x * low_a + low_b)
        return best

    def _by_product(self, p: Term, depth: int) -> int | None:
        """Bounds of a product that was multiplied out, from those of its factors."""
        best: int | None = None
        for sign in (1, -1):
            known = self.table.products.get(p if sign > 0 else self.table.neg(p))
            if known is None:
                continue
            product, factors = known
            low, high = 1, 1
            for factor in factors:
                least = self._lower_bound(factor, depth)
                most = self._lower_bound(self.table.neg(factor), depth)
                low, high = domains.multiply((low, high), (least, None if most is None else -most))
            # p is the product less its constant, or minus that.
            if sign > 0 and low is not None:
                best = _better(best, low - product.const)
            elif sign < 0 and high is not None:
                best = _better(best, product.const - high)
        return best

    def _by_facts(self, p: Term, depth: int) -> int | None:
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
                rest = table.sub(p, table.mul(table.const(ratio), fact))
                if len(rest.coeffs) >= len(coeffs) + (depth > 1):
                    continue
                low = self._lower_bound(rest, depth)
                if low is not None:
                    best = _better(best, low + ratio * lower[fact])
        return best


def _nonlinear_symbols(condition: Term) -> frozenset[Term]:
    """The symbols of an integer condition that stand inside a product or an operation."""
    p = condition.args[0]
    if condition.op == "not":
        p = p.args[0] if p.op == "eq" else None
    if p is None or p.sort != "int":
        return frozenset()
    return frozenset().union(
        *(m.free_symbols for m in p.coeffs if m.op != "symbol" or len(m.factors) > 1)
    )


def _is_at_least(bound: int | None, k: int) -> bool:
    return bound is not None and bound >= k


def _better(a: int | None, b: int | None) -> int | None:
    return b if a is None else a if b is None else max(a, b)


def _any_of(pick: Callable[[list[int]], int], ends: list[int | None]) -> int | None:
    """The pick among the ends that are known."""
    known = [e for e in ends if e is not None]
    return pick(known) if known else None


def _all_of(pick: Callable[[list[int]], int], ends: list[int | None]) -> int | None:
    """The pick among the ends, None unless all are known."""
    known = [e for e in ends if e is not None]
    return pick(known) if len(known) == len(ends) else None
