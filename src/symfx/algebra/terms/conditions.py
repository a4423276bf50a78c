"""Conditions in normal form, and choices between terms."""

from __future__ import annotations

import math
from collections.abc import Callable

from symfx.algebra.terms.divisions import Divisions
from symfx.algebra.terms.term import Term, by_uid, postorder

__all__ = ["Conditions"]


class Conditions(Divisions):
    """What a `Table` compares, negates, joins and chooses by."""

    def __init__(self) -> None:
        super().__init__()
        self._not_memo: dict[Term, Term] = {}

    def where(self, cond: Term, a: Term, b: Term) -> Term:
        """`a` where `cond` holds, else `b`; of the wider sort of both."""
        if a.sort != b.sort:
            cast = self.to_real if "real" in (a.sort, b.sort) else self.to_int
            a, b = cast(a), cast(b)
        if cond.op == "const":
            return a if cond.args[0] else b
        if a is b:
            return a
        if a.sort == "bool" and b.sort == "bool":
            return self.or_(self.and_(cond, a), self.and_(self.not_(cond), b))
        if cond.op == "not":
            cond, a, b = cond.args[0], b, a
        return self._intern("where", a.sort, (cond, a, b))

    def to_bool(self, a: Term) -> Term:
        """bool(a): whether `a` is not zero."""
        if a.sort == "bool":
            return a
        return self.ne(a, self.zero if a.sort == "int" else self.const(0.0))

    def eq(self, a: Term, b: Term) -> Term:
        """a == b"""
        if a.sort == "int" and b.sort == "int":
            return self._eq_zero(self.sub(a, b))
        if a.sort == "bool" and b.sort == "bool":
            return self.and_(self.or_(self.not_(a), b), self.or_(a, self.not_(b)))
        ints = self._as_ints(a, b)
        if ints:
            return self.eq(*ints)
        a, b = sorted((self.to_real(a), self.to_real(b)), key=by_uid)
        return self._real_compare("feq", a, b, lambda x, y: x == y)

    def _eq_zero(self, p: Term) -> Term:
        if p.op == "const":
            return self.const(p.const == 0)
        decided = self._split_where(p, self._eq_zero)
        if decided is not None:
            return decided
        coeffs = p.coeffs
        g = math.gcd(*coeffs.values())
        if p.const % g:
            return self.false
        # The monomial made first has a positive coefficient.
        if coeffs[min(coeffs, key=by_uid)] < 0:
            g = -g
        if g != 1:
            p = self.linear({m: c // g for m, c in coeffs.items()}, p.const // g)
        return self._intern("eq", "bool", (p,))

    def ge_zero(self, p: Term) -> Term:
        """p >= 0 of an integer term."""
        if p.op == "const":
            return self.const(p.const >= 0)
        decided = self._split_where(p, self.ge_zero)
        if decided is not None:
            return decided
        g = math.gcd(*p.coeffs.values())
        if g > 1:  # g*x + k >= 0 just when x >= ceil(-k / g)
            p = self.linear({m: c // g for m, c in p.coeffs.items()}, p.const // g)
        return self._intern("ge", "bool", (p,))

    def _split_where(self, p: Term, test: Callable[[Term], Term]) -> Term | None:
        """`test(p)` by cases, where p is a choice between two constants; else None.

        So a condition that was cast to an integer and is asked about comes back as itself.
        """
        if len(p.coeffs) != 1:
            return None
        ((atom, coeff),) = p.coeffs.items()
        if atom.op != "where" or atom.args[1].op != "const" or atom.args[2].op != "const":
            return None
        cond, a, b = atom.args
        scale, const = self.const(coeff), self.const(p.const)
        when_true = test(self.add(self.mul(scale, a), const))
        when_false = test(self.add(self.mul(scale, b), const))
        return self.where(cond, when_true, when_false)

    def ne(self, a: Term, b: Term) -> Term:
        """a != b"""
        return self.not_(self.eq(a, b))

    def le(self, a: Term, b: Term) -> Term:
        """a <= b"""
        if a.sort == "real" or b.sort == "real":
            a, b = self.to_real(a), self.to_real(b)
            return self._real_compare("fle", a, b, lambda x, y: x <= y)
        return self.ge_zero(self.sub(self.to_int(b), self.to_int(a)))

    def lt(self, a: Term, b: Term) -> Term:
        """a < b"""
        if a.sort == "real" or b.sort == "real":
            a, b = self.to_real(a), self.to_real(b)
            return self._real_compare("flt", a, b, lambda x, y: x < y)
        gap = self.sub(self.to_int(b), self.to_int(a))
        return self.ge_zero(self.add(gap, self.minus_one))

    def _real_compare(
        self, op: str, a: Term, b: Term, compute: Callable[[float, float], bool]
    ) -> Term:
        if a.op == "const" and b.op == "const":
            return self.const(compute(a.args[0], b.args[0]))
        return self._intern(op, "bool", (a, b))

    def not_(self, a: Term) -> Term:
        """The negation of a condition."""
        if a.sort != "bool":
            raise TypeError(f"{a} is {a.sort}; only a condition can be negated")
        found = self._not_memo.get(a)
        if found is None and a.op not in ("and", "or"):
            found = self._not_memo[a] = self._negated(a)
        elif found is None:
            # De Morgan's rules, operands first: conditions nest deeply and share their parts.
            memo = self._not_memo
            for part in postorder(a, lambda t: t.sort == "bool" and t not in memo):
                memo[part] = self._negated(part)
            found = memo[a]
        return found

    def _negated(self, a: Term) -> Term:
        """The negation of a condition whose operands' negations are known."""
        if a.op == "const":
            return self.const(not a.args[0])
        if a.op == "not":
            inner: Term = a.args[0]
            return inner
        if a.op == "ge":  # not p >= 0 is -p - 1 >= 0
            return self.ge_zero(self._combine(a.args[0], -1, self.minus_one, 1))
        if a.op == "and":
            return self.or_(*(self._not_memo[x] for x in a.args))
        if a.op == "or":
            return self.and_(*(self._not_memo[x] for x in a.args))
        # Real comparisons keep their negation: with NaN, not a < b is not b <= a.
        return self._intern("not", "bool", (a,))

    def and_(self, *conditions: Term) -> Term:
        """All of the conditions hold."""
        return self._junction("and", conditions, self.true, self.false)

    def or_(self, *conditions: Term) -> Term:
        """At least one of the conditions holds."""
        return self._junction("or", conditions, self.false, self.true)

    def _junction(self, op: str, conditions: tuple[Term, ...], unit: Term, absorbing: Term) -> Term:
        parts: dict[Term, None] = {}
        for condition in conditions:
            if condition.sort != "bool":
                raise TypeError(f"{condition} is {condition.sort}, not a condition")
            members: tuple[Term, ...] = condition.args if condition.op == op else (condition,)
            for part in members:
                if part is absorbing:
                    return absorbing
                if part is not unit:
                    parts[part] = None
        if any(self.not_(part) in parts for part in parts if part.op not in ("and", "or")):
            return absorbing
        if not parts:
            return unit
        if len(parts) == 1:
            (only,) = parts
            return only
        return self._intern(op, "bool", tuple(sorted(parts, key=by_uid)))
