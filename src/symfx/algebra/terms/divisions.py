"""Floor division and remainder of integers, for operands of any sign, as in Python."""

from __future__ import annotations

import math

from symfx.algebra.terms.sums import Polynomials
from symfx.algebra.terms.term import Term, leads_negative, multiset_divide, shared_factors

__all__ = ["Divisions"]


class Divisions(Polynomials):
    """What a `Table` divides; doubles are passed on."""

    def floordiv(self, a: Term, b: Term) -> Term:
        """a // b, rounded down for every sign, as in Python."""
        if a.sort != "int" or b.sort != "int":
            ints = self._as_ints(a, b)
            return (
                self.floordiv(*ints)
                if ints
                else self._real_op("ffloordiv", a, b, lambda x, y: x // y)
            )
        key = ("floordiv", a, b)
        found = self._op_memo.get(key)
        if found is None:
            found = self._op_memo[key] = self._int_floordiv(a, b)
        return found

    def _int_floordiv(self, a: Term, b: Term) -> Term:
        if b.op == "const":
            divisor = b.const
            if divisor == 0:
                raise ZeroDivisionError(f"({a}) // 0")
            if divisor < 0:  # a // -c = (-a) // c
                return self._floordiv_const(self.neg(a), -divisor)
            return self._floordiv_const(a, divisor)
        if a.op == "const" and not a.const:
            return self.zero
        # (b*q + r) // b = q + r // b for any b that is not zero.
        quotient, rest = self._split_multiple(a, b)
        if rest is not a:
            return self.add(quotient, self.floordiv(rest, b))
        a, b = self._cancel_common(a, b)
        if b.op == "const":
            return self.floordiv(a, b)
        exact = self._divide_exactly(a, b)
        if exact is not None:
            return exact
        if leads_negative(b):  # a // -b = (-a) // b
            return self.floordiv(self.neg(a), self.neg(b))
        return self._intern("floordiv", "int", (a, b))

    def _floordiv_const(self, a: Term, c: int) -> Term:
        """a // c for c > 0."""
        if c == 1:
            return a
        divisor = c
        # (c*q + r) // c = q + r // c: each coefficient leaves its remainder, in 0..c-1.
        coeffs = a.coeffs
        whole: dict[Term, int] = {}
        rest = coeffs
        if coeffs and not (min(coeffs.values()) > 0 and max(coeffs.values()) < c):
            whole = {m: q for m, coeff in coeffs.items() if (q := coeff // c)}
            rest = {m: r for m, coeff in coeffs.items() if (r := coeff % c)}
        q, k = divmod(a.const, c)
        outer = self.linear(whole, q)
        if not rest:
            return outer
        # (g*x + k) // (g*d) = (x + k//g) // d for g, d > 0.
        g = math.gcd(c, *rest.values())
        if g > 1:
            rest = {m: r // g for m, r in rest.items()}
            k //= g
            c //= g
            if c == 1:
                return self.add(outer, self.linear(rest, k))
        if len(rest) == 1:
            ((only, coeff),) = rest.items()
            if coeff == 1 and only.op == "floordiv" and only.args[1].op == "const":
                # (x//d + k) // c = (x + k*d) // (c*d) for c > 0.
                inner, d = only.args[0], only.args[1].const
                merged = self._floordiv_const(self.add(inner, self.const(k * d)), c * d)
                return self.add(outer, merged)
        changed = whole or k != a.const or c != divisor
        inner = self.linear(rest, k) if changed else a
        atom = self._intern("floordiv", "int", (inner, self.const(c)))
        return self.add(outer, atom)

    def mod(self, a: Term, b: Term) -> Term:
        """a % b, with the sign of b, as in Python."""
        if a.sort != "int" or b.sort != "int":
            ints = self._as_ints(a, b)
            return self.mod(*ints) if ints else self._real_op("fmod", a, b, lambda x, y: x % y)
        key = ("mod", a, b)
        found = self._op_memo.get(key)
        if found is None:
            found = self._op_memo[key] = self._int_mod(a, b)
        return found

    def _int_mod(self, a: Term, b: Term) -> Term:
        if b.op == "const":
            divisor = b.const
            if divisor == 0:
                raise ZeroDivisionError(f"({a}) % 0")
            if divisor < 0:  # a % -c = -((-a) % c)
                return self.neg(self._mod_const(self.neg(a), -divisor))
            return self._mod_const(a, divisor)
        if a.op == "const" and not a.const:
            return self.zero
        _, rest = self._split_multiple(a, b)
        if rest is not a:
            return self.mod(rest, b)
        if self._divide_exactly(a, b) is not None:
            return self.zero
        # (m*x) % (m*y) = m * (x % y) for any m that is not zero.
        x, y = self._cancel_common(a, b)
        if y is not b:
            # Both were divided by the same m, which long division finds again.
            common = b if y is self.one else self._divide_exactly(b, y)
            if y.op == "const" and y is not self.one:
                common = self.linear({m: c // y.const for m, c in b.coeffs.items()})
            if common is not None:
                return self.mul(common, self.mod(x, y))
        if leads_negative(b):  # a % -b = -((-a) % b)
            return self.neg(self.mod(self.neg(a), self.neg(b)))
        return self._intern("mod", "int", (a, b))

    def _mod_const(self, a: Term, c: int) -> Term:
        """a % c for c > 0."""
        rest: dict[Term, int] = {}
        extra: list[Term] = []
        for monomial, coeff in a.coeffs.items():
            if not coeff % c:
                continue
            if _mod_constant(monomial) and not _mod_constant(monomial) % c:
                # x % (c*d) is x plus a multiple of c.
                extra.append(self.mul(self.const(coeff), monomial.args[0]))
            else:
                rest[monomial] = coeff % c
        k = a.const % c
        if extra:
            return self.mod(self.add(self.sum(extra), self.linear(rest, k)), self.const(c))
        if not rest:
            return self.const(k)
        # (g*x + k) % (g*d) = g*((x + k//g) % d) + k % g for g, d > 0.
        g = math.gcd(c, *rest.values())
        if g > 1:
            reduced = self.linear({m: r // g for m, r in rest.items()}, k // g)
            inner = self._mod_const(reduced, c // g)
            return self.add(self.mul(self.const(g), inner), self.const(k % g))
        inner_sum = self.linear(rest, k)
        if 0 < _mod_constant(inner_sum) <= c:  # x % d is already in 0..d-1
            return inner_sum
        return self._intern("mod", "int", (inner_sum, self.const(c)))

    def _split_multiple(self, a: Term, b: Term) -> tuple[Term, Term]:
        """(q, r) with a = b*q + r, taking into q every part of `a` that `b` divides by form."""
        if b.op == "sum" and (b.const or len(b.coeffs) != 1):
            # Whole multiples of a sum: k*b + r, with k read off the first monomial of b.
            head, head_coeff = next(iter(b.coeffs.items()))
            k, left_over = divmod(a.coeffs.get(head, 0), head_coeff)
            if not k or left_over:
                return self.zero, a
            rest = self._combine(a, 1, b, -k)
            if rest.op == "const" or len(rest.coeffs) < len(a.coeffs):
                return self.const(k), rest
            return self.zero, a
        ((monomial, scale),) = b.coeffs.items()
        quotient: dict[Term, int] = {}
        kept: dict[Term, int] = {}
        q_const = 0
        for m, c in a.coeffs.items():
            below = multiset_divide(m.factors, monomial.factors) if not c % scale else None
            if below is None:
                kept[m] = c
            elif below:
                part = self._product(below)
                quotient[part] = quotient.get(part, 0) + c // scale
            else:
                q_const += c // scale
        if not quotient and not q_const:
            return self.zero, a
        return self.linear(quotient, q_const), self.linear(kept, a.const)

    def _cancel_common(self, a: Term, b: Term) -> tuple[Term, Term]:
        """a and b without the factors that all their monomials share."""
        if a.op == "const" or a.const or b.const:
            shared: list[Term] = []
        else:
            shared = shared_factors([*a.coeffs, *b.coeffs])
        g = math.gcd(a.const, b.const, *a.coeffs.values(), *b.coeffs.values())
        if not shared and g <= 1:
            return a, b
        return self._strip(a, shared, g), self._strip(b, shared, g)

    def _divide_exactly(self, a: Term, b: Term) -> Term | None:
        """The q with a = b*q as polynomials, or None. Long division by the leading monomial."""
        if b.op == "const" or len(a.coeffs) > 64 or len(b.coeffs) > 16:
            return None
        lead = max(b.coeffs, key=_grade)
        lead_coeff = b.coeffs[lead]
        quotient: Term = self.zero
        rest = a
        for _ in range(64):
            if rest.op == "const":
                return quotient if not rest.const else None
            top = max(rest.coeffs, key=_grade)
            below = multiset_divide(top.factors, lead.factors)
            if below is None or rest.coeffs[top] % lead_coeff:
                return None
            coeff = rest.coeffs[top] // lead_coeff
            step = self.linear({self._product(below): coeff}) if below else self.const(coeff)
            quotient = self.add(quotient, step)
            rest = self.sub(rest, self.mul(step, b))
        return None


def _mod_constant(term: Term) -> int:
    """The d of a term ``x % d`` with constant d, 0 for every other term."""
    if term.op == "mod" and term.args[1].op == "const":
        divisor: int = term.args[1].const
        return divisor
    return 0


def _grade(monomial: Term) -> tuple[int, tuple[int, ...]]:
    """A monomial order (degree first), under which long division ends."""
    return len(monomial.factors), tuple(sorted((f.uid for f in monomial.factors), reverse=True))
